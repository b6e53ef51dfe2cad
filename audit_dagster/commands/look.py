"""Look at what ran: `recent` and `report`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from audit_dagster.commands import plain

if TYPE_CHECKING:
    from audit_dagster.entry import LogEntry
    from audit_dagster.settings import Settings


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many operations.")
@click.option("--tool-name", help="Only this tool.")
@click.option("--minutes", type=click.IntRange(min=1), help="Only the last so many minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of log entries.")
def recent(limit: int, tool_name: str | None, minutes: int | None, as_json: bool) -> None:
    """Show the newest operations, newest first.

    \b
    Examples:
      audit-dagster recent --limit 20
      audit-dagster recent --minutes 60 --tool-name sensing-data
    """
    from audit_dagster.audit_service import AuditService

    service = AuditService()
    entries = service.recent_entries(limit, tool_name, minutes)
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in entries], indent=2))
    elif entries:
        _show_entries(entries, service.settings)
    else:
        click.echo(f"No operations{_of_tool(tool_name)}{f' in the last {minutes} minutes' if minutes else ''}.")


@click.command()
@click.option("--start-date", required=True, help="First day, as YYYY-MM-DD.")
@click.option("--end-date", required=True, help="Last day, as YYYY-MM-DD; it is included.")
@click.option("--tool-name", help="Only this tool.")
@click.option("--output-dir", default="logs", show_default=True, help="Folder to fill, or its URL.")
def report(start_date: str, end_date: str, tool_name: str | None, output_dir: str) -> None:
    """Write a daily report, in Markdown, of each day on which anything ran.

    \b
    Example:
      audit-dagster report --start-date 2023-06-01 --end-date 2023-06-30 --output-dir ./audit_reports
    """
    from audit_dagster.report_service import ReportService

    paths = ReportService().generate_report(start_date, end_date, output_dir, tool_name)
    if not paths:
        click.echo(f"No operations{_of_tool(tool_name)} from {start_date} to {end_date}: nothing was written.")
        return
    for path in paths:
        click.echo(path)
    click.echo(f"Wrote {len(paths)} daily report{'s' if len(paths) > 1 else ''} to {output_dir}.")


def _of_tool(tool_name: str | None) -> str:
    return plain(f" of the tool '{tool_name}'") if tool_name else ""


def _show_entries(entries: Sequence[LogEntry], settings: Settings) -> None:
    from audit_dagster.render import seconds, visible
    from audit_dagster.reports.daily import cause

    rows = [
        (
            entry.timestamp.astimezone(settings.zone).strftime("%Y-%m-%d %H:%M:%S"),
            "ok" if entry.success else "FAILED",
            visible(entry.tool_name),
            visible(entry.operation),
            seconds(entry.duration_seconds),
            visible((entry.note if entry.success else cause(entry.error_message)) or ""),
        )
        for entry in entries
    ]
    if sys.stdout is None or not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    _show_table(rows, settings.timezone)


def _show_table(rows: Sequence[Sequence[str]], zone_name: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (f"Start ({zone_name})", "Status", "Tool", "Operation", "Duration", "Note or error"):
        table.add_column(name)
    for row in rows:
        style = "red" if row[1] == "FAILED" else ""
        table.add_row(*(Text(cell, style=style, no_wrap=True, overflow="ellipsis") for cell in row))
    Console().print(table)
