"""Documents on the disk: rows are read, pure functions render them, and files are written.

Dagster's assets, the facade and the command line all come here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from audit_dagster.audit_service import AuditService
from audit_dagster.day_files import write_day
from audit_dagster.documents import Document, Place, place, read_text, write_document
from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError, EntryError, InvalidInputError
from audit_dagster.escaping import file_name
from audit_dagster.report_rows import tool_rows, week_rows
from audit_dagster.reports import daily, tool_page, tools, weekly, weekly_page
from audit_dagster.reports.daily_page import Neighbours
from audit_dagster.reports.site import Pages, site_page
from audit_dagster.reports.windows import (
    as_days,
    day_window,
    days_window,
    monday_of,
    week_name,
)
from audit_dagster.reproduction.ground import patch_name
from audit_dagster.reproduction.plan import Plan, ScriptConfig, make_plan
from audit_dagster.reproduction.plan_json import plan_json
from audit_dagster.reproduction.script import reproduction_script
from audit_dagster.settings import Settings
from audit_dagster.site_rows import pages_in, site_rows
from audit_dagster.store.query import fetch, fetch_entries, fetch_patches

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = [
    "ReportService",
    "create_custom_reproduction_script",
    "create_reproduction_script",
    "generate_report",
]

Track = Callable[[Iterable[Any]], Iterable[Any]]


class ReportService:
    """Writes reports and scripts of what is in the database."""

    def __init__(self, settings: Settings | None = None, track: Track = iter) -> None:
        """`settings` default to the environment's. The documents' days go through `track`, which may tell how far."""
        self.settings = settings or Settings.load()
        self.audit = AuditService(self.settings)
        self._track = track

    def generate_report(
        self,
        start_date: str | date | datetime,
        end_date: str | date | datetime,
        output_dir: str | os.PathLike[str] = "logs",
        tool_name: str | None = None,
    ) -> list[str]:
        """Write a daily report of each day of the range, ends included, on which anything ran; the files' paths.

        Raises InvalidInputError for bad dates, AuditError where the folder cannot be written.
        """
        window = days_window(*as_days(start_date, end_date), self.settings.zone)
        with self.audit.database() as connection:
            rows = fetch(
                connection,
                "days_with_entries",
                start=window.start,
                end=window.end,
                zone=self.settings.timezone,
                tool_name=tool_name,
            )
            days = [row["day"] for row in rows]
            suffix = "" if tool_name is None else f"_{file_name(tool_name)}"
            paths = [place(output_dir) / f"{day}{suffix}.md" for day in days]
            beside = zip([None, *days], [*days[1:], None], strict=False)
            return [
                str(self.write_daily_report(connection, day, path, tool_name, around).path)
                for day, path, around in self._track(list(zip(days, paths, beside, strict=False)))
            ]

    def generate_weekly_reports(
        self,
        start_date: str | date | datetime,
        end_date: str | date | datetime,
        output_dir: str | os.PathLike[str] = "logs",
    ) -> dict[str, str]:
        """Write the summary of each ISO week that the range touches: {"2023-W24": path}.

        Raises as `generate_report` does.
        """
        first, last = as_days(start_date, end_date)
        mondays = [monday_of(first)]
        while mondays[-1] + timedelta(weeks=1) <= last:
            mondays.append(mondays[-1] + timedelta(weeks=1))
        with self.audit.database() as connection:
            beside = zip([None, *mondays], [*mondays[1:], None], strict=False)
            paths = {monday: place(output_dir) / f"{week_name(monday)}.md" for monday in mondays}
            return {
                week_name(monday): str(self.write_weekly_summary(connection, monday, path, around).path)
                for (monday, path), around in self._track(list(zip(paths.items(), beside, strict=False)))
            }

    def write_daily_report(
        self,
        connection: Connection[Any],
        day: date,
        path: Place | None = None,
        tool_name: str | None = None,
        beside: tuple[date | None, date | None] = (None, None),
    ) -> Document:
        """Write the report of a day, or of one tool's operations on it, to `path` or its place in AUDIT_REPORTS_DIR.

        Its pages and its JSON are written beside it; pages of an earlier, longer version are removed. `beside` are the
        days before and after that it links to; in AUDIT_REPORTS_DIR, where the search finds its operations, too, they
        are the calendar's.
        """
        if path is None:
            one = timedelta(days=1)
            beside = (day - one if day > self.settings.start_date else None, day + one)
        target = path or self.daily_path(day)
        search = self.settings.reports_dir / "search" / f"{day}.js" if path is None else None
        where = Neighbours(day, target.stem, *beside, among_others=path is None)
        return write_day(connection, self.settings.zone, target, where, tool_name, search)

    def write_weekly_summary(
        self,
        connection: Connection[Any],
        monday: date,
        path: Place | None = None,
        beside: tuple[date | None, date | None] = (None, None),
    ) -> Document:
        """Write the summary of the ISO week from `monday`, to `path` or its place in AUDIT_REPORTS_DIR.

        Its page, its JSON and its charts are written beside it. `beside` are the Mondays of the weeks before and after
        that it links to; in AUDIT_REPORTS_DIR they are the calendar's.
        """
        rows = week_rows(connection, monday, self.settings)
        first_day = self.settings.start_date
        if path is None:
            one = timedelta(weeks=1)
            beside = (monday - one if monday > first_day else None, monday + one)
        where = weekly.Beside(*beside, first_day, among_others=path is None)
        target = path or self.weekly_path(monday)
        counts = rows.totals["operations"], rows.totals["failed"]
        _write_beside(target, weekly_page.weekly_files(monday, rows, self.settings.zone, where), *counts)
        return write_document(target, weekly.weekly_summary(monday, rows, self.settings.zone, where), *counts)

    def write_tool_report(self, connection: Connection[Any], monday: date, tool_name: str) -> Document:
        """Write the report of one tool in the ISO week from `monday`, and beside it its page, JSON and charts."""
        rows = tool_rows(connection, monday, tool_name, self.settings)
        target = self.tool_path(monday, tool_name)
        counts = (rows.usage["operations"], rows.usage["failed"]) if rows.usage else (0, 0)
        _write_beside(target, tool_page.tool_files(monday, tool_name, rows, self.settings.zone), *counts)
        return write_document(target, tools.tool_report(monday, tool_name, rows, self.settings.zone), *counts)

    def write_day_script(self, connection: Connection[Any], day: date) -> tuple[Document, Plan]:
        """Write the script that runs a day's operations again."""
        window = day_window(day, self.settings.zone)
        entries = fetch_entries(connection, "entries_between", start=window.start, end=window.end, tool_name=None)
        return write_script(entries, self.script_path(day), ScriptConfig(), self.settings, connection)

    def write_site(self, connection: Connection[Any]) -> tuple[Document, Pages]:
        """Write `index.html`: what there is in AUDIT_REPORTS_DIR, with the figures of its last 26 weeks.

        One writer at a time, so that who looked first does not write last.
        """
        with connection.transaction():
            fetch(connection, "site_lock")
            tools = [row["tool_name"] for row in fetch(connection, "known_tools")]
            pages = pages_in(self.settings.reports_dir, tools)
            rows = site_rows(connection, pages, self.settings)
            counts = [sum(row[name] for row in rows.days) for name in ("operations", "failed")]
            return write_document(self.site_path(), site_page(pages, rows, self.settings.zone), *counts), pages

    def site_path(self) -> Place:
        """index.html in AUDIT_REPORTS_DIR"""
        return self.settings.reports_dir / "index.html"

    def daily_path(self, day: date) -> Place:
        """daily/2023-06-15.md in AUDIT_REPORTS_DIR"""
        return self.settings.reports_dir / "daily" / f"{day}.md"

    def script_path(self, day: date) -> Place:
        """scripts/2023-06-15.sh in AUDIT_REPORTS_DIR"""
        return self.settings.reports_dir / "scripts" / f"{day}.sh"

    def weekly_path(self, monday: date) -> Place:
        """weekly/2023-W24.md in AUDIT_REPORTS_DIR"""
        return self.settings.reports_dir / "weekly" / f"{week_name(monday)}.md"

    def tool_path(self, monday: date, tool_name: str) -> Place:
        """tools/sensing-data/2023-W24.md in AUDIT_REPORTS_DIR"""
        return self.settings.reports_dir / "tools" / file_name(tool_name) / f"{week_name(monday)}.md"


