"""An observation looks at what arrived since the last one, misses nothing, and sees everything when it must."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest

from audit_dagster.definitions import defs
from audit_dagster.defs.observation import audit_logs, changed_days, day_versions, seen_now, tool_versions
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect
from audit_dagster.store.query import append
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
NOON = datetime(2023, 6, 15, 12, tzinfo=UTC)
WRITERS, BATCHES = 16, 60
DAYS = [date(2023, 6, 1) + timedelta(days=number) for number in range(28)]
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def observe(instance: dg.DagsterInstance) -> dict[str, str]:
    """The versions that one observation logs."""
    result = defs.resolve_job_def("observe_audit_logs_job").execute_in_process(run_config=_QUIET, instance=instance)
    logged = [
        event.asset_observation_data.asset_observation for event in result.all_events if event.is_asset_observation
    ]
    return {str(item.partition): str(item.data_version) for item in logged if item.partition}


def test_only_the_days_that_changed(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    store(make_entry(), make_entry(timestamp=NOON + timedelta(days=1)))
    first = observe(instance)
    assert first.keys() == {"2023-06-15", "2023-06-16"}
    assert observe(instance) == {}
    store(make_entry())
    second = observe(instance)
    assert second.keys() == {"2023-06-15"}
    assert second["2023-06-15"] != first["2023-06-15"]
    assert observe(instance) == {}


def test_all_days_again_where_the_memory_is_of_no_use(
    settings: Settings, store: Store, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its zone is another; its event log was wiped; the database was restored into a server that counts anew."""
    store(make_entry())
    everything = observe(instance)
    monkeypatch.setenv("AUDIT_TIMEZONE", "Asia/Tokyo")
    assert observe(instance) == everything
    assert observe(instance) == {}
    instance.wipe_assets([audit_logs.key])
    assert observe(instance) == everything
    (last,) = instance.fetch_observations(audit_logs.key, limit=1).records
    assert last.asset_observation
    ahead = {name: value.value for name, value in last.asset_observation.metadata.items()} | {"transaction": "9" * 15}
    instance.report_runless_asset_event(dg.AssetObservation(audit_logs.key, metadata=ahead))
    assert observe(instance) == everything


def test_a_transaction_that_stays_open(settings: Settings, store: Store, instance: dg.DagsterInstance) -> None:
    """It began before, and ends after, others were seen."""
    observe(instance)
    with connect(settings) as slow, slow.transaction():
        append(slow, [make_entry(timestamp=NOON - timedelta(days=5))])
        store(make_entry())
        assert observe(instance).keys() == {"2023-06-15"}
    assert "2023-06-10" in observe(instance)
    assert observe(instance) == {}


def test_writers_that_commit_out_of_order(settings: Settings, connection: Connection) -> None:
    """What increments add up to is what a look at everything finds."""

    def write(writer: int) -> None:
        chance = random.Random(writer)  # noqa: S311
        with connect(settings) as own:
            for _ in range(BATCHES):
                moments = [datetime(2023, 6, chance.randint(1, 28), 12, tzinfo=UTC) for _ in range(2)]
                with own.transaction():
                    append(own, [make_entry(timestamp=moment, tool_name=chance.choice("abc")) for moment in moments])
                    time.sleep(chance.random() * 0.03)

    seen, found, tools, looks = seen_now(connection, settings, []), {}, {}, 0
    with ThreadPoolExecutor(WRITERS) as pool:
        writing = [pool.submit(write, number) for number in range(WRITERS)]
        busy = True
        while busy:
            busy = not all(writer.done() for writer in writing)
            now = seen_now(connection, settings, [])
            changed = changed_days(connection, seen)
            found |= day_versions(connection, sorted({day for day, _ in changed}), settings)
            tools |= tool_versions(connection, changed, settings)
            seen, looks = now, looks + 1
    for writer in writing:
        writer.result()
    assert connection.execute("SELECT count(*) FROM audit_logs").fetchall() == [(WRITERS * BATCHES * 2,)]
    assert looks > 10
    assert found == day_versions(connection, DAYS, settings)
    assert tools == tool_versions(connection, [(day, tool) for day in DAYS for tool in "abc"], settings)


@pytest.mark.parametrize("zone", ["America/Havana", "America/Santiago", "Asia/Beirut"])
def test_a_days_version_counts_the_rows_of_its_own_hours(settings: Settings, store: Store, zone: str) -> None:
    """Midnight does not exist there on one day of the year, or comes twice."""
    here = settings._replace(timezone=zone)
    hours = [datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=hour, minutes=30) for hour in range(24 * 366)]
    store(*(make_entry(timestamp=hour) for hour in hours))
    with connect(settings) as connection:
        days = sorted({hour.astimezone(ZoneInfo(zone)).date() for hour in hours})
        versions = day_versions(connection, days, here)
    counted = {str(day): 0 for day in days}
    for hour in hours:
        counted[str(hour.astimezone(ZoneInfo(zone)).date())] += 1
    assert {day: int(version.split("-")[0]) for day, version in versions.items()} == counted
    assert set(counted.values()) >= {23, 24, 25}
