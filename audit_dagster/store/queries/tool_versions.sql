-- How many rows weeks of tools have, and the newest of them; weeks without a row have none.
-- tools: text[], weeks: date[], opens, closes: timestamptz[], of each week
SELECT week, tool_name, operations, latest
FROM unnest(%(tools)s::text[], %(weeks)s::date[], %(opens)s::timestamptz[], %(closes)s::timestamptz[])
    AS asked (tool, week, opens, closes)
CROSS JOIN LATERAL (
    SELECT asked.tool AS tool_name, count(*) AS operations, max(id) AS latest
    FROM audit_logs
    WHERE audit_logs.tool_name = asked.tool AND timestamp >= opens AND timestamp < closes
) AS counted
WHERE operations > 0
ORDER BY week, tool_name
