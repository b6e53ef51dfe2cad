"""The demo from beginning to end: record, store, report, run again, compare, and say what was found."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from datetime import time as clock
from pathlib import Path

import click

from audit_dagster.audit_service import AuditService, log_custom_operation
from audit_dagster.dagster_home import prepare
from audit_dagster.demo.lab import OPERATIONS, first_monday, make_repository, start_of
from audit_dagster.errors import AuditError
from audit_dagster.recording.command import run_command
from audit_dagster.report_service import create_reproduction_script
from audit_dagster.settings import Settings
from audit_dagster.store import embedded

_OUTPUTS = ("data", "figures")
_KEPT = ("AUDIT_POSTGRES_BIN", "AUDIT_SERVER_IDLE_SECONDS")
_MARK = ".audit-dagster-demo"


def run_demo(directory: Path) -> int:
    """Do it all below `directory`, afresh. Returns 0 where the script made the same files again, else 1."""
    began = time.monotonic()
    settings = _fresh(directory)
    try:
        with _step("Make the field station's repository: three commits"):
            commits = make_repository(directory / "station")
        with _step(f"Record {len(OPERATIONS) + 1} operations of two weeks"):
            failed = _record(directory / "station", commits, settings)
        with _step("Store them in PostgreSQL"):
            entries = AuditService(settings).recent_entries(limit=None)
        days = sorted({entry.timestamp.astimezone(settings.zone).date() for entry in entries})
        with _step(f"Materialize every asset from {days[0]} to yesterday with Dagster"):
            documents = _materialize(settings, days)
        with _step("Run it all again, in a fresh clone, from the script"):
            again = _run_again(directory, settings)
    finally:
        embedded.stop_if_unused(settings.state_dir)
    _say(directory, len(entries), failed, documents, again, time.monotonic() - began)
    return 0 if again.same and not again.differing else 1


class _Again:
    """What the second run made: file names that are the same byte for byte, and those that differ."""

    def __init__(self, steps: int, same: list[str], differing: list[str]) -> None:
        self.steps, self.same, self.differing = steps, same, differing


def _fresh(directory: Path) -> Settings:
    """Everything below `directory`, the embedded server too, and nothing of an earlier demo."""
    for name in {*os.environ, *Settings.load().given}:
        if name.startswith(("POSTGRES_", "AUDIT_")) and name not in _KEPT:
            os.environ[name] = ""  # not deleted: what a `.env` says must not reach the demo either
    os.environ["AUDIT_STATE_DIR"] = str(directory / "state")
    os.environ["AUDIT_REPORTS_DIR"] = str(directory / "reports")
    _claim(directory)
    if not embedded.stop_if_unused(directory / "state"):
        raise AuditError(f"the demo's database in {directory} is in use: end `make dev` first")
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _MARK:
            path.unlink()
    return Settings.load()


def _claim(directory: Path) -> None:
    """Only a folder that is empty, or that a demo made, will be emptied. Raises AuditError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()) and not (directory / _MARK).exists():
            raise AuditError(f"{directory} holds other things, and the demo would remove them: name an empty folder")
        (directory / _MARK).touch()
    except OSError as error:
        raise AuditError(f"cannot use the folder {directory}: {error.strerror}: name another") from error


def _record(station: Path, commits: list[str], settings: Settings) -> int:
    """Run and record each operation with its commit checked out; how many failed."""
    from git import Repo

    monday = first_monday(datetime.now(settings.zone).date())
    repository = Repo(station)
    before = Path.cwd()
    os.chdir(station)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    failed = 0
    try:
        with _quiet(station.parent / "tools.log"):
            for operation in OPERATIONS:
                repository.git.checkout(commits[operation.commit] if operation.commit < 2 else "main")
                code = run_command(
                    ["python3", *operation.arguments],
                    operation.tool_name,
                    operation.operation,
                    operation.note,
                    started=start_of(operation, monday, settings.zone),
                )
                failed += code != 0
        _summarise(station, datetime.combine(monday + timedelta(days=11), clock(10), settings.zone))
    finally:
        os.chdir(before)
        repository.git.checkout("main")
        repository.close()
    return failed


def _summarise(station: Path, started: datetime) -> None:
    """A step of analysis in Python, recorded without a command of its own."""
    with log_custom_operation("custom_analysis", "statistical_summary", started=started) as logger:
        rows = (station / "data" / "turf week 2.csv").read_text().splitlines()[1:]
        temperatures = [float(row.split(",")[2]) for row in rows]
        logger.add_parameter("table", "data/turf week 2.csv")
        logger.add_result("mean_temperature", round(sum(temperatures) / len(temperatures), 3))
        logger.add_note("Statistical summary of temperature data")


def _materialize(settings: Settings, days: list[date]) -> int:
    """Observe the log, and make every document of the days and their weeks; how many there are."""
    prepare(settings)
    from audit_dagster.demo.materialize import materialize  # loads the definitions, which read the environment

    return materialize(days)


def _run_again(directory: Path, settings: Settings) -> _Again:
    script = directory / "reproduce.sh"
    info = create_reproduction_script(f"{settings.reports}/daily", script)
    clone = directory / "clone"
    subprocess.run(["git", "clone", "--quiet", str(directory / "origin.git"), str(clone)], check=True)
    with (directory / "reproduce.log").open("w") as log:
        done = subprocess.run(
            ["bash", str(script), "--in-place", "--repo", str(clone), "--work", str(directory / "again")],
            stdout=log,
            stderr=log,
            check=False,
        )
    if done.returncode:
        raise AuditError(f"the script ended with exit code {done.returncode}: see {directory / 'reproduce.log'}")
    made = sorted(
        str(path.relative_to(directory / "station"))
        for name in _OUTPUTS
        for path in (directory / "station" / name).rglob("*")
        if path.is_file()
    )
    same, differing, missing = filecmp.cmpfiles(directory / "station", clone, made, shallow=False)
    return _Again(info["operation_count"], same, differing + missing)


def _say(directory: Path, operations: int, failed: int, documents: int, again: _Again, seconds: float) -> None:
    verdict = f"{len(again.same)} of {len(again.same) + len(again.differing)} output files the same, byte for byte"
    click.echo(f"\nFound: {operations} operations, {failed} failed; {documents} documents;")
    click.echo(f"       {again.steps} operations ran again from the script, {verdict}.")
    for name in again.differing:
        click.echo(f"       differs: {name}")
    places = {
        "All reports": "reports/index.html",
        "Daily reports": "reports/daily",
        "Weekly summaries": "reports/weekly",
        "Tool reports": "reports/tools",
        "Scripts of each day": "reports/scripts",
        "Script of it all": "reproduce.sh",
        "What the tools said": "tools.log",
    }
    for name, place in places.items():
        click.echo(f"{name + ':':22}{directory / place}")
    click.echo(f"\nDone in {seconds:.0f} s. `make dev` opens Dagster on it.")


@contextmanager
def _step(what: str) -> Iterator[None]:
    began = time.monotonic()
    click.echo(f"{what} ... ", nl=False)
    sys.stdout.flush()
    yield
    click.echo(f"{time.monotonic() - began:.1f} s")


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """What the demo's tools print goes to a file."""
    sys.stdout.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("wb") as log:
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
