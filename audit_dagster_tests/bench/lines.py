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
from audit_dagster_tests.bench import operation, reports
from audit_dagster_tests.bench.measure import Line, Target, clocked, cpus, interleaved, peak, process, told, walls
from audit_dagster_tests.bench.world import World, recording_to, wait_until_drained
from audit_dagster_tests.reproduction.lab import Repository, make_script, step

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
_RECORDER = "home-of-a-recorder"
_numbers = itertools.count(1)
_IMPORT = "from audit_dagster import log_custom_operation"
_RECORD = """with log_custom_operation("bench", "one") as logger:
    logger.add_parameter("site", 4)
    logger.add_result("records", 15420)
"""
_TIMED = f"""import time
{_IMPORT}
began = time.perf_counter()
{_RECORD}
print(time.perf_counter() - began)
"""
_TIMED_FLOOR = """import os, subprocess, time
began = time.perf_counter()
subprocess.run(["git", "status", "--porcelain=v2", "--branch", "-z"], check=True, capture_output=True)
descriptor = os.open(f"{os.environ['HOME']}.{os.getpid()}", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
os.write(descriptor, b"begin" * 120 + b"end" * 60)
os.fdatasync(descriptor)
os.close(descriptor)
print(time.perf_counter() - began)
"""
# rtgs-lab-tools as it is published, measured on 2026-11-24: a loop of operations, and one with its connection. Its git
# calls are 12 ms of the first, and it hung for as long as a server accepted and did not answer.
_ORIGINAL_IN_A_LOOP, _ORIGINAL_WITH_CONNECTION = 0.0135, 0.030
# Its script of 1,000 steps: seconds, and megabytes.
_ORIGINAL_SCRIPT, _ORIGINAL_MB = 0.14, 187
# Its newest 20 of 1,000,000 rows, on two cores: seconds, and megabytes.
_ORIGINAL_RECENT, _ORIGINAL_RECENT_MB = 92, 9_500


def recent_by_size(world: World) -> Iterator[Line]:
    """Does `recent` stay as fast as the log grows?"""
    target = Target(1.2)
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
    target = Target(1.5)
    named = world.environment(world.large)
    ours, ours_embedded, floor = interleaved(
        world.sizes.processes,
        lambda: process(_RECENT, named, world.folder),
        lambda: process(_RECENT, world.environment(None), world.folder),
        lambda: process(_BARE_RECENT, named, world.folder),
    )
    yield Line("recent, the process: against bare click and psycopg", walls(ours), walls(floor), target)
    yield Line("recent, the process: embedded server, against bare", walls(ours_embedded), walls(floor), target)
    original = "against the public original's with 1,000,000 rows, 2026-11-24"
    used = peak(_RECENT, named, world.folder)
    yield Line(f"recent, the process: {original}", walls(ours), _ORIGINAL_RECENT)
    yield Line(f"recent, memory: {original}", used, _ORIGINAL_RECENT_MB, in_mb=True)


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
    """What does recording add to a tool's start, in a clean repository?"""
    environment, clean = world.environment(world.records), _repository(world, "clean")
    imported, recorded, floor = interleaved(
        world.sizes.processes,
        lambda: process((sys.executable, "-c", _IMPORT), environment, clean),
        partial(_recorded, world, f"{_IMPORT}\n{_RECORD}", clean, process),
        lambda: process((sys.executable, "-c", "pass"), environment, clean),
    )
    place = f"in a clean repository of {world.sizes.files:,} files"
    yield Line("recording, import: against python -c pass", walls(imported), walls(floor))
    yield Line("recording, import, CPU", cpus(imported), cpus(floor))
    yield Line(f"recording, import and one operation {place}", walls(recorded), walls(floor))
    limit = Target(0.060, "added")
    yield Line(f"recording, import and one operation {place}, CPU", cpus(recorded), cpus(floor), limit)


def first_operation(world: World) -> Iterator[Line]:
    """What does the record itself cost a process, its import aside?"""
    for state, limit in (("clean", Target(0.015, "ours")), ("dirty", None)):
        folder = _repository(world, state)
        ours, floor = interleaved(
            world.sizes.processes,
            partial(_recorded, world, _TIMED, folder, told),
            lambda folder=folder: told((sys.executable, "-c", _TIMED_FLOOR), world.environment(None), folder),
        )
        name = f"the first operation of a process, in a {state} repository of {world.sizes.files:,} files"
        yield Line(f"{name}: against git status and a file", median(ours), median(floor), limit)
        if state == "clean":
            original = "against the public original with its connection, 2026-11-24"
            yield Line(f"the first operation of a process: {original}", median(ours), _ORIGINAL_WITH_CONNECTION)


