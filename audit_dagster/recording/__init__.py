"""A run of a tool becomes an entry in the spool, whatever happens to the database."""
