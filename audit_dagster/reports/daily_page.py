"""A day as HTML, in pages where it is long, and as JSON: the rows of the Markdown report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry
from audit_dagster.escaping import Svg, ascii_json, file_name, shell_line, visible
from audit_dagster.failures import NO_ERROR_TEXT, cause
from audit_dagster.render import duration, number, render, seconds, size
from audit_dagster.reports.charts import day_timeline, inline
from audit_dagster.reports.daily import Operation, clock, json_text, operation_of, shown
from audit_dagster.reports.day import Day, day_of
from audit_dagster.reports.windows import monday_of, week_name
from audit_dagster.reproduction.words import NotRunnableError, command_of

MOST_ON_A_PAGE = 1000
_DIRTY = {True: "uncommitted changes", False: "clean", None: None}
_LONGEST_TEXT = 20_000


class Neighbours(NamedTuple):
    """What lies beside a day's documents: `stem` is their name without an extension.

    Among all other documents, in AUDIT_REPORTS_DIR, they link to those, too.
    """

    day: date
    stem: str
    before: date | None = None
    after: date | None = None
    among_others: bool = True

    def name(self, extension: str, day: date | None = None) -> str:
        """2023-06-15_decode.html, or that of another day"""
        return f"{self.stem.replace(str(self.day), str(day or self.day))}.{extension}"

    def page(self, number: int) -> str:
        """2023-06-15_decode-2.html"""
        return f"{self.stem}{page_ending(number)}"

    def links(self, tools: Sequence[str]) -> list[tuple[str, str]]:
        """(name, relative address) of what belongs to the day."""
        beside = (("Day before", self.before), ("Day after", self.after))
        found = [(name, self.name("html", day)) for name, day in beside if day]
        if self.among_others:
            week = week_name(monday_of(self.day))
            found.insert(0, ("All reports", "../index.html"))
            found.append((f"Week {week}", f"../weekly/{week}.html"))
            found += [(f"{tool} in {week}", f"../tools/{file_name(tool)}/{week}.html") for tool in tools]
            found.append(("Script", f"../scripts/{self.day}.sh"))
        return [*found, ("Markdown", self.name("md")), ("JSON", self.name("json"))]


class PageOperation(NamedTuple):
    """An operation on a page: `texts` are what its facts have shortened, or on one line."""

    id: str
    time: str
    tool: str
    name: str
    success: bool
    facts: list[tuple[str, str]]
    texts: list[tuple[str, str]]
    command: str | None


def daily_pages(
    where: Neighbours, entries: Sequence[LogEntry], zone: ZoneInfo, replays: Sequence[dict[str, Any]] = ()
) -> dict[str, str]:
    """The pages of a day by the endings of their names: `.html`, `-2.html`, … Takes what `daily_report` does."""
    day = day_of(where.day, entries, zone, replays)
    common = common_to_pages(where, day)
    operations = [page_operation(entry, operation_of(entry, day)) for entry in entries]
    return {
        page_ending(number): daily_page(common, number, operations[(number - 1) * MOST_ON_A_PAGE :][:MOST_ON_A_PAGE])
        for number in range(1, pages_of(day.total) + 1)
    }


def daily_page(common: Mapping[str, Any], number: int, operations: Iterable[PageOperation]) -> str:
    """A page of at most a thousand operations; the failures' list is on the first."""
    return render("daily_report.html.j2", **common, page=number, operations=iter(operations))


def common_to_pages(where: Neighbours, day: Day) -> dict[str, Any]:
    """What each page of a day is made of beside its operations."""
    return {
        "day": day.date,
        "zone": day.zone.key,
        "total": day.total,
        "failed": day.failed,
        "tools": day.tools,
        "links": where.links(day.tools),
        "pages": [where.page(number) for number in range(1, pages_of(day.total) + 1)],
        "timeline": Svg(inline(day_timeline(day.operations, day.date, day.zone))) if day.total else None,
        "failures": list(_failures(where, day)),
    }


