"""Runs of Dagster's that fail are told like a tool's failures; none is lost, whatever else is out of order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.sensor import execute_sensor_iteration

from audit_dagster.alert_service import queue_failed_check, queue_run_failure, send_alerts
from audit_dagster.definitions import defs
from audit_dagster.entry import LogEntry
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store.connect import connect, open_connection
from audit_dagster_tests.alerts.world import HandClock, Receiver, one
from audit_dagster_tests.conftest import make_entry

Connection = psycopg.Connection[Any]
Store = Callable[..., list[LogEntry]]
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_WHAT_A_RUN_HAS = """run_id run_config status tags step_keys_to_execute root_run_id parent_run_id job_snapshot
execution_plan_snapshot parent_job_snapshot asset_selection asset_check_selection resolved_op_selection op_selection"""
BAD = "mute: [x]\nwindow: soon\n"
DEFINITIONS = """
import dagster as dg
from audit_dagster.defs import sensors
from audit_dagster.defs.resources import AuditResource

@dg.job
def tool_stats_job():
    pass

sensors.failed_runs_sensor._min_interval = 1
defs = dg.Definitions(jobs=[tool_stats_job], sensors=[sensors.failed_runs_sensor], resources={"audit": AuditResource()})
"""


def fail_runs(connection: Connection, *numbers: int, error: str = "OSError: disk {} is full at '/var/{}'") -> None:
    for number in numbers:
        words = error.format(number, number)
        queue_run_failure(connection, Settings.load(), f"run-{number}", "tool_stats_job", words, f"http://d/{number}")


def subjects(receiver: Receiver) -> list[str]:
    return [message["subject"] for message in receiver.got]


# ---- One incident, with all that follows ----


def test_thirty_failed_runs_are_one_message_and_end_with_a_success(connection: Connection, receiver: Receiver) -> None:
    clock = HandClock()

    def send(**later: float) -> None:
        clock.now = max(clock.now, datetime.now(UTC)) + timedelta(**later)
        send_alerts(connection, Settings.load(), clock)

    fail_runs(connection, *range(30))
    fail_runs(connection, *range(30))  # a tick that died is made again
    send()
    assert subjects(receiver) == ["dagster tool_stats_job run failed: OSError: disk 29 is full at '/var/29' (30 times)"]
    assert "<http://d/29>" in receiver.got[0]["text"]
    assert "daily/" not in receiver.got[0]["text"], "no report has it"
    fail_runs(connection, 30)
    send(hours=2)
    assert subjects(receiver)[1:] == ["dagster tool_stats_job still fails: OSError: disk 30 is full at '/var/30'"]
    with dg.DagsterInstance.ephemeral() as instance:
        watch_runs(instance, "0")
        send(minutes=20)
        assert len(receiver.got) == 2
        defs.resolve_job_def("failure_alerts_job").execute_in_process(run_config=_QUIET, instance=instance)
        watch_runs(instance, "0")
        assert len(receiver.got) == 2, "a success of another job ends nothing"
        succeed(instance)
        watch_runs(instance, "0")
    send(minutes=20)
    assert subjects(receiver)[2:] == ["dagster tool_stats_job works again after 31 failures"]


def test_rules_and_mutes_hold_for_runs_too(
    connection: Connection, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.yaml").write_text("routes: [{tools: dagster, targets: [file]}]\n")
    monkeypatch.setenv("AUDIT_ALERTS_FILE", str(tmp_path / "rules.yaml"))
    fail_runs(connection, 1)
    done = send_alerts(connection, Settings.load())
    assert [sent.target for sent in done.sent] == ["file"]
    (tmp_path / "rules.yaml").write_text("mute: [dagster]\n")
    fail_runs(connection, 2, error="another cause")
    later = datetime.now(UTC) + timedelta(minutes=30)
    assert send_alerts(connection, Settings.load(), lambda: later).told == 0
    assert receiver.got == []


def test_an_error_that_no_database_takes_is_made_storable(connection: Connection, receiver: Receiver) -> None:
    fail_runs(connection, 1, error="a \0 and \ud800" + "x" * 10_000)
    send_alerts(connection, Settings.load())
    assert "a ␀ and" in subjects(receiver)[0]


def succeed(instance: dg.DagsterInstance) -> None:
    @dg.job
    def tool_stats_job() -> None:
        """Nothing to do."""

    assert tool_stats_job.execute_in_process(run_config=_QUIET, instance=instance).success


def watch_runs(instance: dg.DagsterInstance, cursor: str | None) -> str | None:
    """One tick, without a daemon; the next cursor."""
    with dg.build_sensor_context(instance, cursor, resources=defs.resources, definitions=defs) as context:
        assert isinstance(defs.resolve_sensor_def("failed_runs_sensor")(context), dg.SkipReason)
        return context.cursor


def test_a_message_has_what_the_step_said_at_its_root(connection: Connection, receiver: Receiver) -> None:
    @dg.op
    def breaks() -> None:
        try:
            raise OSError("no room on the disk")
        except OSError as error:
            raise RuntimeError("cannot write") from error

    @dg.job
    def audits_own_job() -> None:
        breaks()

    with dg.DagsterInstance.ephemeral() as instance:
        run = audits_own_job.execute_in_process(instance=instance, raise_on_error=False, run_config=_QUIET)
        start = watch_runs(instance, None)
        assert watch_runs(instance, start) == start
        assert one(connection, "SELECT count(*) FROM alert_incidents") == 0, "what was before the sensor is history"
        watch_runs(instance, "0")
    send_alerts(connection, Settings.load())
    assert subjects(receiver) == ["dagster audits_own_job run failed: OSError: no room on the disk"]
    assert run.run_id in receiver.got[0]["text"]


# ---- In Dagster's own loop ----


class Loop:
    """Dagster's evaluation of sensors, as its daemon does it, with a storage that is not the audit's database."""

    def __init__(self, workspace: WorkspaceProcessContext) -> None:
        self._workspace, self.instance = workspace, workspace.instance
        context = workspace.create_request_context()
        (self._location,) = context.code_locations
        self._repository = self._location.get_repository("__repository__")
        self._sensor = self._repository.get_sensor("failed_runs_sensor")

    def fail_a_run(self) -> None:
        job = self._repository.get_full_job("tool_stats_job")
        nothing: dict[str, Any] = dict.fromkeys(_WHAT_A_RUN_HAS.split())
        origins = {"remote_job_origin": job.get_remote_origin(), "job_code_origin": job.get_python_origin()}
        graph = self._repository.asset_graph
        run = self.instance.create_run(**nothing, **origins, job_name="tool_stats_job", asset_graph=graph)
        self.instance.report_run_failed(run, "the disk is full")

    def tick(self) -> str:
        """How the tick ended."""
        time.sleep(1.1)  # the shortest interval that Dagster knows
        list(execute_sensor_iteration(self._workspace, logging.getLogger("quiet"), None, None))
        (tick,) = self.instance.get_ticks(self._sensor.get_remote_origin_id(), self._sensor.selector_id, limit=1)
        return tick.status.value


@pytest.fixture
def loop(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    (tmp_path / "rules.yaml").write_text("window: 5 m\n")
    monkeypatch.setenv("AUDIT_ALERTS_FILE", str(tmp_path / "rules.yaml"))
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    target = PythonFileTarget(str(tmp_path / "definitions.py"), None, str(Path(__file__).parents[2]), "ours")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, WorkspaceProcessContext(instance, target) as made:
        yield Loop(made)


def test_a_failed_run_is_told_though_the_database_was_away_and_the_rules_were_wrong(
    loop: Loop, receiver: Receiver, server: PostgresSettings, settings: Settings, tmp_path: Path
) -> None:
    assert settings.postgres is not None
    name = settings.postgres.db
    assert loop.tick() == "SKIPPED"  # from here on
    with open_connection(server) as other:
        other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            loop.fail_a_run()
            assert [loop.tick(), loop.tick()] == ["FAILURE", "FAILURE"]
        finally:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    (tmp_path / "rules.yaml").write_text(BAD)
    assert [loop.tick(), loop.tick()] == ["SKIPPED", "SKIPPED"]
    with connect(settings) as connection:
        for _ in range(2):
            send_alerts(connection, Settings.load())
    told = sorted(subjects(receiver))
    assert told[0].startswith("audit-dagster alerts check failed: rules.yaml line 2: window is 'soon': give a length")
    assert told[1:] == ["dagster tool_stats_job run failed: the disk is full"]
    assert len(receiver.got) == 2


def test_rules_that_cannot_be_read_silence_nobody(
    connection: Connection, receiver: Receiver, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.yaml").write_text(BAD)
    monkeypatch.setenv("AUDIT_ALERTS_FILE", str(tmp_path / "rules.yaml"))
    store(make_entry(success=False, error_message="broken"))
    for number in range(3):
        queue_failed_check(connection, Settings.load(), f"check_{number}", "daily_report", "wrong", "run", None)
        run = defs.resolve_job_def("failure_alerts_job").execute_in_process(run_config=_QUIET)
        assert run.success
    told = sorted(subjects(receiver))
    assert [subject for subject in told if "line 2" in subject] == told[:1]
    assert "sensing-data extract failed: broken" in told
    assert len(told) == 5
