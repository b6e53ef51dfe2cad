-- A version of each day's rows that changes whenever a row arrives: rows are only ever added.
-- start, end: timestamptz, zone: text
SELECT (timestamp AT TIME ZONE %(zone)s)::date AS day,
       count(*) || '-' || max(id) AS version
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
GROUP BY 1
ORDER BY 1
