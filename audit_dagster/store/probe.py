"""Whether the database answers: asked with little patience, for people who look at the state of things."""

from __future__ import annotations

import threading
from typing import NamedTuple

from audit_dagster.errors import AuditError
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store import embedded
from audit_dagster.store.connect import open_connection
from audit_dagster.store.query import fetch

PATIENCE_SECONDS = 3


class Probe(NamedTuple):
    """Where the database is, whether it answers (None: it was not asked), and what stands in the way."""

    place: str
    answers: bool | None
    problem: str | None


def probe(settings: Settings) -> Probe:
    """Ask the database for PATIENCE_SECONDS at most. Never starts the embedded server, never raises for their sake."""
    if settings.postgres:
        place = f"{settings.postgres.host}:{settings.postgres.port}/{settings.postgres.db}"
        return Probe(place, *_ask_patiently(settings.postgres))
    place = f"embedded server in {settings.state_dir}"
    try:
        server = embedded.running(settings.state_dir)
    except (AuditError, OSError) as error:
        return Probe(place, None, str(error))
    if server is None:
        return Probe(place, None, "not running; it starts when it is needed")
    return Probe(place, *_ask_patiently(server))


def _ask_patiently(server: PostgresSettings) -> tuple[bool, str | None]:
    """In a thread that nobody waits for: no timeout of a connection covers name servers that do not answer, nor a
    server that takes the login and is then silent."""
    import psycopg  # noqa: F401 - loading it is no part of the patience

    answers: list[tuple[bool, str | None]] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(server)), daemon=True)
    asking.start()
    asking.join(PATIENCE_SECONDS)
    return answers[0] if answers else (False, f"no answer within {PATIENCE_SECONDS} seconds")


def _ask(server: PostgresSettings) -> tuple[bool, str | None]:
    answers = False
    try:
        with open_connection(server) as connection:
            answers = True
            (row,) = fetch(connection, "may_append")
    except Exception as error:  # in a thread of its own it would be printed
        return answers, str(error)
    may_not = f"the account '{server.user}' may not store operations: GRANT audit_writer TO {server.user}"
    return True, None if row["may_append"] else may_not
