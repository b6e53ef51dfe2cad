-- The patches with these SHA-256, those that are stored.
-- names: text[]
SELECT sha256, patch FROM audit_patches WHERE sha256 = ANY (%(names)s::text[])
