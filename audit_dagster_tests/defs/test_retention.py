"""Old runs go; what Dagster knows of the assets stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.runs.schema import RunsTable

from audit_dagster import dagster_home
from audit_dagster.definitions import defs
from audit_dagster.defs.retention import delete_old_runs
from audit_dagster.entry import LogEntry
from audit_dagster.errors import ConfigurationError
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
REPORT = dg.AssetKey("daily_report")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Where each run has a database of its own."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def run(instance: dg.DagsterInstance, job: str, day: str | None = None, age_days: int = 0) -> str:
    """Run it now, as if it was some days ago."""
    made = defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=_QUIET, partition_key=day, raise_on_error=False
    )
    _age(instance, made.run_id, age_days)
    return made.run_id


def _age(instance: dg.DagsterInstance, run_id: str, days: int) -> None:
    created = (datetime.now(UTC) - timedelta(days=days)).replace(tzinfo=None)
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(RunsTable.update().where(RunsTable.c.run_id == run_id).values(create_timestamp=created))


def left(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_what_was_made_again_later_goes(settings: Settings, store: Store, on_disk: dg.DagsterInstance) -> None:
    instance = on_disk
    store(make_entry())
    first = run(instance, "daily_documents_job", "2023-06-15", 300)
    again = run(instance, "daily_documents_job", "2023-06-15", 290)
    only = run(instance, "daily_documents_job", "2023-06-16", 280)
    young = run(instance, "daily_documents_job", "2023-06-16", 170)
    alerts = run(instance, "failure_alerts_job", age_days=200)
    young_alerts = run(instance, "failure_alerts_job", age_days=179)
    logs = Path(instance.storage_directory(), first)
    logs.mkdir(parents=True, exist_ok=True)
    versions = instance.get_latest_storage_id_by_partition(REPORT, dg.DagsterEventType.ASSET_MATERIALIZATION)
    cleaning = run(instance, "old_runs_job")
    assert left(instance) == {again, young, young_alerts, cleaning}
    assert {first, only, alerts}.isdisjoint(left(instance))
    assert not instance.all_logs(first)
    assert not logs.exists()
    said = [entry.user_message for entry in instance.all_logs(cleaning) if not entry.is_dagster_event]
    assert said == ["3 runs older than 180 days deleted, 1 kept: the newest of an asset is in them"]
    after = instance.get_latest_storage_id_by_partition(REPORT, dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert after == versions
    assert instance.get_materialized_partitions(REPORT) == {"2023-06-15", "2023-06-16"}


def test_a_month_later_nothing_more_goes(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    store(make_entry())
    kept = {run(instance, "daily_documents_job", f"2023-06-{day}", 300) for day in (14, 15, 16)}
    assert delete_old_runs(instance, datetime.now(UTC)) == (0, 3)
    assert left(instance) == kept


def test_how_far_the_log_was_seen_stays(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    """The versions of a day may be in a run far older than the memory, which is in the newest."""
    store(make_entry())
    versions = run(instance, "observe_audit_logs_job", age_days=300)
    between = [run(instance, "observe_audit_logs_job", age_days=days) for days in (290, 280, 270)]
    newest = run(instance, "observe_audit_logs_job", age_days=260)
    tools = [run(instance, "observe_tool_logs_job", age_days=days) for days in (290, 280)]
    assert delete_old_runs(instance, datetime.now(UTC) - timedelta(days=180)) == (4, 3)
    assert left(instance) == {versions, newest, tools[1]}
    assert not {*between, tools[0]} & left(instance)
    again = run(instance, "observe_audit_logs_job")
    said = [entry.user_message for entry in instance.all_logs(again) if not entry.is_dagster_event]
    assert said == ["0 days looked at, 0 of them have operations"]


def test_what_is_not_ours_or_has_not_ended_stays(settings: Settings, instance: dg.DagsterInstance) -> None:
    @dg.asset
    def theirs() -> None: ...

    other = dg.materialize([theirs], instance=instance, run_config=_QUIET).run_id
    _age(instance, other, 400)
    waiting = instance.create_run_for_job(defs.resolve_job_def("failure_alerts_job")).run_id
    _age(instance, waiting, 400)
    assert delete_old_runs(instance, datetime.now(UTC)) == (0, 0)
    assert left(instance) == {other, waiting}


def test_a_run_of_checks_alone_goes(settings: Settings, instance: dg.DagsterInstance) -> None:
    """As the UI starts one: no asset is selected."""

    def checked(asset: str) -> str:
        run = dg.DagsterRun(
            "__ASSET_JOB",
            status=dg.DagsterRunStatus.SUCCESS,
            asset_selection=frozenset(),
            asset_check_selection=frozenset({dg.AssetCheckKey(dg.AssetKey(asset), "script_is_sound")}),
        )
        return instance.run_storage.add_run(run).run_id

    checked("reproduction_script")
    theirs = checked("theirs")
    assert delete_old_runs(instance, datetime.now(UTC) + timedelta(days=1)) == (1, 0)
    assert left(instance) == {theirs}


def test_more_than_are_asked_for_at_once(
    settings: Settings,
    instance: dg.DagsterInstance,
) -> None:
    job = defs.resolve_job_def("failure_alerts_job")
    for _ in range(450):
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
    assert delete_old_runs(instance, datetime.now(UTC) + timedelta(days=1)) == (450, 0)
    assert not left(instance)


def test_on_postgres_with_the_projects_own_instance(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    store(make_entry())
    dagster_home.prepare(settings)
    with dg.DagsterInstance.get() as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds == 21_600
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 3  # type: ignore[union-attr]
        first = run(instance, "daily_documents_job", "2023-06-15", 300)
        second = run(instance, "daily_documents_job", "2023-06-15", 300)
        assert delete_old_runs(instance, datetime.now(UTC)) == (1, 1)
        assert left(instance) == {second} and first != second


def test_how_long_runs_are_kept() -> None:
    assert Settings.load({}).keep_runs_days == 180
    assert Settings.load({"AUDIT_KEEP_RUNS_DAYS": "30"}).keep_runs_days == 30
    with pytest.raises(ConfigurationError, match="AUDIT_KEEP_RUNS_DAYS is '0': set it to a number of days"):
        Settings.load({"AUDIT_KEEP_RUNS_DAYS": "0"})
