-- Who started how many operations of which tool in [start, end).
-- start, end: timestamptz, limit: integer
SELECT user_name,
       tool_name,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
GROUP BY user_name, tool_name
ORDER BY operations DESC, user_name, tool_name
LIMIT %(limit)s
