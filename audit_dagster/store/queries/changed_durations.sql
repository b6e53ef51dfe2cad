-- The operations whose median duration changed most, by its factor, from [since, start) to [start, end).
-- since, start, end: timestamptz, limit: integer
SELECT tool_name, operation, operations, p50, before
FROM (
    SELECT tool_name,
           operation,
           count(*) FILTER (WHERE timestamp >= %(start)s) AS operations,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) FILTER (WHERE timestamp >= %(start)s) AS p50,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) FILTER (WHERE timestamp < %(start)s) AS before
    FROM audit_logs
    WHERE timestamp >= %(since)s AND timestamp < %(end)s
    GROUP BY tool_name, operation
) AS medians
WHERE p50 > 0 AND before > 0 AND p50 <> before
ORDER BY abs(ln(p50) - ln(before)) DESC, tool_name, operation
LIMIT %(limit)s
