"""The report of one tool in one week: how often, how long, who, with which parameters, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from audit_dagster.render import render
from audit_dagster.reports.weekly import causes, mean_before, most_frequent, span_of_week, trend
from audit_dagster.reports.windows import monday_of, week_name

Rows = Sequence[dict[str, Any]]

BOUNDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0)  # seconds
_BUCKETS = ("< 10 ms", "< 0.1 s", "< 1 s", "< 10 s", "< 1 min", "< 10 min", "< 1 h", "< 10 h", "longer")
_NONE: dict[str, Any] = {"operations": 0, "failed": 0, "p50": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRows:
    """What SQL counted for one tool in one week. `usage` is None where the tool did not run.

    `failures` are rows of the query `failures_at`.
    """

    usage: dict[str, Any] | None
    previous_usage: dict[str, Any] | None
    per_day: Rows
    users: Rows
    parameters: Rows
    calendar: Rows
    kinds: Rows
    failing_parameters: Rows
    buckets: Rows
    code: Rows
    failures: Rows = ()


def tool_report(monday: date, tool_name: str, rows: ToolRows, zone: ZoneInfo) -> str:
    """The report of `tool_name` in the ISO week that begins on `monday`."""
    return render("tool_report.md.j2", **tool_facts(monday, tool_name, rows, zone))


def tool_facts(monday: date, tool_name: str, rows: ToolRows, zone: ZoneInfo) -> dict[str, Any]:
    """What every form of the report says, by the names of its templates."""
    now, previous = rows.usage or _NONE, rows.previous_usage or _NONE
    usual = mean_before(monday, rows.calendar)
    return {
        **span_of_week(monday, zone),
        "links": _links(monday, rows),
        "tool_name": tool_name,
        "usage": rows.usage,
        "previous": previous,
        "operations_trend": trend(now["operations"], previous["operations"]),
        "failed_trend": trend(now["failed"], previous["failed"]),
        "median_trend": trend(now["p50"], previous["p50"]) if now["p50"] and previous["p50"] else "",
        "usual": usual,
        "usual_trend": trend(now["operations"], usual["operations"]),
        "usual_failed_trend": trend(now["failed"], usual["failed"]),
        "days": rows.per_day,
        "users": rows.users,
        "parameters": rows.parameters,
        "spread": _spread(rows.buckets),
        "failing_parameters": rows.failing_parameters,
        **most_frequent(causes(rows.kinds), rows.failures, zone),
        "code": rows.code,
    }


def _links(monday: date, rows: ToolRows) -> dict[str, str]:
    """Relative addresses by their names.

    Of the weeks before, there are reports where the tool ran; of those to come nobody knows, but the site does.
    """
    week = week_name(monday)
    found = {"HTML": f"{week}.html", "All reports": "../../index.html"}
    found["Weekly summary"] = f"../../weekly/{week}.html"
    days = [row["day"] for row in rows.calendar if row["day"] < monday]
    if days:
        found["Week before"] = f"{week_name(monday_of(max(days)))}.html"
    found["All weeks of the tools"] = "../../index.html#tools"
    return {**found, "Markdown": f"{week}.md", "JSON": f"{week}.json"}


def _spread(buckets: Rows) -> list[dict[str, Any]]:
    """A row for each length of time from the shortest to the longest that there were."""
    counts = {row["bucket"]: row for row in buckets}
    places = range(min(counts), max(counts) + 1) if counts else ()
    return [
        {"label": _BUCKETS[place], **{name: counts.get(place, _NONE)[name] for name in ("operations", "failed")}}
        for place in places
    ]
