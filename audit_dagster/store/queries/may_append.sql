-- Whether this account may store operations.
SELECT has_function_privilege('audit_append(jsonb)', 'EXECUTE') AS may_append
