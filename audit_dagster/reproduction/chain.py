"""The operations that made a file: from its hash back to the first inputs, by what each read and made.

Pure: entries in, entries out. Fetching the candidates is `provenance_service`'s business.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from audit_dagster.entry import LogEntry
from audit_dagster.reproduction.ground import FileFacts, recorded_files

# Every empty file has this content: that two operations have one says nothing about them.
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Chain:
    """How a file came to be: `steps` by their start, and `beginnings`, the files they read that none of them made."""

    steps: list[LogEntry]
    beginnings: list[FileFacts]


class _Way(NamedTuple):
    """An operation, where it put a content, and the operations that lead there, itself included: a bit for each."""

    maker: LogEntry
    path: str
    operations: int


def hashes(entry: LogEntry, kind: str) -> set[str]:
    """The SHA-256 of an operation's `inputs` or `outputs`, as far as they are known."""
    return {file.sha256 for file in recorded_files(entry, kind) if file.sha256}


def made(entry: LogEntry) -> set[str]:
    """What an operation made: its outputs, but those that it only read and left as they were.

    An operation that failed made nothing to build on; what a reproduction made, the original made before.
    """
    if not entry.success or "reproduces" in entry.context:
        return set()
    return hashes(entry, "outputs") - hashes(entry, "inputs")


def followed(entry: LogEntry) -> set[str]:
    """The contents that it read and whose makers are of interest."""
    return hashes(entry, "inputs") - {_EMPTY}


def chain(entries: Iterable[LogEntry], digest: str, paths: Collection[str] = ()) -> Chain:
    """The fewest successful operations that made the content of that SHA-256; none where nobody made it.

    Each input comes from an operation that started earlier: from one that put it where it was read, if there is any; of
    those from one that had ended by then; then from the one with the shortest way to it; of equals from the latest.
    `paths` are where the content itself is preferred to have been put.
    """
    relevant = _leading_to(digest, entries)
    ways: defaultdict[str, list[_Way]] = defaultdict(list)
    for number, entry in enumerate(relevant):
        operations = 1 << number
        for content, path in _places(entry, "inputs", followed(entry)):
            way = _best(ways[content], entry.timestamp, (path,))
            operations |= way.operations if way else 0
        for content, path in _places(entry, "outputs", made(entry)):
            ways[content].append(_Way(entry, path, operations))
    found = _best(ways[digest], None, paths)
    steps = [entry for number, entry in enumerate(relevant) if found and found.operations >> number & 1]
    return Chain(steps, _beginnings(steps))


def _places(entry: LogEntry, kind: str, contents: set[str]) -> list[tuple[str, str]]:
    """Which of the contents lay where."""
    files = recorded_files(entry, kind)
    return [(file.sha256, file.path) for file in files if file.sha256 and file.sha256 in contents]


def _leading_to(digest: str, entries: Iterable[LogEntry]) -> list[LogEntry]:
    """Those that made that content, or what these read, and so on, by their start."""
    makers: defaultdict[str, list[LogEntry]] = defaultdict(list)
    for entry in entries:
        for output in made(entry):
            makers[output].append(entry)
    found: dict[str, LogEntry] = {}
    asked, wanted = {digest}, [digest]
    while wanted:
        for maker in makers[wanted.pop()]:
            if maker.operation_id not in found:
                found[maker.operation_id] = maker
                wanted += followed(maker) - asked
                asked |= followed(maker)
    return sorted(found.values(), key=lambda entry: (entry.timestamp, entry.operation_id))


def _best(ways: list[_Way], before: datetime | None, paths: Collection[str]) -> _Way | None:
    """The way to take for an operation that started at `before`; None: for one of today."""
    earlier = [way for way in ways if before is None or way.maker.timestamp < before]
    there = [way for way in earlier if way.path in paths] or earlier
    ended = [way for way in there if before is None or _had_ended(way.maker, before)]
    # `ways` are in the order of start, and the first of equals wins.
    return min(reversed(ended or there), key=lambda way: way.operations.bit_count(), default=None)


def _had_ended(entry: LogEntry, moment: datetime) -> bool:
    return (entry.duration_seconds or 0) <= (moment - entry.timestamp).total_seconds()


def _beginnings(steps: list[LogEntry]) -> list[FileFacts]:
    known: set[str] = set()
    found: dict[FileFacts, None] = {}
    for step in steps:
        found |= dict.fromkeys(file for file in recorded_files(step, "inputs") if file.sha256 not in known)
        known |= made(step)
    return list(found)
