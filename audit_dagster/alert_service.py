"""Tells people of failures once: claims from the outbox, writes the message, and marks what was told.

At least once: who dies between writing and marking leaves the claim to run out, and the repeat says that it is one.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_dagster.alerts.digest import failure_digest
from audit_dagster.documents import write_document
from audit_dagster.settings import Settings
from audit_dagster.store.query import fetch, fetch_entries

if TYPE_CHECKING:
    from psycopg import Connection

_MOST_IN_ONE_MESSAGE = 100
_LEASE = timedelta(minutes=10)


def alerts_due(connection: Connection[Any]) -> bool:
    """Whether anybody has to be told of a failure now: one index probe, however many rows there are."""
    return bool(fetch(connection, "alerts_due")[0]["due"])


def send_failure_alerts(connection: Connection[Any], settings: Settings) -> list[tuple[Path, int]]:
    """Write a message to AUDIT_REPORTS_DIR/alerts for every hundred failures that are due: (path, failures) of each."""
    sent = []
    while claimed := fetch(connection, "claim_alerts", limit=_MOST_IN_ONE_MESSAGE, lease=_LEASE):
        ids = [row["operation_id"] for row in claimed]
        attempts = {str(row["operation_id"]): row["attempts"] for row in claimed}
        entries = fetch_entries(connection, "entries_by_id", operation_ids=ids)
        # Named by its first operation: a repeat replaces the message rather than adding one.
        name = f"{entries[0].timestamp:%Y-%m-%dT%H%M%SZ}-{entries[0].operation_id}.md"
        path = settings.reports_dir / "alerts" / name
        text = failure_digest(entries, attempts, settings.zone)
        write_document(path, text, len(entries), len(entries))
        fetch(connection, "mark_alerts_sent", operation_ids=ids)
        sent.append((path, len(entries)))
    return sent
