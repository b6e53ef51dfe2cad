-- A version of each day's rows that changes whenever a row arrives: rows are only ever added.
-- start, end: timestamptz, zone: text
SELECT day, operations || '-' || latest AS version
FROM (
    SELECT midnight::date AS day,
           midnight AT TIME ZONE %(zone)s AS opens,
           (midnight + interval '1 day') AT TIME ZONE %(zone)s AS closes
    FROM generate_series((%(start)s::timestamptz AT TIME ZONE %(zone)s)::date::timestamp,
                         (%(end)s::timestamptz AT TIME ZONE %(zone)s)::date::timestamp, interval '1 day') AS midnight
) AS days,
LATERAL (
    SELECT count(*) AS operations, max(id) AS latest
    FROM audit_logs
    WHERE timestamp >= greatest(opens, %(start)s) AND timestamp < least(closes, %(end)s)
) AS counted
WHERE operations > 0
ORDER BY day
