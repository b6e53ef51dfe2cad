"""What `site --start-date` writes first: the pages that Dagster makes of some days."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from audit_dagster.errors import InvalidInputError

if TYPE_CHECKING:
    from psycopg import Connection

    from audit_dagster.report_service import ReportService
    from audit_dagster.settings import Settings

Write = Callable[[], object]


def chosen_days(start_date: str | None, end_date: str | None, settings: Settings) -> list[date]:
    """The days from the first to the last, which is today at the latest; none where no option was given.

    Raises InvalidInputError for days that are none or still to come.
    """
    from audit_dagster.reports.windows import as_days

    if start_date is None:
        if end_date is not None:
            raise InvalidInputError("--end-date goes with --start-date")
        return []
    today = datetime.now(settings.zone).date()
    first, last = as_days(start_date, end_date or max(str(today), start_date))
    if first > today:
        raise InvalidInputError(f"the start date {first} is still to come: today is {today} in {settings.timezone}")
    return [first + timedelta(days=number) for number in range((min(last, today) - first).days + 1)]


def documents_of(days: list[date], service: ReportService, connection: Connection[Any]) -> list[Write]:
    """What writes the days' reports and scripts, their weeks' summaries, and the reports of those weeks' tools."""
    from audit_dagster.reports.windows import monday_of

    mondays = sorted(set(map(monday_of, days)))
    return [
        *(partial(service.write_daily_report, connection, day) for day in days),
        *(partial(service.write_day_script, connection, day) for day in days),
        *(partial(service.write_weekly_summary, connection, monday) for monday in mondays),
        *(
            partial(service.write_tool_report, connection, monday, tool)
            for monday in mondays
            for tool in _tools_of_week(monday, service.settings, connection)
        ),
    ]


def _tools_of_week(monday: date, settings: Settings, connection: Connection[Any]) -> Iterator[str]:
    from audit_dagster.reports.windows import week_window
    from audit_dagster.store.query import fetch

    window = week_window(monday, settings.zone)
    rows = fetch(connection, "site_counts", **window._asdict(), zone=settings.timezone)
    return (row["tool_name"] for row in rows if row["tool_name"] is not None)
