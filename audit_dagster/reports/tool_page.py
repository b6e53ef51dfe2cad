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


def tool_files(monday: date, tool_name: str, rows: ToolRows, zone: ZoneInfo) -> dict[str, str]:
    """The texts by what their files' names add to the week's: `.html`, `.json`, `-days.svg`, …"""
    days = [monday + timedelta(days=offset) for offset in range(7)]
    facts = tool_facts(monday, tool_name, rows, zone)
    pictures = {
        "days": charts.operations_per_day(days, rows.per_day, zone),
        "durations": charts.duration_spread(tool_name, facts["spread"], monday, zone),
        "calendar": charts.calendar(calendar_days(monday), rows.calendar, zone),
    }
    page = render(
        "tool_report.html.j2",
        **facts,
        charts={name: Svg(charts.inline(svg)) for name, svg in pictures.items()},
    )
    return {".html": page, ".json": as_json(facts, rows.calendar), **pictures_as_files(pictures)}