def generate_report(
    start_date: str | date | datetime,
    end_date: str | date | datetime,
    output_dir: str | os.PathLike[str] = "logs",
    tool_name: str | None = None,
) -> list[str]:
    """Write daily reports; see `ReportService.generate_report`."""
    return ReportService().generate_report(start_date, end_date, output_dir, tool_name)


def create_reproduction_script(
    logs_dir: str | os.PathLike[str] = "logs", output_file: str | os.PathLike[str] = "reproduce_commands.sh"
) -> dict[str, Any]:
    """Write a script that runs again what the reports in `logs_dir` still hold, in the order of their start.

    Returns `script_path`, `operation_count` (the script's steps), `start_date` and `end_date` (ISO days in
    AUDIT_TIMEZONE, None where there is no operation) and `left_out` (reasons by operation id). Raises
    InvalidInputError where the folder has no reports.
    """
    settings = Settings.load()
    document, plan = write_script(logs_entries(logs_dir, settings), place(output_file), ScriptConfig(), settings)
    return script_info(document, plan, settings)


def create_custom_reproduction_script(
    logs_dir: str | os.PathLike[str] = "logs",
    output_file: str | os.PathLike[str] = "reproduce_commands.sh",
    config: Mapping[str, Any] | None = None,
) -> str:
    """As `create_reproduction_script`, with `include_tools`, `exclude_operations`, `add_timing`, `add_error_handling`.

    Returns the script's path. Raises InvalidInputError for any other key.
    """
    chosen = ScriptConfig.from_mapping(config)
    settings = Settings.load()
    document, _ = write_script(logs_entries(logs_dir, settings), place(output_file), chosen, settings)
    return str(document.path)


def logs_entries(logs_dir: str | os.PathLike[str], settings: Settings, track: Track = iter) -> list[LogEntry]:
    """The entries of every Markdown report, and of every execution log of earlier tools, below a folder.

    The files go through `track`, which may tell how far. Raises InvalidInputError where the folder is missing, holds
    no reports, or a report's entry was damaged.
    """
    folder = place(logs_dir)
    if not folder.is_dir():
        raise InvalidInputError(
            f"there is no folder {folder}: write reports of days with operations with `audit-dagster report`"
        )
    found: list[LogEntry] = []
    recognised = False
    for path in track(sorted(path for path in folder.rglob("*.md") if path.is_file())):
        text = read_text(path)
        if text.startswith("# Audit Report - "):
            recognised = True
            found += _report_entries(path, text)
        else:
            earlier = _earlier_log(path, text, settings)
            recognised = recognised or bool(earlier)
            found += earlier
    if not recognised:
        raise InvalidInputError(f"the folder {folder} has no reports: write some with `audit-dagster report`")
    return found


def write_script(
    entries: Sequence[LogEntry],
    path: Place,
    config: ScriptConfig,
    settings: Settings,
    connection: Connection[Any] | None = None,
    track: Track = iter,
) -> tuple[Document, Plan]:
    """Plan the entries, and write the script, executable, with its times in AUDIT_TIMEZONE.

    The patches of uncommitted changes come from the database, where there are any and it answers; the script says
    which it does not have. The steps go through `track`, which may tell how far they are.
    """
    plan = make_plan(entries, config, _patches(entries, settings, connection))
    text = reproduction_script(plan, datetime.now(settings.zone), config, track)
    failed = sum(not entry.success for entry in entries)
    return write_document(path, text, len(entries), failed, mode=0o755), plan


def write_plan(
    entries: Sequence[LogEntry], path: Place | None, config: ScriptConfig, settings: Settings
) -> tuple[Document | None, str]:
    """The plan of a script as JSON, written to a file where one is named."""
    text = plan_json(make_plan(entries, config, _patches(entries, settings, None)))
    failed = sum(not entry.success for entry in entries)
    return (write_document(path, text, len(entries), failed) if path else None), text


def _patches(entries: Sequence[LogEntry], settings: Settings, connection: Connection[Any] | None) -> dict[str, bytes]:
    named = sorted({name for name in map(patch_name, entries) if name})
    if not named or connection is not None:
        return fetch_patches(connection, named) if connection is not None else {}
    try:
        with AuditService(settings).database() as opened:
            return fetch_patches(opened, named)
    except AuditError as error:
        print(f"audit-dagster: the script lacks {len(named)} patches of uncommitted changes: {error}", file=sys.stderr)  # noqa: T201
        return {}


def script_info(document: Document, plan: Plan, settings: Settings) -> dict[str, Any]:
    """What `create_reproduction_script` returns."""

    def day(moment: datetime | None) -> str | None:
        return moment.astimezone(settings.zone).date().isoformat() if moment else None

    return {
        "script_path": str(document.path),
        "operation_count": len(plan.steps),
        "start_date": day(plan.start),
        "end_date": day(plan.end),
        "left_out": {item.entry.operation_id: item.reason for item in plan.left_out},
    }


def _report_entries(path: Place, text: str) -> list[LogEntry]:
    try:
        return list(daily.entries_in(text))
    except EntryError as error:
        raise InvalidInputError(f"{path}: {error}: write the report anew, or take the section out") from error


def _earlier_log(path: Place, text: str, settings: Settings) -> list[LogEntry]:
    from audit_dagster.importers.markdown_logs import is_execution_log, parse_log

    if not is_execution_log(text):
        return []
    try:
        return [parse_log(text, settings.zone, path.name)]
    except EntryError as error:
        raise InvalidInputError(f"{path}: {error}: take the file out of the folder") from error


def _write_beside(path: Place, files: Mapping[str, str], operations: int, failed: int) -> None:
    """Write the other forms of a document: {".html": text} becomes 2023-W24.html beside 2023-W24.md."""
    for ending, text in files.items():
        write_document(path.with_name(f"{path.stem}{ending}"), text, operations, failed)
