"""Tells people once of what failed, fell silent or took too long: counts, writes messages, and sends them.

Each step is safe by itself, so whoever dies in between has lost nothing: failures are counted in one transaction with
the outbox, messages are written in one with the incidents, and a message is claimed before it is sent. At least once:
who dies between sending and marking leaves the claim to run out, and the repeat says that it may be one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_dagster.alert_fold import RUNS, FailedRun, count_run, fold
from audit_dagster.alert_send import Clock, Sent, send
from audit_dagster.alert_settings import alert_config, default_config, heartbeat_url, links
from audit_dagster.alert_tell import Rules, add_message, tell
from audit_dagster.alert_watch import watch
from audit_dagster.alerts import policy
from audit_dagster.alerts.message import Incident
from audit_dagster.errors import ConfigurationError
from audit_dagster.recording.redact import Redactor
from audit_dagster.store.query import fetch

if TYPE_CHECKING:
    from psycopg import Connection

    from audit_dagster.settings import Settings

__all__ = [
    "Pass",
    "Sent",
    "alerts_due",
    "failing_jobs",
    "note_job_successes",
    "queue_failed_check",
    "queue_run_failure",
    "send_alerts",
]

_LONGEST_ERROR = 2000  # as of a tool's failure


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

    Raises DatabaseError where none answers. A target that fails raises nothing: its message stays, and its error is in
    the result. Nor do rules that cannot be read: the default ones hold, and one message a day says so.
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
    connection: Connection[Any],
    settings: Settings,
    run_id: str,
    job_name: str,
    error: str,
    url: str | None,
    failed_at: datetime | None = None,
) -> None:
    """Count a failed run of the audit's own in the incident of its cause; the same run is counted once."""
    now = _server_time(connection)
    words = _without_secrets(settings, error)[:_LONGEST_ERROR]
    run = FailedRun(run_id, job_name, words, failed_at or now, _run(run_id, url))
    count_run(connection, _rules(connection, settings).config, run, now)


def failing_jobs(connection: Connection[Any]) -> list[str]:
    """The jobs whose next success is worth a look, since a run of theirs failed."""
    return [row["job_name"] for row in fetch(connection, "failing_jobs")]


def note_job_successes(connection: Connection[Any], successes: Mapping[str, datetime]) -> None:
    """Note when the latest successful run of jobs started: what failed before it is over."""
    noted = fetch(
        connection,
        "note_successes",
        tool_names=[RUNS] * len(successes),
        operations=list(successes),
        timestamps=list(successes.values()),
    )
    if noted:
        fetch(connection, "look_soon")


def queue_failed_check(
    connection: Connection[Any], settings: Settings, check: str, asset: str, said: str, run_id: str, url: str | None
) -> None:
    """Write one message, for each target, about a check that failed.

    What it `said` is told once a day (of AUDIT_TIMEZONE), since a check fails again each hour until somebody mends it.
    """
    rules = _rules(connection, settings)
    key = _once_a_day(connection, settings, "check", asset, check, said)
    facts = {"Asset": asset, **_run(run_id, url)}
    _queue(connection, rules, key, RUNS, check, _without_secrets(settings, said), facts)


def _once_a_day(connection: Connection[Any], settings: Settings, what: str, *words: str) -> str:
    """The key of a message that has these words, the same until midnight in AUDIT_TIMEZONE."""
    today = _server_time(connection).astimezone(settings.zone).date()
    digest = hashlib.sha256("\0".join(words).encode(errors="replace")).hexdigest()
    return f"{what}:{today}:{digest[:12]}"


def _run(run_id: str, url: str | None) -> dict[str, str]:
    return {"Run": run_id, **({"Link": url} if url else {})}


def _queue(
    connection: Connection[Any], rules: Rules, key: str, who: str, what: str, error: str, facts: dict[str, str]
) -> None:
    now = _server_time(connection)
    incident = Incident(policy.CHECK_FAILED, key, who, what, error, 1, now, now, None, facts)
    due = policy.quiet_until(rules.config, now, rules.zone)
    with connection.transaction():
        for target in rules.config.targets:
            add_message(connection, rules, key, target, [incident], now, due)


def _without_secrets(settings: Settings, error: str) -> str:
    """Dagster's words, which nobody has looked through, as the database can keep them."""
    text = Redactor({**os.environ, **settings.given}).text(error)
    return text.replace("\0", "\u2400").encode("utf-8", "replace").decode()


def _rules(connection: Connection[Any], settings: Settings) -> Rules:
    """The rules of AUDIT_ALERTS_FILE; where it cannot be read, those that hold without it, and a message about that."""
    problem = None
    try:
        config = alert_config(settings)
    except ConfigurationError as error:
        config, problem = default_config(settings), str(error)
    fetch(connection, "use_targets", names=list(config.targets))
    rules = Rules(config, links(settings), settings.zone)
    if problem:
        key = _once_a_day(connection, settings, "rules", problem)
        facts = {"Until then": "the default rules hold, and messages go to AUDIT_ALERT_URLS and the folder of files"}
        _queue(connection, rules, key, "audit-dagster", "alerts", _without_secrets(settings, problem), facts)
    return rules


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
