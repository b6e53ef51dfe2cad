-- Since the last look: the latest success of each tool's operation, and the slowest that ended within the last day.
-- since_transaction: text, the oldest transaction that was open then, now: timestamptz
SELECT tool_name,
       operation,
       max(timestamp) AS last_success,
       (array_agg(operation_id ORDER BY duration_seconds DESC) FILTER (
           WHERE duration_seconds IS NOT NULL
             AND timestamp + make_interval(secs => least(duration_seconds, 1e9)) >= %(now)s::timestamptz - interval '1 day'
       ))[1] AS slowest
FROM audit_logs
WHERE transaction_id >= %(since_transaction)s::xid8 AND success AND NOT context ? 'imported_from'
GROUP BY tool_name, operation
