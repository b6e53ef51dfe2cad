-- Who started how many operations in [start, end), with how many failed and how long they took.
-- start, end: timestamptz, tool_name: text or null (all tools)
SELECT user_name,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) AS p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds) AS p95
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
GROUP BY user_name
ORDER BY operations DESC, user_name
