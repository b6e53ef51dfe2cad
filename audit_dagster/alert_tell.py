"""Incidents become messages: one for each target and kind, with all that is to be told now."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_dagster.alerts import policy
from audit_dagster.alerts.message import Failure, Incident, Links, alert_message
from audit_dagster.store.query import Row, fetch, fetch_entries

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from psycopg import Connection

    from audit_dagster.alerts.config import AlertConfig
    from audit_dagster.entry import LogEntry

_MOST_AT_ONCE = 1000
_MOST_EXAMPLES = 20  # whose parameters and last success a message shows; of the others it has the error


class Rules(NamedTuple):
    """What decides who is told what and how."""

    config: AlertConfig
    links: Links
    zone: ZoneInfo


def tell(connection: Connection[Any], rules: Rules, now: datetime) -> int:
    """Write the messages about incidents that are due; how many incidents. One transaction.

    In quiet hours only what is urgent is due: the others become one message at their end, however often they happened.
    """
    with connection.transaction():
        found, put_off = without_muted(
            connection, rules, fetch(connection, "incidents_to_tell", now=now, limit=_MOST_AT_ONCE), now
        )
        quiet = policy.quiet_until(rules.config, now, rules.zone)
        due = [row for row in found if quiet <= now or _is_urgent(rules, _kind(row), row)]
        put_off += [(row, quiet) for row in found if row not in due]
        if put_off:
            ids, ends = [row["id"] for row, _ in put_off], [end for _, end in put_off]
            fetch(connection, "put_off_telling", incident_ids=ids, tell_at=ends)
        if not due:
            return 0
        write_messages(connection, rules, [(_kind(row), row) for row in due], now)
        again = [policy.next_telling(rules.config, row["told"] + 1, now) for row in due]
        fetch(connection, "note_telling", incident_ids=[row["id"] for row in due], tell_at=again)
        if any(row["kind"] == "failing" and not row["told"] for row in due):
            fetch(connection, "hold_new_causes", until=now + rules.config.window)
    return len(due)


def without_muted(
    connection: Connection[Any], rules: Rules, incidents: Iterable[Row], now: datetime
) -> tuple[list[Row], list[tuple[Row, datetime]]]:
    """Those that may be told of, and those that are muted, with the time to look at them again."""
    mutes = {row["what"]: row["until"] for row in fetch(connection, "alert_mutes")}
    told, muted = [], []
    for row in incidents:
        end = policy.muted_until(rules.config, mutes, row["tool_name"], row["fingerprint"], now)
        if end is None:
            told.append(row)
        else:
            muted.append((row, end))
    return told, muted


def write_messages(connection: Connection[Any], rules: Rules, told: Sequence[tuple[str, Row]], now: datetime) -> None:
    """Write a message for each target and kind, and note in the outbox which digest has which failure.

    What is urgent has a message of its own, since it does not wait for the end of quiet hours.
    """
    quiet = policy.quiet_until(rules.config, now, rules.zone)
    digests: dict[tuple[str, bool], list[Row]] = defaultdict(list)
    for kind, row in told:
        digests[kind, quiet > now and _is_urgent(rules, kind, row)].append(row)
    for (kind, urgent), rows in digests.items():
        key = f"{now:%Y-%m-%dT%H%M%SZ}-{kind.replace(' ', '-')}-{uuid.uuid4().hex[:12]}"
        incidents = _incidents(connection, kind, rows)
        by_target: dict[str, list[Incident]] = defaultdict(list)
        for incident in incidents:
            for target in dict.fromkeys(policy.targets_of(rules.config, incident.tool_name)):
                by_target[target].append(incident)
        for target, theirs in by_target.items():
            add_message(connection, rules, key, target, theirs, now, now if urgent else quiet)
        fetch(connection, "note_digest", incident_ids=[row["id"] for row in rows], digest=key)


def add_message(
    connection: Connection[Any],
    rules: Rules,
    key: str,
    target: str,
    incidents: Sequence[Incident],
    now: datetime,
    due: datetime,
) -> None:
    """Put one message into the queue of `target`, unless the same key is there."""
    message = alert_message(key, incidents, rules.links, rules.zone)
    fetch(
        connection,
        "add_message",
        key=message.key,
        target=target,
        kind=incidents[0].kind,
        subject=message.subject.replace("\0", "\u2400"),
        text=message.text.replace("\0", "\u2400"),
        now=now,
        due=due,
    )


def _kind(row: Row) -> str:
    return policy.message_kind(row["kind"], row["told"], is_run="Run" in row["facts"])


def _is_urgent(rules: Rules, kind: str, row: Row) -> bool:
    return kind in (policy.FIRST_SEEN, policy.RUN_FAILED) and policy.is_urgent(rules.config, row["tool_name"])


def _incidents(connection: Connection[Any], kind: str, rows: Sequence[Row]) -> list[Incident]:
    shown = [row["example"] for row in rows[:_MOST_EXAMPLES] if row["example"]]
    entries = {entry.operation_id: entry for entry in fetch_entries(connection, "entries_by_id", operation_ids=shown)}
    return [_incident(connection, kind, row, entries) for row in rows]


def _incident(connection: Connection[Any], kind: str, row: Row, entries: Mapping[str, LogEntry]) -> Incident:
    entry = entries.get(str(row["example"]))
    return Incident(
        kind=kind,
        fingerprint=row["fingerprint"],
        tool_name=row["tool_name"],
        operation=row["operation"],
        error=row["error_message"],
        count=row["happened"] if kind == policy.RESOLVED else row["untold"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        example=None if entry is None else Failure(entry, _success_before(connection, entry)),
        facts={"Incident": str(row["id"]), **row["facts"]},
    )


def _success_before(connection: Connection[Any], entry: LogEntry) -> LogEntry | None:
    found = fetch_entries(
        connection,
        "success_before",
        tool_name=entry.tool_name,
        operation=entry.operation,
        earlier_than=entry.timestamp,
    )
    return found[0] if found else None