def recorded_operations(world: World) -> Iterator[Line]:
    """What does one operation cost a process that runs many?"""
    outside = world.folder / "outside"
    outside.mkdir()
    for folder, place, floor in (
        (outside, "outside a repository: against its file alone", _bare_file),
        (_repository(world, "clean"), "in a clean repository: against its file and git status", _bare_file_and_git),
        (_repository(world, "dirty"), "in a dirty repository: against its file and git status", _bare_file_and_git),
    ):
        bare = world.folder / f"bare-{folder.name}"
        bare.mkdir()
        with recording_to(world, f"home-{folder.name}", folder):
            ours, floors = interleaved(
                world.sizes.operations, partial(clocked, _operation), partial(clocked, partial(floor, bare))
            )
        yield Line(f"one operation of many, {place}", median(ours), median(floors), Target(0.005, "ours"))
        if folder.name == "clean":
            original = "against the public original in a loop, 2026-11-24"
            yield Line(f"one operation of many: {original}", median(ours), _ORIGINAL_IN_A_LOOP)


def reproduction_script(world: World) -> Iterator[Line]:
    """What does the script of a full day cost, to write and to read?"""
    day, script = world.full_day.isoformat(), world.folder / "reproduce.sh"
    days = ("--start-date", day, "--end-date", day, "--include-failed")
    command = (_BIN / "audit-dagster", "reproduce", *days, script)
    place = world.environment(world.large), world.folder
    write = partial(process, command, *place)
    ours, least = peak(command, *place), peak(_BARE_RECENT, *place)
    written, read, floor = interleaved(
        world.sizes.reports,
        write,
        partial(process, ("bash", "-n", script), world.environment(None), world.folder),
        partial(process, _BARE_RECENT, *place),
    )
    name, steps = f"a script of {world.sizes.per_day:,} steps", world.sizes.per_day / 1_000
    against = "against the public original's rate, 2026-11-24"
    limit = Target(1.4, "ours")
    yield Line(f"{name}, the process: against bare click and psycopg with 20 rows", walls(written), walls(floor), limit)
    yield Line(f"{name}, the process: {against}", walls(written), _ORIGINAL_SCRIPT * steps)
    yield Line(f"{name}, memory: against that process", ours, least, Target(150, "ours"), in_mb=True)
    yield Line(f"{name}, memory: against the public original's 1,000 steps", ours, _ORIGINAL_MB, in_mb=True)
    yield Line(f"{name}, read by bash -n: against writing it", walls(read), walls(written), Target(2, "ours"))


def reproduction_step(world: World) -> Iterator[Line]:
    """What does a script cost beyond its commands? They are `true`, at one commit."""
    repository, count = _repository(world, "clean"), world.sizes.steps
    environment = {**world.environment(None), "TMPDIR": str(world.folder)}
    commit = subprocess.run(
        ("git", "-C", repository, "rev-parse", "HEAD"), check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()
    script, bare, logs = world.folder / "steps.sh", world.folder / "bare.sh", world.folder / "logs"
    script.write_text(make_script(*[step(Repository(repository), commit, ["true"])] * count))
    bare.write_text("".join(f"/bin/true >{logs}/step-{number}.log 2>&1\n" for number in range(count)))
    logs.mkdir()
    ours, floor = interleaved(
        world.sizes.reports,
        lambda: process(("bash", script, "--yes"), environment, repository),
        lambda: process(("bash", bare), environment, repository),
    )
    name = f"one of a script's {count:,} steps: against its command and log"
    yield Line(name, walls(ours) / count, walls(floor) / count, Target(0.030, "added"))


def _recorded(world: World, code: str, folder: Path, measure: Callable[..., Any]) -> Any:
    """Measure a process of somebody who has recorded before; each run has to wake a drainer, and is drained after it.

    The very first operation of a user makes the spool's folders, which takes 3 ms more, once.
    """
    spent = measure((sys.executable, "-c", code), world.environment(world.records, _RECORDER), folder)
    wait_until_drained(world.settings(world.records, _RECORDER).spool_dir)
    return spent


def _operation() -> None:
    with log_custom_operation("bench", "many") as logger:
        logger.add_parameter("site", 4)
        logger.add_result("records", 15420)


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
    # Without its locks it leaves the index as it is: to write it would make the other side ask again.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "status", "--porcelain=v2", "--branch", "-z"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    _bare_file(folder)


def _repository(world: World, state: str) -> Path:
    """A repository of many files, made with the first who asks; a dirty one has four changed and one new."""
    folder = world.folder / state
    if folder.exists():
        return folder
    for number in range(world.sizes.files):
        file = folder / f"part_{number % 50}" / f"file_{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"file {number}\n")
    person = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for command in (("init",), ("add", "--all"), (*person, "commit", "--message", "All"), ("status",)):
        run = ["git", "-C", folder, *command]
        subprocess.run(run, check=True, capture_output=True, env=world.environment(None))
    if state == "dirty":
        for number in range(5):
            (folder / f"part_{number}" / f"file_{number or 'new'}.txt").write_text("changed\n" * 100)
    return folder


ALL = (
    recent_by_size,
    recent_by_floor,
    daily_report,
    recording_process,
    first_operation,
    recorded_operations,
    reproduction_script,
    reproduction_step,
    *reports.ALL,
    *operation.ALL,
)
__all__ = ["ALL"]
