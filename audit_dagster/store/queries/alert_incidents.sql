-- Incidents, the latest first: the open ones, or all.
-- everything: boolean, limit: integer
SELECT id, kind, fingerprint, tool_name, operation, error_message, first_seen, last_seen, happened, untold, told,
       acknowledged_at, resolved_at
FROM alert_incidents
WHERE resolved_at IS NULL OR %(everything)s
ORDER BY resolved_at IS NOT NULL, last_seen DESC, id DESC
LIMIT %(limit)s
