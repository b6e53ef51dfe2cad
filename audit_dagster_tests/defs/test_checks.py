"""Checks notice what they are for: lost operations, failures nobody is told of, bad days, documents not made."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import CronFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time

from audit_dagster.definitions import defs
from audit_dagster.entry import LogEntry
from audit_dagster.errors import ConfigurationError
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
Checks = dict[str, dg.AssetCheckEvaluation]
NOW = datetime.now(UTC)
DAY = "2023-06-15"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_POLICIES = """
from audit_dagster.defs.freshness import made_daily, made_weekly
for policy in (made_daily, made_weekly):
    print(policy.deadline_cron, policy.timezone)
"""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(instance: dg.DagsterInstance, job: str, key: str | None = None) -> Checks:
    result = defs.resolve_job_def(job).execute_in_process(instance=instance, run_config=_QUIET, partition_key=key)
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def spooled(spool: Any, number: Any, begun: datetime = NOW - timedelta(days=5)) -> LogEntry:
    context = {"hostname": "lab-3", "spool": {"id": spool, "number": number}}
    return make_entry(timestamp=begun, context=context)


def long_ago(connection: Connection) -> None:
    """As if all rows had been stored two days ago, but for the newest."""
    connection.execute("SET session_replication_role = replica")
    connection.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
    connection.execute("UPDATE audit_logs SET recorded_at = now() - interval '2 days'")
    connection.execute("ALTER TABLE audit_logs ENABLE TRIGGER USER")


def test_an_observation_finds_a_sound_log(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    failure = make_entry(timestamp=NOW, success=False)
    imported = make_entry(timestamp=NOW, success=False, context={"imported_from": {"file": "x"}})
    store(failure, imported, make_entry(timestamp=NOW), *(spooled("a", number) for number in (7, 8, 9)))
    found = run(instance, "observe_audit_logs_job")
    assert set(found) == {"outbox_agrees_with_failures", "no_gap_in_any_spool", "documents_are_made"}
    assert all(check.passed for check in found.values())


def test_numbers_that_never_came_are_named(
    settings: Settings, store: Store, connection: Connection, instance: dg.DagsterInstance
) -> None:
    store(*(spooled("a1", number) for number in (3, 4, 4, 6, 10, 11)))  # 4 twice: a crash, no gap
    store(
        *(spooled("b2", number) for number in (1, 2, 3)), spooled("[x](http://evil)", 1), spooled("[x](http://evil)", 3)
    )
    found = run(instance, "observe_audit_logs_job")["no_gap_in_any_spool"]
    assert found.passed, "they may still come"
    long_ago(connection)
    store(spooled("b2", 9))
    found = run(instance, "observe_audit_logs_job")["no_gap_in_any_spool"]
    assert not found.passed and found.severity == dg.AssetCheckSeverity.WARN
    assert found.description == (
        r"spool \[x\](http://evil) on lab-3: 2 missing; "
        "spool a1 on lab-3: 1 to 2 missing; spool a1 on lab-3: 5 missing; spool a1 on lab-3: 7 to 9 missing"
    )


def test_a_gap_at_the_edge_of_what_is_looked_at(
    settings: Settings, store: Store, connection: Connection, instance: dg.DagsterInstance
) -> None:
    """What came before the 30 days says where a spool's numbers go on; those that began together are in any order."""
    before, silent = NOW - timedelta(days=31), NOW - timedelta(days=300)
    store(*(spooled("gap", number, before) for number in (4, 5)), spooled("gap", 8))
    store(*(spooled("whole", number, before) for number in (4, 5)), spooled("whole", 6))
    store(spooled("silent", 6, silent), spooled("silent", 5, silent + timedelta(seconds=1)), spooled("silent", 7))
    store(*(spooled("new", number) for number in (6, 7, 8)))
    long_ago(connection)
    found = run(instance, "observe_audit_logs_job")["no_gap_in_any_spool"]
    assert found.description == "spool gap on lab-3: 6 to 7 missing; spool new on lab-3: 1 to 5 missing"


def test_a_spool_number_may_be_anything(
    settings: Settings, store: Store, connection: Connection, instance: dg.DagsterInstance
) -> None:
    odd: list[Any] = ["7", None, [1], {"a": 1}, True, -5, 1.5, 1e300, 10**40]
    store(*(spooled("a", number) for number in odd), spooled(None, 1), spooled({"b": 1}, 2))
    store(make_entry(timestamp=NOW, context={"spool": "text"}))
    long_ago(connection)
    assert run(instance, "observe_audit_logs_job")["no_gap_in_any_spool"].passed


def test_at_most_twenty_gaps_are_named(
    settings: Settings, store: Store, connection: Connection, instance: dg.DagsterInstance
) -> None:
    store(*(spooled("a", number) for number in range(1, 100, 2)))
    long_ago(connection)
    description = run(instance, "observe_audit_logs_job")["no_gap_in_any_spool"].description
    assert description and description.count("missing") == 20
    assert description.endswith("spool a on lab-3: 40 missing; and more")


def test_outbox_and_failures_disagree(
    settings: Settings, store: Store, connection: Connection, instance: dg.DagsterInstance
) -> None:
    ids = [str(uuid.UUID(int=number << 100)) for number in (1, 2, 3)]
    store(
        *(
            make_entry(operation_id=one, timestamp=NOW - timedelta(days=age, minutes=-minute), success=success)
            for minute, (one, success, age) in enumerate(zip(ids, (False, True, False), (1, 1, 31), strict=True))
        )
    )
    connection.execute("DELETE FROM alert_outbox")
    connection.execute("INSERT INTO alert_outbox (operation_id) VALUES (%s)", (ids[1],))
    found = run(instance, "observe_audit_logs_job")["outbox_agrees_with_failures"]
    assert not found.passed and found.severity == dg.AssetCheckSeverity.ERROR
    assert found.description == (
        f"{ids[0]} failed and is not in the outbox; {ids[1]} is in the outbox and is no failure to tell of"
    )


