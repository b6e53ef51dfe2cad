"""The rows that the documents of a week stand on, read by the queries in `store/queries/`."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from audit_dagster.reports.tools import BOUNDS, ToolRows
from audit_dagster.reports.weekly import CALENDAR_WEEKS, MOST_CAUSES, WEEKS_BEFORE, Rows, WeekRows, causes
from audit_dagster.reports.windows import days_window, week_window
from audit_dagster.settings import Settings
from audit_dagster.store.query import Row, fetch

if TYPE_CHECKING:
    from psycopg import Connection

MOST_KINDS = 10_000
_MOST_PARAMETERS = 20
_MOST_SLOW = 5
_MOST_CHANGED = 5
_MOST_PAIRS = 100
_MOST_VERSIONS = 20


def week_rows(connection: Connection[Any], monday: date, settings: Settings) -> WeekRows:
    """What the summary of the ISO week from `monday` says."""
    whole, previous, nine_weeks, calendar = _bounds(monday, settings, None)
    week = {"start": whole["start"], "end": whole["end"]}
    zone = settings.timezone
    kinds = fetch(connection, "failure_kinds", **nine_weeks, limit=MOST_KINDS)
    return WeekRows(
        totals=fetch(connection, "window_totals", **whole)[0],
        previous_totals=fetch(connection, "window_totals", **previous)[0],
        tools=fetch(connection, "tool_usage", **whole),
        previous_tools=fetch(connection, "tool_usage", **previous),
        per_day=fetch(connection, "operations_per_day", **whole, zone=zone),
        users=fetch(connection, "user_activity", **whole),
        reproducibility=fetch(connection, "reproducibility", **week, zone=zone),
        calendar=fetch(connection, "days_with_entries", **calendar, zone=zone),
        kinds=kinds,
        failures=failures_of(connection, kinds, settings),
        slowest=fetch(connection, "slowest_operations", **whole, limit=_MOST_SLOW, zone=zone),
        changes=fetch(connection, "changed_durations", **week, since=previous["start"], limit=_MOST_CHANGED),
        user_tools=fetch(connection, "user_tools", **week, limit=_MOST_PAIRS),
    )


def tool_rows(connection: Connection[Any], monday: date, tool_name: str, settings: Settings) -> ToolRows:
    """What the report of one tool in the ISO week from `monday` says."""
    whole, previous, nine_weeks, calendar = _bounds(monday, settings, tool_name)
    parameters = {**whole, "limit": _MOST_PARAMETERS}
    zone = settings.timezone
    kinds = fetch(connection, "failure_kinds", **nine_weeks, limit=MOST_KINDS)
    return ToolRows(
        usage=next(iter(fetch(connection, "tool_usage", **whole)), None),
        previous_usage=next(iter(fetch(connection, "tool_usage", **previous)), None),
        per_day=fetch(connection, "operations_per_day", **whole, zone=zone),
        users=fetch(connection, "user_activity", **whole),
        parameters=fetch(connection, "parameter_values", **parameters, failing=False),
        calendar=fetch(connection, "days_with_entries", **calendar, zone=zone),
        kinds=kinds,
        failures=failures_of(connection, kinds, settings),
        failing_parameters=fetch(connection, "parameter_values", **parameters, failing=True),
        buckets=fetch(connection, "duration_buckets", **whole, bounds=list(BOUNDS)),
        code=fetch(connection, "code_seen", **whole, limit=_MOST_VERSIONS),
    )


def figures_of_week(connection: Connection[Any], monday: date, settings: Settings) -> dict[str, list[Row]]:
    """What the site's page says of the newest week."""
    whole, _, nine_weeks, _ = _bounds(monday, settings, None)
    week = {"start": whole["start"], "end": whole["end"]}
    return {
        "kinds_of_week": fetch(connection, "failure_kinds", **nine_weeks, limit=MOST_KINDS),
        "reproducibility": fetch(connection, "reproducibility", **week, zone=settings.timezone),
    }


def failures_of(connection: Connection[Any], kinds: Rows, settings: Settings) -> list[Row]:
    """The first and the last operation of each cause that a document shows; `kinds` are rows of `failure_kinds`."""
    shown = causes(kinds)[:MOST_CAUSES]
    wanted = {(row["tool_name"], row["operation"], row[name]) for row in shown for name in ("first_at", "last_at")}
    tools, operations, moments = ([one[place] for one in wanted] for place in range(3))
    named = {"tools": tools, "operations": operations, "moments": moments}
    return fetch(connection, "failures_at", **named, zone=settings.timezone)


def _bounds(monday: date, settings: Settings, tool_name: str | None) -> tuple[dict[str, Any], ...]:
    """Of the week, the week before, the week with the eight before it, and the calendar's weeks."""
    week = week_window(monday, settings.zone)
    before = week_window(monday - timedelta(weeks=1), settings.zone)
    earliest = week_window(monday - timedelta(weeks=WEEKS_BEFORE), settings.zone)
    first = monday - timedelta(weeks=CALENDAR_WEEKS - 1)
    calendar = days_window(first, monday + timedelta(days=6), settings.zone)
    tool = {"tool_name": tool_name}
    return (
        {"start": week.start, "end": week.end, **tool},
        {"start": before.start, "end": before.end, **tool},
        {"since": earliest.start, "start": week.start, "end": week.end, **tool},
        {"start": calendar.start, "end": calendar.end, **tool},
    )
