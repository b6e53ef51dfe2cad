-- Wait until nobody else writes the site's page, and let others wait until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('audit_dagster site'))
