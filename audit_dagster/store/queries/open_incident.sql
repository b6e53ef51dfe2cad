-- Open an incident that is no failure, or count one more in the open one; the same operation is counted once.
-- kind, fingerprint, tool_name, operation: text, facts: jsonb, example: uuid or null, seen, now: timestamptz
INSERT INTO alert_incidents AS known (
    kind, fingerprint, tool_name, operation, facts, example, first_seen, last_seen, happened, untold, tell_at, counted_at
)
VALUES (
    %(kind)s, %(fingerprint)s, %(tool_name)s, %(operation)s, %(facts)s::jsonb, %(example)s::uuid, %(seen)s, %(seen)s,
    1, 1, %(now)s, %(now)s
)
ON CONFLICT (fingerprint) WHERE resolved_at IS NULL DO UPDATE
SET happened = known.happened + 1, last_seen = excluded.last_seen
WHERE known.kind = 'slow' AND excluded.last_seen > known.last_seen
RETURNING id
