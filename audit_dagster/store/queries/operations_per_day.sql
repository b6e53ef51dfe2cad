-- Operations and failures of each tool on each day of a zone.
-- start, end: timestamptz, zone: text, tool_name: text or null (all tools)
SELECT (timestamp AT TIME ZONE %(zone)s)::date AS day,
       tool_name,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
GROUP BY 1, 2
ORDER BY 1, 2
