"""The outbox becomes incidents: failures of one cause are counted together."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_dagster.alerts.policy import is_urgent, rule_of
from audit_dagster.failures import fingerprint
from audit_dagster.store.query import Row, fetch

if TYPE_CHECKING:
    from psycopg import Connection

    from audit_dagster.alerts.config import AlertConfig

_BATCH = 1000
_MOST_BATCHES = 20  # failures may come faster than they are counted: the next pass goes on
RUNS = "dagster"  # the name by which rules, mutes and messages know the runs of Dagster's


class FailedRun(NamedTuple):
    """A failed run of Dagster's; `facts` are lines of its message: name, value."""

    run_id: str
    job_name: str
    error: str
    failed_at: datetime
    facts: Mapping[str, str]


def fold(connection: Connection[Any], config: AlertConfig, now: datetime) -> int:
    """Count what waits in the outbox; how many failures that were. Each batch is one transaction, whole or not at all.

    The outbox and the incidents change together, so whoever dies has counted a batch once or not.
    """
    counted = 0
    for _ in range(_MOST_BATCHES):
        with connection.transaction():
            batch = fetch(connection, "claim_alerts", now=now, limit=_BATCH)
            if batch:
                _count(connection, config, batch, now)
        counted += len(batch)
        if len(batch) < _BATCH:
            break
    return counted


def count_run(connection: Connection[Any], config: AlertConfig, run: FailedRun, now: datetime) -> None:
    """Count a failed run like the failure of a tool, unless it was counted before. One transaction."""
    failure = {
        "tool_name": RUNS,
        "operation": run.job_name,
        "error_message": run.error,
        "facts": run.facts,
        "operation_id": None,
        "timestamp": run.failed_at,
    }
    with connection.transaction():
        if fetch(connection, "claim_run", run_id=run.run_id, now=now):
            _count_causes(connection, config, {fingerprint("run", RUNS, run.job_name, run.error): [failure]}, now)


def _count(connection: Connection[Any], config: AlertConfig, batch: list[Row], now: datetime) -> None:
    by_cause: dict[str, list[Row]] = defaultdict(list)
    for row in batch:
        by_cause[fingerprint("failing", row["tool_name"], row["operation"], row["error_message"])].append(row)
    incidents = _count_causes(connection, config, by_cause, now)
    fetch(
        connection,
        "mark_alerts_counted",
        now=now,
        operation_ids=[row["operation_id"] for rows in by_cause.values() for row in rows],
        incident_ids=[incidents[print_] for print_, rows in by_cause.items() for _ in rows],
    )


def _count_causes(
    connection: Connection[Any], config: AlertConfig, by_cause: Mapping[str, list[Row]], now: datetime
) -> dict[str, int]:
    """Add failures to the incidents of their causes, by fingerprint; the ids of these."""
    new_causes_at = fetch(connection, "alert_state", now=now)[0]["new_causes_at"]
    # It was set with the window of most tools.
    told_at = new_causes_at - config.window
    causes = [_cause(print_, rows, config, told_at, now) for print_, rows in by_cause.items()]
    found = fetch(connection, "count_failures", causes=json.dumps(causes, default=str), now=now)
    return {row["fingerprint"]: row["id"] for row in found}


def _cause(print_: str, rows: list[Row], config: AlertConfig, told_at: datetime, now: datetime) -> Row:
    """What is counted; `told_at` is when new causes were told of last."""
    last = max(rows, key=lambda row: row["timestamp"])
    tell_at = max(now, told_at + rule_of(config, last["tool_name"]).window)
    return {
        "fingerprint": print_,
        "tool_name": last["tool_name"],
        "operation": last["operation"],
        "error_message": last["error_message"],
        "facts": last.get("facts", {}),
        "example": last["operation_id"],
        "first_seen": min(row["timestamp"] for row in rows),
        "last_seen": last["timestamp"],
        "happened": len(rows),
        "tell_at": now if is_urgent(config, last["tool_name"]) else tell_at,
    }