@pytest.mark.parametrize(("rate", "passed"), [(None, False), ("0.75", True), ("0.76", False), ("0", True)])
def test_a_day_of_failures_is_a_warning(
    settings: Settings,
    store: Store,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    rate: str | None,
    passed: bool,
) -> None:
    if rate:
        monkeypatch.setenv("AUDIT_MIN_SUCCESS_RATE", rate)
    store(*(make_entry(success=number > 0) for number in range(4)))
    found = run(instance, "daily_documents_job", DAY)["enough_operations_succeed"]
    assert (found.passed, found.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert found.description == ("1 looked at" if passed else f"{DAY}: 3 of 4 succeeded")


def test_a_day_without_operations_is_no_warning(settings: Settings, instance: dg.DagsterInstance) -> None:
    assert run(instance, "daily_documents_job", DAY)["enough_operations_succeed"].passed


@pytest.mark.parametrize("text", ["1.1", "-0.1", "nan", "most", "80%"])
def test_a_wrong_rate_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"AUDIT_MIN_SUCCESS_RATE is .*: set it to a number from 0 to 1"):
        Settings.load({"AUDIT_MIN_SUCCESS_RATE": text})


def test_each_broken_script_of_many_is_named(settings: Settings, instance: dg.DagsterInstance) -> None:
    broken = {"2023-06-09", "2023-06-18", "2023-06-27"}
    check = dg.AssetCheckKey(dg.AssetKey("reproduction_script"), "script_is_sound")
    scripts = settings.reports_dir / "scripts"
    assert isinstance(scripts, Path)
    scripts.mkdir(parents=True)
    for day in (f"2023-06-{number:02}" for number in range(1, 29)):
        text = "#!/bin/bash\nif then\n" if day in broken else "#!/bin/bash\ntrue\n"
        (scripts / f"{day}.sh").write_text(text)
        instance.report_runless_asset_event(dg.AssetMaterialization("reproduction_script", partition=day))
    job = dg.define_asset_job("scripts", selection=dg.AssetSelection.checks(check))
    described = dg.Definitions(assets=defs.assets, asset_checks=defs.asset_checks, jobs=[job], resources=defs.resources)
    result = described.resolve_job_def("scripts").execute_in_process(instance=instance, run_config=_QUIET)
    (found,) = result.get_asset_check_evaluations()
    assert not found.passed and found.metadata["looked_at"].value == 28
    assert set(re.findall(r"(2023-06-..)\.sh", found.description or "")) == broken


@pytest.mark.parametrize(
    ("asset", "made", "seen", "fresh"),
    [
        ("daily_report", "2026-03-04 00:15:20", "2026-03-05 12:14", True),
        ("daily_report", "2026-03-04 00:15:20", "2026-03-05 12:16", False),
        ("weekly_summary", "2026-03-02 00:30:20", "2026-03-09 12:29", True),
        ("weekly_summary", "2026-03-02 00:30:20", "2026-03-09 12:31", False),
    ],
)
def test_a_document_that_was_not_made_is_stale(asset: str, made: str, seen: str, fresh: bool) -> None:
    def state() -> FreshnessState:
        return asyncio.run(CronFreshnessPolicyEvaluator().evaluate_freshness(LoadingContextForTest(instance), node))

    node = defs.resolve_asset_graph().get(dg.AssetKey(asset))
    with dg.DagsterInstance.ephemeral() as instance:
        with freeze_time(datetime.fromisoformat(f"{made}+00:00")):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition="2026-03-02"))
            assert state() == FreshnessState.PASS
        with freeze_time(datetime.fromisoformat(f"{seen}+00:00")):
            assert state() == (FreshnessState.PASS if fresh else FreshnessState.FAIL)


def test_a_document_that_was_not_made_is_told(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Whatever became of the schedules; late days that are made again are no new ones."""

    def told(seen: str) -> list[str]:
        with freeze_time(datetime.fromisoformat(f"{seen}+00:00")):
            found = run(instance, "observe_audit_logs_job")["documents_are_made"]
        assert found.severity == dg.AssetCheckSeverity.ERROR
        return [] if found.passed else (found.description or "").split("; ")

    def made(asset: str, key: str) -> None:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))

    assert told("2026-03-01 13:00") == [], "yesterday nobody was there"
    assert told("2026-03-02 12:14") == []
    nothing = "daily_report of 2026-03-01 was not made, nor any other: is its schedule running?"
    assert told("2026-03-02 12:16") == [nothing]
    made("daily_report", "2026-03-01")
    assert told("2026-03-02 12:31") == [
        "weekly_summary of 2026-02-23 was not made, nor any other: is its schedule running?"
    ]
    made("weekly_summary", "2026-02-23")
    assert told("2026-03-03 12:14") == []
    made("daily_report", "2026-02-20")
    stopped = "daily_report of 2026-03-02 was not made, the newest is 2026-03-01: is its schedule running?"
    assert told("2026-03-03 12:16") == told("2026-03-03 23:50") == [stopped]
    made("daily_report", "2026-03-02")
    assert told("2026-03-03 23:55") == []


def test_deadlines_are_half_a_day_after_the_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_TIMEZONE", "America/Chicago")
    monkeypatch.setenv("AUDIT_DAILY_AT", "06:05")
    monkeypatch.setenv("AUDIT_WEEKLY_AT", "23:30")
    said = subprocess.check_output([sys.executable, "-W", "ignore", "-c", _POLICIES], text=True)
    assert said == "5 18 * * * America/Chicago\n30 11 * * 2 America/Chicago\n"
