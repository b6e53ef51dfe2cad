"""A real PostgreSQL for the tests: one server per run, one database per test, cloned from a template in 0.04 s."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import hypothesis
import psycopg
import pytest

from audit_dagster.entry import LogEntry
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store import embedded
from audit_dagster.store.connect import connect, open_connection
from audit_dagster.store.migrate import migrate
from audit_dagster.store.query import append

# `make test &` and `nohup` have signals ignored, and every process that a test starts would go on ignoring them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# The caller's own settings are none of the tests', and `audit_dagster.defs` reads them when it is imported.
_OF_TESTS = {"AUDIT_PICTURES", "AUDIT_POSTGRES_BIN", "AUDIT_TEST_PROFILE", "AUDIT_UPDATE_GOLDEN"}
for _name in [name for name in os.environ if name.startswith(("AUDIT_", "POSTGRES_")) and name not in _OF_TESTS]:
    del os.environ[_name]
# useradd and runuser, which not every root has on PATH.
os.environ["PATH"] = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))

hypothesis.settings.register_profile("normal", max_examples=300, deadline=None)
hypothesis.settings.register_profile("nightly", max_examples=20_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("AUDIT_TEST_PROFILE", "normal"))

TEMPLATE = "audit_template"
REAL_LOGS = Path(__file__).parents[2] / "shared" / "data" / "rtgs-logs"
needs_real_logs = pytest.mark.skipif(not REAL_LOGS.is_dir(), reason="the lab's real logs are not beside this checkout")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresSettings]:
    """The server, and in it the template database with the schema."""
    # Not pytest's own folder, which is 0700: as root the server runs as nobody, and has to reach its data.
    with tempfile.TemporaryDirectory(prefix="audit-test-") as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o755)
        state_dir = Path(folder) / "state"
        patch.setenv("AUDIT_SERVER_IDLE_SECONDS", "1")
        place = embedded.use(state_dir)
        with open_connection(place) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_commit = off")  # no test kills this server
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        with open_connection(_database_of(place, TEMPLATE)) as connection:
            migrate(connection)
        yield place
        embedded.stop(state_dir)


@pytest.fixture
def empty_database(server: PostgresSettings) -> Iterator[PostgresSettings]:
    """A database without a schema."""
    with _new_database(server, "template1") as place:
        yield place


@pytest.fixture
def postgres_dsn(empty_database: PostgresSettings) -> str:
    """The connection string of a database without a schema."""
    place = empty_database
    return psycopg.conninfo.make_conninfo(
        host=place.host, port=place.port, dbname=place.db, user=place.user, password=place.password
    )


@pytest.fixture
def settings(server: PostgresSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings, in the environment too, with a database of the schema, and a spool and reports of this test's own."""
    with _new_database(server, TEMPLATE) as place:
        for name, value in place.as_environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # where losses are counted, if not in the spool
        for name in ("AUDIT_REPORTS_DIR", "AUDIT_TIMEZONE", "AUDIT_START_DATE", "POSTGRES_LOGGING_STATUS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        yield Settings.load()


@pytest.fixture
def connection(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection to this test's database."""
    with connect(settings) as opened:
        yield opened


@pytest.fixture
def store(connection: psycopg.Connection[Any]) -> Callable[..., list[LogEntry]]:
    """Stores entries, and returns them."""

    def store_all(*entries: LogEntry) -> list[LogEntry]:
        assert set(append(connection, entries)) <= {"stored"}
        return list(entries)

    return store_all


def make_entry(**fields: Any) -> LogEntry:
    """An entry with sensible fields; ids and starts count up from 2023-06-15 12:00 UTC."""
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "operation_id": str(UUID(int=number)),
        "timestamp": datetime(2023, 6, 15, 12, tzinfo=UTC) + timedelta(milliseconds=number),
        "tool_name": "sensing-data",
        "operation": "extract",
        "user_name": "ada",
        "success": True,
        "duration_seconds": 1.5,
    }
    return LogEntry(**{**defaults, **fields})


class _new_database:  # noqa: N801 - a context manager
    def __init__(self, server: PostgresSettings, template: str) -> None:
        self._server, self._template = server, template
        self._name = f"test_{next(_numbers)}"

    def __enter__(self) -> PostgresSettings:
        with open_connection(_database_of(self._server, "postgres")) as connection:
            connection.execute(f"CREATE DATABASE {self._name} TEMPLATE {self._template}")
        return _database_of(self._server, self._name)

    def __exit__(self, *_: object) -> None:
        with open_connection(_database_of(self._server, "postgres")) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")


def _database_of(place: PostgresSettings, name: str) -> PostgresSettings:
    return PostgresSettings(place.host, place.port, name, place.user, place.password)


@pytest.fixture
def without_drainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool fills, and nobody empties it unasked."""
    monkeypatch.setattr("audit_dagster.recording.drainer.wake", lambda _settings: None)


@pytest.fixture
def git(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs git in the current folder as a person with a name and no configuration of this machine's."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")

    def run(*words: object) -> str:
        command = ["git", *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return run
