-- How many operations of one tool that started in [start, end) took how long: bucket n is from bound n to the next one.
-- start, end: timestamptz, tool_name: text, bounds: double precision[], seconds, ascending
SELECT width_bucket(duration_seconds, %(bounds)s::double precision[]) AS bucket,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND tool_name = %(tool_name)s
  AND duration_seconds IS NOT NULL
GROUP BY 1
ORDER BY 1
