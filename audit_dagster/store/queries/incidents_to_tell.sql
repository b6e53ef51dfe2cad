-- Incidents that are to be told of now; nobody else gets them before this transaction ends.
-- now: timestamptz, limit: integer
SELECT id, kind, fingerprint, tool_name, operation, error_message, facts, example, first_seen, last_seen, happened,
       untold, told
FROM alert_incidents
WHERE resolved_at IS NULL AND untold > 0 AND acknowledged_at IS NULL AND tell_at <= %(now)s::timestamptz
ORDER BY tell_at
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED
