"""Look at what ran: `recent`, `search`, `stats`, `report` and `site`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from audit_dagster.commands import plain
from audit_dagster.commands.progress import spinner, tracked
from audit_dagster.commands.tables import (
    Column,
    Row,
    cell_text,
    count_text,
    duration_text,
    on_terminal,
    show,
    show_json,
    show_paths,
    with_forms,
)

if TYPE_CHECKING:
    from audit_dagster.entry import LogEntry
    from audit_dagster.settings import Settings

_MOST_CAUSES = 100
_FIELDS = (
    *("timestamp", "operation_id", "tool_name", "operation", "user", "success", "duration_seconds"),
    *("git_branch", "git_commit", "note", "error_message"),
)


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many operations.")
@click.option("--tool-name", help="Only this tool.")
@click.option("--minutes", type=click.IntRange(min=1), help="Only the last so many minutes.")
@with_forms
def recent(limit: int, tool_name: str | None, minutes: int | None, form: str | None) -> None:
    """Show the newest operations, newest first.

    \b
    Examples:
      audit-dagster recent --limit 20
      audit-dagster recent --minutes 60 --tool-name sensing-data
    """
    from audit_dagster.audit_service import AuditService

    service = AuditService()
    entries = service.recent_entries(limit, tool_name, minutes)
    nothing = f"No operations{_of_tool(tool_name)}{f' in the last {minutes} minutes' if minutes else ''}."
    _show_entries(entries, form, service.settings, nothing)


@click.command()
@click.argument("text")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many operations.")
@click.option("--tool-name", help="Only this tool.")
@with_forms
def search(text: str, limit: int, tool_name: str | None, form: str | None) -> None:
    """Find operations by a text, newest first.

    TEXT is looked for in tool, operation, user, note, error, parameters and results, in upper or lower case.

    \b
    Examples:
      audit-dagster search "winter turf"
      audit-dagster search timeout --tool-name sensing-data --csv
    """
    from audit_dagster.audit_service import AuditService

    service = AuditService()
    with spinner("searching", quiet=form is not None):
        entries = service.search(text, limit, tool_name)
    nothing = plain(f"No operations{_of_tool(tool_name)} with '{text}'.")
    _show_entries(entries, form, service.settings, nothing, with_ids=True)


@click.command()
@click.option("--tool-name", help="Only this tool.")
@click.option(
    "--by",
    type=click.Choice(["day", "tool", "user", "error"]),
    default="tool",
    show_default=True,
    help="What to count.",
)
@click.option("--start-date", help="First day, as YYYY-MM-DD; 30 days in all if not given.")
@click.option("--end-date", help="Last day, as YYYY-MM-DD; it is included. Today if not given.")
@with_forms
def stats(tool_name: str | None, by: str, start_date: str | None, end_date: str | None, form: str | None) -> None:
    """Count operations and failures, per tool, day, user or error.

    \b
    Examples:
      audit-dagster stats
      audit-dagster stats --by day --tool-name sensing-data --csv
      audit-dagster stats --by error --start-date 2023-06-01 --end-date 2023-06-30
    """
    from audit_dagster.audit_service import AuditService
    from audit_dagster.reports.windows import days_window
    from audit_dagster.store.query import fetch

    service = AuditService()
    first, last = _days(start_date, end_date, service.settings)
    asked: dict[str, Any] = {**days_window(first, last, service.settings.zone)._asdict(), "tool_name": tool_name}
    query, columns, rows_of = _COUNTS[by]
    asked |= {"zone": service.settings.timezone, "limit": _MOST_CAUSES}
    with spinner("counting", quiet=form is not None), service.database() as connection:
        rows = rows_of(fetch(connection, query, **asked))
    what = "failures" if by == "error" else "operations"
    nothing = f"No {what}{_of_tool(tool_name)} from {first} to {last}."
    show(columns(service.settings), rows, form, nothing)
    if by == "error" and len(rows) == _MOST_CAUSES:
        click.echo(f"These are the {_MOST_CAUSES} most frequent errors; there may be more.", err=True)


@click.command()
@click.option("--start-date", required=True, help="First day, as YYYY-MM-DD.")
@click.option("--end-date", required=True, help="Last day, as YYYY-MM-DD; it is included.")
@click.option("--tool-name", help="Only this tool.")
@click.option("--output-dir", default="logs", show_default=True, help="Folder to fill, or its URL.")
@with_forms
def report(start_date: str, end_date: str, tool_name: str | None, output_dir: str, form: str | None) -> None:
    """Write a daily report, in Markdown, of each day on which anything ran.

    With --json the array holds the paths of the reports, with --csv each is a row.

    \b
    Examples:
      audit-dagster report --start-date 2023-06-01 --end-date 2023-06-30 --output-dir ./audit_reports
      audit-dagster report --start-date 2023-06-15 --end-date 2023-06-15 --tool-name visualization --json
    """
    from audit_dagster.report_service import ReportService

    service = ReportService(track=tracked("days", quiet=form is not None))
    paths = service.generate_report(start_date, end_date, output_dir, tool_name)
    if form:
        show_paths(paths, form)
        return
    if not paths:
        click.echo(f"No operations{_of_tool(tool_name)} from {start_date} to {end_date}: nothing was written.")
        return
    for path in paths:
        click.echo(path)
    click.echo(f"Wrote {len(paths)} daily report{'s' if len(paths) > 1 else ''} to {output_dir}.")


@click.command()
@click.option("--start-date", help="First day whose own pages are made or renewed before, as YYYY-MM-DD.")
@click.option("--end-date", help="Last of these days; it is included. Today if not given.")
@with_forms
def site(start_date: str | None, end_date: str | None, form: str | None) -> None:
    """Write the page from which every report in AUDIT_REPORTS_DIR is found, and print its path.

    With --start-date the daily reports and scripts from that day on, the summaries of their weeks, and the reports of
    the tools in those weeks are written first. Dagster writes all of it by itself; `audit-dagster open` opens it.

    \b
    Examples:
      audit-dagster site
      audit-dagster site --start-date 2023-06-01 --end-date 2023-06-30
    """
    from audit_dagster.commands.renew import chosen_days, documents_of
    from audit_dagster.report_service import ReportService

    service = ReportService()
    days = chosen_days(start_date, end_date, service.settings)
    quiet = form is not None
    if days:
        with service.audit.database() as connection:
            for write in tracked("documents", quiet=quiet)(documents_of(days, service, connection)):
                write()
    with spinner("the page of all reports", quiet=quiet), service.audit.database() as connection:
        document, _ = service.write_site(connection)
    if form:
        show_paths([str(document.path)], form)
    else:
        click.echo(plain(str(document.path)))


def _of_tool(tool_name: str | None) -> str:
    return plain(f" of the tool '{tool_name}'") if tool_name else ""


def _show_entries(
    entries: Sequence[LogEntry], form: str | None, settings: Settings, nothing: str, *, with_ids: bool = False
) -> None:
    if form == "json":
        show_json(entry.to_json() for entry in entries)
    elif form == "csv":
        forms = [entry.to_json() for entry in entries]
        show([Column(name, name) for name in _FIELDS], [[one[name] for name in _FIELDS] for one in forms], form, "")
    else:
        columns = _entry_columns(settings, with_ids=with_ids or on_terminal())
        rows = [_entry_row(entry)[: len(columns)] for entry in entries]
        show(columns, rows, form, nothing, lambda row: not row[1])


def _entry_columns(settings: Settings, *, with_ids: bool) -> list[Column]:
    columns = [
        Column("start", f"Start ({settings.timezone})", _moment_in(settings), "keep"),
        Column("success", "Status", lambda success: "ok" if success else "FAILED", "keep"),
        Column("tool_name", "Tool"),
        Column("operation", "Operation"),
        Column("duration_seconds", "Duration", duration_text(), "keep"),
        Column("note_or_error", "Note or error", narrow="below"),
    ]
    # Eight digits are enough for `show`, and leave room for the others; a program gets them all.
    ids = Column("operation_id", "Id", (lambda one: str(one)[:8]) if on_terminal() else cell_text, "keep")
    return [*columns, ids] if with_ids else columns


def _entry_row(entry: LogEntry) -> Row:
    from audit_dagster.failures import cause

    said = entry.note if entry.success else cause(entry.error_message)
    facts = (entry.timestamp, entry.success, entry.tool_name, entry.operation, entry.duration_seconds, said)
    return (*facts, entry.operation_id)


def _moment_in(settings: Settings) -> Callable[[datetime], str]:
    zone = settings.zone
    return lambda moment: moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


# ---- stats: the columns and rows of each way to count ----


def _days(start_date: str | None, end_date: str | None, settings: Settings) -> tuple[date, date]:
    from audit_dagster.reports.windows import as_day, as_days

    last = as_day(end_date, "the end date") if end_date else datetime.now(settings.zone).date()
    earlier = last - timedelta(days=29) if last.year > 1 else last  # the calendar has no more
    return as_days(start_date or earlier, last)


def _count_columns(name: str) -> Callable[[Settings], list[Column]]:
    def columns(_settings: Settings) -> list[Column]:
        counts = [Column(one, one.title(), count_text(), "keep") for one in ("operations", "failed")]
        rate = Column("success_rate", "Success rate", _rate_text, "keep")
        times = [Column(f"{one}_seconds", one, duration_text(), "keep") for one in ("p50", "p95")]
        return [Column(name, name.split("_")[0].title()), *counts, rate, *times]

    return columns


def _cause_columns(settings: Settings) -> list[Column]:
    from audit_dagster.failures import NO_ERROR_TEXT, cause

    moment = _moment_in(settings)
    return [
        Column("failed", "Failed", count_text(), "keep"),
        Column("first_at", f"First ({settings.timezone})", moment, "keep"),
        Column("last_at", f"Last ({settings.timezone})", moment, "keep"),
        Column("tool_name", "Tool"),
        Column("operation", "Operation"),
        Column("error_message", "Error", lambda error: cause(error) or NO_ERROR_TEXT, "below"),
    ]


def _rate_text(rate: float) -> str:
    from audit_dagster.render import percent

    return percent(round(10_000 * rate), 10_000) if on_terminal() else f"{100 * rate:.1f}%"


def _counts_of(key: str) -> Callable[[list[dict[str, Any]]], list[Row]]:
    """The key that rows are counted by, the counts, and the durations."""

    def rows_of(rows: list[dict[str, Any]]) -> list[Row]:
        return [(row[key], *_counts(row["operations"], row["failed"]), row["p50"], row["p95"]) for row in rows]

    return rows_of


def _cause_rows(rows: list[dict[str, Any]]) -> list[Row]:
    names = ("failures", "first_at", "last_at", "tool_name", "operation", "error_message")
    return [[row[name] for name in names] for row in rows]


def _counts(operations: int, failed: int) -> tuple[int, int, float]:
    return operations, failed, round((operations - failed) / operations, 4)


_COUNTS = {
    "tool": ("tool_usage", _count_columns("tool_name"), _counts_of("tool_name")),
    "day": ("day_usage", _count_columns("day"), _counts_of("day")),
    "user": ("user_activity", _count_columns("user"), _counts_of("user_name")),
    "error": ("failure_causes", _cause_columns, _cause_rows),
}
