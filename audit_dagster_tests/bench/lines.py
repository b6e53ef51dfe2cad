"""What is measured: each function runs one comparison and returns its lines."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from audit_dagster.recording.recorder import log_custom_operation
from audit_dagster.report_service import ReportService
from audit_dagster.reports.windows import day_window
from audit_dagster.store.connect import open_connection
from audit_dagster.store.query import fetch_entries, sql
from audit_dagster_tests.bench.measure import Line, clocked, cpus, interleaved, process, walls
from audit_dagster_tests.bench.world import World, recording_to, wait_until_drained

_RECENT_LIMIT = 20
_QUERIES = Path(__file__).parents[2] / "audit_dagster" / "store" / "queries"
_BIN = Path(sys.executable).parent
_RECENT = (_BIN / "audit-dagster", "recent", "--limit", str(_RECENT_LIMIT))
_BARE_RECENT = (
    sys.executable,
    Path(__file__).with_name("floor_recent.py"),
    "--limit",
    str(_RECENT_LIMIT),
    _QUERIES / "recent_logs.sql",
)
_IMPORT = "from audit_dagster import log_custom_operation"
_RECORD = f"""{_IMPORT}
with log_custom_operation("bench", "one") as logger:
    logger.add_parameter("site", 4)
    logger.add_result("records", 15420)
"""


def recent_by_size(world: World) -> Iterator[Line]:
    """Does `recent` stay as fast as the log grows?"""
    target = 1.2
    sizes = f"{world.sizes.large:,} rows against {world.sizes.small:,}"
    bound = {"limit": _RECENT_LIMIT, "tool_name": None, "since": None}
    with open_connection(world.large) as large, open_connection(world.small) as small:
        ours, floor = interleaved(
            world.sizes.queries,
            lambda: clocked(lambda: fetch_entries(large, "recent_logs", **bound)),
            lambda: clocked(lambda: fetch_entries(small, "recent_logs", **bound)),
        )
    yield Line(f"recent, the query: {sizes}", median(ours), median(floor), target)
    ours, floor = interleaved(
        world.sizes.processes,
        lambda: process(_RECENT, world.environment(world.large), world.folder),
        lambda: process(_RECENT, world.environment(world.small), world.folder),
    )
    yield Line(f"recent, the process: {sizes}", walls(ours), walls(floor), target)


def recent_by_floor(world: World) -> Iterator[Line]:
    """What does our command add to Python, click and psycopg?"""
    target = 1.5
    named = world.environment(world.large)
    ours, ours_embedded, floor = interleaved(
        world.sizes.processes,
        lambda: process(_RECENT, named, world.folder),
        lambda: process(_RECENT, world.environment(None), world.folder),
        lambda: process(_BARE_RECENT, named, world.folder),
    )
    yield Line("recent, the process: against bare click and psycopg", walls(ours), walls(floor), target)
    yield Line("recent, the process: embedded server, against bare", walls(ours_embedded), walls(floor), target)


def daily_report(world: World) -> Iterator[Line]:
    """What does the report of a full day cost beyond reading its rows?"""
    settings = world.settings(world.large)
    service = ReportService(settings)
    window = day_window(world.full_day, settings.zone)
    report, rows = world.folder / "report.md", world.folder / "rows.copy"
    bound = {"start": window.start, "end": window.end, "tool_name": None}
    copy = b"COPY (" + sql("entries_between") + b") TO STDOUT"
    with open_connection(world.large) as connection:

        def copy_out() -> None:
            with rows.open("wb") as file, connection.cursor().copy(copy, bound) as chunks:
                for chunk in chunks:
                    file.write(chunk)

        written = service.write_daily_report(connection, world.full_day, report)
        ours, floor = interleaved(
            world.sizes.reports,
            lambda: clocked(lambda: service.write_daily_report(connection, world.full_day, report)),
            lambda: clocked(copy_out),
        )
    name = f"daily report of {written.operations:,} operations: against COPY to a file"
    yield Line(name, median(ours), median(floor))


def recording_process(world: World) -> Iterator[Line]:
    """What does recording add to a tool's start?"""
    environment = world.environment(world.records)
    homes = (f"home-{number}" for number in itertools.count(1))

    def python(code: str) -> Callable[[], Any]:
        return lambda: process((sys.executable, "-c", code), environment, world.folder)

    def record() -> Any:
        home = next(homes)  # with a spool of its own, so that each run has to wake a drainer
        spent = process((sys.executable, "-c", _RECORD), world.environment(world.records, home), world.folder)
        wait_until_drained(world.settings(world.records, home).spool_dir)
        return spent

    imported, recorded, floor = interleaved(world.sizes.processes, python(_IMPORT), record, python("pass"))
    yield Line("recording, import: against python -c pass", walls(imported), walls(floor))
    yield Line("recording, import, CPU", cpus(imported), cpus(floor))
    yield Line("recording, import and one operation: against python -c pass", walls(recorded), walls(floor))
    yield Line("recording, import and one operation, CPU", cpus(recorded), cpus(floor))


def recorded_operations(world: World) -> Iterator[Line]:
    """What does one operation cost a process that runs many?"""
    outside, repository = world.folder / "outside", world.folder / "repository"
    outside.mkdir()
    _make_repository(repository, world.sizes.files, world.environment(None))
    for folder, place, floor in (
        (outside, "outside a repository: against its file alone", _bare_file),
        (repository, f"in one of {world.sizes.files:,} files: against its file and git status", _bare_file_and_git),
    ):
        bare = world.folder / f"bare-{folder.name}"
        bare.mkdir()
        with recording_to(world, f"home-{folder.name}", folder):
            ours, floors = interleaved(
                world.sizes.operations, partial(clocked, _operation), partial(clocked, partial(floor, bare))
            )
        yield Line(f"one operation, {place}", median(ours), median(floors))


def _operation() -> None:
    with log_custom_operation("bench", "many") as logger:
        logger.add_parameter("site", 4)
        logger.add_result("records", 15420)


_numbers = itertools.count(1)


def _bare_file(folder: Path) -> None:
    """What the promise costs at least: known before the code runs, on the disk when it has ended."""
    draft = folder / f"{next(_numbers)}.tmp"
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.write(descriptor, b"begin" * 120)
    draft.rename(draft.with_suffix(".op"))
    os.write(descriptor, b"end" * 60)
    os.fdatasync(descriptor)
    os.close(descriptor)


def _bare_file_and_git(folder: Path) -> None:
    subprocess.run(["git", "status", "--porcelain=v2", "--branch", "-z"], check=True, capture_output=True)
    _bare_file(folder)


def _make_repository(folder: Path, files: int, environment: dict[str, str]) -> None:
    for number in range(files):
        file = folder / f"part_{number % 50}" / f"file_{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"file {number}\n")
    person = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for command in (("init",), ("add", "--all"), (*person, "commit", "--message", "All"), ("status",)):
        subprocess.run(["git", "-C", folder, *command], check=True, capture_output=True, env=environment)


ALL = (recent_by_size, recent_by_floor, daily_report, recording_process, recorded_operations)
__all__ = ["ALL"]
