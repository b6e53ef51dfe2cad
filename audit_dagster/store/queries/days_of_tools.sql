-- The tools that did not run since, and on which of these days they did: an index probe per tool and day.
-- idle_since: timestamptz, starts, ends: timestamptz[], of the days
WITH RECURSIVE tools (tool_name) AS (
    (SELECT tool_name FROM audit_logs ORDER BY tool_name LIMIT 1)
    UNION ALL
    SELECT (SELECT later.tool_name FROM audit_logs later WHERE later.tool_name > tools.tool_name
            ORDER BY later.tool_name LIMIT 1)
    FROM tools
    WHERE tools.tool_name IS NOT NULL
)
SELECT tools.tool_name, last.timestamp AS last_run, array_agg(day.number ORDER BY day.number) AS days
FROM tools
CROSS JOIN LATERAL (
    SELECT timestamp FROM audit_logs WHERE tool_name = tools.tool_name ORDER BY timestamp DESC, id DESC LIMIT 1
) AS last
JOIN unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY AS day (starts, ends, number)
    ON EXISTS (
        SELECT FROM audit_logs
        WHERE tool_name = tools.tool_name AND timestamp >= day.starts AND timestamp < day.ends
          AND NOT context ? 'imported_from'
    )
WHERE last.timestamp < %(idle_since)s::timestamptz AND last.timestamp >= %(idle_since)s::timestamptz - interval '5 days'
GROUP BY tools.tool_name, last.timestamp
ORDER BY tools.tool_name
