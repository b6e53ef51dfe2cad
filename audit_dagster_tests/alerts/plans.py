"""What the queries of the alerts are given when their plans are looked at, and tables as after a year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

NOW = datetime(2024, 6, 30, 23, 59, tzinfo=UTC)
DAYS = [NOW - timedelta(days=back) for back in range(16)]
EXAMPLES: dict[str, Any] = {
    "now": NOW,
    "limit": 3,
    "target": "target-1",
    "lease": timedelta(minutes=5),
    "leased_until": NOW,
    "operation_ids": [UUID(int=number) for number in range(5)],
    "incident_ids": [1, 2, 3],
    "causes": "[]",
    "tell_at": [NOW] * 3,
    "digest": "key",
    "until": NOW,
    "kind": "slow",
    **dict.fromkeys(("key", "subject", "text", "error", "what"), "text"),
    **dict.fromkeys(("due", "retry_at", "earlier_than", "look_at", "quiet_since", "day_ago", "idle_since"), NOW),
    "names": [],
    "id": 1,
    "tool_name": "data-parser",
    "operation": "extract",
    "seen": NOW,
    "since_transaction": "1000000000",
    "open": "1",
    "newest_id": 1,
    "tool_names": ["data-parser"],
    "operations": ["extract"],
    "timestamps": [NOW],
    "fingerprint": "f",
    "facts": "{}",
    "example": None,
    "starts": DAYS[1:],
    "ends": DAYS[:-1],
    "everything": False,
    "run_id": "run",
}
NAMES = (
    *("alerts_due", "claim_alerts", "mark_alerts_counted", "count_failures", "alert_state", "incidents_to_tell"),
    *("note_telling", "put_off_telling", "note_digest", "add_message", "claim_target", "next_message"),
    *("mark_message_sent", "mark_message_failed", "success_before", "durations_before", "begin_look", "new_successes"),
    *("note_successes", "incidents_to_resolve", "resolve_incidents", "next_resolution", "days_of_tools"),
    *("deliveries_stuck", "targets_down", "alert_incidents", "acknowledge_incident", "incident_fingerprint"),
    *("claim_run", "failing_jobs"),
)
# They write one row, or all of a table that has a handful.
SMALL = {
    *("hold_new_causes", "use_targets", "end_look", "open_incident", "alert_mutes", "beat_heart", "mute", "unmute"),
    "look_soon",
}
ONE_ROW = {
    *("alerts_due", "alert_state", "begin_look", "end_look", "hold_new_causes", "beat_heart", "look_soon"),
    *("deliveries_stuck", "add_message", "use_targets", "open_incident", "mute", "claim_run"),
}


def fill(connection: psycopg.Connection[Any]) -> None:
    """Thousands of incidents that are over and messages that were sent, and a few that are not."""
    for statement in (
        "INSERT INTO alert_targets (name, in_use) SELECT 'target-' || n, true FROM generate_series(1, 3) AS n",
        "INSERT INTO alert_messages (key, target, kind, subject, text, created_at, due, sent_at)"
        " SELECT 'key' || n, 'target-' || 1 + n % 3, 'first seen', '', '', now(), now(),"
        " CASE WHEN n < 4990 THEN now() END FROM generate_series(1, 5000) AS n",
        "INSERT INTO alert_incidents (kind, fingerprint, tool_name, operation, first_seen, last_seen, happened, untold,"
        " tell_at, counted_at, resolved_at) SELECT 'failing', 'f' || n, 'tool', 'run', now(), now(), 1,"
        " (n > 4995)::int, now(), now(), CASE WHEN n < 4980 THEN now() END FROM generate_series(1, 5000) AS n",
        "UPDATE alert_outbox SET incident_id = 1, digest = 'key1' WHERE sent_at IS NOT NULL",
        "VACUUM ANALYZE",
    ):
        connection.execute(statement.encode())
