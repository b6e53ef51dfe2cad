-- The oldest transaction that is still open: rows of earlier ones are visible now, or never will be.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS transaction
