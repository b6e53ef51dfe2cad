-- One row per tool with operations that started in [start, end).
-- start, end: timestamptz, tool_name: text or null (all tools)
SELECT tool_name,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed,
       min(duration_seconds) AS shortest,
       -- Exact, so that the order in which rows are read makes no other last digit.
       avg(duration_seconds::numeric)::double precision AS mean,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) AS p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds) AS p95,
       max(duration_seconds) AS longest,
       count(DISTINCT user_name) AS users
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
GROUP BY tool_name
ORDER BY operations DESC, tool_name
