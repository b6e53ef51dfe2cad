"""What is measured of the documents: a day of 100,000 operations, and a week of 1,000,000."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from audit_dagster.report_rows import week_rows
from audit_dagster.report_service import ReportService
from audit_dagster.reports.windows import day_window
from audit_dagster.store.connect import open_connection
from audit_dagster.store.query import sql
from audit_dagster_tests.bench.measure import Line, Target, clocked, interleaved, peak
from audit_dagster_tests.bench.world import World, database_of
from audit_dagster_tests.pictures import browser

_REPORT = (Path(sys.executable).parent / "audit-dagster", "report")
_SUNDAY = datetime(2026, 6, 28, 23, 59, 59, tzinfo=UTC)
_FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
# Measured on 2026-11-24 on two cores: operations per second with their fetch, and megabytes, of rtgs-lab-tools as it is
# published, which writes a file per operation; log lines per second and core, and megabytes, of pgBadger 12.
_ORIGINAL_RATE, _ORIGINAL_MB = 3_236, 282
_PGBADGER_RATE, _PGBADGER_MB = 10_785, 222


def long_day(world: World) -> Iterator[Line]:
    """Does the report of a long day stream, and can people open it?"""
    rows, day = world.sizes.day, _SUNDAY.date()
    folder = world.folder / "long-day"
    with database_of(world, "day", rows, rows, _SUNDAY) as place, open_connection(place) as connection:
        service = ReportService(world.settings(place))
        window = day_window(day, service.settings.zone)
        bound = {"start": window.start, "end": window.end, "tool_name": None}

        def copy_out() -> None:
            query = b"COPY (" + sql("entries_between") + b") TO STDOUT"
            with (world.folder / "rows.copy").open("wb") as file, connection.cursor().copy(query, bound) as chunks:
                for chunk in chunks:
                    file.write(chunk)

        ours, floor = interleaved(
            min(world.sizes.reports, 3),
            lambda: clocked(lambda: service.write_daily_report(connection, day, folder / f"{day}.md")),
            lambda: clocked(copy_out),
        )
        service.write_daily_report(connection, day - timedelta(days=1), folder / "nothing.md")
        used, idle = (
            peak(
                (*_REPORT, "--start-date", at, "--end-date", at, "--output-dir", "."), world.environment(place), folder
            )
            for at in (str(day), str(day - timedelta(days=30)))
        )
    name, time, on = f"a day of {rows:,} operations as Markdown, HTML and JSON", median(ours), "2026-11-24"
    yield Line(f"{name}: against COPY to a file", time, median(floor), Target(6))
    yield Line(f"{name}: against the public original's rate, {on}", time, rows / _ORIGINAL_RATE)
    yield Line(f"{name}: against pgBadger's rate of log lines, {on}", time, rows / _PGBADGER_RATE)
    yield Line(f"{name}, memory: against a day of none", used, idle, Target(150, "added"), in_mb=True)
    yield Line(f"{name}, memory: against the public original's, {on}", used, _ORIGINAL_MB, in_mb=True)
    yield Line(f"{name}, memory: against pgBadger's, {on}", used, _PGBADGER_MB, in_mb=True)
    first, empty = _first_paints(folder / f"{day}.html", folder / "nothing.html")
    yield Line(f"{name}, first paint of its page: against a day of none", first, empty, Target(1, "ours"))


def _first_paints(*pages: Path) -> Iterator[float]:
    with browser() as chromium:
        for page in pages:
            chromium.goto(page.as_uri())
            chromium.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
            yield float(chromium.evaluate(_FIRST_PAINT))


def long_week(world: World) -> Iterator[Line]:
    """What does a summary add to its queries?"""
    rows, monday = world.sizes.week, _SUNDAY.date() - timedelta(days=6)
    with database_of(world, "week", rows, rows // 7, _SUNDAY) as place, open_connection(place) as connection:
        service = ReportService(world.settings(place))
        ours, floor = interleaved(
            min(world.sizes.reports, 3),
            lambda: clocked(lambda: service.write_weekly_summary(connection, monday, world.folder / "week" / "w.md")),
            lambda: clocked(lambda: week_rows(connection, monday, service.settings)),
        )
    yield Line(f"the summary of a week of {rows:,} operations: against its SQL", median(ours), median(floor), Target(3))


ALL = (long_day, long_week)
__all__ = ["ALL"]
