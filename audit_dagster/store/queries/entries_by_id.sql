-- The operations with these ids, in the order of start.
-- operation_ids: uuid[]
SELECT * FROM audit_logs WHERE operation_id = ANY (%(operation_ids)s::uuid[]) ORDER BY timestamp, id
