"""The outbox becomes incidents: failures of one cause are counted together."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_dagster.alerts.policy import is_urgent
from audit_dagster.failures import fingerprint
from audit_dagster.store.query import Row, fetch

if TYPE_CHECKING:
    from psycopg import Connection

    from audit_dagster.alerts.config import AlertConfig

_BATCH = 1000
_MOST_BATCHES = 20  # failures may come faster than they are counted: the next pass goes on


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


def _count(connection: Connection[Any], config: AlertConfig, batch: list[Row], now: datetime) -> None:
    by_cause: dict[str, list[Row]] = defaultdict(list)
    for row in batch:
        by_cause[fingerprint("failing", row["tool_name"], row["operation"], row["error_message"])].append(row)
    new_causes_at = fetch(connection, "alert_state", now=now)[0]["new_causes_at"]
    causes = [_cause(print_, rows, config, max(now, new_causes_at), now) for print_, rows in by_cause.items()]
    found = fetch(connection, "count_failures", causes=json.dumps(causes, default=str), now=now)
    incidents = {row["fingerprint"]: row["id"] for row in found}
    fetch(
        connection,
        "mark_alerts_counted",
        now=now,
        operation_ids=[row["operation_id"] for rows in by_cause.values() for row in rows],
        incident_ids=[incidents[print_] for print_, rows in by_cause.items() for _ in rows],
    )


def _cause(print_: str, rows: list[Row], config: AlertConfig, tell_at: datetime, now: datetime) -> Row:
    last = max(rows, key=lambda row: row["timestamp"])
    return {
        "fingerprint": print_,
        "tool_name": last["tool_name"],
        "operation": last["operation"],
        "error_message": last["error_message"],
        "example": last["operation_id"],
        "first_seen": min(row["timestamp"] for row in rows),
        "last_seen": last["timestamp"],
        "happened": len(rows),
        "tell_at": now if is_urgent(config, last["tool_name"]) else tell_at,
    }
