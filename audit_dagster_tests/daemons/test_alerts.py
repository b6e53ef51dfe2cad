"""The real daemon is killed while failures arrive, or its sensor has another name: nobody misses one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import psycopg
import pytest
import yaml

from audit_dagster.alert_service import alerts_due
from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect
from audit_dagster.store.query import append
from audit_dagster_tests.alerts.world import KEY_VARIABLE, Receiver, one, receiving
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.deploy.processes import daemon as hurried_daemon
from audit_dagster_tests.deploy.processes import kill, running, wait_until

pytestmark = pytest.mark.chaos  # its leases and runs last seconds, so that it has to be alone
Connection = psycopg.Connection[Any]
CHECKOUT = Path(__file__).parents[2]
RULES = "window: 1 s\nstill_failing: [1 s]\nslow: off\nsilent: off\n"
# The project's own definitions, in a hurry: a lease, and a run's longest time, of seconds where they are minutes.
HURRIED = """
from datetime import timedelta
from audit_dagster import alert_send
from audit_dagster.defs import sensors
alert_send._LEASE = timedelta(seconds=6)
sensors._LONGEST_RUN = timedelta(seconds=6)
sensors.failure_alerts_sensor._min_interval = sensors.failed_runs_sensor._min_interval = 1
from audit_dagster.definitions import defs
"""
BREAKING = f"""{HURRIED}
import dagster as dg

@dg.op
def breaks():
    raise OSError("no room on the disk")

@dg.job
def breaking_job():
    breaks()

@dg.sensor(job=breaking_job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def breaking_sensor():
    return dg.RunRequest(run_key="once")

defs = dg.Definitions.merge(defs, dg.Definitions(jobs=[breaking_job], sensors=[breaking_sensor]))
"""
RENAMED = """
import dagster as dg
from audit_dagster import definitions
from audit_dagster.defs import sensors
from audit_dagster.defs.jobs import failure_alerts_job

renamed = dg.sensor(
    name="tells_by_another_name", job=failure_alerts_job, minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)(sensors.failure_alerts_sensor._raw_fn)
ours = [definitions.defs]  # in a list, so that there is one Definitions in this file
others = [sensor for sensor in ours[0].sensors if sensor.name != "failure_alerts_sensor"]
defs = dg.Definitions(
    assets=ours[0].assets, asset_checks=ours[0].asset_checks, jobs=ours[0].jobs, sensors=[*others, renamed],
    resources=ours[0].resources, executor=ours[0].executor,
)
"""


@pytest.fixture
def receiver(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.setenv("AUDIT_ALERTS_FILE", str(tmp_path / "rules.yaml"))
    monkeypatch.setenv(KEY_VARIABLE, "key")
    with receiving() as made:
        monkeypatch.setenv("AUDIT_ALERT_URLS", made.url)
        yield made


class Daemon:
    """The project's dagster.yaml in a folder, and a file of definitions there."""

    def __init__(self, home: Path, receiver: Receiver, connection: Connection) -> None:
        self._home, self.receiver, self._connection = home, receiver, connection
        config = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())
        # The dead are ended by run monitoring only after a while, and would hold up the rest of this minute.
        config["concurrency"]["runs"]["max_concurrent_runs"] = 20
        config["run_queue"] = {"dequeue_interval_seconds": 1}
        (home / "dagster.yaml").write_text(yaml.safe_dump(config))

    @contextmanager
    def running(
        self, definitions: str, log_name: str = "daemon.log", round_seconds: float = 1
    ) -> Iterator[Popen[bytes]]:
        file, log = self._home / "alert_definitions.py", self._home / log_name
        file.write_text(definitions)
        place = {"DAGSTER_HOME": str(self._home), "PYTHONPATH": str(CHECKOUT)}
        with running(hurried_daemon(file, round_seconds), log, **place) as process:
            yield process

    def wait(self, true: Callable[[], object], what: str) -> None:
        wait_until(true, 60, what, self._home / "daemon.log")

    def is_all_told(self) -> bool:
        uncounted = one(self._connection, "SELECT count(*) FROM alert_outbox WHERE digest IS NULL OR sent_at IS NULL")
        return uncounted + one(self._connection, "SELECT count(*) FROM alert_messages WHERE sent_at IS NULL") == 0


@pytest.fixture
def daemon(tmp_path: Path, receiver: Receiver, connection: Connection) -> Daemon:
    return Daemon(tmp_path, receiver, connection)


