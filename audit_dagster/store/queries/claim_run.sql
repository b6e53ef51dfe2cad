-- Note that a failed run of Dagster's is counted; nothing comes back where it was counted before.
-- run_id: text, now: timestamptz
INSERT INTO alert_runs (run_id, counted_at) VALUES (%(run_id)s, %(now)s::timestamptz)
ON CONFLICT (run_id) DO NOTHING
RETURNING run_id
