-- How many operations started in [start, end), and how many of them failed.
-- start, end: timestamptz, tool_name: text or null (all tools)
SELECT count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
