-- Successful operations that made files of these contents and did not only pass them on, in the order of start.
-- Of each content at most ten: those that had ended by then before the others; of thousands with the same inputs the
-- latest, and the first, when perhaps nobody had made these inputs yet.
-- wanted: text[], SHA-256
-- before: timestamptz[], for each of them: only operations that started before then
SELECT *
FROM audit_logs
WHERE id IN (
    SELECT maker.id
    FROM unnest(%(wanted)s::text[], %(before)s::timestamptz[]) AS content (sha256, before),
         LATERAL (SELECT jsonb_build_array(jsonb_build_object('sha256', content.sha256)) AS files) AS given,
         LATERAL (
             SELECT id
             FROM (
                 SELECT id, timestamp, has_ended,
                        lead(id) OVER same_inputs IS NULL OR lag(id) OVER same_inputs IS NULL AS is_latest_or_first
                 FROM (
                     SELECT id, timestamp,
                            timestamp + least(coalesce(duration_seconds, 0), 1e9) * interval '1 second'
                                <= content.before AS has_ended,
                            jsonb_path_query_array(context, '$.inputs[*].sha256') AS inputs
                     FROM audit_logs
                     WHERE context ? 'outputs' AND context -> 'outputs' @> given.files
                       AND success AND NOT context ? 'reproduces'
                       AND (context -> 'inputs' @> given.files) IS NOT TRUE
                     OFFSET 0  -- these are few: the index on time is no help
                 ) AS maker
                 WHERE timestamp < content.before
                 WINDOW same_inputs AS (PARTITION BY has_ended, inputs ORDER BY timestamp, id)
             ) AS maker
             ORDER BY has_ended DESC, is_latest_or_first DESC, timestamp DESC, id DESC
             LIMIT 10
         ) AS maker
)
ORDER BY timestamp, id
