"""The schema holds its promises against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import errors

from audit_dagster.entry import LogEntry
from audit_dagster.errors import DatabaseError
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store.connect import connect, open_connection
from audit_dagster.store.migrate import migrate, migrations, pending
from audit_dagster.store.query import append, fetch, fetch_entries
from audit_dagster_tests.conftest import make_entry

Connection = psycopg.Connection


def test_migrations_apply_once_and_in_order(empty_database: PostgresSettings) -> None:
    names = [name for name, _ in migrations()]
    assert [name[:4] for name in names] == [f"{number:04}" for number in range(1, len(names) + 1)]
    with open_connection(empty_database) as connection:
        assert migrate(connection) == names
        assert migrate(connection) == []


def test_init_db_twice_at_once(settings: Settings, empty_database: PostgresSettings) -> None:
    import os

    environment = {**os.environ, **empty_database.as_environment()}
    command = [sys.executable, "-m", "audit_dagster.cli", "init-db"]
    runs = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0, 0], outputs
    assert sum(output.count("applied 0001") for output, _ in outputs) == 1
    assert all(f"{len(migrations())} migrations" in output for output, _ in outputs)


def test_migrating_at_once_after_looking(empty_database: PostgresSettings) -> None:
    """As the drainer and a reader do on a new embedded server: both look, find nothing, and migrate."""
    connections = [open_connection(empty_database) for _ in range(4)]
    try:
        assert {len(pending(connection)) for connection in connections} == {len(migrations())}
        with ThreadPoolExecutor() as pool:
            applied = list(pool.map(migrate, connections))
    finally:
        for connection in connections:
            connection.close()
    assert sorted(name for names in applied for name in names) == [name for name, _ in migrations()]


def test_a_database_without_schema_says_what_to_do(settings: Settings, empty_database: PostgresSettings) -> None:
    with connect(settings._replace(postgres=empty_database)) as connection:
        with pytest.raises(DatabaseError, match="run `audit-dagster init-db`"):
            fetch(connection, "known_tools")
        with pytest.raises(DatabaseError, match="run `audit-dagster init-db`"):
            append(connection, [make_entry()])


def test_an_entry_comes_back_as_it_went_in(connection: Connection) -> None:
    entry = make_entry(
        note="a 'quoted' $(note)\nof two lines, 20 °C",
        parameters={"project": "Winter Turf - v3", "deep": [{"x": None}]},
        results={"records_extracted": 15420},
        command=["python3", "", "a b", "\n", "$(x)"],
        git_dirty=False,
        context={"hostname": "lab"},
        duration_seconds=0.1 + 0.2,
    )
    assert append(connection, [entry]) == ["stored"]
    assert fetch_entries(connection, "recent_logs", limit=1, tool_name=None, since=None) == [entry]
    assert LogEntry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("1e400", 10**400),
        ("1.5e300", 15 * 10**299),
        ("0.1", 0.1),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_what_jsonb_holds_is_read_exactly(connection: Connection, written: str, value: Any) -> None:
    (found,) = connection.execute("SELECT %s::jsonb", [f'{{"value": [{written}]}}']).fetchone() or ()
    assert found == {"value": [value]} and type(found["value"][0]) is type(value)


def test_append_tells_duplicate_from_conflict(connection: Connection) -> None:
    entry = make_entry()
    changed = replace(entry, note="other")
    renamed = replace(entry, context={"imported_from": {"file": "elsewhere.md"}})
    assert append(connection, [entry, entry, changed, renamed]) == ["stored", "duplicate", "conflict", "duplicate"]


def test_one_refused_entry_does_not_hold_up_the_others(connection: Connection) -> None:
    good, bad, other = make_entry(), make_entry(duration_seconds=-1.0), make_entry()
    answers = append(connection, [good, bad, other])
    assert (answers[0], answers[2]) == ("stored", "stored")
    assert answers[1].startswith("refused: ")


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_logs SET note = 'x'", "DELETE FROM audit_logs", "TRUNCATE audit_logs CASCADE"]
)
@pytest.mark.parametrize("role", ["origin", "replica"])
def test_append_only_even_for_a_superuser(
    connection: Connection, store: Callable[..., list[LogEntry]], statement: str, role: str
) -> None:
    store(make_entry())
    connection.execute(f"SET session_replication_role = {role}")
    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        connection.execute(statement)


def test_a_writer_may_append_and_nothing_else(connection: Connection, store: Callable[..., list[LogEntry]]) -> None:
    store(make_entry())
    connection.execute("SET ROLE audit_writer")
    assert append(connection, [make_entry(success=False)]) == ["stored"]
    for statement in (
        "SELECT FROM audit_logs",
        "INSERT INTO audit_logs DEFAULT VALUES",
        "SELECT FROM alert_outbox",
        "INSERT INTO alert_outbox DEFAULT VALUES",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


def test_a_reader_may_read_and_not_append(connection: Connection, store: Callable[..., list[LogEntry]]) -> None:
    store(make_entry())
    connection.execute("SET ROLE audit_reader")
    assert fetch(connection, "known_tools") == [{"tool_name": "sensing-data"}]
    for statement in ("SELECT audit_append('{}')", "DELETE FROM alert_outbox", "INSERT INTO audit_logs DEFAULT VALUES"):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


def test_init_db_as_an_ordinary_account(server: PostgresSettings, empty_database: PostgresSettings) -> None:
    """A database's owner without CREATEROLE is told what an administrator runs; with the roles granted it works."""
    with open_connection(empty_database) as admin:
        admin.execute("DROP ROLE IF EXISTS plain_owner")
        admin.execute("CREATE ROLE plain_owner LOGIN PASSWORD 'secret'")
        admin.execute(f"ALTER DATABASE {empty_database.db} OWNER TO plain_owner")
        try:
            account = empty_database._replace(user="plain_owner", password="secret")
            with open_connection(account) as connection, pytest.raises(DatabaseError, match="GRANT audit_owner TO"):
                migrate(connection)
            admin.execute("GRANT audit_owner TO plain_owner")
            with open_connection(account) as connection:
                assert len(migrate(connection)) == len(migrations())
                assert append(connection, [make_entry(success=False)]) == ["stored"]
                assert fetch(connection, "alerts_due", now=None) == [{"due": True}]
        finally:
            admin.execute(f"ALTER DATABASE {empty_database.db} OWNER TO {empty_database.user}")
            admin.execute(f"REASSIGN OWNED BY plain_owner TO {empty_database.user}")
            admin.execute("DROP OWNED BY plain_owner")
            admin.execute("DROP ROLE plain_owner")


def test_failures_reach_the_outbox_and_imported_ones_do_not(
    connection: Connection, store: Callable[..., list[LogEntry]]
) -> None:
    failed, _, _ = store(
        make_entry(success=False),
        make_entry(),
        make_entry(success=False, context={"imported_from": {"kind": "markdown-log", "file": "x.md"}}),
    )
    assert [str(row[0]) for row in connection.execute("SELECT operation_id FROM alert_outbox")] == [failed.operation_id]
