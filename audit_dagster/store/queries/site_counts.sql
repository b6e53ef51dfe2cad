-- Operations of each day of a zone, of each tool and of each person, in one reading; the other two are null in a row.
-- start, end: timestamptz, zone: text
SELECT (timestamp AT TIME ZONE %(zone)s)::date AS day,
       tool_name,
       user_name,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed,
       max(timestamp) AS last_at
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
GROUP BY GROUPING SETS ((1), (2), (3))
ORDER BY operations DESC, tool_name, user_name, day
