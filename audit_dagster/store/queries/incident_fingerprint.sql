-- The cause of this incident.
-- id: bigint
SELECT fingerprint, tool_name, operation FROM alert_incidents WHERE id = %(id)s
