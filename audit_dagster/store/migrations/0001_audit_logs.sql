-- The roles, and the table that every operation goes to.
--
-- audit_owner owns everything and cannot log in; audit_writer may call audit_append() and nothing else; audit_reader
-- reads. Accounts are made members of them: GRANT audit_writer TO alice.

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['audit_owner', 'audit_writer', 'audit_reader'] LOOP
        -- Roles belong to the whole server, so another database's migration may be making them right now.
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
    IF NOT pg_has_role(current_user, 'audit_owner', 'MEMBER') THEN
        EXECUTE format('GRANT audit_owner TO %I', current_user);
    END IF;
    IF NOT has_schema_privilege('audit_owner', 'public', 'CREATE') THEN
        GRANT CREATE, USAGE ON SCHEMA public TO audit_owner;
    END IF;
    IF NOT has_schema_privilege('audit_reader', 'public', 'USAGE') THEN
        GRANT USAGE ON SCHEMA public TO audit_writer, audit_reader;
    END IF;
END
$$;

ALTER TABLE audit_migrations OWNER TO audit_owner;
SET LOCAL ROLE audit_owner;

CREATE TABLE audit_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    timestamp timestamptz NOT NULL,
    operation_id uuid NOT NULL UNIQUE,
    tool_name text NOT NULL,
    operation text NOT NULL,
    user_name text NOT NULL,
    git_branch text,
    git_commit_hash text,
    git_dirty boolean,
    parameters jsonb NOT NULL,
    results jsonb NOT NULL,
    duration_seconds double precision CHECK (duration_seconds >= 0),
    success boolean NOT NULL,
    error_message text,
    note text,
    command jsonb CHECK (jsonb_typeof(command) = 'array'),
    working_directory text,
    context jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    entry_sha256 text NOT NULL
);

COMMENT ON COLUMN audit_logs.timestamp IS 'Start of the operation';
COMMENT ON COLUMN audit_logs.command IS 'The exact argv';
COMMENT ON COLUMN audit_logs.recorded_at IS 'When this server stored the row';
COMMENT ON COLUMN audit_logs.entry_sha256 IS 'SHA-256 of the entry''s canonical jsonb text, without how it came here';

-- recent_logs, entries_between, day_versions, window_totals, operations_per_day
CREATE INDEX audit_logs_timestamp ON audit_logs (timestamp DESC, id DESC);
-- The same with one tool named, and known_tools.
CREATE INDEX audit_logs_tool_timestamp ON audit_logs (tool_name, timestamp DESC, id DESC);

CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_logs is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
-- ALWAYS: session_replication_role = replica does not switch them off.
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_append_only;
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_no_truncate;

GRANT SELECT ON audit_logs, audit_migrations TO audit_reader;
