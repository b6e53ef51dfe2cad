"""Dagster's own storage: dagster-postgres on the audit log's database, in a schema of its own.

dagster.yaml's plain `postgres:` block wants every POSTGRES_* in the environment; this one also knows `.env` and the
embedded server, so that any Dagster command works in a checkout as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store.connect import connect, server
from audit_dagster.store.query import fetch

_SCHEMA = "dagster"


class AuditStorage(DagsterPostgresStorage):
    """Runs, events and schedule ticks where the settings say that the audit log is."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """Nothing to configure here: the settings know."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],  # noqa: ARG003
    ) -> AuditStorage:
        """Raises DatabaseError where the database does not answer or lacks the schema."""
        settings = Settings.load()
        with connect(settings) as connection:
            fetch(connection, "span")
        return cls(postgres_url=storage_url(server(settings)), inst_data=inst_data)


def storage_url(place: PostgresSettings) -> str:
    """The SQLAlchemy URL. It names the driver: from SQLAlchemy 2.1 on, plain `postgresql://` means another one."""
    account = f"{quote(place.user, safe='')}:{quote(place.password, safe='')}"
    options = quote(f"-c search_path={_SCHEMA}", safe="")
    return f"postgresql+psycopg2://{account}@{place.host}:{place.port}/{quote(place.db, safe='')}?options={options}"
