"""The tool report's other forms: a page, JSON, and the charts that the Markdown shows."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

from audit_dagster.escaping import Svg
from audit_dagster.render import render
from audit_dagster.reports import charts
from audit_dagster.reports.tools import ToolRows, tool_facts
from audit_dagster.reports.weekly import calendar_days
from audit_dagster.reports.weekly_page import as_json, pictures_as_files
from audit_dagster.reports.windows import monday_of, week_name


def tool_files(monday: date, tool_name: str, rows: ToolRows, zone: ZoneInfo) -> dict[str, str]:
    """The texts by what their files' names add to the week's: `.html`, `.json`, `-days.svg`, …"""
    days = [monday + timedelta(days=offset) for offset in range(7)]
    facts = tool_facts(monday, tool_name, rows, zone)
    pictures = {
        "days": charts.operations_per_day(days, rows.per_day),
        "durations": charts.duration_spread(tool_name, facts["spread"]),
        "calendar": charts.calendar(calendar_days(monday), rows.calendar),
    }
    page = render(
        "tool_report.html.j2",
        **facts,
        week_before=_week_before(monday, rows),
        charts={name: Svg(charts.inline(svg)) for name, svg in pictures.items()},
    )
    return {".html": page, ".json": as_json(facts, rows.calendar), **pictures_as_files(pictures)}


def _week_before(monday: date, rows: ToolRows) -> str | None:
    """The newest week before in which the tool ran: there is no report of the others."""
    days = [row["day"] for row in rows.calendar if row["day"] < monday]
    return week_name(monday_of(max(days))) if days else None
