-- Failures that started in [since, end), grouped by what failed and how, whatever the numbers in the error.
-- Those from start on are counted; of the earlier ones it is said that there were any.
-- since, start, end: timestamptz, tool_name: text or null (all tools), limit: integer
SELECT tool_name,
       operation,
       min(coalesce(error_message, '') COLLATE "C") AS error_message,
       count(*) FILTER (WHERE timestamp >= %(start)s) AS failures,
       min(timestamp) FILTER (WHERE timestamp >= %(start)s) AS first_at,
       max(timestamp) FILTER (WHERE timestamp >= %(start)s) AS last_at,
       bool_or(timestamp < %(start)s) AS seen_before
FROM audit_logs
WHERE NOT success
  AND timestamp >= %(since)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
GROUP BY tool_name, operation, regexp_replace(left(coalesce(error_message, ''), 2000), '[0-9]+', '0', 'g')
ORDER BY failures DESC, tool_name, operation, error_message
LIMIT %(limit)s
