-- A version of each day's rows that changes whenever one arrives, or runs one of them again: rows are only ever added.
-- days: date[], opens, closes: timestamptz[], of each day
WITH replayed AS (
    SELECT original.timestamp, again.id
    FROM audit_logs AS again
    JOIN audit_logs AS original ON original.operation_id = CASE
        -- Anything may stand there.
        WHEN again.context ->> 'reproduces' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
        THEN (again.context ->> 'reproduces')::uuid
    END
    WHERE again.context ? 'reproduces'
)
SELECT day, operations || '-' || latest || coalesce('-' || last_replay, '') AS version
FROM unnest(%(days)s::date[], %(opens)s::timestamptz[], %(closes)s::timestamptz[]) AS days (day, opens, closes)
CROSS JOIN LATERAL (
    SELECT count(*) AS operations, max(id) AS latest
    FROM audit_logs
    WHERE timestamp >= opens AND timestamp < closes
) AS counted
CROSS JOIN LATERAL (
    SELECT max(id) AS last_replay FROM replayed WHERE timestamp >= opens AND timestamp < closes
) AS replays
WHERE operations > 0
ORDER BY day
