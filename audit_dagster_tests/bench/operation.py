"""What is measured of Dagster's side: an observation, a sensor's tick, a year of reports in one backfill."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

from audit_dagster.alert_service import alerts_due
from audit_dagster.reports.windows import day_window
from audit_dagster.settings import PostgresSettings
from audit_dagster.store.connect import open_connection
from audit_dagster.store.query import append, sql
from audit_dagster_tests.bench.measure import Line, Target, clocked, interleaved
from audit_dagster_tests.bench.world import UNTIL, World, database_of
from audit_dagster_tests.conftest import make_entry

if TYPE_CHECKING:
    from psycopg import Connection

_DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"
_DAYS = [UNTIL.date() - timedelta(days=number) for number in range(364, -1, -1)]
_TICK_ROWS = 10_000


def large_log(world: World) -> Iterator[Line]:
    """Do an observation and a tick with nothing due stay fast as the log grows?"""
    rows = world.sizes.observed
    small_rows = min(_TICK_ROWS, rows // 10)
    with (
        _year_of(world, "observed", rows) as large,
        _year_of(world, "few", small_rows) as small,
        open_connection(large) as many,
        open_connection(small) as few,
    ):
        yield from _observation(world, many, rows)
        for connection in (many, few):
            _nothing_due(connection)
        ours, floor = interleaved(
            world.sizes.queries, lambda: clocked(lambda: alerts_due(many)), lambda: clocked(lambda: alerts_due(few))
        )
    name = f"sensor tick with nothing due: {rows:,} rows against {small_rows:,}"
    yield Line(name, median(ours), median(floor), Target(1.2))


def _observation(world: World, connection: Connection[Any], rows: int) -> Iterator[Line]:
    from audit_dagster.defs.observation import changed_days, day_versions, seen_now

    settings = world.settings(world.large)
    count = b"SELECT count(*) FROM audit_logs"
    ours, floor = interleaved(
        3,
        lambda: clocked(lambda: day_versions(connection, _DAYS, settings)),
        lambda: clocked(lambda: connection.execute(count).fetchall()),
    )
    name = f"observation of a year's data versions at {rows:,} rows"
    yield Line(f"{name}, the first: against count(*)", median(ours), median(floor))

    before = seen_now(connection, settings, _DAYS)
    append(connection, [make_entry(timestamp=UNTIL - timedelta(days=number)) for number in range(30)])

    def increment() -> None:
        seen_now(connection, settings, _DAYS)
        day_versions(connection, sorted({day for day, _ in changed_days(connection, before)}), settings)

    ours, floor = interleaved(
        world.sizes.reports,
        lambda: clocked(increment),
        lambda: clocked(lambda: connection.execute(count).fetchall()),
    )
    yield Line(f"{name}, after 30 late rows: against count(*)", median(ours), median(floor), Target(2.0, "ours"))


def _nothing_due(connection: Connection[Any]) -> None:
    """All failures counted and told, and nothing to be looked at soon."""
    connection.execute("UPDATE alert_outbox SET sent_at = now(), due = now()")
    connection.execute("UPDATE alert_state SET look_at = now() + interval '1 day', looked_at = now()")
    connection.execute("VACUUM ANALYZE alert_outbox")
    if alerts_due(connection):
        raise SystemExit("something is due")


def year_of_reports(world: World) -> Iterator[Line]:
    """What does a backfill of a year add to its queries and its files?"""
    rows, days = world.sizes.year, _DAYS[-world.sizes.year_days :]
    home = world.folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(_DAGSTER_YAML.read_text())
    with _year_of(world, "year", rows) as place:
        environment = world.environment(place) | {"AUDIT_REPORTS_DIR": str(world.folder / "reports")}
        with patch.dict(os.environ, environment, clear=True):
            ours = clocked(lambda: _backfill(home, days))
        with open_connection(place) as connection:
            queries = clocked(lambda: [_read(connection, day) for day in days])
    files = sorted((world.folder / "reports" / "daily").iterdir())
    if len(files) != 3 * len(days):
        raise SystemExit(f"{len(files)} reports were written")
    writing = sum(_write_again(world, file) for file in files)
    name = f"a year of daily reports of {rows:,} operations in one backfill"
    yield Line(f"{name}: against its SQL and its files", ours, queries + writing)
    yield Line(f"{name}: against its SQL alone", ours, queries)
    yield Line(f"{name}: against its files alone", ours, writing)


def _backfill(home: Path, days: Sequence[date]) -> None:
    import dagster as dg

    from audit_dagster.definitions import defs

    bounds = {"dagster/asset_partition_range_start": str(days[0]), "dagster/asset_partition_range_end": str(days[-1])}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("daily_report")],
            tags=bounds,
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        )


def _read(connection: Connection[Any], day: date) -> None:
    window = day_window(day, ZoneInfo("UTC"))
    connection.execute(sql("entries_between"), {"start": window.start, "end": window.end, "tool_name": None}).fetchall()


def _write_again(world: World, file: Path) -> float:
    """Reading is not counted."""
    content = file.read_bytes()
    return clocked(lambda: (world.folder / "again.md").write_bytes(content))


def _year_of(world: World, name: str, rows: int) -> AbstractContextManager[PostgresSettings]:
    return database_of(world, name, rows, max(1, rows // len(_DAYS)))


ALL = (large_log, year_of_reports)
__all__ = ["ALL"]
