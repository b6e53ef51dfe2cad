-- Dagster keeps its own tables here (see dagster.yaml). They belong to the account that runs Dagster.

CREATE SCHEMA IF NOT EXISTS dagster;
