"""A connection to the database that the settings name, or to the embedded server where they name none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from audit_dagster.errors import DatabaseAwayError, DatabaseError
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store.migrate import migrate, pending

if TYPE_CHECKING:
    from psycopg import Connection

_CONNECT_TIMEOUT_SECONDS = 5


def connect(settings: Settings) -> Connection[Any]:
    """Open an autocommit connection in UTC whose rows are tuples; the caller closes it, best with `with`.

    The embedded server's schema is kept up to date here; a server named by POSTGRES_* gets its schema from `init-db`,
    and a query says so where it is missing. Raises DatabaseError with the one thing to do.
    """
    connection = open_connection(server(settings))
    if settings.postgres is None and pending(connection):
        migrate(connection)
    return connection


def server(settings: Settings) -> PostgresSettings:
    """The server that serves these settings; starts the embedded one where none is named."""
    if settings.postgres:
        return settings.postgres
    from audit_dagster.store import embedded

    return embedded.use(settings.state_dir)


def open_connection(server: PostgresSettings) -> Connection[Any]:
    """Connect to `server` without looking at its schema. Raises DatabaseError, and its child where nobody answers."""
    import psycopg
    from psycopg.types.json import set_json_loads

    try:
        connection = psycopg.connect(
            host=server.host,
            port=server.port,
            dbname=server.db,
            user=server.user,
            password=server.password or None,
            application_name="audit_dagster",
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            options="-c timezone=UTC",
            autocommit=True,
            # Plans made for the bound values: with `tool_name IS NULL OR …` a generic plan reads everything.
            prepare_threshold=None,
            # A network that goes dark is an error after a minute, not after TCP's own quarter of an hour.
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=60_000,
        )
    except (psycopg.Error, UnicodeError) as error:
        raise _told(server, str(error)) from error
    set_json_loads(_loads, connection)
    return connection


def _loads(written: str | bytes) -> Any:
    """As json.loads, in a fifth of its time; which also knows the numbers beyond a float's range."""
    import msgspec

    try:
        return msgspec.json.decode(written)
    except msgspec.DecodeError:
        return json.loads(written)


def _told(server: PostgresSettings, message: str) -> DatabaseError:
    place = f"PostgreSQL at {server.host}:{server.port}"
    if "password" in message or "authentication" in message or ("role" in message and "does not exist" in message):
        advice = "correct POSTGRES_USER and POSTGRES_PASSWORD"
        return DatabaseError(f"{place} refused the login of '{server.user}': {advice}")
    if "does not exist" in message:
        return DatabaseError(f"{place} has no database '{server.db}': create it, or correct POSTGRES_DB")
    reason = " ".join(message.split()) or "no answer"
    advice = "start it, or correct POSTGRES_HOST and POSTGRES_PORT"
    return DatabaseAwayError(f"cannot reach {place} ({reason}): {advice}")
