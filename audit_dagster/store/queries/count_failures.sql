-- Add failures to the open incident of their cause, or open one.
-- In the order of fingerprints, so that two who count at once wait for each other rather than for ever.
-- causes: jsonb, a list of fingerprint, tool_name, operation, error_message, facts, example, first_seen, last_seen,
-- happened and tell_at, now: timestamptz
INSERT INTO alert_incidents AS known (
    kind, fingerprint, tool_name, operation, error_message, facts, example, first_seen, last_seen, happened, untold,
    tell_at, counted_at
)
SELECT 'failing', fingerprint, tool_name, operation, error_message, facts, example, first_seen, last_seen, happened,
       happened, tell_at, %(now)s::timestamptz
FROM jsonb_to_recordset(%(causes)s::jsonb) AS cause (
    fingerprint text, tool_name text, operation text, error_message text, facts jsonb, example uuid,
    first_seen timestamptz, last_seen timestamptz, happened bigint, tell_at timestamptz
)
ORDER BY fingerprint
ON CONFLICT (fingerprint) WHERE resolved_at IS NULL DO UPDATE
SET happened = known.happened + excluded.happened,
    untold = known.untold + excluded.untold,
    first_seen = least(known.first_seen, excluded.first_seen),
    last_seen = greatest(known.last_seen, excluded.last_seen),
    example = CASE WHEN excluded.last_seen >= known.last_seen THEN excluded.example ELSE known.example END,
    facts = CASE WHEN excluded.last_seen >= known.last_seen THEN excluded.facts ELSE known.facts END,
    error_message = CASE
        WHEN excluded.last_seen >= known.last_seen THEN excluded.error_message ELSE known.error_message
    END,
    counted_at = excluded.counted_at
RETURNING fingerprint, id
