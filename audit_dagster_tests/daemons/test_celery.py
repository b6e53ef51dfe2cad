"""deploy/celery, run for real: a backfill on two workers, one of which dies."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest
import yaml
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import unpack_value

from audit_dagster import dagster_home
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.deploy.processes import DEPLOY, PROJECT, free_port, kill, running, wait_until

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on PATH")
DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(60)]
DAYS_PER_RUN = 5
LOST_AFTER_SECONDS = 60
_GATE = """
CREATE FUNCTION dagster.wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
CREATE TRIGGER gate BEFORE INSERT ON dagster.event_logs FOR EACH ROW
WHEN (NEW.dagster_event_type = 'ASSET_MATERIALIZATION') EXECUTE FUNCTION dagster.wait_at_the_gate()"""
_WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE datname = current_database() AND locktype = 'advisory' AND objid = 1 AND NOT granted"""
Connection = psycopg.Connection[Any]
Store = Callable[..., list[LogEntry]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """Debian's Redis, with nothing kept."""
    log, port = tmp_path / "redis.log", free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with running(command, log):
        wait_until(lambda: b"Ready to accept connections" in log.read_bytes(), 10, "Redis", log)
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def instance(settings: Settings, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The project's dagster.yaml, and in the environment what deploy/celery asks for."""
    monkeypatch.setenv("AUDIT_EXECUTOR", "celery")
    monkeypatch.setenv("AUDIT_CELERY_URL", broker)
    monkeypatch.setenv("AUDIT_START_DATE", str(DAYS[0]))
    monkeypatch.setenv("AUDIT_BACKFILL_DAYS_PER_RUN", str(DAYS_PER_RUN))
    monkeypatch.setenv("DAGSTER_HOME", "")
    dagster_home.prepare(Settings.load())
    with dg.DagsterInstance.get() as opened:
        yield opened


def test_a_backfill_outlives_a_worker(
    settings: Settings, store: Store, connection: Connection, instance: dg.DagsterInstance, broker: str, tmp_path: Path
) -> None:
    """60 days in 12 runs on two workers, one killed with a step in its hands: each day is made, and made once."""
    store(*(make_entry(timestamp=_noon(day), success=True) for day in DAYS for _ in range(3)))
    workers = _Workers(broker)
    with workers.start("first", tmp_path) as first, workers.start("second", tmp_path), _daemon(tmp_path) as log:
        logs = (log, tmp_path / "first.log", tmp_path / "second.log")
        wait_until(lambda: len(workers.present()) == 2, 60, "two workers", *logs)
        backfill_id = _request_backfill(instance)
        wait_until(lambda: len(_made(instance, backfill_id)) > 10, 180, "the first days", *logs)
        lost_run = _kill_with_a_step_in_hand(first, workers, connection)
        assert len(_made(instance, backfill_id)) < len(DAYS)
        wait_until(lambda: _status(instance, backfill_id) not in _UNDER_WAY, 400, "the end of the backfill", *logs)
    assert _status(instance, backfill_id) is BulkActionStatus.COMPLETED_SUCCESS
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id}))
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS} and len(runs) == len(DAYS) // DAYS_PER_RUN
    assert workers.of(instance, lost_run)[-1].startswith("second@")
    assert {name.split("@")[0] for run in runs for name in workers.of(instance, run.run_id)} == {"first", "second"}
    assert all(_checked(instance, run.run_id) for run in runs)
    _look_at_what_was_made(settings, instance, backfill_id, lost_run)


def _look_at_what_was_made(settings: Settings, instance: dg.DagsterInstance, backfill_id: str, lost_run: str) -> None:
    made = _made(instance, backfill_id)
    assert {day for day, _ in made} == {str(day) for day in DAYS}
    repeated = {day for day, count in Counter(day for day, _ in made).items() if count > 1}
    assert repeated <= {day for day, run_id in made if run_id == lost_run}, "only what was in the dead worker's hands"
    written = sorted((settings.reports_dir / "daily").iterdir())
    assert [path.name for path in written] == [f"{day}.{ending}" for day in DAYS for ending in ("html", "json", "md")]
    reports = written[2::3]
    assert all(path.read_text("utf-8").count("<!-- audit-entry") == 3 for path in reports)


