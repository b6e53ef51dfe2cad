-- The runs of Dagster's that failed and are counted in an incident: each once, whoever looks twice or with a second daemon.

SET LOCAL ROLE audit_owner;

CREATE TABLE alert_runs (
    run_id text PRIMARY KEY,
    counted_at timestamptz NOT NULL
);

-- The reader is who counts. It can neither change nor remove.
GRANT SELECT, INSERT ON alert_runs TO audit_reader;
