-- The newest operations first.
-- tool_name: text or null (all tools), since: timestamptz or null (no lower bound), limit: integer or null (all)
SELECT *
FROM audit_logs
WHERE (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
  AND timestamp >= coalesce(%(since)s::timestamptz, '-infinity')
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s::bigint
