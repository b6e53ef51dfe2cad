"""What the benchmarks run against: a real embedded server, and databases filled by the server itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from audit_dagster.recording.drainer import LOCK_NAME
from audit_dagster.recording.spool import waiting
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store import embedded
from audit_dagster.store.connect import open_connection
from audit_dagster.store.migrate import migrate

if TYPE_CHECKING:
    from psycopg import Connection

UNTIL = datetime(2026, 6, 30, 23, 59, tzinfo=UTC)
_FILL = Path(__file__).with_name("fill.sql")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. The large database has `per_day` operations on each of its days."""

    large: int = 1_000_000
    small: int = 1_000
    per_day: int = 10_000
    processes: int = 15
    queries: int = 200
    reports: int = 7
    operations: int = 200
    files: int = 5_000
    steps: int = 1_000
    observed: int = 10_000_000
    year: int = 1_000_000
    year_days: int = 365
    day: int = 100_000
    week: int = 1_000_000


QUICK = Sizes(
    large=2_000,
    small=200,
    per_day=100,
    processes=1,
    queries=3,
    reports=1,
    operations=3,
    files=20,
    steps=5,
    observed=5_000,
    year=500,
    year_days=10,
    day=100,
    week=700,
)


@dataclass(frozen=True, slots=True)
class World:
    """A folder outside any repository, and the databases of one server. The large one is the embedded server's own."""

    folder: Path
    large: PostgresSettings
    small: PostgresSettings
    records: PostgresSettings
    sizes: Sizes

    @property
    def full_day(self) -> date:
        """A day of the large database with all its operations."""
        return (UNTIL - timedelta(days=self.sizes.large // self.sizes.per_day // 2)).date()

    def environment(self, place: PostgresSettings | None, home: str = "home") -> dict[str, str]:
        """For a process that uses `place`, or the embedded server where None. Spools lie in the home, as for people."""
        named = place.as_environment() if place else {}
        # Compiled once and kept, as wherever the package is installed.
        compiled = {"PYTHONPYCACHEPREFIX": str(self.folder / "compiled")}
        return {**_clean_environment(), **compiled, **named, "HOME": str(self.folder / home)}

    def settings(self, place: PostgresSettings | None, home: str = "home") -> Settings:
        """What such a process finds."""
        with patch.dict(os.environ, self.environment(place, home), clear=True):
            return Settings.load()


@contextlib.contextmanager
def world(sizes: Sizes) -> Iterator[World]:
    """Start the server and fill it; at the end stop it and remove everything."""
    with tempfile.TemporaryDirectory(prefix="audit-bench-") as name, contextlib.chdir(name):
        folder = Path(name)
        os.umask(0o022)  # as root the server runs as nobody, and has to reach its data
        folder.chmod(0o755)
        with patch.dict(os.environ, {**_clean_environment(), "HOME": str(folder / "home")}, clear=True):
            state_dir = Settings.load().state_dir
        try:
            place = embedded.use(state_dir)
            small, records = (_new_database(place, name) for name in ("small", "records"))
            for database, rows in ((place, sizes.large), (small, sizes.small), (records, 0)):
                with open_connection(database) as connection:
                    migrate(connection)
                    fill(connection, rows, sizes.per_day)
            yield World(folder, place, small, records, sizes)
        finally:
            embedded.stop(state_dir)


def fill(connection: Connection[Any], rows: int, per_day: int, until: datetime = UNTIL) -> None:
    """Store `rows` operations, the last of them at `until`, and let the planner know."""
    connection.execute(_FILL.read_bytes(), {"rows": rows, "per_day": per_day, "until": until})
    connection.execute("VACUUM ANALYZE audit_logs, alert_outbox")


def _new_database(place: PostgresSettings, name: str) -> PostgresSettings:
    with open_connection(place) as connection:
        connection.execute(f"CREATE DATABASE bench_{name}".encode())
    return PostgresSettings(place.host, place.port, f"bench_{name}", place.user, place.password)


@contextlib.contextmanager
def database_of(
    world: World, name: str, rows: int, per_day: int, until: datetime = UNTIL
) -> Iterator[PostgresSettings]:
    """A database of its own with so many operations; it may be large, so it goes at the end."""
    with open_connection(world.large) as connection:
        place = _new_database(world.large, name)
        try:
            with open_connection(place) as inside:
                migrate(inside)
                fill(inside, rows, per_day, until)
            yield place
        finally:
            connection.execute(f"DROP DATABASE bench_{name} WITH (FORCE)".encode())


def _clean_environment() -> dict[str, str]:
    foreign = ("POSTGRES_", "AUDIT_", "PG", "XDG_", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


@contextlib.contextmanager
def recording_to(world: World, home: str, folder: Path) -> Iterator[None]:
    """This process works in `folder`, and records to the spool of a home of its own."""
    with patch.dict(os.environ, world.environment(world.records, home), clear=True), contextlib.chdir(folder):
        yield
    wait_until_drained(world.settings(world.records, home).spool_dir)


def wait_until_drained(spool_dir: Path) -> None:
    """Return when the drainer has stored everything and let go, so that it neither disturbs the next run nor stays."""
    deadline = time.monotonic() + 120
    while waiting(spool_dir):
        if time.monotonic() > deadline:
            raise SystemExit(f"{spool_dir} is not drained")
        time.sleep(0.02)
    with (spool_dir / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    time.sleep(0.2)  # it is ending now
