-- Who started how many operations in [start, end).
-- start, end: timestamptz, tool_name: text or null (all tools)
SELECT user_name,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
GROUP BY user_name
ORDER BY operations DESC, user_name
