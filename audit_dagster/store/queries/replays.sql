-- The latest replay of each operation of a window that was run again.
-- start, end: timestamptz, tool_name: text or null (all tools)
SELECT operation_id, replay.verdict, replay.timestamp
FROM audit_logs
CROSS JOIN LATERAL (
    SELECT context ->> 'verdict' AS verdict, timestamp
    FROM audit_logs AS again
    WHERE again.context ? 'reproduces' AND again.context ->> 'reproduces' = audit_logs.operation_id::text
    ORDER BY timestamp DESC
    LIMIT 1
) AS replay
WHERE audit_logs.timestamp >= %(start)s AND audit_logs.timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
