-- An operation that was run again, by a reproduction script with --report, is an operation of its own; its context names
-- the first one under 'reproduces' and says what came out under 'verdict'.

SET LOCAL ROLE audit_owner;

-- replays, reproducibility
CREATE INDEX audit_logs_replays ON audit_logs ((context ->> 'reproduces'), timestamp DESC)
    WHERE context ? 'reproduces';
