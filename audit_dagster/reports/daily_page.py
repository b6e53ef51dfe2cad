"""A day as HTML, in pages where it is long, and as JSON: the rows of the Markdown report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry
from audit_dagster.render import Svg, file_name, render, shell_line
from audit_dagster.reports.charts import day_timeline, inline
from audit_dagster.reports.daily import NO_ERROR_TEXT, cause, facts, shown, verdicts, when_run_again
from audit_dagster.reports.windows import monday_of, week_name

MOST_ON_A_PAGE = 1000
_LONGEST_TEXT = 20_000
_JSON = json.JSONEncoder(ensure_ascii=False)
_ASCII_JSON = json.JSONEncoder(separators=(",", ":"))


class Neighbours(NamedTuple):
    """What lies beside a day's documents: `stem` is their name without an extension.

    Among all other documents, in AUDIT_REPORTS_DIR, they link to those, too.
    """

    day: date
    stem: str
    among_others: bool = True

    def name(self, extension: str, days_later: int = 0) -> str:
        """2023-06-15_decode.html, or that of another day"""
        return f"{self.stem.replace(str(self.day), str(self.day + timedelta(days=days_later)))}.{extension}"

    def page(self, number: int) -> str:
        """The first page has the day's name, the others 2023-06-15-2.html and so on."""
        return f"{self.stem}{_ending(number)}"

    def links(self, tools: Sequence[str]) -> list[tuple[str, str]]:
        """(name, relative address) of what belongs to the day."""
        found = [("Day before", self.name("html", -1)), ("Day after", self.name("html", 1))]
        if self.among_others:
            week = week_name(monday_of(self.day))
            found.append((f"Week {week}", f"../weekly/{week}.html"))
            found += [(f"{tool} in {week}", f"../tools/{file_name(tool)}/{week}.html") for tool in tools]
            found.append(("Script", f"../scripts/{self.day}.sh"))
        return [*found, ("Markdown", self.name("md")), ("JSON", self.name("json"))]


def daily_pages(
    where: Neighbours, entries: Sequence[LogEntry], zone: ZoneInfo, replays: Sequence[dict[str, Any]] = ()
) -> dict[str, str]:
    """The pages of a day, of at most a thousand operations each, by the endings of their names: `.html`, `-2.html`, …

    The failures' list is on the first. Takes what `daily_report` does.
    """
    parts = [entries[start : start + MOST_ON_A_PAGE] for start in range(0, len(entries), MOST_ON_A_PAGE)] or [[]]
    tools = _tools(entries)
    common = {
        "day": where.day,
        "zone": zone.key,
        "total": len(entries),
        "failed": sum(not entry.success for entry in entries),
        "tools": tools,
        "links": where.links(tools),
        "pages": [where.page(number) for number in range(1, len(parts) + 1)],
        "timeline": Svg(inline(day_timeline(entries, where.day, zone))) if entries else None,
        "failures": list(_failures(where, parts, zone)),
    }
    again = verdicts(replays, zone)
    return {
        _ending(number): render(
            "daily_report.html.j2", **common, page=number, operations=(_operation(entry, zone, again) for entry in part)
        )
        for number, part in enumerate(parts, 1)
    }


def daily_json(where: Neighbours, entries: Sequence[LogEntry], zone: ZoneInfo) -> str:
    """The day as one JSON object, an entry per line: the same entries make the same bytes."""
    tools = _tools(entries)
    head = {
        "day": str(where.day),
        "timezone": zone.key,
        "operations": len(entries),
        "failed": sum(not entry.success for entry in entries),
        "tools": tools,
    }
    start = _ASCII_JSON.encode(head)[:-1]
    lines = ",\n".join(_ASCII_JSON.encode(entry.to_json()) for entry in entries)
    links = _ASCII_JSON.encode({"HTML": where.name("html")} | dict(where.links(tools)))
    return f'{start},"entries":[\n{lines}\n],"links":{links}}}\n'


def _ending(number: int) -> str:
    return f"-{number}.html" if number > 1 else ".html"


def _tools(entries: Sequence[LogEntry]) -> list[str]:
    return list(dict.fromkeys(entry.tool_name for entry in entries))


def _failures(
    where: Neighbours, parts: Sequence[Sequence[LogEntry]], zone: ZoneInfo
) -> Iterator[tuple[str, str, str, str]]:
    """(address, time, name, error) of each."""
    for number, part in enumerate(parts, 1):
        page = where.page(number) if number > 1 else ""
        for entry in part:
            if not entry.success:
                error = shown(cause(entry.error_message) or NO_ERROR_TEXT)
                name = f"{entry.tool_name} {entry.operation}"
                yield f"{page}#{entry.operation_id}", _time(entry, zone), name, error


def _operation(entry: LogEntry, zone: ZoneInfo, again: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": entry.operation_id,
        "time": _time(entry, zone),
        "tool": entry.tool_name,
        "name": entry.operation,
        "success": entry.success,
        "facts": [*facts(entry), *when_run_again(entry, again), *_ground(entry)],
        "texts": list(_texts(entry)),
        "command": shell_line(entry.command) if entry.command else None,
    }


def _time(entry: LogEntry, zone: ZoneInfo) -> str:
    return entry.timestamp.astimezone(zone).time().isoformat("seconds")


def _ground(entry: LogEntry) -> list[tuple[str, str]]:
    """Who ran it, and on which code."""
    dirty = {True: "uncommitted changes", False: "clean", None: None}[entry.git_dirty]
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
    trace = entry.context.get("traceback")
    if isinstance(trace, str) and trace:
        yield "Traceback", _cut(trace)


def _lines(values: Mapping[str, Any]) -> str:
    """JSON with a line per name. (`indent` would be ten times slower.)"""
    lines = ",\n".join(f"  {_JSON.encode(name)}: {_JSON.encode(value)}" for name, value in values.items())
    return f"{{\n{lines}\n}}"


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}…\n({len(text):,} characters; the JSON of this day has them all)"
