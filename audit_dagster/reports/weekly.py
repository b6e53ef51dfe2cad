"""The weekly summary: totals, tools, the trend against the week before, days, people and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from audit_dagster.render import render
from audit_dagster.reports.daily import NO_ERROR_TEXT, cause
from audit_dagster.reports.windows import week_name

Rows = Sequence[dict[str, Any]]
_LACKING = {
    "no_command": "no command",
    "no_commit": "no commit",
    "no_exact_patch": "uncommitted changes without an exact patch",
    "on_no_remote": "commit on no remote",
    "input_without_hash": "input without hash",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekRows:
    """What SQL counted for one week. `totals` and `previous_totals` are single rows of `window_totals`."""

    totals: dict[str, Any]
    previous_totals: dict[str, Any]
    tools: Rows
    previous_tools: Rows
    per_day: Rows
    users: Rows
    failures: Rows
    reproducibility: Rows


def weekly_summary(monday: date, rows: WeekRows, zone: ZoneInfo) -> str:
    """The summary of the ISO week that begins on `monday`."""
    before = {row["tool_name"]: row["operations"] for row in rows.previous_tools}
    return render(
        "weekly_summary.md.j2",
        week=week_name(monday),
        first=monday,
        last=monday + timedelta(days=6),
        zone=zone,
        zone_name=zone.key,
        totals=rows.totals,
        previous=rows.previous_totals,
        operations_trend=trend(rows.totals["operations"], rows.previous_totals["operations"]),
        failed_trend=trend(rows.totals["failed"], rows.previous_totals["failed"]),
        tools=[{**row, "trend": trend(row["operations"], before.get(row["tool_name"], 0))} for row in rows.tools],
        unused=sorted(before.keys() - {row["tool_name"] for row in rows.tools}),
        days=_days(monday, rows.per_day),
        users=rows.users,
        reproducibility=[{**row, "reasons": _reasons(row)} for row in rows.reproducibility],
        failures=[{**row, "error_message": cause(row["error_message"]) or NO_ERROR_TEXT} for row in rows.failures],
    )


def trend(now: int, before: int) -> str:
    """+25.0%, -10.0%, `same`, or `new` where there was nothing before."""
    if now == before:
        return "same"
    return f"{100 * (now - before) / before:+.1f}%" if before else "new"


def _reasons(row: dict[str, Any]) -> list[str]:
    """Why operations of a day could not be run again elsewhere, with how many there are of each."""
    return [f"{text}: {row[name]}" for name, text in _LACKING.items() if row[name]]


def _days(monday: date, per_day: Rows) -> list[dict[str, Any]]:
    """Seven rows, each with its operations per tool; a day without operations has zeros."""
    import pandas as pd

    days = [monday + timedelta(days=offset) for offset in range(7)]
    frame = pd.DataFrame(per_day, columns=["day", "tool_name", "operations", "failed"])
    totals = frame.groupby("day")[["operations", "failed"]].sum().reindex(days, fill_value=0)
    made = []
    for day, row in totals.iterrows():
        tools = frame.loc[frame["day"] == day, ["tool_name", "operations"]]
        made.append(
            {
                "day": day,
                "operations": int(row["operations"]),
                "failed": int(row["failed"]),
                "tools": [f"{name} {count}" for name, count in tools.itertuples(index=False)],
            }
        )
    return made
