-- The parameter values that one tool was given, or failed with, most often in [start, end), and how often it failed.
-- start, end: timestamptz, tool_name: text, failing: boolean, limit: integer
SELECT given.name,
       left(given.value, 200) AS value,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs, jsonb_each_text(parameters) AS given (name, value)
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND tool_name = %(tool_name)s
  AND given.value IS NOT NULL
GROUP BY 1, 2
HAVING NOT %(failing)s OR count(*) FILTER (WHERE NOT success) > 0
ORDER BY CASE WHEN %(failing)s THEN count(*) FILTER (WHERE NOT success) ELSE count(*) END DESC, operations, name, value
LIMIT %(limit)s
