-- The jobs of Dagster's with a failure that no success of theirs followed yet.
SELECT DISTINCT operation AS job_name
FROM alert_incidents
WHERE resolved_at IS NULL AND kind = 'failing' AND facts ? 'Run'
  AND (succeeded_at IS NULL OR succeeded_at <= last_seen)
ORDER BY job_name
