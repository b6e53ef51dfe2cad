-- Store a patch, and answer the SHA-256 under which it is found.
-- patch: bytea
SELECT audit_keep_patch(%(patch)s)
