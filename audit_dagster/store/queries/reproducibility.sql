-- What each day's successful operations lack to be run again, and what came out where that was tried.
-- start, end: timestamptz, zone: text
WITH chosen AS (
    SELECT (timestamp AT TIME ZONE %(zone)s)::date AS day,
           command IS NULL AS no_command,
           -- as `command_of` in reproduction/words.py has it: more was lost than secrets
           context @> '{"command_is_exact": false}' AND (
               SELECT bool_or(word ~ '\$\{SECRET:[A-Z0-9_]+\}')
                      AND NOT bool_or(word ~ '\\u(0000|d[89a-f][0-9a-f]{2})|… \([0-9]+ (characters|items)\)$')
               FROM jsonb_array_elements_text(command) AS word
           ) IS FALSE AS no_exact_command,
           git_commit_hash IS NULL AS no_commit,
           git_dirty IS TRUE AND context #> '{git,patch,exact}' IS DISTINCT FROM 'true' AS no_exact_patch,
           git_commit_hash IS NOT NULL AND coalesce(context #> '{git,ahead}', '1') <> '0' AS on_no_remote,
           jsonb_path_exists(context, '$.inputs[*] ? (@.sha256 == null)') AS input_without_hash,
           (
               SELECT context ->> 'verdict'
               FROM audit_logs AS again
               WHERE again.context ? 'reproduces' AND again.context ->> 'reproduces' = audit_logs.operation_id::text
               ORDER BY timestamp DESC
               LIMIT 1
           ) AS verdict
    FROM audit_logs
    WHERE timestamp >= %(start)s AND timestamp < %(end)s AND success AND NOT context ? 'reproduces'
)
SELECT day,
       count(*) AS operations,
       count(*) FILTER (
           WHERE NOT (no_command OR no_exact_command OR no_commit OR no_exact_patch OR on_no_remote OR input_without_hash)
       ) AS reproducible,
       count(*) FILTER (WHERE no_command) AS no_command,
       count(*) FILTER (WHERE no_exact_command) AS no_exact_command,
       count(*) FILTER (WHERE no_commit) AS no_commit,
       count(*) FILTER (WHERE no_exact_patch) AS no_exact_patch,
       count(*) FILTER (WHERE on_no_remote) AS on_no_remote,
       count(*) FILTER (WHERE input_without_hash) AS input_without_hash,
       count(*) FILTER (WHERE verdict = 'reproduced') AS reproduced,
       count(*) FILTER (WHERE verdict = 'differing') AS differing,
       count(*) FILTER (WHERE verdict = 'broken') AS broken
FROM chosen
GROUP BY day
ORDER BY day
