-- The operations that started in [start, end) and took longest; `place` is how many its day has before it.
-- start, end: timestamptz, tool_name: text or null (all tools), limit: integer, zone: text
WITH slowest AS (
    SELECT *
    FROM audit_logs
    WHERE timestamp >= %(start)s AND timestamp < %(end)s
      AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
      AND duration_seconds IS NOT NULL
    ORDER BY duration_seconds DESC, timestamp, operation_id
    LIMIT %(limit)s
)
SELECT tool_name, operation, user_name, timestamp, duration_seconds, success, operation_id,
       (SELECT count(*)
        FROM audit_logs AS earlier
        WHERE earlier.timestamp >= date_trunc('day', slowest.timestamp, %(zone)s)
          AND earlier.timestamp <= slowest.timestamp
          AND (earlier.timestamp, earlier.id) < (slowest.timestamp, slowest.id)) AS place
FROM slowest
ORDER BY duration_seconds DESC, timestamp, operation_id
