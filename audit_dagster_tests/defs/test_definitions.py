"""Dagster's side, run for real: materializations, checks, schedules and sensors on an instance of this test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from audit_dagster.definitions import defs
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
DAY, WEEK = "2023-06-15", "2023-06-12"
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(instance: dg.DagsterInstance, job: str, key: str | None = None, **tags: str) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(
        run_config=_QUIET, instance=instance, partition_key=key, tags=tags or None, raise_on_error=True
    )


def materialized(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {
        (event.asset_key.to_user_string(), event.partition): {
            name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
        }
        for event in result.all_events
        if event.is_step_materialization and event.asset_key
    }


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def test_a_day(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    store(make_entry(command=["true"]), make_entry(success=False, error_message="broken"))
    result = run(instance, "daily_documents_job", DAY)
    made = materialized(result)
    report = made["daily_report", DAY]
    assert (report["operations"], report["failed"], report["success_rate"]) == (2, 1, 0.5)
    assert "# Audit Report - 2023-06-15" in report["document"]
    assert "audit-entry" not in report["document"]
    assert Path(report["path"]) == settings.reports_dir / "daily" / "2023-06-15.md"
    assert made["reproduction_script", DAY]["steps"] == 1
    assert checks(result) == {
        "daily_totals_equal_the_database": True,
        "enough_operations_succeed": False,
        "script_is_sound": True,
    }


def test_a_range_of_days_is_one_run(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    store(make_entry())
    tags = {"dagster/asset_partition_range_start": "2023-06-01", "dagster/asset_partition_range_end": "2023-06-30"}
    result = run(instance, "daily_documents_job", **tags)
    made = materialized(result)
    assert len(made) == 60
    assert [made["daily_report", f"2023-06-{day:02}"]["operations"] for day in (14, 15)] == [0, 1]
    assert len(list((settings.reports_dir / "daily").iterdir())) == 3 * 30
    assert all(checks(result).values())


def test_a_week_and_its_tools(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    store(make_entry(), make_entry(tool_name="A/../b", success=False))
    summary = materialized(run(instance, "weekly_summary_job", WEEK))["weekly_summary", WEEK]
    assert summary["operations"] == 2
    assert "the days: 2 operations, 1 failed. 2023-06-12: " in summary["document"]
    assert "](" not in summary["document"], "there is no file beside what the UI shows"
    instance.add_dynamic_partitions("tools", ["~41~2f..~2fb"])
    result = run(instance, "tool_stats_job", str(dg.MultiPartitionKey({"week": WEEK, "tool": "~41~2f..~2fb"})))
    ((_, made),) = materialized(result).items()
    assert (made["operations"], made["failed"]) == (1, 1)
    assert Path(made["path"]) == settings.reports_dir / "tools" / "~41~2f..~2fb" / "2023-W24.md"
    assert "A/../b" in Path(made["path"]).read_text()
    assert checks(result) == {"tool_totals_equal_the_database": True}


def test_checks_notice_late_rows_and_broken_scripts(
    settings: Settings, store: Store, instance: dg.DagsterInstance
) -> None:
    store(make_entry())
    run(instance, "daily_documents_job", DAY)
    store(make_entry())
    (settings.reports_dir / "scripts" / f"{DAY}.sh").write_text("#!/bin/bash\nif then\n")
    job = dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())
    result = (
        dg.Definitions(assets=defs.assets, asset_checks=defs.asset_checks, jobs=[job], resources=defs.resources)
        .resolve_job_def("checks")
        .execute_in_process(instance=instance, run_config=_QUIET)
    )
    found = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    daily = found["daily_totals_equal_the_database"]
    assert not daily.passed
    assert daily.description == "2023-06-15: report 1 operations, 0 failed, database 2 operations, 0 failed"
    assert not found["script_is_sound"].passed
    assert "bash -n" in (found["script_is_sound"].description or "")


def test_the_failure_sensor_requests_one_run_and_people_are_told_once(
    settings: Settings, store: Store, connection: Connection, instance: dg.DagsterInstance
) -> None:
    def tick() -> dg.RunRequest | dg.SkipReason:
        sensor = defs.resolve_sensor_def("failure_alerts_sensor")
        with dg.build_sensor_context(instance=instance, resources=defs.resources) as context:
            result = sensor(context)
        assert isinstance(result, (dg.RunRequest, dg.SkipReason))
        return result

    assert isinstance(tick(), dg.SkipReason)
    store(make_entry(success=False, error_message="the sensor is offline"), make_entry())
    assert isinstance(tick(), dg.RunRequest)
    run(instance, "failure_alerts_job")
    (message,) = (settings.reports_dir / "alerts").iterdir()
    assert "the sensor is offline" in message.read_text()
    assert isinstance(tick(), dg.SkipReason)
    run(instance, "failure_alerts_job")
    assert len(list((settings.reports_dir / "alerts").iterdir())) == 1


def test_new_tools_become_partitions(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    def requested() -> list[str]:
        sensor = defs.resolve_sensor_def("new_tools_sensor")
        with dg.build_sensor_context(instance=instance, resources=defs.resources) as context:
            result = sensor(context)
        if isinstance(result, dg.SkipReason):
            return []
        assert isinstance(result, dg.SensorResult)
        return [key for request in result.dynamic_partitions_requests or [] for key in request.partition_keys]

    store(make_entry(), make_entry(tool_name="Ünï|code"))
    keys = requested()
    assert keys == ["sensing-data", "~c3~9cn~c3~af~7ccode"]
    instance.add_dynamic_partitions("tools", keys)
    assert requested() == []


def test_every_tick_is_in_the_zone_and_running() -> None:
    schedules = [defs.resolve_schedule_def(item.name) for item in defs.schedules or []]
    assert {schedule.name: schedule.cron_schedule for schedule in schedules} == {
        "daily_documents_schedule": "15 0 * * *",
        "observe_audit_logs_schedule": "5 * * * *",
        "observe_tool_logs_schedule": "5 * * * *",
        "old_runs_schedule": "30 0 * * 0",
        "tool_stats_schedule": "30 0 * * 1",
        "weekly_summary_schedule": "30 0 * * 1",
    }
    assert {schedule.execution_timezone for schedule in schedules} == {"UTC"}
    assert {schedule.default_status for schedule in schedules} == {dg.DefaultScheduleStatus.RUNNING}


@pytest.mark.parametrize(
    "command", [["dagster", "definitions", "validate"], ["dg", "check", "defs"], ["dg", "list", "defs"]]
)
def test_dagsters_own_commands_work_in_a_checkout(settings: Settings, command: list[str]) -> None:
    checkout = Path(__file__).parents[2]
    program = Path(sys.prefix) / "bin" / command[0]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    done = subprocess.run(
        [program, *command[1:]], cwd=checkout, env=environment, check=False, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    ours = [line for line in said.splitlines() if "audit_dagster" in line and "Warning" in line]
    assert ours == []
    assert "DeprecationWarning" not in said


def test_dagsters_storage_is_in_a_schema_of_its_own(settings: Settings, connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((Path(__file__).parents[2] / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.add_dynamic_partitions("tools", ["x"])
        assert instance.get_dynamic_partitions("tools") == ["x"]
    schemas = connection.execute(
        "SELECT schemaname, count(*) FROM pg_tables WHERE tablename IN ('runs', 'event_logs', 'job_ticks') GROUP BY 1"
    ).fetchall()
    assert schemas == [("dagster", 3)]
