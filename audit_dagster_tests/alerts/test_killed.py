"""Whoever sends is killed at each step, or there are two of them: nothing is missed, and what is repeated says so."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from audit_dagster.alert_service import alerts_due, send_alerts
from audit_dagster.definitions import defs
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings
from audit_dagster.store.query import append
from audit_dagster_tests.alerts.sender import STEPS
from audit_dagster_tests.alerts.world import KEY_VARIABLE, Receiver, one, receiving
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
SENDER = (sys.executable, str(Path(__file__).with_name("sender.py")))
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
LEASE = timedelta(minutes=6)


@pytest.fixture
def receiver(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}")
    with receiving() as made:
        # Named first, so that the folder of files is not what the sender died at.
        monkeypatch.setenv("AUDIT_ALERT_URLS", made.url)
        monkeypatch.setenv(KEY_VARIABLE, "key")
        yield made


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(connection: Connection, receiver: Receiver, store: Store, step: str) -> None:
    store(*(make_entry(success=False, error_message=f"no station {number}") for number in range(5)))
    done = subprocess.run([*SENDER, "once", step], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr

    later = datetime.now(UTC) + LEASE
    assert alerts_due(connection, later) or step == "after-marking"
    send_alerts(connection, Settings.load(), lambda: later)
    attempts = [message["attempt"] for message in receiver.got]
    assert len(set(receiver.keys)) == 1
    expected = {"between-sending-and-marking": [1, 2], "before-sending": [2]}.get(step, [1])
    assert attempts == expected, "sent again only where it was sent, and then it says so"
    assert one(connection, "SELECT count(*) FROM alert_outbox WHERE digest IS NULL") == 0
    assert one(connection, "SELECT sum(happened) FROM alert_incidents") == 5
    assert one(connection, "SELECT count(*) FROM alert_messages WHERE sent_at IS NULL") == 0


def test_two_processes_send_each_message_once(connection: Connection, receiver: Receiver, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    senders = [subprocess.Popen([*SENDER, "until", str(stop)]) for _ in range(2)]
    settings = Settings.load()
    told = 0
    try:
        for number in range(60):
            failed = {"success": False, "error_message": "broken", "tool_name": f"tool-{'x' * number}"}
            append(connection, [make_entry(**failed) for _ in range(20)])
            connection.execute("UPDATE alert_state SET new_causes_at = 'epoch'")  # as if ten minutes had passed
            told += send_alerts(connection, settings).told
    finally:
        stop.touch()
        assert [sender.wait(timeout=30) for sender in senders] == [0, 0]
    later = datetime.now(UTC) + timedelta(hours=2)
    for _ in range(2):
        send_alerts(connection, settings, lambda: later)
    assert (
        len(receiver.keys)
        == len(set(receiver.keys))
        == one(connection, "SELECT count(DISTINCT digest) FROM alert_outbox")
    )
    assert {message["attempt"] for message in receiver.got} == {1}
    assert told < 60, "the others had their share"
    assert one(connection, "SELECT sum(happened) FROM alert_incidents") == 1200
    assert one(connection, "SELECT count(*) FROM alert_outbox WHERE digest IS NULL") == 0


def test_a_renamed_sensor_and_a_wiped_history_tell_nobody_again(
    connection: Connection, receiver: Receiver, store: Store
) -> None:
    store(make_entry(success=False))
    sensor = defs.resolve_sensor_def("failure_alerts_sensor")
    renamed = sensor.with_attributes(metadata={"renamed": "yes"})
    asked = []
    for watcher in (sensor, renamed, sensor):
        with dg.DagsterInstance.ephemeral() as instance:  # with no run in its history
            with dg.build_sensor_context(instance=instance, resources=defs.resources) as context:
                asked.append(isinstance(watcher(context), dg.RunRequest))
            defs.resolve_job_def("failure_alerts_job").execute_in_process(run_config=_QUIET, instance=instance)
    assert asked == [True, False, False]
    assert len(receiver.got) == 1
