"""Rows that arrive after their documents were made: exactly the documents they change are made again, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

from audit_dagster.definitions import defs
from audit_dagster.defs.site import reports_site
from audit_dagster.entry import LogEntry
from audit_dagster.escaping import file_name
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Asked = dict[str, set[str]]
CHECKOUT = Path(__file__).parents[2]
NOTHING: Asked = {}
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
MONDAY = datetime(2023, 6, 5, 12, tzinfo=UTC)
WEEK = timedelta(weeks=1)
DAYS = [f"2023-06-{day:02}" for day in range(5, 26)]
WEEKS = ["2023-06-05", "2023-06-12", "2023-06-19"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def report_made(instance: dg.DagsterInstance, asset: str, *keys: str) -> None:
    """As if a run had made them: what is asked for is the question here, not what is written."""
    for key in keys:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))


def report_all_made(instance: dg.DagsterInstance) -> None:
    report_made(instance, "daily_report", *DAYS)
    report_made(instance, "reproduction_script", *DAYS)
    report_made(instance, "weekly_summary", *WEEKS)


class Automation:
    """Observes, and evaluates the automation conditions, as the daemon does at each tick."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._cursor: Any = None

    def tick(self) -> Asked:
        result = dg.evaluate_automation_conditions(defs, self._instance, cursor=self._cursor)
        self._cursor = result.cursor
        keys = {
            key.to_user_string(): result.get_requested_partitions(key)
            for key in defs.resolve_asset_graph().get_all_asset_keys() - {reports_site.key}  # test_site_asset.py
        }
        return {name: {str(key) for key in found} for name, found in keys.items() if found}

    def observed(self) -> Asked:
        observe(self._instance)
        return self.tick()


@pytest.fixture
def automation(settings: Settings, store: Store, instance: dg.DagsterInstance) -> Automation:
    """After the first fill of three weeks with two tools."""
    days = [MONDAY + timedelta(days=day) for day in range(21)]
    store(*(make_entry(timestamp=day, tool_name=tool) for day in days for tool in ("extract", "plot")))
    made = Automation(instance)
    assert made.tick() == NOTHING
    assert made.observed() == NOTHING, "the first fill is a backfill"
    report_all_made(instance)
    assert made.tick() == NOTHING
    return made


def test_nothing_new_asks_for_nothing(automation: Automation) -> None:
    assert automation.observed() == NOTHING
    assert automation.observed() == NOTHING


def test_a_late_row_asks_for_its_day_and_the_weeks_that_show_it(automation: Automation, store: Store) -> None:
    store(make_entry(timestamp=MONDAY + WEEK, tool_name="plot"))
    assert automation.observed() == {
        "daily_report": {"2023-06-12"},
        "reproduction_script": {"2023-06-12"},
        # The next week's documents compare with it.
        "weekly_summary": {"2023-06-12", "2023-06-19"},
        "tool_stats": {"plot|2023-06-12", "plot|2023-06-19"},
    }
    assert automation.tick() == NOTHING
    assert automation.observed() == NOTHING


def test_thirty_days_offline(automation: Automation, store: Store) -> None:
    """Rows of some of the days, of one tool, all in one go; and of days and weeks that nobody ever asked for."""
    days = [0, 1, 2, 5, 9]
    store(*(make_entry(timestamp=MONDAY + timedelta(days=day), tool_name="plot") for day in days for _ in range(3)))
    store(make_entry(timestamp=MONDAY - 10 * WEEK, tool_name="extract"))
    made = {f"2023-06-{5 + day:02}" for day in days}
    assert automation.observed() == {
        "daily_report": made,
        "reproduction_script": made,
        "weekly_summary": set(WEEKS),
        "tool_stats": {f"{tool}|{week}" for tool in ("plot", "extract") for week in WEEKS} | {"extract|2023-03-27"},
    }
    assert automation.observed() == NOTHING