class Failures:
    """They arrive, three a second, each with a cause of its own, until they are stopped."""

    def __init__(self, settings: Settings) -> None:
        self.causes: list[str] = []
        self._settings, self._stop = settings, threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def _go_on(self) -> None:
        with connect(self._settings) as connection:
            while not self._stop.wait(0.3):
                cause = "cause-" + "abcdefghij"[len(self.causes) // 10 % 10] + "abcdefghij"[len(self.causes) % 10]
                assert append(connection, [make_entry(success=False, operation=cause, error_message="no")]) == [
                    "stored"
                ]
                self.causes.append(cause)

    def __enter__(self) -> Failures:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def held(settings: Settings, table: str, mode: str) -> Iterator[Callable[[], bool]]:
    """Whoever asks for more of the table than `mode` lets pass waits; whether somebody does."""
    with connect(settings) as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
        waiting = "SELECT FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
        yield lambda: connection.execute(waiting, (table,)).fetchone() is not None


def kill_in_the_tick(daemon: Daemon, settings: Settings) -> None:
    with held(settings, "alert_targets", "ACCESS EXCLUSIVE") as is_stuck, daemon.running(HURRIED) as process:
        daemon.wait(is_stuck, "a tick that asks whether anything is due")
        ticks = "SELECT count(*) FROM dagster.job_ticks WHERE status = 'STARTED'"
        with connect(settings) as connection:
            assert one(connection, ticks) > 0
        kill(process)


def kill_in_the_run(daemon: Daemon, settings: Settings) -> None:
    with held(settings, "alert_messages", "EXCLUSIVE") as is_stuck, daemon.running(HURRIED) as process:
        daemon.wait(is_stuck, "a run that writes messages")
        kill(process)


def kill_while_sending(daemon: Daemon, settings: Settings) -> None:
    """The receiver has the message, and the sender never knows."""
    before = len(daemon.receiver.got)
    daemon.receiver.mode = "keep"
    with daemon.running(HURRIED) as process:
        daemon.wait(lambda: len(daemon.receiver.got) > before, "a message on its way")
        kill(process)
    daemon.receiver.mode = "take"


def test_killed_at_each_stage_while_failures_arrive(
    settings: Settings, connection: Connection, receiver: Receiver, daemon: Daemon
) -> None:
    with Failures(settings) as failures:
        for stage in (kill_in_the_tick, kill_in_the_run, kill_while_sending):
            daemon.wait(lambda: alerts_due(connection), "something to tell")
            stage(daemon, settings)
        told_before = len(receiver.got)
        with daemon.running(HURRIED):
            daemon.wait(lambda: len(receiver.got) > told_before + 1, "messages of the last daemon")
            failures.__exit__()
            daemon.wait(daemon.is_all_told, "the end of what was waiting")
    # The runs that died with their daemons are told, too.
    digests = {row[0] for row in connection.execute("SELECT DISTINCT digest FROM alert_outbox")}
    ours = [message for message in receiver.got if message["key"] in digests]
    others = {message["subject"] for message in receiver.got if message["key"] not in digests}
    assert all(subject.startswith("dagster failure_alerts_job ") for subject in others), others
    text = "".join(message["text"] for message in ours)
    assert len(failures.causes) > 30
    assert [cause for cause in failures.causes if cause not in text] == []
    counted = "SELECT sum(happened) FROM alert_incidents WHERE tool_name <> 'dagster'"
    assert one(connection, counted) == len(failures.causes)
    assert one(connection, "SELECT count(*) FROM alert_outbox") == len(failures.causes)
    assert digests == {message["key"] for message in ours}
    first: dict[str, int] = {}
    for message in ours:
        if message["key"] in first:
            assert message["attempt"] > first[message["key"]]
            assert message["subject"].startswith("May be a repeat: ")
        first.setdefault(message["key"], message["attempt"])
    assert len(ours) - len(first) == 1, "of three deaths only the one while sending is a repeat"


def test_two_daemons_by_mistake_tell_everybody_once(
    settings: Settings, connection: Connection, receiver: Receiver, daemon: Daemon, tmp_path: Path
) -> None:
    def are_both_at_work() -> bool:
        logs = [(tmp_path / name).read_text("utf-8", "replace") for name in ("daemon.log", "second.log")]
        return all(log.count("Checking for new runs for sensor: failure_alerts_sensor") > 1 for log in logs)

    # With rounds of one length one of them could always find the other's tick too fresh to look itself.
    with daemon.running(BREAKING), daemon.running(BREAKING, "second.log", round_seconds=1.7):
        with Failures(settings) as failures:
            daemon.wait(lambda: len(receiver.got) > 4 and are_both_at_work(), "ticks of both")
        daemon.wait(daemon.is_all_told, "the end of what was waiting")
        daemon.wait(lambda: "no room" in str(receiver.got) and daemon.is_all_told(), "the message about the run")
        time.sleep(5)  # more ticks of both
    assert len(receiver.keys) == len(set(receiver.keys))
    assert {message["attempt"] for message in receiver.got} == {1}
    text = "".join(message["text"] for message in receiver.got)
    assert [cause for cause in failures.causes if f" {cause} failed" not in text] == []
    counted = "SELECT sum(happened) FROM alert_incidents WHERE {} facts ? 'Run'"
    assert one(connection, counted.format("NOT")) == len(failures.causes) > 5
    failed_runs = one(connection, "SELECT count(*) FROM dagster.runs WHERE status = 'FAILURE'")
    assert one(connection, counted.format("")) == failed_runs > 0


def test_a_sensor_with_another_name_goes_on_where_the_first_ended(
    settings: Settings, connection: Connection, receiver: Receiver, daemon: Daemon
) -> None:
    def fail(cause: str) -> None:
        assert append(connection, [make_entry(success=False, operation=cause, error_message="no")]) == ["stored"]

    fail("before")
    with daemon.running(HURRIED):
        daemon.wait(lambda: receiver.got and daemon.is_all_told(), "the first message")
    fail("in-between")
    with daemon.running(RENAMED):
        daemon.wait(lambda: len(receiver.got) > 1 and daemon.is_all_told(), "the second message")
        fail("afterwards")
        daemon.wait(lambda: len(receiver.got) > 2 and daemon.is_all_told(), "the third message")
        time.sleep(6)  # one more tick
    told = [message["subject"] for message in receiver.got]
    assert told == [f"sensing-data {cause} failed: no" for cause in ("before", "in-between", "afterwards")]
    assert len(set(receiver.keys)) == 3
    assert [message["attempt"] for message in receiver.got] == [1, 1, 1]
    ticks = "".join(row[0] for row in connection.execute("SELECT tick_body FROM dagster.job_ticks"))
    assert '"failure_alerts_sensor"' in ticks and '"tells_by_another_name"' in ticks
