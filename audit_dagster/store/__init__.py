"""Entries meet PostgreSQL: the server, the schema, the queries, the drain."""
