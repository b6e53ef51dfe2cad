-- Of each tool, when its next open incident that has succeeded since was counted last.
SELECT tool_name, min(counted_at) AS counted_at
FROM alert_incidents
WHERE resolved_at IS NULL AND kind <> 'slow' AND succeeded_at > last_seen
GROUP BY tool_name
