-- Incidents that may be over: for a tool with a longer window than the shortest, `counted_at` decides.
-- What failed succeeded since and did not fail for a while, who was silent ran, what was slow is a day ago.
-- quiet_since: timestamptz, day_ago: timestamptz
SELECT id, kind, fingerprint, tool_name, operation, error_message, facts, example, first_seen, last_seen, happened,
       untold, told, succeeded_at, counted_at,
       acknowledged_at IS NOT NULL AS acknowledged
FROM alert_incidents
WHERE resolved_at IS NULL
  AND CASE
          WHEN kind = 'slow' THEN counted_at <= %(day_ago)s::timestamptz
          ELSE succeeded_at > last_seen AND counted_at <= %(quiet_since)s::timestamptz
      END
ORDER BY id
FOR UPDATE SKIP LOCKED
