"""The report of one tool in one week: how often, how long, who, with which parameters, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from audit_dagster.render import render
from audit_dagster.reports.daily import NO_ERROR_TEXT, cause
from audit_dagster.reports.weekly import trend
from audit_dagster.reports.windows import week_name

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRows:
    """What SQL counted for one tool in one week. `usage` is None where the tool did not run."""

    usage: dict[str, Any] | None
    previous_usage: dict[str, Any] | None
    per_day: Rows
    users: Rows
    parameters: Rows
    failures: Rows


def tool_report(monday: date, tool_name: str, rows: ToolRows, zone: ZoneInfo) -> str:
    """The report of `tool_name` in the ISO week that begins on `monday`."""
    before = rows.previous_usage["operations"] if rows.previous_usage else 0
    now = rows.usage["operations"] if rows.usage else 0
    return render(
        "tool_report.md.j2",
        week=week_name(monday),
        first=monday,
        last=monday + timedelta(days=6),
        zone=zone,
        zone_name=zone.key,
        tool_name=tool_name,
        usage=rows.usage,
        before=before,
        trend=trend(now, before),
        days=rows.per_day,
        users=rows.users,
        parameters=rows.parameters,
        failures=[{**row, "error_message": cause(row["error_message"]) or NO_ERROR_TEXT} for row in rows.failures],
    )
