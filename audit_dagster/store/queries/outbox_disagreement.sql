-- Failures that are not in the outbox, though they are not imported, and operations there that nobody is to be told of.
-- since: timestamptz, only operations that started then or later
-- limit: integer
SELECT operation_id, is_queued
FROM (
    SELECT operation_id,
           timestamp,
           NOT success AND NOT context ? 'imported_from' AS is_to_be_told,
           -- As a value, so that each is looked up: a join would read all of the outbox.
           (SELECT true FROM alert_outbox WHERE alert_outbox.operation_id = audit_logs.operation_id) IS true AS is_queued
    FROM audit_logs
    WHERE timestamp >= %(since)s
) AS operations
WHERE is_to_be_told <> is_queued
ORDER BY timestamp, operation_id
LIMIT %(limit)s
