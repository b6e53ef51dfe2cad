"""Days and ISO weeks of a zone as half-open windows of time."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from audit_dagster.errors import InvalidInputError

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FIRST_YEAR, _LAST_YEAR = 1900, 9998


class Window(NamedTuple):
    """`[start, end)`, both timezone-aware. A day with a clock change has 23 or 25 hours."""

    start: datetime
    end: datetime


def day_window(day: date, zone: ZoneInfo) -> Window:
    """From midnight to midnight of the zone."""
    return days_window(day, day, zone)


def week_window(monday: date, zone: ZoneInfo) -> Window:
    """The seven days from `monday`."""
    return days_window(monday, monday + timedelta(days=6), zone)


def days_window(first: date, last: date, zone: ZoneInfo) -> Window:
    """From the midnight that begins `first` to the midnight that ends `last`.

    Raises InvalidInputError for the first and the last days of the calendar, which not every zone has whole.
    """
    if first.year < _FIRST_YEAR or last.year > _LAST_YEAR:
        raise InvalidInputError(f"{first} to {last} is out of range: give years from {_FIRST_YEAR} to {_LAST_YEAR}")
    return Window(_midnight(first, zone), _midnight(last + timedelta(days=1), zone))


def monday_of(day: date) -> date:
    """The Monday that begins the ISO week of `day`."""
    return day - timedelta(days=day.weekday())


def week_name(monday: date) -> str:
    """2023-W24"""
    year, week, _ = monday.isocalendar()
    return f"{year}-W{week:02d}"


def as_day(value: str | date | datetime, name: str) -> date:
    """A day given as YYYY-MM-DD, date or datetime. Raises InvalidInputError that names the argument."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        if not _DAY.fullmatch(value):  # date.fromisoformat takes other forms, too
            raise ValueError
        return date.fromisoformat(value)
    except (ValueError, TypeError):
        raise InvalidInputError(f"{name} is {value!r}: give a date as YYYY-MM-DD, such as 2023-06-15") from None


def as_days(start: str | date | datetime, end: str | date | datetime) -> tuple[date, date]:
    """First and last day of a range, both included. Raises InvalidInputError where the end comes first."""
    first, last = as_day(start, "the start date"), as_day(end, "the end date")
    if last < first:
        raise InvalidInputError(f"the end date {last} is before the start date {first}: swap them")
    return first, last


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)
