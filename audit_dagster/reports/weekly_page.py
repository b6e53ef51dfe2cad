"""The weekly summary's other forms: a page, JSON, and the charts that the Markdown shows."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from audit_dagster.entry import utc_text
from audit_dagster.escaping import Svg, file_name
from audit_dagster.render import render
from audit_dagster.reports import charts
from audit_dagster.reports.daily_page import page_of_day
from audit_dagster.reports.weekly import Beside, WeekRows, calendar_days, week_facts


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return utc_text(value)
    return value.isoformat() if isinstance(value, date) else str(value)


_JSON = json.JSONEncoder(default=_plain, indent=1)


def weekly_files(monday: date, rows: WeekRows, zone: ZoneInfo, beside: Beside) -> dict[str, str]:
    """The texts by what their files' names add to the week's: `.html`, `.json`, `-days.svg`, …"""
    days = [monday + timedelta(days=offset) for offset in range(7)]
    pictures = {
        "days": charts.operations_per_day(days, rows.per_day, zone),
        "durations": charts.durations(rows.tools, monday, zone),
        "calendar": charts.calendar(calendar_days(monday), rows.calendar, zone),
    }
    facts = week_facts(monday, rows, zone, beside)
    tools = {row["tool_name"] for row in rows.tools}
    page = render(
        "weekly_summary.html.j2",
        **facts,
        among_others=beside.among_others,
        first_day=beside.first_day,
        page_of_day=page_of_day,
        folders={name: file_name(name) for name in tools},
        charts={name: Svg(charts.inline(svg)) for name, svg in pictures.items()},
    )
    return {".html": page, ".json": as_json(facts, rows.calendar), **pictures_as_files(pictures)}


def as_json(facts: dict[str, Any], calendar: Any) -> str:
    """What the templates are given, as JSON: days of the zone and moments of UTC in ISO 8601, durations in seconds."""
    said = {name: value for name, value in facts.items() if name not in {"zone", "zone_name"}}
    return _JSON.encode({"timezone": facts["zone_name"], **said, "calendar": list(calendar)}) + "\n"


def pictures_as_files(pictures: dict[str, str]) -> dict[str, str]:
    """{"days": svg} becomes {"-days.svg": svg}."""
    return {f"-{name}.svg": svg for name, svg in pictures.items()}
