-- Somebody knows of this incident: it is not told again until it is resolved.
-- id: bigint
UPDATE alert_incidents SET acknowledged_at = coalesce(acknowledged_at, now())
WHERE id = %(id)s AND resolved_at IS NULL
RETURNING tool_name, operation
