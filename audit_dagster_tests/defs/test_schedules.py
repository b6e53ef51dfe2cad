"""When documents are made, and that missed ticks are made up for."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time, instance_for_test
from dagster._core.workspace.load_target import ModuleTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from audit_dagster.definitions import defs
from audit_dagster.defs import schedules
from audit_dagster.entry import LogEntry
from audit_dagster.errors import ConfigurationError
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
_CRON = """
from audit_dagster.definitions import defs
for schedule in defs.schedules:
    print(schedule.name, schedule.cron_schedule, schedule.execution_timezone)
"""
_DAY = timedelta(days=1)
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def tick(instance: dg.DagsterInstance, name: str, when: datetime) -> list[Any]:
    """What a tick at that time asks for: keys, or (first, last)."""
    schedule = defs.resolve_schedule_def(name)
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=when,
        repository_def=defs.get_repository_def(),
        resources=defs.resources,
    ) as context:
        requests = schedule.evaluate_tick(context).run_requests or []
    return [request.partition_key or tuple(request.tags[name] for name in _RANGE) for request in requests]


def report_made(instance: dg.DagsterInstance, keys: list[str], *assets: str) -> None:
    for asset in assets:
        for key in keys:
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))


def run_range(instance: dg.DagsterInstance, job: str, first: str, last: str) -> None:
    defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=_QUIET, tags=dict(zip(_RANGE, (first, last), strict=True)), raise_on_error=False
    )


def test_every_day_is_made_once_though_nothing_ran_on_it(settings: Settings, instance: dg.DagsterInstance) -> None:
    assert tick(instance, "daily_documents_schedule", datetime(2023, 6, 16, 0, 15, tzinfo=UTC)) == ["2023-06-15"]
    report_made(instance, ["2023-06-15"], "daily_report", "reproduction_script")
    assert tick(instance, "daily_documents_schedule", datetime(2023, 6, 16, 0, 15, tzinfo=UTC)) == []
    assert tick(instance, "daily_documents_schedule", datetime(2023, 6, 17, 0, 15, tzinfo=UTC)) == ["2023-06-16"]


@pytest.mark.parametrize("nights", [2, 30, 400])
def test_missed_days_are_one_run(settings: Settings, instance: dg.DagsterInstance, nights: int) -> None:
    """However long the daemon was down: Dagster runs the last missed tick, which asks for all days since."""
    report_made(instance, ["2023-06-14"], "daily_report", "reproduction_script")
    when = datetime(2023, 6, 15, 0, 15, tzinfo=UTC) + nights * _DAY
    last = str((when - _DAY).date())
    assert tick(instance, "daily_documents_schedule", when) == [("2023-06-15", last)]


def test_a_day_of_which_one_document_is_missing(settings: Settings, instance: dg.DagsterInstance) -> None:
    report_made(instance, ["2023-06-14"], "daily_report", "reproduction_script")
    report_made(instance, ["2023-06-15"], "daily_report")
    when = datetime(2023, 6, 17, 0, 15, tzinfo=UTC)
    assert tick(instance, "daily_documents_schedule", when) == [("2023-06-15", "2023-06-16")]


def test_missed_weeks(settings: Settings, instance: dg.DagsterInstance) -> None:
    monday = datetime(2023, 6, 19, 0, 30, tzinfo=UTC)
    assert tick(instance, "weekly_summary_schedule", monday) == ["2023-06-12"]
    report_made(instance, ["2023-05-29"], "weekly_summary")
    assert tick(instance, "weekly_summary_schedule", monday) == [("2023-06-05", "2023-06-12")]


def test_each_tool_that_ran_in_a_week(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    """Tools that did not run have no report; those that late rows made already are not made again."""
    first, second = datetime(2023, 6, 7, tzinfo=UTC), datetime(2023, 6, 14, tzinfo=UTC)
    store(*(make_entry(timestamp=first, tool_name=tool) for tool in ("retired", "extract")))
    store(*(make_entry(timestamp=second, tool_name=tool) for tool in ("extract", "A/b", "plot")))
    mondays = [datetime(2023, 6, day, 0, 30, tzinfo=UTC) for day in (12, 19)]
    made = ["extract|2023-06-05", "retired|2023-06-05"]
    assert tick(instance, "tool_stats_schedule", mondays[0]) == made
    report_made(instance, [*made, "plot|2023-06-12"], "tool_stats")
    assert tick(instance, "tool_stats_schedule", mondays[1]) == ["extract|2023-06-12", "~41~2fb|2023-06-12"]
    assert {"extract", "~41~2fb", "plot"} <= set(instance.get_dynamic_partitions("tools"))


def test_the_tools_of_a_missed_week(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    report_made(instance, ["extract|2023-05-29"], "tool_stats")
    store(*(make_entry(timestamp=datetime(2023, 6, day, tzinfo=UTC), tool_name="extract") for day in (7, 14)))
    asked = tick(instance, "tool_stats_schedule", datetime(2023, 6, 19, 0, 30, tzinfo=UTC))
    assert asked == [("extract|2023-06-05", "extract|2023-06-12")]


def test_what_lies_before_the_newest_that_was_made(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Ten nights down, one recent day made by hand: the others are made too, in runs no longer than a backfill's."""
    report_made(instance, ["2026-11-01", "2026-11-10"], "daily_report", "reproduction_script")
    report_made(instance, ["2026-10-12", "2026-11-02"], "weekly_summary")
    when = datetime(2026, 11, 12, 0, 15, tzinfo=UTC)
    assert tick(instance, "daily_documents_schedule", when) == [("2026-11-02", "2026-11-09"), "2026-11-11"]
    assert tick(instance, "weekly_summary_schedule", when) == [("2026-10-19", "2026-10-26")]


