"""A day as a whole: what its documents say before their first operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry

MOST_FAILURES = 200


class Glance(NamedTuple):
    """What the timeline shows of an operation."""

    tool_name: str
    timestamp: datetime
    duration_seconds: float | None
    success: bool


class Failure(NamedTuple):
    """A failed operation as its day's list shows it."""

    operation_id: str
    timestamp: datetime
    tool_name: str
    operation: str
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Day:
    """The operations that started on a day of a zone, in the order of their start, and the first failures of them.

    `again` says what came out, and when, by the id of the operation that was run again.
    """

    date: date
    zone: ZoneInfo
    operations: Sequence[LogEntry | Glance]
    failures: Sequence[Failure]
    again: Mapping[str, str]
    total: int = field(init=False)
    failed: int = field(init=False)
    tools: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Count once."""
        object.__setattr__(self, "total", len(self.operations))
        object.__setattr__(self, "failed", sum(not one.success for one in self.operations))
        object.__setattr__(self, "tools", list(dict.fromkeys(one.tool_name for one in self.operations)))

    def places_of_failures(self) -> list[int]:
        """The places in the day of the failures that are listed."""
        places = (place for place, one in enumerate(self.operations) if not one.success)
        return list(islice(places, len(self.failures)))


def day_of(day: date, entries: Sequence[LogEntry], zone: ZoneInfo, replays: Sequence[dict[str, Any]] = ()) -> Day:
    """The same of the entries themselves; `replays` are rows of the query of that name."""
    failed = [entry for entry in entries if not entry.success][:MOST_FAILURES]
    failures = [Failure(*(getattr(entry, name) for name in Failure._fields)) for entry in failed]
    return Day(day, zone, entries, failures, verdicts(replays, zone))


def verdicts(replays: Sequence[dict[str, Any]], zone: ZoneInfo) -> dict[str, str]:
    """What came out, and when, by the id of the operation that was run again."""
    return {
        str(row["operation_id"]): f"{row['verdict']} on {row['timestamp'].astimezone(zone).date()}" for row in replays
    }
