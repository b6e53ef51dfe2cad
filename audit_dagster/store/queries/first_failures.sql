-- The first failures that started in [start, end), in the order of start.
-- start, end: timestamptz, tool_name: text or null (all tools), limit: integer
SELECT operation_id, timestamp, tool_name, operation, error_message
FROM audit_logs
WHERE NOT success
  AND timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
ORDER BY timestamp, id
LIMIT %(limit)s
