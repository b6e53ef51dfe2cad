"""The operations that made a file: from its hash back to the first inputs, by what each read and wrote.

Pure: entries in, entries out. Fetching the candidates is `report_service`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable

from audit_dagster.entry import LogEntry


def hashes(entry: LogEntry, kind: str) -> set[str]:
    """The SHA-256 of an operation's `inputs` or `outputs`, as far as they are known."""
    files = entry.context.get(kind)
    known = [file.get("sha256") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return {digest for digest in known if isinstance(digest, str)}


def made(entry: LogEntry) -> set[str]:
    """What an operation made: its outputs, but those that it only read and left as they were."""
    return hashes(entry, "outputs") - hashes(entry, "inputs")


def chain(entries: Iterable[LogEntry], digest: str) -> list[LogEntry]:
    """The fewest successful operations that made the file of that SHA-256, by start; empty where nobody made it.

    Each input comes from the earlier operation with the shortest way to it; of equals the latest. An input that no
    operation made is where the way begins.
    """
    ways: dict[str, frozenset[str]] = {}  # hash -> the operations that made it
    known: dict[str, LogEntry] = {}
    for entry in sorted(entries, key=lambda one: (one.timestamp, one.operation_id)):
        outputs = made(entry) if entry.success else set[str]()
        if not outputs:
            continue
        known[entry.operation_id] = entry
        way = frozenset({entry.operation_id}).union(*(ways.get(read, ()) for read in hashes(entry, "inputs")))
        for output in outputs:
            if output not in ways or len(way) <= len(ways[output]):
                ways[output] = way
    return [entry for identity, entry in known.items() if identity in ways.get(digest, ())]
