"""What the site's page stands on: the pages that there are, and the counts of the last 26 weeks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

from audit_dagster.documents import Place, names_in
from audit_dagster.escaping import file_name
from audit_dagster.report_rows import MOST_KINDS, failures_of, figures_of_week
from audit_dagster.reports.site import Pages, SiteRows
from audit_dagster.reports.weekly import calendar_days
from audit_dagster.reports.windows import days_window, monday_of
from audit_dagster.settings import Settings
from audit_dagster.store.query import Row, fetch

if TYPE_CHECKING:
    from psycopg import Connection

_DAY_PAGE = re.compile(r"(\d{4}-\d\d-\d\d)\.html", re.ASCII)
_WEEK_PAGE = re.compile(r"(\d{4}-W\d\d)\.html", re.ASCII)
_SEARCH_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.js", re.ASCII)


def pages_in(folder: Place, tools: Iterable[str]) -> Pages:
    """What there is in the reports' folder, by one listing of each folder in it. Raises AuditError."""
    return Pages(
        days=_days(_named(folder / "daily", _DAY_PAGE)),
        weeks=frozenset(filter(_day, _named(folder / "weekly", _WEEK_PAGE))),
        tools={tool: weeks for tool in tools if (weeks := _named(folder / "tools" / file_name(tool), _WEEK_PAGE))},
        searchable=_days(_named(folder / "search", _SEARCH_FILE)),
    )


def site_rows(connection: Connection[Any], pages: Pages, settings: Settings) -> SiteRows:
    """What is counted in the calendar's weeks, to the end of the newest day, and of the newest week."""
    today = pages.today
    if today is None:
        return SiteRows()
    window = days_window(calendar_days(monday_of(today))[0], today, settings.zone)
    asked = {"start": window.start, "end": window.end}
    counts = fetch(connection, "site_counts", **asked, zone=settings.timezone)
    kinds = fetch(connection, "failure_kinds", since=window.start, **asked, tool_name=None, limit=MOST_KINDS)
    week = pages.newest_week
    return SiteRows(
        days=_with(counts, "day"),
        tools=_with(counts, "tool_name"),
        people=_with(counts, "user_name"),
        kinds=kinds,
        failures=failures_of(connection, kinds, settings),
        **(figures_of_week(connection, date.fromisoformat(week), settings) if week else {}),
    )


def _with(rows: Iterable[Row], name: str) -> list[Row]:
    return [row for row in rows if row[name] is not None]


def _named(folder: Place, form: re.Pattern[str]) -> frozenset[str]:
    return frozenset(match[1] for match in map(form.fullmatch, names_in(folder)) if match)


def _days(names: Iterable[str]) -> frozenset[date]:
    return frozenset(day for day in map(_day, names) if day)


def _day(name: str) -> date | None:
    """A day by its name, or the Monday of a week by that."""
    try:
        return date.fromisoformat(name)
    except ValueError:  # somebody's own file
        return None
