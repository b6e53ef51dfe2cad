-- What the timeline of a day shows of each operation that started in [start, end), in the order of start.
-- start, end: timestamptz, tool_name: text or null (all tools)
SELECT tool_name, timestamp, duration_seconds, success
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
ORDER BY timestamp, id