def test_a_long_gap_is_made_as_a_backfill(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "_settings", Settings.load({"AUDIT_BACKFILL_DAYS_PER_RUN": "4"}))
    report_made(instance, ["2026-11-01", "2026-11-08"], "daily_report", "reproduction_script")
    assert tick(instance, "daily_documents_schedule", datetime(2026, 11, 10, 0, 15, tzinfo=UTC)) == [
        ("2026-11-02", "2026-11-05"),
        ("2026-11-06", "2026-11-07"),
        "2026-11-09",
    ]


def test_a_day_that_cannot_be_made_is_not_tried_each_night(settings: Settings, instance: dg.DagsterInstance) -> None:
    (settings.reports_dir / "daily" / "2023-06-15.md").mkdir(parents=True)
    report_made(instance, ["2023-06-13"], "daily_report", "reproduction_script")
    ticks = [datetime(2023, 6, day, 0, 15, tzinfo=UTC) for day in (16, 17, 18)]
    assert tick(instance, "daily_documents_schedule", ticks[0]) == [("2023-06-14", "2023-06-15")]
    run_range(instance, "daily_documents_job", "2023-06-14", "2023-06-15")
    assert tick(instance, "daily_documents_schedule", ticks[1]) == [("2023-06-15", "2023-06-16")], (
        "no later one is made"
    )
    run_range(instance, "daily_documents_job", "2023-06-15", "2023-06-16")
    assert tick(instance, "daily_documents_schedule", ticks[2]) == ["2023-06-17"]


def test_a_tool_whose_week_failed(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    """Another tool's week, which was made, says nothing of it; its own later one does."""
    weeks = [datetime(2026, 11, day, tzinfo=UTC) for day in (2, 9, 16)]
    store(*(make_entry(timestamp=week, tool_name=tool) for week in weeks for tool in ("aa", "bb")))
    broken = settings.reports_dir / "tools" / "bb"
    broken.parent.mkdir(parents=True)
    broken.write_text("")
    instance.add_dynamic_partitions("tools", ["aa", "bb"])
    for tool in ("aa", "bb"):
        run_range(instance, "tool_stats_job", f"{tool}|2026-11-02", f"{tool}|2026-11-02")
    assert instance.get_materialized_partitions(dg.AssetKey("tool_stats")) == {"aa|2026-11-02"}
    asked = tick(instance, "tool_stats_schedule", datetime(2026, 11, 16, 0, 30, tzinfo=UTC))
    assert asked == ["aa|2026-11-09", ("bb|2026-11-02", "bb|2026-11-09")]
    broken.unlink()
    run_range(instance, "tool_stats_job", *asked[1])
    assert {"bb|2026-11-02", "bb|2026-11-09"} <= instance.get_materialized_partitions(dg.AssetKey("tool_stats"))
    asked = tick(instance, "tool_stats_schedule", datetime(2026, 11, 23, 0, 30, tzinfo=UTC))
    assert asked == [("aa|2026-11-09", "aa|2026-11-16"), "bb|2026-11-16"]


def test_the_times_are_chosen(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DAILY_AT", "06:05"), ("WEEKLY_AT", "07:00"), ("TIMEZONE", "America/Santiago")):
        monkeypatch.setenv(f"AUDIT_{name}", value)
    command = [sys.executable, "-W", "ignore", "-c", _CRON]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert sorted(said.splitlines()) == [
        "daily_documents_schedule 5 6 * * * America/Santiago",
        "observe_audit_logs_schedule 0 * * * * America/Santiago",
        "observe_tool_logs_schedule 0 * * * * America/Santiago",
        "old_runs_schedule 0 7 * * 0 America/Santiago",
        "tool_stats_schedule 0 7 * * 1 America/Santiago",
        "weekly_summary_schedule 0 7 * * 1 America/Santiago",
    ]


@pytest.mark.parametrize("name", ["AUDIT_DAILY_AT", "AUDIT_WEEKLY_AT"])
@pytest.mark.parametrize("text", ["25:00", "6", "06:00:30", "06:00+02:00", "midnight", "0615"])
def test_a_time_that_is_none(settings: Settings, name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is .*: set it to a time as HH:MM, such as 00:"):
        Settings.load({name: text})
    assert time(23, 59) in Settings.load({name: "23:59"})


def test_dagsters_scheduler_comes_back_after_thirty_nights(settings: Settings, tmp_path: Path) -> None:
    """Its own loop, with its clock set: down for thirty nights, it runs the last tick, and that asks for all."""
    queued = {"run_coordinator": {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"}}
    target = ModuleTarget("audit_dagster.definitions", attribute=None, working_directory=None, location_name="audit")
    with (
        instance_for_test(overrides=queued, temp_dir=str(tmp_path)) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        for when in (datetime(2024, 3, 1, 0, 10, tzinfo=UTC), datetime(2024, 3, 1, 0, 16, tzinfo=UTC)):
            _loop_once(workspace, when)
        assert _asked(instance) == [("2024-02-29", "2024-02-29")]
        report_made(instance, ["2024-02-29"], "daily_report", "reproduction_script")
        _loop_once(workspace, datetime(2024, 3, 31, 9, 0, tzinfo=UTC))
        assert _asked(instance) == [("2024-02-29", "2024-02-29"), ("2024-03-01", "2024-03-30")]


def _loop_once(workspace: Any, when: datetime) -> None:
    with freeze_time(when):
        list(launch_scheduled_runs(workspace, logging.getLogger("scheduler"), when, {}))


def _asked(instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    runs = instance.get_runs(dg.RunsFilter(job_name="daily_documents_job"))
    return sorted(tuple(run.tags.get(name, run.tags.get("dagster/partition", "")) for name in _RANGE) for run in runs)
