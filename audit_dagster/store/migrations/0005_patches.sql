-- What a dirty working tree had beyond its commit, once per content. Operations name a patch by its SHA-256, in
-- context -> 'git' -> 'patch' and context -> 'tool' -> 'git' -> 'patch'.

SET LOCAL ROLE audit_owner;

CREATE TABLE audit_patches (
    sha256 text PRIMARY KEY,
    patch bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON COLUMN audit_patches.patch IS 'For git apply --binary; secrets are replaced by ${SECRET:NAME}';

CREATE TRIGGER audit_patches_append_only BEFORE UPDATE OR DELETE ON audit_patches
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_patches_no_truncate BEFORE TRUNCATE ON audit_patches
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
ALTER TABLE audit_patches ENABLE ALWAYS TRIGGER audit_patches_append_only;
ALTER TABLE audit_patches ENABLE ALWAYS TRIGGER audit_patches_no_truncate;

CREATE FUNCTION audit_keep_patch(patch bytea) RETURNS text
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO public.audit_patches (sha256, patch) VALUES (encode(sha256($1), 'hex'), $1)
    ON CONFLICT (sha256) DO NOTHING;
    SELECT encode(sha256($1), 'hex');
$$;

COMMENT ON FUNCTION audit_keep_patch(bytea) IS 'Stores a patch once, and answers its SHA-256.';
REVOKE ALL ON FUNCTION audit_keep_patch(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_keep_patch(bytea) TO audit_writer;
GRANT SELECT ON audit_patches TO audit_reader;

-- Now that two tables use it: name the one that refuses.
CREATE OR REPLACE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