def test_a_calendar_shows_twenty_six_weeks(automation: Automation, store: Store, instance: dg.DagsterInstance) -> None:
    """Also those of weeks in which nothing ran, where a backfill made the document."""
    report_made(instance, "weekly_summary", "2023-11-27", "2023-12-04")
    report_made(instance, "tool_stats", "plot|2023-11-27", "plot|2023-12-04", "extract|2023-11-27")
    assert automation.tick() == NOTHING
    store(make_entry(timestamp=MONDAY, tool_name="plot"))
    asked = automation.observed()
    assert asked["weekly_summary"] == {*WEEKS, "2023-11-27"}
    assert asked["tool_stats"] == {f"plot|{week}" for week in (*WEEKS, "2023-11-27")}
    assert automation.observed() == NOTHING


def test_a_tool_that_nobody_knew(automation: Automation, store: Store, instance: dg.DagsterInstance) -> None:
    store(make_entry(timestamp=MONDAY, tool_name="../New Tool"))
    key = file_name("../New Tool")
    assert automation.observed()["tool_stats"] == {f"{key}|2023-06-05"}
    assert instance.get_dynamic_partitions("tools") == [key]


def test_a_replay_changes_the_day_of_what_it_ran_again(automation: Automation, store: Store) -> None:
    (original,) = store(make_entry(timestamp=MONDAY))
    automation.observed()
    replay = {"reproduces": original.operation_id, "verdict": "differing"}
    store(make_entry(timestamp=datetime.now(UTC), context=replay), make_entry(context={"reproduces": "'; DROP"}))
    asked = automation.observed()
    assert asked["daily_report"] == {"2023-06-05", "2023-06-15"}
    assert automation.observed() == NOTHING


def test_a_change_while_it_is_being_made_waits(
    automation: Automation, store: Store, instance: dg.DagsterInstance
) -> None:
    """The run may have read before the row came."""
    key = "2023-06-05"
    job = defs.resolve_job_def("daily_documents_job")
    run = instance.create_run_for_job(job, tags={"dagster/partition": key}, status=dg.DagsterRunStatus.STARTED)
    for asset in ("daily_report", "reproduction_script"):
        planned = AssetMaterializationPlannedData(dg.AssetKey(asset), partition=key)
        event = DagsterEvent.build_asset_materialization_planned_event(job.name, asset, planned)
        instance.report_dagster_event(event, run.run_id)
    store(make_entry(timestamp=MONDAY))
    assert automation.observed().keys() == {"weekly_summary", "tool_stats"}
    report_made(instance, "daily_report", key)
    report_made(instance, "reproduction_script", key)
    instance.report_run_canceled(instance.get_run_by_id(run.run_id))
    asked = automation.tick()
    assert (asked["daily_report"], asked["reproduction_script"]) == ({key}, {key})
    assert automation.tick() == NOTHING


def test_a_change_right_after_another(automation: Automation, store: Store) -> None:
    """Dagster's own `since` would forget it: it comes on the tick that knows of the first request."""
    for _ in range(3):
        store(make_entry(timestamp=MONDAY))
        assert automation.observed()["daily_report"] == {"2023-06-05"}
    assert automation.tick() == NOTHING


def test_a_change_before_its_document_was_made_asks_for_nothing(
    settings: Settings, store: Store, instance: dg.DagsterInstance
) -> None:
    """At midnight: what is observed of the day is in the report that the schedule makes a little later."""
    automation = Automation(instance)
    automation.tick()
    store(make_entry(timestamp=MONDAY))
    assert automation.observed() == NOTHING
    report_made(instance, "daily_report", "2023-06-05")
    assert automation.tick() == NOTHING
    store(make_entry(timestamp=MONDAY))
    assert automation.observed()["daily_report"] == {"2023-06-05"}


def observe(instance: dg.DagsterInstance) -> None:
    for job in ("observe_audit_logs_job", "observe_tool_logs_job"):
        defs.resolve_job_def(job).execute_in_process(run_config=_QUIET, instance=instance)
