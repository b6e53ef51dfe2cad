-- Failures that started in [start, end), grouped by what failed and how, the most frequent first.
-- start, end: timestamptz, tool_name: text or null (all tools), limit: integer
SELECT tool_name,
       operation,
       coalesce(error_message, '') AS error_message,
       count(*) AS failures,
       min(timestamp) AS first_at,
       max(timestamp) AS last_at
FROM audit_logs
WHERE NOT success
  AND timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
GROUP BY 1, 2, 3
ORDER BY failures DESC, last_at DESC, tool_name, operation, error_message
LIMIT %(limit)s
