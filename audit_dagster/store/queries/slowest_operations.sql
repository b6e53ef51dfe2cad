-- The operations that started in [start, end) and took longest.
-- start, end: timestamptz, tool_name: text or null (all tools), limit: integer
SELECT tool_name, operation, user_name, timestamp, duration_seconds, success, operation_id
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
  AND duration_seconds IS NOT NULL
ORDER BY duration_seconds DESC, timestamp, operation_id
LIMIT %(limit)s
