-- A version of the rows that the report of a tool's week stands on: of that week, and of the one it compares with.
-- Weeks without a row of the tool have none.
-- tools: text[], weeks: date[], before, opens, closes: timestamptz[], of each week and the one before
SELECT week, tool_name, own || '-' || both_weeks || '-' || latest AS version
FROM unnest(
    %(tools)s::text[], %(weeks)s::date[], %(before)s::timestamptz[], %(opens)s::timestamptz[], %(closes)s::timestamptz[]
) AS asked (tool, week, before, opens, closes)
CROSS JOIN LATERAL (
    SELECT asked.tool AS tool_name,
           count(*) FILTER (WHERE timestamp >= opens) AS own,
           count(*) AS both_weeks,
           max(id) AS latest
    FROM audit_logs
    WHERE audit_logs.tool_name = asked.tool AND timestamp >= before AND timestamp < closes
) AS counted
WHERE own > 0
ORDER BY week, tool_name
