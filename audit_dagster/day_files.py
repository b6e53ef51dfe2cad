"""The files of a day, written while its rows are read: each operation is prepared once, for all of them."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import count
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from audit_dagster.documents import Document, Draft, Place, draft, remove_series, write_document
from audit_dagster.entry import LogEntry
from audit_dagster.reports import daily, daily_page, search_index
from audit_dagster.reports.daily import Operation
from audit_dagster.reports.daily_page import MOST_ON_A_PAGE, Neighbours, PageOperation
from audit_dagster.reports.day import MOST_FAILURES, Day, Failure, Glance, verdicts
from audit_dagster.reports.windows import day_window
from audit_dagster.store.query import fetch, snapshot, stream_entries

if TYPE_CHECKING:
    from psycopg import Connection

_OBJECTS_OF_PAGES = 100_000


def write_day(
    connection: Connection[Any],
    zone: ZoneInfo,
    target: Place,
    where: Neighbours,
    tool_name: str | None = None,
    search: Place | None = None,
) -> Document:
    """Write the report to `target`, its pages and its JSON beside it, and the operations for the search to `search`.

    Pages of an earlier, longer version are removed.
    """
    window = day_window(where.day, zone)
    bound = {"start": window.start, "end": window.end, "tool_name": tool_name}
    with snapshot(connection), _rare_search_for_cycles():
        day = _day(connection, where.day, zone, bound)
        with contextlib.closing(stream_entries(connection, "entries_between", **bound)) as entries:
            return _written(day, entries, target, where, search)


@contextlib.contextmanager
def _rare_search_for_cycles() -> Iterator[None]:
    """To look for cycles at each 700th object is an eighth of the time of a long day, and rows and texts have none.

    Where a template makes some they are found all the same, after more objects than a page is made of.
    """
    young, *older = gc.get_threshold()
    gc.set_threshold(_OBJECTS_OF_PAGES, *older)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)


def _day(connection: Connection[Any], day: date, zone: ZoneInfo, bound: Mapping[str, Any]) -> Day:
    operations = [Glance(*row.values()) for row in fetch(connection, "day_outline", **bound)]
    failures = fetch(connection, "first_failures", **bound, limit=MOST_FAILURES)
    again = verdicts(fetch(connection, "replays", **bound), zone)
    return Day(day, zone, operations, [Failure(*row.values()) for row in failures], again)


def _written(day: Day, entries: Iterable[LogEntry], target: Place, where: Neighbours, search: Place | None) -> Document:
    with contextlib.ExitStack() as stack:
        form = stack.enter_context(draft(target.with_name(where.name("json"))))
        index = stack.enter_context(draft(search)) if search else None
        report = stack.enter_context(draft(target))
        operations = _operations(day, entries, target, where, form, index)
        for piece in daily.report_pieces(day, operations):
            report.write(piece)
        for _ in operations:  # a lab's template may show none
            pass
    remove_series(target.with_name(where.page(number)) for number in count(daily_page.pages_of(day.total) + 1))
    return Document(target, report.beginning(), day.total, day.failed)


def _operations(
    day: Day, entries: Iterable[LogEntry], target: Place, where: Neighbours, form: Draft, index: Draft | None
) -> Iterator[Operation]:
    """What the report shows, with everything else written on the way."""
    common = daily_page.common_to_pages(where, day)
    shown: list[PageOperation] = []

    def write_page(number: int) -> None:
        page = daily_page.daily_page(common, number, shown)
        write_document(target.with_name(where.page(number)), page, len(shown), 0)
        shown.clear()

    form.write(daily_page.json_start(day))
    if index:
        index.write(search_index.search_start(day.date))
    for place, entry in enumerate(entries):
        operation = daily.operation_of(entry, day)
        form.write(f",\n{operation.entry}" if place else operation.entry)
        if index:
            index.write(search_index.search_line(entry, operation.time, daily_page.page_of(place)))
        shown.append(daily_page.page_operation(entry, operation))
        if len(shown) == MOST_ON_A_PAGE:
            write_page(daily_page.page_of(place))
        yield operation
    if shown or not day.total:
        write_page(daily_page.pages_of(day.total))
    form.write(daily_page.json_end(where, day))
    if index:
        index.write(search_index.search_end())
