-- Numbers that are missing among the operations of a spool, up to the newest that was stored long enough ago.
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
    WHERE timestamp >= %(since)s AND context ? 'spool' AND NOT context ? 'imported_from'
), neighbours AS (
    SELECT *, lag(number) OVER (PARTITION BY spool_id ORDER BY number) AS before
    FROM numbered
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
