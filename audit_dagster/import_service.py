"""Stores an earlier history: what the importers read, in batches, with every refusal named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from audit_dagster.entry import LogEntry
from audit_dagster.importers.outcome import Read, Refused
from audit_dagster.recording.redact import Redactor
from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect
from audit_dagster.store.query import append

_BATCH = 500
_CONFLICT = "it is already there with other content (imported with another time zone?)"


@dataclass(slots=True)
class ImportOutcome:
    """How many operations were read and stored, how many were there already, and which were refused and why."""

    read: int = 0
    stored: int = 0
    already_there: int = 0
    refused: list[Refused] = field(default_factory=list)


def import_history(outcomes: Iterable[Read | Refused], settings: Settings) -> ImportOutcome:
    """Store what an importer yields. Raises DatabaseError where the database does not answer."""
    outcome = ImportOutcome()
    iterator = iter(outcomes)
    with connect(settings) as connection:
        while batch := list(islice(iterator, _BATCH)):
            outcome.read += len(batch)
            outcome.refused += [item for item in batch if isinstance(item, Refused)]
            readable = [item for item in batch if isinstance(item, Read)]
            answers = append(connection, [_without_secrets(item.entry) for item in readable])
            for item, answer in zip(readable, answers, strict=True):
                _count(outcome, item, answer)
    return outcome


def _without_secrets(entry: LogEntry) -> LogEntry:
    form = entry.to_json()
    return LogEntry.from_json(Redactor(environment={}).value(form))


def _count(outcome: ImportOutcome, item: Read, answer: str) -> None:
    if answer == "stored":
        outcome.stored += 1
    elif answer == "duplicate":
        outcome.already_there += 1
    else:
        reason = _CONFLICT if answer == "conflict" else answer.removeprefix("refused: ")
        outcome.refused.append(Refused(item.source, reason))
