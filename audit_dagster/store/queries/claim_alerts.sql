-- Take failures that nobody counted yet, until this transaction ends: never two claimers the same one.
-- now: timestamptz, limit: integer
SELECT operation_id, tool_name, operation, left(error_message, 2000) AS error_message, timestamp
FROM alert_outbox
JOIN audit_logs USING (operation_id)
WHERE sent_at IS NULL AND due <= %(now)s::timestamptz
ORDER BY due
LIMIT %(limit)s
FOR UPDATE OF alert_outbox SKIP LOCKED