def pages_of(operations: int) -> int:
    """How many pages a day has; one where nothing ran."""
    return max(1, -(-operations // MOST_ON_A_PAGE))


def page_of(place: int) -> int:
    """The page of the operation that has so many before it on its day."""
    return place // MOST_ON_A_PAGE + 1


def page_of_day(day: date, place: int) -> str:
    """2023-06-15-2.html: the page, among all reports, of the operation that has so many before it on its day."""
    return Neighbours(day, str(day)).page(page_of(place))


def page_ending(number: int) -> str:
    """The first page is 2023-06-15.html, the others are 2023-06-15-2.html and so on."""
    return f"-{number}.html" if number > 1 else ".html"


def json_start(day: Day) -> str:
    """What comes before the entries."""
    head = {
        "day": str(day.date),
        "timezone": day.zone.key,
        "operations": day.total,
        "failed": day.failed,
        "tools": day.tools,
    }
    return f'{ascii_json(head)[:-1]},"entries":[\n'


def json_end(where: Neighbours, day: Day) -> str:
    """What comes after the entries."""
    links = ascii_json({"HTML": where.name("html")} | dict(where.links(day.tools)))
    return f'\n],"links":{links}}}\n'


def page_operation(entry: LogEntry, operation: Operation) -> PageOperation:
    """From what the report shows of it."""
    took = ("Duration", seconds(entry.duration_seconds))  # as the contract's Markdown writes it
    readable = ("Duration", duration(entry.duration_seconds))
    return PageOperation(
        id=entry.operation_id,
        time=operation.time,
        tool=operation.tool,
        name=operation.name,
        success=operation.success,
        facts=[*(readable if fact == took else fact for fact in operation.facts), *_ground(entry)],
        texts=list(_texts(entry)),
        command=_command(entry),
    )


def _command(entry: LogEntry) -> str | None:
    """The recorded command, or the one that parameters make, unless they are too long for a page."""
    if entry.command:
        return shell_line(entry.command)
    try:
        made = shell_line(command_of(entry))
    except NotRunnableError:
        return None
    return made if len(made) <= _LONGEST_TEXT else None


def _failures(where: Neighbours, day: Day) -> Iterator[tuple[str, str, str, str]]:
    """(address, time, name, error) of the first."""
    for failure, place in zip(day.failures, day.places_of_failures(), strict=True):
        page = where.page(page_of(place)) if place >= MOST_ON_A_PAGE else ""
        name = f"{failure.tool_name} {failure.operation}"
        error = shown(cause(failure.error_message) or NO_ERROR_TEXT)
        yield f"{page}#{failure.operation_id}", clock(failure.timestamp, day.zone), name, error


def _ground(entry: LogEntry) -> list[tuple[str, str]]:
    """Who ran it, and on which code."""
    dirty = _DIRTY[entry.git_dirty]
    found = [
        ("User", entry.user_name),
        ("Branch", entry.git_branch),
        ("Commit", entry.git_commit_hash),
        ("Working tree", dirty),
        ("Folder", entry.working_directory),
        ("Operation", entry.operation_id),
    ]
    return [(name, shown(value)) for name, value in found if value]


def _texts(entry: LogEntry) -> Iterator[tuple[str, str]]:
    """(name, text) of what the facts have shortened, or on one line."""
    if entry.parameters:
        yield "Parameters", _cut(_lines(entry.parameters))
    if entry.results:
        yield "Results", _cut(_lines(entry.results))
    for name, text in (("Note", entry.note), ("Error", entry.error_message)):
        if text and ("\n" in text or shown(text) != text):
            yield name, _cut(text)
    for name, kind in (("Files read", "inputs"), ("Files made", "outputs")):
        if text := "\n".join(_files(entry.context.get(kind))):
            yield name, _cut(text)
    trace = entry.context.get("traceback")
    if isinstance(trace, str) and trace:
        yield "Traceback", _cut(trace)


def _files(recorded: Any) -> Iterator[str]:
    """A line for each file; an entry that was handed in may hold anything in its place."""
    for file in recorded if isinstance(recorded, list) else ():
        if isinstance(file, dict) and isinstance(path := file.get("path"), str):
            length, digest = file.get("size"), file.get("sha256")
            facts = [size(length)] if type(length) is int else []
            facts += [f"SHA-256 {visible(digest)}"] if isinstance(digest, str) else []
            yield f"{visible(path)} ({', '.join(facts) or 'not read'})"


def _lines(values: Mapping[str, Any]) -> str:
    """JSON with a line per name. (`indent` would be ten times slower.)"""
    lines = ",\n".join([f"  {json_text(name)}: {json_text(value)}" for name, value in values.items()])
    return f"{{\n{lines}\n}}"


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}…\n({number(len(text))} characters; the JSON of this day has them all)"
