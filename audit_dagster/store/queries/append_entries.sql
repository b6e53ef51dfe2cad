-- Store entries; one answer each, in their order: stored, duplicate or conflict.
-- entries: jsonb[], the JSON forms
SELECT audit_append(entry)
FROM unnest(%(entries)s::jsonb[]) WITH ORDINALITY AS given (entry, position)
ORDER BY position
