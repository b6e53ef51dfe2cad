"""What no failure announces: a cause that is gone, a run that took far too long, a tool that fell silent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from audit_dagster.alert_tell import Rules, without_muted, write_messages
from audit_dagster.alerts import policy
from audit_dagster.failures import fingerprint
from audit_dagster.render import seconds
from audit_dagster.reports.windows import day_window
from audit_dagster.store.query import Row, fetch, fetch_entries

if TYPE_CHECKING:
    from psycopg import Connection

_LONGEST_PAUSE = timedelta(hours=1)


def watch(connection: Connection[Any], rules: Rules, now: datetime) -> int:
    """Look at what was stored since the last look; how many incidents were resolved. One transaction, one at a time."""
    with connection.transaction():
        memory = fetch(connection, "begin_look")
        if not memory:
            return 0
        successes = fetch(connection, "new_successes", since_transaction=memory[0]["seen"], now=now)
        _note_successes(connection, successes)
        for row in successes:
            _look_at_slowest(connection, rules, row, now)
        if longest := policy.longest_silence(rules.config):
            _look_for_silence(connection, rules, longest, now)
        resolved = _resolve(connection, rules, now)
        fetch(
            connection,
            "end_look",
            open=memory[0]["open"],
            newest_id=memory[0]["newest_id"],
            now=now,
            look_at=_next_look(connection, rules, now),
        )
    return resolved


def _next_look(connection: Connection[Any], rules: Rules, now: datetime) -> datetime:
    """When the next incident may be over: not sooner than in a minute, nor later than in an hour."""
    waiting = fetch(connection, "next_resolution")
    ends: list[datetime] = [row["counted_at"] + _window(rules, row) for row in waiting]
    return min([now + _LONGEST_PAUSE, *(max(end, now + timedelta(minutes=1)) for end in ends)])


def _window(rules: Rules, row: Row) -> timedelta:
    return policy.rule_of(rules.config, row["tool_name"]).window


def _note_successes(connection: Connection[Any], successes: list[Row]) -> None:
    if successes:
        fetch(
            connection,
            "note_successes",
            tool_names=[row["tool_name"] for row in successes],
            operations=[row["operation"] for row in successes],
            timestamps=[row["last_success"] for row in successes],
        )


def _look_at_slowest(connection: Connection[Any], rules: Rules, row: Row, now: datetime) -> None:
    rule = policy.rule_of(rules.config, row["tool_name"]).slow
    if row["slowest"] is None or rule is None:
        return
    (entry,) = fetch_entries(connection, "entries_by_id", operation_ids=[row["slowest"]])
    taken = entry.duration_seconds or 0.0
    if taken <= rule.min_seconds:
        return
    before = fetch(
        connection,
        "durations_before",
        tool_name=entry.tool_name,
        operation=entry.operation,
        earlier_than=entry.timestamp,
        limit=rule.runs,
    )
    usual = policy.is_slow(rule, policy.Slow(taken, [earlier["duration_seconds"] for earlier in before]))
    if usual is not None:
        facts = {"Took": seconds(taken), "Usually at most": f"{seconds(usual)} (95 % of the last {len(before)})"}
        _open(connection, "slow", entry.tool_name, entry.operation, facts, entry.operation_id, entry.timestamp, now)


def _look_for_silence(connection: Connection[Any], rules: Rules, longest: int, now: datetime) -> None:
    today = now.astimezone(rules.zone).date()
    looked_at = policy.days_to_look_at(longest, today)
    windows = [day_window(day, rules.zone) for day in looked_at]
    found = fetch(
        connection,
        "days_of_tools",
        idle_since=windows[0].start,
        starts=[window.start for window in windows],
        ends=[window.end for window in windows],
    )
    for row in found:
        ran_on: list[date] = [looked_at[number - 1] for number in row["days"]]
        days = policy.rule_of(rules.config, row["tool_name"]).silent_days
        if days and policy.is_silent(days, ran_on, today):
            last = f"{row['last_run'].astimezone(rules.zone):%Y-%m-%d %H:%M:%S}"
            facts = {"Last run": last, "Before that": f"it ran on each of {days} days"}
            _open(connection, "silent", row["tool_name"], "", facts, None, row["last_run"], now)


def _open(
    connection: Connection[Any],
    kind: str,
    tool_name: str,
    operation: str,
    facts: Mapping[str, str],
    example: str | None,
    seen: datetime,
    now: datetime,
) -> None:
    fetch(
        connection,
        "open_incident",
        kind=kind,
        fingerprint=fingerprint(kind, tool_name, operation),
        tool_name=tool_name,
        operation=operation,
        facts=json.dumps(facts),
        example=example,
        seen=seen,
        now=now,
    )


def _resolve(connection: Connection[Any], rules: Rules, now: datetime) -> int:
    """Whoever was told of an incident is told that it is over, but for slow runs, which are over by nature."""
    found = fetch(
        connection,
        "incidents_to_resolve",
        quiet_since=now - policy.shortest_window(rules.config),
        day_ago=now - timedelta(days=1),
    )
    over = [row for row in found if row["counted_at"] <= now - _window(rules, row)]
    told, muted = without_muted(connection, rules, over, now)
    # What nobody knows of yet is told first, and resolved by a later look.
    known = [row for row in told if row["told"] or row["acknowledged"]]
    news = [(policy.RESOLVED, row) for row in known if row["kind"] != "slow" and row["told"]]
    if news:
        write_messages(connection, rules, news, now)
    resolved = [row["id"] for row in known] + [row["id"] for row, _ in muted]
    if resolved:
        fetch(connection, "resolve_incidents", incident_ids=resolved, now=now)
    return len(resolved)
