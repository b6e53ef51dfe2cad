"""A run over many days: a bad day loses no other, the log says how far it is, an absent database is waited for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from audit_dagster.definitions import defs
from audit_dagster.defs import runs
from audit_dagster.defs.partitions import day_partitions
from audit_dagster.entry import LogEntry
from audit_dagster.errors import ConfigurationError
from audit_dagster.reports import daily
from audit_dagster.settings import Settings
from audit_dagster.store import embedded
from audit_dagster_tests.chaos.conftest import own_server
from audit_dagster_tests.chaos.world import wait_until
from audit_dagster_tests.conftest import make_entry

__all__ = ["own_server"]
Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
REPORT, SCRIPT = dg.AssetKey("daily_report"), dg.AssetKey("reproduction_script")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def backfill(
    instance: dg.DagsterInstance, first: str, last: str, only: dg.AssetKey | None = REPORT
) -> dg.ExecuteInProcessResult:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    job = defs.resolve_job_def("daily_documents_job")
    return job.execute_in_process(
        instance=instance,
        run_config=_QUIET,
        tags=tags,
        raise_on_error=False,
        asset_selection=[only] if only else None,
    )


def status(instance: dg.DagsterInstance, key: dg.AssetKey) -> tuple[set[str], set[str]]:
    """The partitions that Dagster shows as materialized, and those that it shows as failed."""
    cached = get_and_update_asset_status_cache_value(instance, key, day_partitions)
    assert cached
    materialized = cached.deserialize_materialized_partition_subsets(day_partitions)
    failed = cached.deserialize_failed_partition_subsets(day_partitions)
    return set(materialized.get_partition_keys()), set(failed.get_partition_keys())


def logged(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(run_id) if not entry.is_dagster_event]


def a_year(day: str = "2023-01-01") -> list[datetime]:
    return [datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC) + timedelta(days=n) for n in range(365)]


def test_two_bad_days_of_a_year(
    settings: Settings, store: Store, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(*(make_entry(timestamp=moment) for moment in a_year()))
    monkeypatch.setattr(runs, "_SECONDS_BETWEEN_TELLING", 0.05)
    blocked = settings.reports_dir / "daily" / "2023-06-15.md"
    blocked.mkdir(parents=True)
    (settings.reports_dir / "daily" / "2023-10-01.md").mkdir()
    result = backfill(instance, "2023-01-01", "2023-12-31")
    assert not result.success
    materialized, failed = status(instance, REPORT)
    assert len(materialized) == 363
    assert failed == {"2023-06-15", "2023-10-01"}
    (step,) = [event for event in result.all_events if event.is_step_failure]
    said = step.step_failure_data.user_failure_data
    assert said
    assert str(said.description).startswith(f"2 of 365 could not be made: 2023-06-15: cannot write {blocked}")
    progress = [line for line in logged(instance, result.run_id) if " of 365 partitions, " in line]
    assert len(progress) > 5
    shown = instance.get_latest_materialization_event(REPORT)
    assert shown
    assert shown.asset_materialization
    assert {"operations", "failed", "path", "document"} <= shown.asset_materialization.metadata.keys()
    blocked.rmdir()
    backfill(instance, "2023-06-15", "2023-06-15")
    assert status(instance, REPORT)[1] == {"2023-10-01"}


def test_a_bad_report_does_not_keep_the_scripts(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    store(*(make_entry(timestamp=moment) for moment in a_year()[:3]))
    (settings.reports_dir / "daily" / "2023-01-02.md").mkdir(parents=True)
    assert not backfill(instance, "2023-01-01", "2023-01-03", only=None).success
    assert status(instance, REPORT) == ({"2023-01-01", "2023-01-03"}, {"2023-01-02"})
    assert status(instance, SCRIPT) == ({"2023-01-01", "2023-01-02", "2023-01-03"}, set())


def test_a_day_that_cannot_be_rendered(
    settings: Settings, store: Store, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a row may hold that a report cannot take."""
    store(make_entry(tool_name="poison"), make_entry(timestamp=datetime(2023, 6, 16, tzinfo=UTC)))
    real = daily.operation_of

    def operation_of(entry: LogEntry, *rest: Any) -> Any:
        if entry.tool_name == "poison":
            raise ZeroDivisionError("half of nothing")
        return real(entry, *rest)

    monkeypatch.setattr(daily, "operation_of", operation_of)
    backfill(instance, "2023-06-14", "2023-06-16")
    assert status(instance, REPORT) == ({"2023-06-14", "2023-06-16"}, {"2023-06-15"})


def test_what_is_shown_of_a_year_is_bounded(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    store(*(make_entry(timestamp=moment, note="x" * 15_000) for moment in a_year()))
    result = backfill(instance, "2023-01-01", "2023-12-31")
    shown = [
        str(event.step_materialization_data.materialization.metadata["document"].value)
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == REPORT
    ]
    assert len(shown) == 365
    assert sum(map(len, shown)) < 4_100_000
    assert len((settings.reports_dir / "daily" / "2023-06-15.md").read_text()) > 15_000


def test_how_many_days_a_run_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load({"AUDIT_BACKFILL_DAYS_PER_RUN": "30"}).backfill_days_per_run == 30
    assert Settings.load({}).backfill_days_per_run is None
    for text in ("0", "-1", "a", "1.5", "100000", "²"):
        with pytest.raises(ConfigurationError, match="AUDIT_BACKFILL_DAYS_PER_RUN is"):
            Settings.load({"AUDIT_BACKFILL_DAYS_PER_RUN": text})


def test_a_server_that_is_stopped_and_comes_back(
    own_server: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by POSTGRES_*, so that nobody but this test starts it again."""
    place = embedded.use(own_server.state_dir)
    for name, value in place.as_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runs, "_FIRST_WAIT_SECONDS", 1)
    embedded.stop(own_server.state_dir)

    def tries(instance: dg.DagsterInstance) -> list[str]:
        retry = dg.DagsterEventType.STEP_UP_FOR_RETRY
        return [run.run_id for run in instance.get_runs() for _ in instance.all_logs(run.run_id, of_type=retry)]

    def start_again(instance: dg.DagsterInstance) -> None:
        wait_until(lambda: len(tries(instance)) > 1)
        embedded.use(own_server.state_dir)

    # Not in memory: two threads ask it.
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, ThreadPoolExecutor(1) as pool:
        started = pool.submit(start_again, instance)
        result = backfill(instance, "2023-06-01", "2023-06-30")
        started.result()
        assert len(tries(instance)) > 1
        assert result.success
        assert len(status(instance, REPORT)[0]) == 30


def test_an_input_error_is_not_tried_again(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    (settings.reports_dir / "daily" / "2023-06-15.md").mkdir(parents=True)
    result = backfill(instance, "2023-06-15", "2023-06-15")
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert not result.success


def test_a_wrong_password_is_not_tried_again(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setenv("POSTGRES_PASSWORD", "wrong")
    result = backfill(instance, "2023-06-15", "2023-06-15")
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert not result.success
