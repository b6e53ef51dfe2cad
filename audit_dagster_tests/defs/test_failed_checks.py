"""A check that fails with severity ERROR reaches people by the way of a failed run, once a day and not at each hour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import psycopg
import pytest

from audit_dagster.definitions import defs
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings
from audit_dagster_tests.alerts.world import KEY_VARIABLE, Receiver, one, receiving
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def receiver(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as made:
        monkeypatch.setenv("AUDIT_ALERT_URLS", made.url)
        monkeypatch.setenv(KEY_VARIABLE, "key")
        monkeypatch.setenv("AUDIT_DAGSTER_URL", "https://dagster.example.org/")
        yield made


class Watcher:
    """The sensor, with the cursor that the daemon would keep."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self.cursor: str | None = None

    def tick(self) -> dg.RunRequest | dg.SkipReason:
        sensor = defs.resolve_sensor_def("failure_alerts_sensor")
        given = {"resources": defs.resources, "definitions": defs}
        with dg.build_sensor_context(self._instance, self.cursor, **given) as context:
            asked = sensor(context)
            self.cursor = context.cursor
        assert isinstance(asked, (dg.RunRequest, dg.SkipReason))
        return asked

    def run(self, job: str, key: str | None = None) -> str:
        done = defs.resolve_job_def(job).execute_in_process(
            instance=self._instance, run_config=_QUIET, partition_key=key
        )
        return done.run_id


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watcher(instance)


def test_a_failed_check_is_told_once_a_day(
    receiver: Receiver, connection: Connection, store: Store, watcher: Watcher
) -> None:
    store(make_entry(timestamp=datetime.now(UTC), success=False))
    connection.execute("DELETE FROM alert_outbox")
    watcher.run("failure_alerts_job")  # nothing is to be looked at soon
    watcher.run("observe_audit_logs_job")
    assert isinstance(watcher.tick(), dg.SkipReason), "what failed before the sensor was there is history"
    run_id = watcher.run("observe_audit_logs_job")
    request = watcher.tick()
    assert isinstance(request, dg.RunRequest)
    assert request.tags["dagster/max_runtime"] == "600", "a dead one does not stand for ever among those that run"
    watcher.run("failure_alerts_job")
    (message,) = receiver.got
    assert message["subject"].startswith("dagster outbox_agrees_with_failures check failed: ")
    assert "failed and is not in the outbox" in message["text"]
    assert f"<https://dagster.example.org/runs/{run_id}>" in message["text"]
    watcher.run("observe_audit_logs_job")
    assert isinstance(watcher.tick(), dg.SkipReason), "the next hour says the same"
    watcher.cursor = "0"
    assert isinstance(watcher.tick(), dg.SkipReason), "a tick that died is made again, and asks for nothing new"
    store(make_entry(timestamp=datetime.now(UTC), success=False))
    connection.execute("DELETE FROM alert_outbox")
    watcher.run("observe_audit_logs_job")
    assert isinstance(watcher.tick(), dg.RunRequest), "this is another complaint"
    watcher.run("failure_alerts_job")
    assert len(receiver.got) == len(set(receiver.keys)) == 2
    assert one(connection, "SELECT count(*) FROM alert_messages WHERE sent_at IS NULL") == 0


def test_a_warning_alerts_nobody(receiver: Receiver, store: Store, watcher: Watcher) -> None:
    watcher.run("daily_documents_job", "2023-06-14")
    watcher.tick()
    store(make_entry())
    watcher.run("daily_documents_job", "2023-06-15")
    store(*(make_entry(timestamp=datetime(2023, 6, 16, 12, tzinfo=UTC), success=False) for _ in range(3)))
    before = watcher.cursor
    watcher.run("daily_documents_job", "2023-06-16")  # enough_operations_succeed fails, with severity WARN
    assert isinstance(watcher.tick(), dg.RunRequest), "the failures themselves"
    assert int(watcher.cursor or 0) > int(before or 0)
    watcher.run("failure_alerts_job")
    assert [message["subject"].split()[0] for message in receiver.got] == ["sensing-data"]


def test_a_check_of_another_project_is_not_ours(receiver: Receiver, watcher: Watcher) -> None:
    @dg.asset
    def theirs() -> None:
        """An asset of somebody else's."""

    @dg.asset_check(asset=theirs)
    def is_never_right() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    def evaluate() -> None:
        dg.materialize([theirs, is_never_right], instance=watcher._instance, run_config=_QUIET)

    evaluate()
    watcher.tick()
    before = watcher.cursor
    evaluate()
    assert isinstance(watcher.tick(), dg.SkipReason)
    assert int(watcher.cursor or 0) > int(before or 0)
