-- Numbers that are missing among the operations of a spool, up to the newest that was stored long enough ago.
-- They begin at 1, or after the last ones before: where a spool's first number is 1, nobody looks for these.
-- A number that is there twice is no gap, and a spool without one is not looked at; no row may be trusted.
-- since: timestamptz, only operations that started then or later
-- stored_before: timestamptz, what lies before an operation that came later may still come
-- limit: integer
WITH numbered AS (
    SELECT context #>> '{spool,id}' AS spool_id,
           context ->> 'hostname' AS hostname,
           recorded_at,
           CASE WHEN jsonb_typeof(context #> '{spool,number}') = 'number'
                THEN trunc((context #> '{spool,number}')::numeric) END AS number
    FROM audit_logs
    WHERE timestamp >= %(since)s AND jsonb_typeof(context #> '{spool,id}') = 'string' AND NOT context ? 'imported_from'
), begun_before AS (
    SELECT spool_id, highest
    FROM (SELECT spool_id, min(number) AS first FROM numbered WHERE number BETWEEN 1 AND 1e15 GROUP BY spool_id) AS seen
    CROSS JOIN LATERAL (
        SELECT timestamp AS latest
        FROM audit_logs
        WHERE timestamp < %(since)s AND context #>> '{spool,id}' = spool_id
        ORDER BY timestamp DESC
        LIMIT 1
    ) AS before
    -- Those that began together may have their numbers in another order than their times.
    CROSS JOIN LATERAL (
        SELECT max(CASE WHEN jsonb_typeof(context #> '{spool,number}') = 'number'
                        THEN trunc((context #> '{spool,number}')::numeric) END) AS highest
        FROM audit_logs
        WHERE timestamp BETWEEN latest - interval '1 hour' AND latest AND context #>> '{spool,id}' = spool_id
    ) AS together
    WHERE first > 1
), neighbours AS (
    SELECT *, lag(number, 1, coalesce(highest, 0)) OVER (PARTITION BY spool_id ORDER BY number) AS before
    FROM numbered LEFT JOIN begun_before USING (spool_id)
    WHERE number BETWEEN 1 AND 1e15
)
SELECT spool_id,
       hostname,
       (before + 1)::bigint AS first_missing,
       (number - 1)::bigint AS last_missing
FROM neighbours
WHERE number > before + 1 AND recorded_at < %(stored_before)s
ORDER BY spool_id, number
LIMIT %(limit)s
