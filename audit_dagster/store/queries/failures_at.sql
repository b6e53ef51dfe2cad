-- The failed operations that started at these moments; `place` is how many the day of each has before it.
-- tools, operations: text[], moments: timestamptz[] (of the same length), zone: text
SELECT wanted.tool_name,
       wanted.operation,
       wanted.timestamp,
       found.operation_id,
       (SELECT count(*)
        FROM audit_logs AS earlier
        WHERE earlier.timestamp >= date_trunc('day', wanted.timestamp, %(zone)s)
          AND earlier.timestamp <= wanted.timestamp
          AND (earlier.timestamp, earlier.id) < (wanted.timestamp, found.id)) AS place
FROM unnest(%(tools)s::text[], %(operations)s::text[], %(moments)s::timestamptz[])
         AS wanted (tool_name, operation, timestamp)
CROSS JOIN LATERAL (
    SELECT id, operation_id
    FROM audit_logs
    WHERE tool_name = wanted.tool_name AND timestamp = wanted.timestamp
      AND operation = wanted.operation AND NOT success
    ORDER BY id
    LIMIT 1
) AS found
