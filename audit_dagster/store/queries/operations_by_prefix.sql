-- The first few operations whose ids lie between two, both included, in the order of their ids.
-- first, last: uuid, limit: integer
SELECT *
FROM audit_logs
WHERE operation_id BETWEEN %(first)s::uuid AND %(last)s::uuid
ORDER BY operation_id
LIMIT %(limit)s::bigint
