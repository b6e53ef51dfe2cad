-- How long the latest successes of a tool's operation took that started before then, among its last thousand operations.
-- tool_name, operation: text, earlier_than: timestamptz, limit: integer
SELECT duration_seconds
FROM (
    SELECT * FROM audit_logs
    WHERE tool_name = %(tool_name)s AND timestamp < %(earlier_than)s::timestamptz
    ORDER BY timestamp DESC, id DESC
    LIMIT 1000
) AS last
WHERE success AND operation = %(operation)s AND duration_seconds IS NOT NULL
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s
