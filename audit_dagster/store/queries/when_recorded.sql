-- When the database took an operation.
-- operation_id: uuid
SELECT recorded_at FROM audit_logs WHERE operation_id = %(operation_id)s::uuid
