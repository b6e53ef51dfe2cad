"""Tells people once of what failed, fell silent or took too long: counts, writes messages, and sends them.

Each step is safe by itself, so whoever dies in between has lost nothing: failures are counted in one transaction with
the outbox, messages are written in one with the incidents, and a message is claimed before it is sent. At least once:
who dies between sending and marking leaves the claim to run out, and the repeat says that it may be one.
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_dagster.alert_fold import fold
from audit_dagster.alert_send import Clock, Sent, send
from audit_dagster.alert_settings import alert_config, heartbeat_url, links
from audit_dagster.alert_tell import Rules, add_message, tell
from audit_dagster.alert_watch import watch
from audit_dagster.alerts import policy
from audit_dagster.alerts.message import Incident
from audit_dagster.recording.redact import Redactor
from audit_dagster.store.query import fetch

if TYPE_CHECKING:
    from psycopg import Connection

    from audit_dagster.settings import Settings

__all__ = ["Pass", "Sent", "alerts_due", "queue_failed_check", "queue_run_failure", "send_alerts"]


class Pass(NamedTuple):
    """What one pass did: failures counted, incidents told of and resolved, attempts to send."""

    failures: int
    told: int
    resolved: int
    sent: list[Sent]
    heartbeat_error: str | None = None


def alerts_due(connection: Connection[Any], now: datetime | None = None) -> bool:
    """Whether a pass has anything to do: a few index probes, however many rows there are."""
    return bool(fetch(connection, "alerts_due", now=now)[0]["due"])


def send_alerts(connection: Connection[Any], settings: Settings, clock: Clock | None = None) -> Pass:
    """One pass: count failures, look at what else is worth telling, write messages, and send what is due.

    Raises ConfigurationError for rules or targets that cannot be used, DatabaseError where none answers.
    A target that fails raises nothing: its message stays, and its error is in the result.
    """
    clock = clock or (lambda: _server_time(connection))
    rules = _rules(connection, settings)
    now = clock()
    failures = fold(connection, rules.config, now)
    state = fetch(connection, "alert_state", now=now)[0]
    told = tell(connection, rules, now)
    resolved = 0
    if state["news"] or state["look_at"] <= now:
        resolved = watch(connection, rules, now)
        told += tell(connection, rules, now)
    sent = send(connection, rules.config.targets, clock)
    return Pass(failures, told, resolved, sent, _heartbeat(connection, settings, state["heart_beat_at"], clock()))


def queue_run_failure(
    connection: Connection[Any], settings: Settings, run_id: str, job_name: str, error: str, url: str | None
) -> None:
    """Write one message, for each target, about a failed run of the audit's own; the same run is told once."""
    _queue(connection, settings, policy.RUN_FAILED, f"run:{run_id}", job_name, error, _run(run_id, url))


def queue_failed_check(
    connection: Connection[Any], settings: Settings, check: str, asset: str, said: str, run_id: str, url: str | None
) -> None:
    """Write one message, for each target, about a check that failed.

    What it `said` is told once a day (of AUDIT_TIMEZONE), since a check fails again each hour until somebody mends it.
    """
    today = _server_time(connection).astimezone(settings.zone).date()
    what = hashlib.sha256(f"{asset}\0{check}\0{said}".encode(errors="replace")).hexdigest()[:12]
    facts = {"Asset": asset, **_run(run_id, url)}
    _queue(connection, settings, policy.CHECK_FAILED, f"check:{today}:{what}", check, said, facts)


def _run(run_id: str, url: str | None) -> dict[str, str]:
    return {"Run": run_id, **({"Link": url} if url else {})}


def _queue(
    connection: Connection[Any], settings: Settings, kind: str, key: str, what: str, error: str, facts: dict[str, str]
) -> None:
    rules = _rules(connection, settings)
    now = _server_time(connection)
    error = Redactor({**os.environ, **settings.given}).text(error)  # Dagster's words, which nobody has looked through
    incident = Incident(kind, key, "dagster", what, error, 1, now, now, None, facts)
    due = policy.quiet_until(rules.config, now, rules.zone)
    with connection.transaction():
        for target in rules.config.targets:
            add_message(connection, rules, key, target, [incident], now, due)


def _rules(connection: Connection[Any], settings: Settings) -> Rules:
    config = alert_config(settings)
    fetch(connection, "use_targets", names=list(config.targets))
    return Rules(config, links(settings), settings.zone)


def _server_time(connection: Connection[Any]) -> datetime:
    """The server's clock, which is the same for all who send."""
    now: datetime = fetch(connection, "alert_state", now=None)[0]["now"]
    return now


def _heartbeat(connection: Connection[Any], settings: Settings, last: datetime, now: datetime) -> str | None:
    """Call AUDIT_HEARTBEAT_URL once a day while messages get out; what went wrong."""
    url = heartbeat_url(settings)
    if not url or last > now - timedelta(days=1) or fetch(connection, "deliveries_stuck", now=now)[0]["stuck"]:
        return None
    from audit_dagster.alerts.delivery import DeliveryError
    from audit_dagster.alerts.heartbeat import beat

    try:
        beat(url)
    except DeliveryError as error:
        return str(error)
    fetch(connection, "beat_heart", now=now)
    return None