class _Workers:
    """Two of them, with deploy/celery's configuration; but who dies is missed within seconds."""

    def __init__(self, broker: str) -> None:
        from dagster_celery.make_app import make_app

        self._app = make_app({"broker": broker, "backend": broker})

    @contextlib.contextmanager
    def start(self, name: str, folder: Path) -> Iterator[Popen[bytes]]:
        config = yaml.safe_load((DEPLOY / "celery" / "celery.yaml").read_text("utf-8"))
        source = config["execution"]["config"]["config_source"]
        source["worker_concurrency"] = 1
        source["broker_transport_options"] |= {
            "visibility_timeout": LOST_AFTER_SECONDS,
            "unacked_restore_interval": 1,
        }
        (folder / "celery.yaml").write_text(yaml.safe_dump(config), "utf-8")
        command = ["dagster-celery", "worker", "start", "-A", "dagster_celery.app", "-y", str(folder / "celery.yaml")]
        with running([*command, "-n", name], folder / f"{name}.log") as process:
            yield process

    def present(self) -> list[str]:
        """The names of those who answer."""
        return [name for answer in self._app.control.ping(timeout=1) for name in answer]

    def in_hand(self, name: str) -> list[str]:
        """The runs that this worker has a step of."""
        active = self._app.control.inspect(timeout=0.5).active() or {}
        tasks = [task for worker, tasks in active.items() if worker.startswith(f"{name}@") for task in tasks]
        return [unpack_value(task["kwargs"]["execute_step_args_packed"], ExecuteStepArgs).run_id for task in tasks]

    def of(self, instance: dg.DagsterInstance, run_id: str) -> list[str]:
        """Which workers began this run's steps, in order."""
        events = [record.event_log_entry.dagster_event for record in instance.get_records_for_run(run_id).records]
        data = [event.engine_event_data.metadata for event in events if event and event.is_engine_event]
        return [str(found["Celery worker"].value) for found in data if "Celery worker" in found]


def _kill_with_a_step_in_hand(worker: Popen[bytes], workers: _Workers, connection: Connection) -> str:
    """Hold up whoever reports a document that it wrote; kill the worker that does. Returns the step's run."""
    connection.execute(_GATE)
    connection.execute("SELECT pg_advisory_lock(1)")

    def both_wait() -> bool:
        waiting = connection.execute(_WAITING).fetchone()
        return waiting == (2,)

    wait_until(both_wait, LOST_AFTER_SECONDS / 2, "both workers at the gate")
    [lost_run] = workers.in_hand("first")
    kill(worker)
    connection.execute("SELECT pg_advisory_unlock(1)")
    return lost_run


@contextlib.contextmanager
def _daemon(folder: Path) -> Iterator[Path]:
    log = folder / "daemon.log"
    with running(["dagster-daemon", "run", "-w", str(PROJECT / "workspace.yaml")], log, PYTHONPATH=str(PROJECT)):
        yield log


def _request_backfill(instance: dg.DagsterInstance) -> str:
    """What the UI's button does."""
    from audit_dagster.definitions import defs

    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=uuid4().hex[:8],
        asset_graph=defs.resolve_asset_graph(),
        partition_names=[str(day) for day in DAYS],
        asset_selection=[dg.AssetKey("daily_report")],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


_UNDER_WAY = {BulkActionStatus.REQUESTED}


def _status(instance: dg.DagsterInstance, backfill_id: str) -> BulkActionStatus:
    found = instance.get_backfill(backfill_id)
    assert found
    return found.status


def _made(instance: dg.DagsterInstance, backfill_id: str) -> list[tuple[str, str]]:
    """Day and run of each materialization that this backfill caused."""
    runs = {run.run_id for run in instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id}))}
    records = instance.fetch_materializations(dg.AssetKey("daily_report"), limit=1000).records
    return [(str(record.partition_key), record.run_id) for record in records if record.run_id in runs]


def _checked(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the run's reports were compared with the database, and found to be true."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    return bool(events) and all(event.asset_check_evaluation_data.passed for event in events if event)


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo("UTC"))
