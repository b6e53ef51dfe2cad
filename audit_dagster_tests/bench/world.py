"""What the benchmarks run against: a real embedded server, and databases filled by the server itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
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


QUICK = Sizes(large=2_000, small=200, per_day=100, processes=1, queries=3, reports=1, operations=3, files=20)


@dataclass(frozen=True, slots=True)
class World:
    """A folder outside any repository, and the databases of one server. The large one is the embedded server's own."""

    folder: Path
    state_dir: Path
    large: PostgresSettings
    small: PostgresSettings
    records: PostgresSettings
    sizes: Sizes

    @property
    def full_day(self) -> date:
        """A day of the large database with all its operations."""
        return (UNTIL - timedelta(days=self.sizes.large // self.sizes.per_day // 2)).date()

    def environment(self, place: PostgresSettings | None, state_dir: Path | None = None) -> dict[str, str]:
        """For a process that uses `place`, or the embedded server where None."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "AUDIT_", "PG"))}
        named = place.as_environment() if place else {}
        return {**kept, **named, "AUDIT_STATE_DIR": str(state_dir or self.state_dir)}


@contextlib.contextmanager
def world(sizes: Sizes) -> Iterator[World]:
    """Start the server and fill it; at the end stop it and remove everything."""
    with tempfile.TemporaryDirectory(prefix="audit-bench-") as name, contextlib.chdir(name):
        folder = Path(name)
        folder.chmod(0o755)  # as root the server runs as nobody, and has to reach its data
        state_dir = folder / "state"
        try:
            place = embedded.use(state_dir)
            small, records = (_new_database(place, name) for name in ("small", "records"))
            for database, rows in ((place, sizes.large), (small, sizes.small), (records, 0)):
                with open_connection(database) as connection:
                    migrate(connection)
                    fill(connection, rows, sizes.per_day)
            yield World(folder, state_dir, place, small, records, sizes)
        finally:
            embedded.stop(state_dir)


def fill(connection: Connection[Any], rows: int, per_day: int, until: datetime = UNTIL) -> None:
    """Store `rows` operations, the last of them at `until`, and let the planner know."""
    connection.execute(_FILL.read_bytes(), {"rows": rows, "per_day": per_day, "until": until})
    connection.execute("VACUUM ANALYZE audit_logs, alert_outbox")


def _new_database(place: PostgresSettings, name: str) -> PostgresSettings:
    with open_connection(place) as connection:
        connection.execute(f"CREATE DATABASE bench_{name}".encode())
    return replace(place, db=f"bench_{name}")


@contextlib.contextmanager
def recording_to(world: World, name: str, folder: Path) -> Iterator[Settings]:
    """This process works in `folder`, and records to a spool of its own."""
    state_dir = world.folder / name
    environment = world.environment(world.records, state_dir)
    with patch.dict(os.environ, environment, clear=True), contextlib.chdir(folder):
        settings = Settings.load()
        yield settings
        wait_until_drained(settings.spool_dir)


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
