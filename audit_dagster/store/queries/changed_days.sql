-- The days of a zone, and on each the tools, with rows of this transaction and later ones.
-- A row that ran an operation again also changes that operation's day, whose report shows the verdict.
-- oldest: text, the oldest transaction that was open at the last look, zone: text
WITH arrived AS (
    SELECT timestamp, tool_name, context ->> 'reproduces' AS reproduces
    FROM audit_logs
    WHERE transaction_id >= %(oldest)s::xid8
), touched AS (
    SELECT timestamp, tool_name FROM arrived
    UNION ALL
    SELECT original.timestamp, original.tool_name
    FROM arrived
    JOIN audit_logs AS original ON original.operation_id = CASE
        -- Anything may stand there.
        WHEN reproduces ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN reproduces::uuid
    END
)
SELECT DISTINCT (timestamp AT TIME ZONE %(zone)s)::date AS day, tool_name
FROM touched
ORDER BY day, tool_name
