"""The templates of the documents: which there are, and whether a lab's own ones work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from audit_dagster.commands import plain
from audit_dagster.errors import AuditError, InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from audit_dagster.entry import LogEntry


@click.group()
def templates() -> None:
    """See the documents' templates, and try your own: files of AUDIT_TEMPLATES_DIR win by their names."""


@templates.command("list")
def list_templates() -> None:
    """Show each template's name, and whether it is the shipped one or your own."""
    from audit_dagster.render import templates_dir

    own = _own_templates()
    for name in sorted({*_names(templates_dir()), *own}):
        click.echo(f"{plain(name)}\t{'own' if name in own else 'shipped'}")


@templates.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a shipped template, to begin your own with.

    \b
    Example:
      audit-dagster templates show daily_report.html.j2 > my_templates/daily_report.html.j2
    """
    from audit_dagster.render import templates_dir

    if name not in _names(templates_dir()):
        raise InvalidInputError(f"there is no template {name!r}: see `audit-dagster templates list`")
    click.echo((templates_dir() / name).read_text("utf-8"), nl=False)


@templates.command()
def check() -> None:
    """Compile your templates, and fill those of a day, its script and the shell hook with a made-up operation."""
    failed = 0
    for name in _own_templates():
        try:
            said = _tried(name)
        except AuditError as error:
            failed += 1
            said = str(error)
        click.echo(f"{plain(name)}\t{plain(said)}")
    if failed:
        raise AuditError(f"{failed} templates do not work: correct the files that are named above")


def _own_templates() -> list[str]:
    from audit_dagster.render import environment
    from audit_dagster.settings import chosen_templates_dir

    environment()  # refuses a folder that does not exist
    own = chosen_templates_dir()
    return _names(own) if own else []


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.j2") if path.is_file())


def _tried(name: str) -> str:
    """What could be said of a template. Raises AuditError that names file and line."""
    from audit_dagster.render import compiled

    compiled(name)
    fill = _FILLED.get(name)
    if fill is None:
        return "compiles"
    fill(_made_up())
    return "ok"


def _made_up() -> LogEntry:
    from audit_dagster.entry import LogEntry

    return LogEntry(
        operation_id="00000000-0000-4000-8000-000000000001",
        timestamp=datetime(2023, 6, 15, 14, 30, 22, tzinfo=UTC),
        tool_name="sensing-data",
        operation="extract",
        user_name="ada",
        success=False,
        git_branch="main",
        git_commit_hash="a" * 40,
        git_dirty=False,
        parameters={"project": "Winter Turf - v3"},
        results={"records_extracted": 15420},
        duration_seconds=45.7,
        error_message="ConnectionError: the logger did not answer",
        note="a made-up operation",
        command=["python3", "extract.py", "--site", "4"],
        working_directory="/home/ada/lab",
    )


def _fill_day(entry: LogEntry) -> None:
    from zoneinfo import ZoneInfo

    from audit_dagster.reports.daily import daily_report
    from audit_dagster.reports.daily_page import Neighbours, daily_pages

    day, zone = entry.timestamp.date(), ZoneInfo("UTC")
    daily_report(day, [entry], zone)
    daily_pages(Neighbours(day, str(day)), [entry], zone)


def _fill_script(entry: LogEntry) -> None:
    from audit_dagster.reproduction.plan import ScriptConfig, make_plan
    from audit_dagster.reproduction.script import reproduction_script

    config = ScriptConfig()
    reproduction_script(make_plan([entry], config), entry.timestamp, config)


def _fill_hook(_entry: LogEntry) -> None:
    from audit_dagster.render import render

    for shell in ("bash", "zsh"):
        render("shell_hook.sh.j2", shell=shell)


_FILLED: dict[str, Callable[[LogEntry], None]] = {
    **dict.fromkeys(("daily_report.md.j2", "daily_report.html.j2", "page.html.j2", "page_script.html.j2"), _fill_day),
    "reproduction_script.sh.j2": _fill_script,
    "shell_hook.sh.j2": _fill_hook,
}
