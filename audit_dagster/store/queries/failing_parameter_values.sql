-- The parameter values with which one tool failed most often in [start, end), with how often it ran with them.
-- start, end: timestamptz, tool_name: text, limit: integer
SELECT given.name,
       left(given.value, 200) AS value,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs, jsonb_each_text(parameters) AS given (name, value)
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND tool_name = %(tool_name)s
  AND given.value IS NOT NULL
GROUP BY 1, 2
HAVING count(*) FILTER (WHERE NOT success) > 0
ORDER BY failed DESC, operations, name, value
LIMIT %(limit)s
