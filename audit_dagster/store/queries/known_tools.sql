-- Every tool name ever recorded. One index probe per tool, however many rows there are.
WITH RECURSIVE tools (tool_name) AS (
    (SELECT tool_name FROM audit_logs ORDER BY tool_name LIMIT 1)
    UNION ALL
    SELECT (SELECT later.tool_name FROM audit_logs later WHERE later.tool_name > tools.tool_name
            ORDER BY later.tool_name LIMIT 1)
    FROM tools
    WHERE tools.tool_name IS NOT NULL
)
SELECT tool_name FROM tools WHERE tool_name IS NOT NULL ORDER BY tool_name
