"""The site's page in Dagster: made once after what it leads to, not while that or itself is being made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

from audit_dagster.definitions import defs
from audit_dagster.defs.retention import delete_old_runs
from audit_dagster.defs.site import reports_site
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.defs.test_definitions import materialized, run

Store = Callable[..., list[LogEntry]]
MADE = {"daily_report": "2023-06-15", "weekly_summary": "2023-06-12", "tool_stats": "decode|2023-06-12"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions("tools", ["decode"])
        yield made


class Automation:
    """Evaluates the page's condition, as the daemon does at each tick."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._cursor: Any = None
        assert not self.asks()

    def asks(self) -> bool:
        result = dg.evaluate_automation_conditions(defs, self._instance, cursor=self._cursor)
        self._cursor = result.cursor
        return result.get_num_requested(reports_site.key) == 1


def report_made(instance: dg.DagsterInstance, asset: str, key: str | None = None) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))


def begin(instance: dg.DagsterInstance, job_name: str, asset: str, key: str | None = None) -> dg.DagsterRun:
    """A run that is to make the asset, and has not yet."""
    job = defs.resolve_job_def(job_name)
    tags = {"dagster/partition": key} if key else {}
    begun = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    planned = AssetMaterializationPlannedData(dg.AssetKey(asset), partition=key)
    event = DagsterEvent.build_asset_materialization_planned_event(job_name, asset, planned)
    instance.report_dagster_event(event, begun.run_id)
    return begun


def end(instance: dg.DagsterInstance, begun: dg.DagsterRun) -> None:
    instance.report_run_canceled(begun)


@pytest.mark.parametrize("asset", MADE)
def test_after_any_of_them_once(settings: Settings, instance: dg.DagsterInstance, asset: str) -> None:
    automation = Automation(instance)
    report_made(instance, asset, MADE[asset])
    assert [automation.asks() for _ in range(3)] == [True, False, False]
    report_made(instance, "reports_site")
    report_made(instance, "reproduction_script", "2023-06-15")
    assert not automation.asks()
    report_made(instance, asset, MADE[asset])
    assert [automation.asks() for _ in range(2)] == [True, False]


def test_not_while_others_are_being_made(settings: Settings, instance: dg.DagsterInstance) -> None:
    automation = Automation(instance)
    begun = begin(instance, "daily_documents_job", "daily_report", "2023-06-14")
    report_made(instance, "daily_report", "2023-06-15")
    assert not automation.asks()
    report_made(instance, "daily_report", "2023-06-14")
    end(instance, begun)
    assert [automation.asks() for _ in range(2)] == [True, False]


def test_a_report_made_while_the_page_is_waits(settings: Settings, instance: dg.DagsterInstance) -> None:
    automation = Automation(instance)
    report_made(instance, "daily_report", "2023-06-15")
    assert automation.asks()
    begun = begin(instance, "reports_site_job", "reports_site")
    report_made(instance, "daily_report", "2023-06-16")
    assert not automation.asks()
    report_made(instance, "reports_site")
    end(instance, begun)
    assert [automation.asks() for _ in range(2)] == [True, False]


def test_what_the_ui_shows(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    store(make_entry(), make_entry(success=False))
    run(instance, "daily_documents_job", "2023-06-15")
    ((name, made),) = materialized(run(instance, "reports_site_job")).items()
    assert name == ("reports_site", None)
    assert made == {
        "path": str(settings.reports_dir / "index.html"),
        **{"days": 1, "weeks": 0, "tools": 0, "newest_day": "2023-06-15", "operations": 2, "failed": 1},
    }


def test_its_newest_run_is_kept(settings: Settings, instance: dg.DagsterInstance) -> None:
    first, second = (run(instance, "reports_site_job").run_id for _ in range(2))
    assert delete_old_runs(instance, datetime.now(UTC) + timedelta(days=1)) == (1, 1)
    assert [made.run_id for made in instance.get_runs()] == [second] != [first]
