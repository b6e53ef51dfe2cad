-- The newest operations, failed ones too, that made or named such a file.
-- file: jsonb, an object with its path, its sha256, or both, limit: integer
SELECT *
FROM (
    SELECT *
    FROM audit_logs
    WHERE context ? 'outputs' AND context -> 'outputs' @> jsonb_build_array(%(file)s::jsonb)
    OFFSET 0  -- these are few: the index on time is no help
) AS found
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s::bigint
