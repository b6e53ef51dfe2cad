-- When an operation was run again, and what came out, the latest first.
-- operation_id: uuid, limit: integer
SELECT operation_id, timestamp, user_name, context ->> 'verdict' AS verdict
FROM audit_logs
WHERE context ? 'reproduces' AND context ->> 'reproduces' = %(operation_id)s::uuid::text
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s::bigint
