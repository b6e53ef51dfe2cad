-- Operations and failures on each day of a zone; a day without any has no row.
-- start, end: timestamptz, zone: text, tool_name: text or null (all tools)
SELECT (timestamp AT TIME ZONE %(zone)s)::date AS day,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
GROUP BY 1
ORDER BY 1
