"""The weekly summary: totals, tools, the trend against the week before, days, people and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from audit_dagster.failures import NO_ERROR_TEXT, cause, wording
from audit_dagster.render import change, number, render
from audit_dagster.reports.daily_page import page_of_day
from audit_dagster.reports.windows import week_name

Rows = Sequence[dict[str, Any]]

CALENDAR_WEEKS = 26
WEEKS_BEFORE = 8
MOST_CAUSES = 50
_LACKING = {
    "no_command": "no command",
    "no_exact_command": "command not kept as it was",
    "no_commit": "no commit",
    "no_exact_patch": "uncommitted changes without an exact patch",
    "on_no_remote": "commit on no remote",
    "input_without_hash": "input without hash",
}


class Beside(NamedTuple):
    """What a week's documents link to: the weeks from the Mondays `before` and `after`.

    Among all other documents, in AUDIT_REPORTS_DIR, they link to those, too; no report is of before `first_day`.
    """

    before: date | None = None
    after: date | None = None
    first_day: date = date.min
    among_others: bool = True

    def links(self, monday: date) -> dict[str, str]:
        """Relative addresses by their names."""
        week = week_name(monday)
        found = {"HTML": f"{week}.html"}
        if self.among_others:
            found["All reports"] = "../index.html"
        for name, other in (("Week before", self.before), ("Week after", self.after)):
            if other:
                found[name] = f"{week_name(other)}.html"
        return {**found, "Markdown": f"{week}.md", "JSON": f"{week}.json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekRows:
    """What SQL counted for one week. `totals` and `previous_totals` are single rows of `window_totals`.

    `failures` are rows of the query `failures_at`.
    """

    totals: dict[str, Any]
    previous_totals: dict[str, Any]
    tools: Rows
    previous_tools: Rows
    per_day: Rows
    users: Rows
    reproducibility: Rows
    calendar: Rows
    kinds: Rows
    slowest: Rows
    changes: Rows
    user_tools: Rows
    failures: Rows = ()


def weekly_summary(monday: date, rows: WeekRows, zone: ZoneInfo, beside: Beside) -> str:
    """The summary of the ISO week that begins on `monday`."""
    return render("weekly_summary.md.j2", **week_facts(monday, rows, zone, beside))


def week_facts(monday: date, rows: WeekRows, zone: ZoneInfo, beside: Beside) -> dict[str, Any]:
    """What every form of the summary says, by the names of its templates."""
    before = {row["tool_name"]: row["operations"] for row in rows.previous_tools}
    usual = mean_before(monday, rows.calendar)
    return {
        **span_of_week(monday, zone),
        "links": beside.links(monday),
        "totals": rows.totals,
        "previous": rows.previous_totals,
        "operations_trend": trend(rows.totals["operations"], rows.previous_totals["operations"]),
        "failed_trend": trend(rows.totals["failed"], rows.previous_totals["failed"]),
        "tools": [{**row, "trend": trend(row["operations"], before.get(row["tool_name"], 0))} for row in rows.tools],
        "unused": sorted(before.keys() - {row["tool_name"] for row in rows.tools}),
        "days": _days(monday, rows.per_day),
        "users": rows.users,
        "reproducibility": [{**row, "reasons": _reasons(row)} for row in rows.reproducibility],
        "score": score(rows.reproducibility),
        "usual": usual,
        "usual_trend": trend(rows.totals["operations"], usual["operations"]),
        "usual_failed_trend": trend(rows.totals["failed"], usual["failed"]),
        **most_frequent(causes(rows.kinds), rows.failures, zone),
        "slowest": rows.slowest,
        "changes": [{**row, "trend": trend(row["p50"], row["before"])} for row in rows.changes],
        "user_tools": rows.user_tools,
    }


def span_of_week(monday: date, zone: ZoneInfo) -> dict[str, Any]:
    """Which week a document is about."""
    last = monday + timedelta(days=6)
    return {"week": week_name(monday), "first": monday, "last": last, "zone": zone, "zone_name": zone.key}


def calendar_days(monday: date) -> list[date]:
    """The days of the last 26 weeks, that of `monday` included."""
    first = monday - timedelta(weeks=CALENDAR_WEEKS - 1)
    return [first + timedelta(days=offset) for offset in range(7 * CALENDAR_WEEKS)]


def mean_before(monday: date, calendar: Rows) -> dict[str, float]:
    """Operations and failures of a week, as the mean of the eight weeks before `monday`."""
    first = monday - timedelta(weeks=WEEKS_BEFORE)
    chosen = [row for row in calendar if first <= row["day"] < monday]
    return {name: sum(row[name] for row in chosen) / WEEKS_BEFORE for name in ("operations", "failed")}


def causes(kinds: Rows) -> list[dict[str, Any]]:
    """The week's failures by cause, the most frequent first; `is_new` where none of the eight weeks before had it."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in kinds:
        key = row["tool_name"], row["operation"], wording(row["error_message"])
        found.setdefault(key, []).append(row)
    made = []
    for (tool_name, operation, _), group in found.items():
        now = [row for row in group if row["failures"]]
        if now:
            example = min(row["error_message"] for row in now)
            made.append(
                {
                    "tool_name": tool_name,
                    "operation": operation,
                    "error_message": cause(example) or NO_ERROR_TEXT,
                    "failures": sum(row["failures"] for row in now),
                    "first_at": min(row["first_at"] for row in now),
                    "last_at": max(row["last_at"] for row in now),
                    "is_new": not any(row["seen_before"] for row in group),
                }
            )
    made.sort(key=lambda row: (-row["failures"], row["tool_name"], row["operation"], row["error_message"]))
    return made


def most_frequent(found: Sequence[dict[str, Any]], failures: Rows, zone: ZoneInfo) -> dict[str, Any]:
    """The causes that a document shows, how many it leaves out, and how many of all are new."""
    return {
        "causes": with_pages(found[:MOST_CAUSES], failures, zone),
        "causes_left_out": max(len(found) - MOST_CAUSES, 0),
        "new_causes": sum(row["is_new"] for row in found),
    }


def with_pages(found: Sequence[dict[str, Any]], failures: Rows, zone: ZoneInfo) -> list[dict[str, Any]]:
    """Each cause with the addresses, among the daily reports, of its first and its last operation."""
    known = {(row["tool_name"], row["operation"], row["timestamp"]): row for row in failures}

    def address(cause: dict[str, Any], at: str) -> str:
        day = cause[at].astimezone(zone).date()
        row = known.get((cause["tool_name"], cause["operation"], cause[at]))
        return f"{page_of_day(day, row['place'])}#{row['operation_id']}" if row else page_of_day(day, 0)

    return [{**row, "first_page": address(row, "first_at"), "last_page": address(row, "last_at")} for row in found]


def trend(now: float, before: float) -> str:
    """+1,225.0%, -10.0%, `same`, or `new` where there was nothing before."""
    if now == before:
        return "same"
    return change(now, before) if before else "new"


def score(reproducibility: Rows) -> dict[str, Any]:
    """A week's days together."""
    names = ("operations", "reproducible", "reproduced", "differing", "broken", *_LACKING)
    whole = {name: sum(row[name] for row in reproducibility) for name in names}
    return {**whole, "reasons": _reasons(whole)}


def _reasons(row: dict[str, Any]) -> list[str]:
    """Why operations could not be run again elsewhere, with how many there are of each."""
    return [f"{text}: {number(row[name])}" for name, text in _LACKING.items() if row[name]]


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
                "tools": [f"{name} {number(count)}" for name, count in tools.itertuples(index=False)],
            }
        )
    return made
