"""What is measured of Dagster's side: an observation, a sensor's tick, a year of reports in one backfill."""

from __future__ import annotations

import contextlib
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
    import dagster as dg
    from psycopg import Connection

_DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"
_DAYS = [UNTIL.date() - timedelta(days=number) for number in range(364, -1, -1)]
_TICK_ROWS = 10_000
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


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
        yield from _observation(world, large, many, rows)
        for connection in (many, few):
            _nothing_due(connection)
        ours, floor = interleaved(
            world.sizes.queries, lambda: clocked(lambda: alerts_due(many)), lambda: clocked(lambda: alerts_due(few))
        )
        ticks = [_tick(world, large), _tick(world, small)]
    compared = f"{rows:,} rows against {small_rows:,}"
    yield Line(f"sensor tick with nothing due: {compared}", *ticks, Target(1.2))
    yield Line(
        f"sensor tick with nothing due, its question alone: {compared}", median(ours), median(floor), Target(1.2)
    )


def _observation(world: World, place: PostgresSettings, connection: Connection[Any], rows: int) -> Iterator[Line]:
    count = b"SELECT count(*) FROM audit_logs"
    counted = [clocked(lambda: connection.execute(count).fetchall()) for _ in range(3)]
    with _dagster(world, place) as instance:
        first = _observed(instance)
        later = []
        for _ in range(world.sizes.reports):
            append(connection, [make_entry(timestamp=UNTIL - timedelta(days=number)) for number in range(30)])
            later.append(_observed(instance))
    name = f"observation of a year's data versions at {rows:,} rows"
    yield Line(f"{name}, the first: against count(*)", first, median(counted))
    yield Line(f"{name}, after 30 late rows: against count(*)", median(later), median(counted), Target(2.0, "ours"))


def _observed(instance: dg.DagsterInstance) -> float:
    """The seconds of an observation's step: how far the last one saw, the queries, and an event for each day."""
    import dagster as dg

    from audit_dagster.definitions import defs

    result = defs.resolve_job_def("observe_audit_logs_job").execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("audit_logs")], run_config=_QUIET
    )
    # Its checks are steps of their own.
    (done,) = (event for event in result.all_events if event.is_step_success and event.step_key == "audit_logs")
    return done.step_success_data.duration_ms / 1000


def _tick(world: World, place: PostgresSettings) -> float:
    """The median of whole evaluations: with the connection, the checks that failed since, and the question."""
    import dagster as dg

    from audit_dagster.definitions import defs

    sensor = defs.resolve_sensor_def("failure_alerts_sensor")
    with _dagster(world, place) as instance:

        def evaluate(cursor: str | None) -> str | None:
            given: dict[str, Any] = {"resources": defs.resources, "definitions": defs}
            with dg.build_sensor_context(instance, cursor, **given) as context:
                if not isinstance(sensor(context), dg.SkipReason):
                    raise SystemExit("something is due")
                return context.cursor

        cursor = evaluate(None)
        (spent,) = interleaved(world.sizes.queries, lambda: clocked(lambda: evaluate(cursor)))
    return median(spent)


@contextlib.contextmanager
def _dagster(world: World, place: PostgresSettings) -> Iterator[dg.DagsterInstance]:
    """Dagster as it is installed, with its storage in the same database."""
    import dagster as dg

    home = world.folder / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(_DAGSTER_YAML.read_text())
    with (
        patch.dict(os.environ, world.environment(place), clear=True),
        dg.DagsterInstance.from_config(str(home)) as instance,
    ):
        yield instance


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
    with _year_of(world, "year", rows) as place:
        with _dagster(world, place) as instance:
            os.environ["AUDIT_REPORTS_DIR"] = str(world.folder / "reports")
            ours = clocked(lambda: _backfill(instance, days))
        with open_connection(place) as connection:
            queries = clocked(lambda: [_read(connection, day) for day in days])
    files = sorted((world.folder / "reports" / "daily").iterdir())
    reports = [file for file in files if file.suffix == ".md"]  # a long day has several pages beside its report
    if len(reports) != len(days):
        raise SystemExit(f"{len(reports)} reports were written")
    writing = sum(_write_again(world, file) for file in files)
    name = f"a year of daily reports of {rows:,} operations in one backfill"
    yield Line(f"{name}: against its SQL and its files", ours, queries + writing)
    yield Line(f"{name}: against its SQL alone", ours, queries)
    yield Line(f"{name}: against its files alone", ours, writing)


def _backfill(instance: dg.DagsterInstance, days: Sequence[date]) -> None:
    import dagster as dg

    from audit_dagster.definitions import defs

    bounds = {"dagster/asset_partition_range_start": str(days[0]), "dagster/asset_partition_range_end": str(days[-1])}
    defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("daily_report")], tags=bounds, run_config=_QUIET
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
