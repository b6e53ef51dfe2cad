-- The versions of one tool, and the commits it ran at, among its operations that started in [start, end).
-- start, end: timestamptz, tool_name: text, limit: integer
SELECT context #>> '{tool,version}' AS version,
       git_commit_hash,
       count(*) AS operations,
       count(*) FILTER (WHERE NOT success) AS failed
FROM audit_logs
WHERE timestamp >= %(start)s AND timestamp < %(end)s
  AND tool_name = %(tool_name)s
GROUP BY 1, 2
ORDER BY operations DESC, version NULLS LAST, git_commit_hash NULLS LAST
LIMIT %(limit)s
