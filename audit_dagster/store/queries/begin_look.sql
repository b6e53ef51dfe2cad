-- The memory of the last look, for one looker at a time.
-- `open` is the oldest transaction that is still open: what it and later ones bring is for the next look.
SELECT seen::text, pg_snapshot_xmin(pg_current_snapshot())::text AS open,
       coalesce((SELECT id FROM audit_logs ORDER BY id DESC LIMIT 1), 0) AS newest_id
FROM alert_state
FOR UPDATE SKIP LOCKED
