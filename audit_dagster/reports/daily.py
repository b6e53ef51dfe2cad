"""The daily report: the documented Markdown form, each operation with its entry in a comment.

The comment makes a folder of reports all that a reproduction script needs: who deletes a section takes that operation
out of the script.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from json.encoder import encode_basestring
from math import isfinite
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry
from audit_dagster.errors import EntryError
from audit_dagster.escaping import ascii_json, shell_words
from audit_dagster.failures import cause
from audit_dagster.render import number, render_pieces, seconds
from audit_dagster.reports.day import Day, day_of

_COMMENT_START = "<!-- audit-entry: "
_COMMENT_END = " -->"
_SECTION = re.compile(r"### \d\d:\d\d:\d\d - ")
_RECORDS = ("records_extracted", "records_processed", "records")
_LONGEST_VALUE = 300
_JSON = json.JSONEncoder(ensure_ascii=False)


class Operation(NamedTuple):
    """An operation in the report; its entry is JSON."""

    time: str
    tool: str
    name: str
    success: bool
    facts: list[tuple[str, str]]
    command: str | None
    entry: str


def daily_report(day: date, entries: Sequence[LogEntry], zone: ZoneInfo, replays: Sequence[dict[str, Any]] = ()) -> str:
    """The report of the operations that started on `day` of `zone`, given in the order of their start.

    `replays` are rows of the query of that name: what came out where an operation was run again.
    """
    whole = day_of(day, entries, zone, replays)
    return "".join(report_pieces(whole, (operation_of(entry, whole) for entry in entries)))


def report_pieces(day: Day, operations: Iterable[Operation]) -> Iterator[str]:
    """The report in pieces; each operation is asked for when it is its turn."""
    return render_pieces(
        "daily_report.md.j2",
        day=day.date,
        zone=day.zone.key,
        total=day.total,
        failed=day.failed,
        tools=day.tools,
        operations=iter(operations),
    )


def operation_of(entry: LogEntry, day: Day) -> Operation:
    """What the template shows of an operation."""
    return Operation(
        time=clock(entry.timestamp, day.zone),
        tool=entry.tool_name,
        name=entry.operation,
        success=entry.success,
        facts=[*facts(entry), *when_run_again(entry, day.again)],
        command=shell_words(entry.command) if entry.command else None,
        entry=ascii_json(entry.to_json()),
    )


def clock(moment: datetime, zone: ZoneInfo) -> str:
    """12:00:01"""
    return moment.astimezone(zone).time().isoformat("seconds")


def facts(entry: LogEntry) -> list[tuple[str, str]]:
    """(label, value) pairs in the documented order: project, dates, records, duration, output."""
    parameters, results = dict(entry.parameters), dict(entry.results)
    found: list[tuple[str, Any]] = [("Project", parameters.pop("project", None))]
    if parameters.get("start_date") and parameters.get("end_date"):
        found.append(("Date Range", f"{parameters.pop('start_date')} to {parameters.pop('end_date')}"))
    found += [(label(name), value) for name, value in parameters.items()]
    records = next((name for name in _RECORDS if type(results.get(name)) is int), None)
    if records:
        found.append(("Records", number(results.pop(records))))
    found.append(("Duration", seconds(entry.duration_seconds)))
    found.append(("Output", results.pop("output_file", None)))
    found += [(label(name), value) for name, value in results.items()]
    found += [("Note", entry.note), ("Error", cause(entry.error_message))]
    return [(name, shown(value)) for name, value in found if value or value == 0]


def when_run_again(entry: LogEntry, again: Mapping[str, str]) -> list[tuple[str, str]]:
    """Of a replay what it repeats, of an operation that was run again what came out."""
    first = entry.context.get("reproduces")
    found = [("Reproduces", first)] if isinstance(first, str) else []
    verdict = again.get(entry.operation_id)
    return [*found, ("Reproduction", verdict)] if verdict else found


@lru_cache(maxsize=10_000)  # a tool's parameters have the same names each time
def label(name: str) -> str:
    """node_id → Node Id"""
    return name.replace("_", " ").replace("-", " ").strip().title() or "(unnamed)"


def shown(value: Any) -> str:
    """A value as a reader sees it: lists with commas, objects as JSON, long texts cut (the comment has them whole)."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        text = ", ".join(map(str, value))
    else:
        text = json_text(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def json_text(value: Any) -> str:
    """JSON with every letter as it is. (Most values are texts and numbers, which need no encoder made.)"""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    return repr(value) if kind is int or (kind is float and isfinite(value)) else _JSON.encode(value)


def entries_in(report: str) -> Iterator[LogEntry]:
    """The entries that a report still carries.

    Raises EntryError where a comment was damaged, or a section has lost its own: nothing is left out in silence.
    """
    section = ""
    for line in report.splitlines():
        if _SECTION.match(line) and section:
            break
        if _SECTION.match(line):
            section = line
        if line.startswith(_COMMENT_START):
            section = ""
            if not line.endswith(_COMMENT_END):
                raise EntryError("a comment with an entry is cut off")
            try:
                form = json.loads(line[len(_COMMENT_START) : -len(_COMMENT_END)])
            except ValueError as error:
                raise EntryError(f"a comment with an entry is damaged: {error}") from None
            if not isinstance(form, dict):
                raise EntryError("a comment with an entry holds no JSON object")
            yield LogEntry.from_json(form)
    if section:
        raise EntryError(f"the section '{section}' has lost the comment with its entry")
