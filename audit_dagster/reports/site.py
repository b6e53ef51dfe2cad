"""The site's one page: what there is of days, weeks, tools and people, with a search that needs no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from audit_dagster.escaping import file_name, visible
from audit_dagster.render import render
from audit_dagster.reports.weekly import CALENDAR_WEEKS, calendar_days, causes, most_frequent, score
from audit_dagster.reports.windows import monday_of, week_name

Rows = Sequence[dict[str, Any]]

NEWEST_DAYS = 7
_WEEKS_AT_HAND = 8
_STRENGTHS = 4


class Pages(NamedTuple):
    """What was found in AUDIT_REPORTS_DIR: days and weeks that have a page, weeks of tools, days that can be searched.

    Weeks are named as 2023-W24.
    """

    days: frozenset[date] = frozenset()
    weeks: frozenset[str] = frozenset()
    tools: Mapping[str, frozenset[str]] = {}
    searchable: frozenset[date] = frozenset()

    @property
    def today(self) -> date | None:
        """The newest day that has a page: the same pages and rows make the same site, whenever it is made."""
        return max(self.days, default=None)

    @property
    def newest_week(self) -> str | None:
        """The newest week that has a page."""
        return max(self.weeks, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRows:
    """What SQL counted in the calendar's weeks: `days`, `tools` and `people` with `operations`, `failed`, `last_at`.

    `kinds` and `failures` are rows of the queries `failure_kinds` and `failures_at`. Of the newest week that has a page
    there are `kinds_of_week`, and rows of `reproducibility`.
    """

    days: Rows = ()
    tools: Rows = ()
    people: Rows = ()
    kinds: Rows = ()
    failures: Rows = ()
    kinds_of_week: Rows = ()
    reproducibility: Rows = ()


def site_page(pages: Pages, rows: SiteRows, zone: ZoneInfo) -> str:
    """The page. No link in it leads to a page that was not found."""
    today = pages.today
    return render(
        "index.html.j2",
        zone=zone,
        zone_name=zone.key,
        today=today,
        newest_week=pages.newest_week,
        new_in_week=sum(row["is_new"] for row in causes(rows.kinds_of_week)),
        score=score(rows.reproducibility),
        newest=_newest(today, rows, zone) if today else None,
        days=pages.days,
        calendar=_calendar(today, pages, rows.days) if today else None,
        calendar_weeks=CALENDAR_WEEKS,
        **most_frequent(causes(rows.kinds), rows.failures, zone),
        weeks=_by_year(sorted(pages.weeks, reverse=True)),
        tools=_tools(pages, rows.tools),
        people=[{**row, "search": f"#q={visible(row['user_name'])}"} for row in rows.people],
        all_days=_by_month(sorted(pages.days, reverse=True)),
        searchable=" ".join(map(str, sorted(pages.searchable, reverse=True))),
    )


def _newest(today: date, rows: SiteRows, zone: ZoneInfo) -> dict[str, Any]:
    """The figures of the newest seven days."""
    first = today - timedelta(days=NEWEST_DAYS - 1)
    days = [row for row in rows.days if first <= row["day"] <= today]
    return {
        "first": first,
        "operations": sum(row["operations"] for row in days),
        "failed": sum(row["failed"] for row in days),
        "people": _ran_since(first, rows.people, zone),
        "tools": _ran_since(first, rows.tools, zone),
    }


def _ran_since(first: date, rows: Rows, zone: ZoneInfo) -> int:
    start = datetime(first.year, first.month, first.day, tzinfo=zone)
    return sum(row["last_at"] >= start for row in rows)


def _calendar(today: date, pages: Pages, counts: Rows) -> dict[str, Any]:
    """A row per weekday with a cell per week; None for the days after the newest."""
    found = {row["day"]: row for row in counts}
    most = max((row["operations"] for row in counts), default=0)
    days = calendar_days(monday_of(today))
    mondays = days[::7]
    cells = [_cell(day, found.get(day), most, day in pages.days) if day <= today else None for day in days]
    return {
        "months": [(f"{month[0]:%b %Y}", len(month)) for month in _grouped(mondays, "%Y-%m")],
        "weeks": [(name, name in pages.weeks) for name in map(week_name, mondays)],
        "weekdays": [(f"{days[place]:%a}", cells[place::7]) for place in range(7)],
        "most": most,
    }


def _cell(day: date, row: dict[str, Any] | None, most: int, has_page: bool) -> dict[str, Any]:
    operations, failed = (row["operations"], row["failed"]) if row else (0, 0)
    share = (operations / most) ** 0.5 if operations else 0.0  # so that one busy day does not make all others faint
    strength = min(_STRENGTHS, 1 + int(share * _STRENGTHS)) if operations else 0
    return {"day": day, "operations": operations, "failed": failed, "strength": strength, "has_page": has_page}


def _by_year(weeks: Sequence[str]) -> dict[str, Any]:
    """The newest weeks, and the others by year, the newest first."""
    older = groupby(weeks[_WEEKS_AT_HAND:], key=lambda week: week.partition("-")[0])
    return {"newest": weeks[:_WEEKS_AT_HAND], "older": [(year, list(group)) for year, group in older]}


def _by_month(days: Sequence[date]) -> list[dict[str, Any]]:
    """Years with months with days, as they come."""
    return [
        {
            "year": f"{year[0]:%Y}",
            "days": len(year),
            "months": [(f"{month[0]:%B %Y}", month) for month in _grouped(year, "%Y-%m")],
        }
        for year in _grouped(days, "%Y")
    ]


def _grouped(days: Sequence[date], form: str) -> list[list[date]]:
    return [list(group) for _, group in groupby(days, key=lambda day: day.strftime(form))]


def _tools(pages: Pages, counts: Rows) -> list[dict[str, Any]]:
    """The tools that ran, the busiest first, and after them those of which there are only older reports."""
    idle = sorted(pages.tools.keys() - {row["tool_name"] for row in counts})
    rows = [*counts, *({"tool_name": name, "operations": 0, "failed": 0, "last_at": None} for name in idle)]
    return [{**row, "folder": file_name(row["tool_name"]), **_reports(pages, row["tool_name"])} for row in rows]


def _reports(pages: Pages, tool_name: str) -> dict[str, Any]:
    """The newest report of a tool, and those of the weeks before it; each report leads to still earlier ones."""
    weeks = sorted(pages.tools.get(tool_name, ()), reverse=True)[:CALENDAR_WEEKS]
    return {"newest": weeks[0] if weeks else None, "older": weeks[1:]}
