-- The latest success of a tool's operation that started before then, among the tool's last thousand operations.
-- tool_name, operation: text, earlier_than: timestamptz
SELECT *
FROM (
    SELECT * FROM audit_logs
    WHERE tool_name = %(tool_name)s AND timestamp < %(earlier_than)s::timestamptz
    ORDER BY timestamp DESC, id DESC
    LIMIT 1000
) AS last
WHERE success AND operation = %(operation)s
ORDER BY timestamp DESC, id DESC
LIMIT 1
