-- The one way in. A function, because a role that may only INSERT is refused ON CONFLICT (operation_id), and without
-- the arbiter every conflict would be swallowed.

SET LOCAL ROLE audit_owner;

CREATE FUNCTION audit_append(entry jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    -- How an operation came here is no part of it: a renamed log, or an entry that was handed in twice, is still the same.
    fingerprint constant text :=
        encode(sha256(convert_to((entry #- '{context,imported_from}' #- '{context,spool}')::text, 'UTF8')), 'hex');
    known text;
BEGIN
    INSERT INTO public.audit_logs (
        timestamp, operation_id, tool_name, operation, user_name, git_branch, git_commit_hash, git_dirty,
        parameters, results, duration_seconds, success, error_message, note, command, working_directory, context,
        entry_sha256
    ) VALUES (
        (entry ->> 'timestamp')::timestamptz,
        (entry ->> 'operation_id')::uuid,
        entry ->> 'tool_name',
        entry ->> 'operation',
        coalesce(entry ->> 'user', 'unknown'),
        entry ->> 'git_branch',
        entry ->> 'git_commit',
        (entry ->> 'git_dirty')::boolean,
        coalesce(nullif(entry -> 'parameters', 'null'), '{}'),
        coalesce(nullif(entry -> 'results', 'null'), '{}') - 'success',
        (entry ->> 'duration_seconds')::double precision,
        (entry ->> 'success')::boolean,
        entry ->> 'error_message',
        entry ->> 'note',
        nullif(entry -> 'command', 'null'),
        entry ->> 'working_directory',
        coalesce(nullif(entry -> 'context', 'null'), '{}'),
        fingerprint
    )
    ON CONFLICT (operation_id) DO NOTHING;
    IF FOUND THEN
        RETURN 'stored';
    END IF;
    SELECT entry_sha256 INTO known FROM public.audit_logs WHERE operation_id = (entry ->> 'operation_id')::uuid;
    RETURN CASE WHEN known = fingerprint THEN 'duplicate' ELSE 'conflict' END;
END
$$;

COMMENT ON FUNCTION audit_append(jsonb) IS
    'Stores one log entry. Answers stored, duplicate (the same entry is there) or conflict (same id, other content).';
REVOKE ALL ON FUNCTION audit_append(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_append(jsonb) TO audit_writer;
