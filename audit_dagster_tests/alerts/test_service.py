"""People are told once of what failed, fell silent or took too long; whoever dies or hangs meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from audit_dagster.alert_service import Pass, alerts_due, queue_run_failure, send_alerts
from audit_dagster.definitions import defs
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect
from audit_dagster.store.query import append
from audit_dagster_tests.alerts.world import HandClock, Receiver, Stopwatch, one, receiving
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]

WRITERS, FAILURES = 16, 20_000


class World:
    """One service with a clock of its own."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.clock = connection, HandClock()

    def send(self) -> Pass:
        return send_alerts(self.connection, Settings.load(), self.clock)

    def due(self) -> bool:
        return alerts_due(self.connection, self.clock.now)

    def fail(self, error: str = "broken", **fields: Any) -> None:
        self._store(success=False, error_message=error, **fields)

    def succeed(self, **fields: Any) -> None:
        self._store(**fields)

    def _store(self, **fields: Any) -> None:
        entry = make_entry(**{"timestamp": self.clock.now, **fields})
        assert append(self.connection, [entry]) == ["stored"]
        # Stored at the real hour; wait until then.
        self.clock.now = max(self.clock.now, datetime.now(UTC)) + timedelta(milliseconds=1)


@pytest.fixture
def world(receiver: Receiver, connection: Connection) -> World:
    return World(connection)


def kinds(done: Pass) -> list[str]:
    return [sent.kind for sent in done.sent if sent.target != "file"]


def test_from_the_first_failure_to_its_end(world: World, receiver: Receiver) -> None:
    assert not world.due()
    world.fail("no station 4 at '/data/a.csv'")
    world.fail("no station 17 at '/data/b.csv'")
    assert world.due()
    done = world.send()
    assert (done.failures, done.told, kinds(done)) == (2, 1, ["first seen"])
    assert "2" in receiver.got[0]["text"]
    assert not world.due()

    world.fail("no station 5 at '/data/a.csv'")
    assert kinds(world.send()) == []
    world.clock.pass_by(minutes=59)
    assert kinds(world.send()) == []
    world.clock.pass_by(minutes=2)
    assert world.due()
    assert kinds(world.send()) == ["still failing"]

    world.succeed()
    world.clock.pass_by(minutes=11)
    assert world.due()
    assert kinds(world.send()) == ["resolved"]
    assert not world.due()
    assert len(receiver.got) == 3
    assert one(world.connection, "SELECT count(DISTINCT digest) FROM alert_outbox") == 2

    world.fail("no station 6 at '/data/a.csv'")
    world.clock.pass_by(minutes=11)
    assert kinds(world.send()) == ["first seen"]


def test_still_failing_backs_off_to_a_day(world: World) -> None:
    told: list[float] = []
    start = world.clock.now
    world.fail()
    for _ in range(3 * 24 * 2):
        if kinds(world.send()):
            told.append((world.clock.now - start) / timedelta(hours=1))
        world.fail()
        world.clock.pass_by(minutes=30)
    assert [round(hours) for hours in told] == [0, 1, 5, 29, 53]


def test_a_success_between_two_failures_is_no_end(world: World) -> None:
    """A tool that fails at each tenth station would be told of, and be over, all day long."""
    said: list[str] = []
    for _ in range(20):
        world.fail()
        said += kinds(world.send())
        world.succeed()
        world.clock.pass_by(minutes=6)
    assert said == ["first seen", "still failing"]


def test_two_hundred_causes_are_one_message(world: World, receiver: Receiver) -> None:
    for number in range(200):
        world.fail("broken", operation=f"step-{'x' * number}")
    world.send()
    assert len(receiver.got) == 1
    world.fail("another cause")
    world.send()
    world.fail("and one more")
    world.send()
    assert len(receiver.got) == 1
    world.clock.pass_by(minutes=10)
    world.send()
    assert len(receiver.got) == 2
    assert one(world.connection, "SELECT count(DISTINCT digest) FROM alert_outbox WHERE digest IS NOT NULL") == 2
    assert one(world.connection, "SELECT count(*) FROM alert_outbox WHERE digest IS NULL") == 0


def test_unusually_slow(world: World) -> None:
    for number in range(30):
        world.succeed(duration_seconds=100.0 + number)
    world.send()
    world.succeed(duration_seconds=190.0)
    world.succeed(duration_seconds=128.0)
    world.clock.pass_by(minutes=5)
    assert kinds(world.send()) == []
    world.succeed(duration_seconds=400.0)
    world.clock.pass_by(minutes=5)
    assert world.due()
    assert kinds(world.send()) == ["unusually slow"]
    world.succeed(duration_seconds=400.0)
    world.clock.pass_by(minutes=5)
    assert kinds(world.send()) == []


def test_a_daily_tool_that_fell_silent(world: World) -> None:
    today = (world.clock.now + timedelta(hours=1)).replace(hour=12)  # the day of the look, also an hour before midnight
    for back in range(2, 12):
        world.succeed(tool_name="nightly", timestamp=today - timedelta(days=back))
        if back != 5:
            world.succeed(tool_name="now-and-then", timestamp=today - timedelta(days=back))
        world.succeed(
            tool_name="history", timestamp=today - timedelta(days=back), context={"imported_from": {"file": "x"}}
        )
    world.clock.pass_by(hours=1)
    done = world.send()
    assert kinds(done) == ["silent"]
    assert "nightly" in done.sent[0].text
    assert "now-and-then" not in done.sent[0].text
    world.clock.pass_by(hours=2)
    assert kinds(world.send()) == []
    world.succeed(tool_name="nightly")
    world.clock.pass_by(minutes=15)
    assert kinds(world.send()) == ["resolved"]


def test_thresholds_of_a_tool(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.yaml").write_text("""
tools:
- {tools: patient, window: 2 h, slow: off, silent: off}
- {tools: keen, window: 0 s, slow: {factor: 1.5, min_seconds: 1, runs: 5}, silent: {days: 2}}
""")
    monkeypatch.setenv("AUDIT_ALERTS_FILE", str(tmp_path / "rules.yaml"))
    tools = ("patient", "keen", "usual")

    def subjects(**later: float) -> set[str]:
        world.clock.pass_by(**later)
        return {sent.subject for sent in world.send().sent}

    world.fail("the first")
    subjects()
    for name in tools:
        world.fail("broken", tool_name=name)
    assert subjects() == {"keen extract failed: broken"}, "for it there is no window"
    assert subjects(minutes=11) == {"usual extract failed: broken"}
    assert subjects(hours=2) == {"patient extract failed: broken"}

    for name in tools:
        world.fail("broken", tool_name=name)
    world.send()
    for _ in range(6):
        for name in tools:
            world.succeed(tool_name=name, duration_seconds=4.0)
    over = "usual extract works again after 2 failures"
    assert subjects(minutes=11) in ({f"keen{over[5:]} and 1 more"}, {f"{over} and 1 more"})
    assert subjects(minutes=80) == {"patient extract still fails: broken"}, "the second, an hour after the first"
    assert subjects(minutes=40) == {f"patient{over[5:]}"}

    for name in tools:
        world.succeed(tool_name=name, duration_seconds=8.0)
    assert subjects(minutes=6) == {"keen extract was unusually slow"}


def test_silence_of_a_tool(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.yaml").write_text("silent: off\ntools: [{tools: keen, silent: {days: 2}}]")
    monkeypatch.setenv("AUDIT_ALERTS_FILE", str(tmp_path / "rules.yaml"))
    today = (world.clock.now + timedelta(hours=1)).replace(hour=12)
    for back in range(2, 12):
        world.succeed(tool_name="other", timestamp=today - timedelta(days=back))
        if back < 4:
            world.succeed(tool_name="keen", timestamp=today - timedelta(days=back))
    world.clock.pass_by(hours=1)
    assert {sent.subject for sent in world.send().sent} == {"keen is silent"}


def test_imported_history_alerts_nobody(world: World) -> None:
    imported = {"context": {"imported_from": {"kind": "markdown-log", "file": "x.md"}}}
    for _ in range(30):
        world.succeed(duration_seconds=1.0, **imported)
    world.succeed(duration_seconds=4000.0, **imported)
    world.fail(**imported)
    world.clock.pass_by(hours=2)
    assert world.send().sent == []


def test_a_failed_run_is_told_once(world: World, receiver: Receiver) -> None:
    settings = Settings.load()
    error = "cannot reach postgresql://ada:hunter2hunter2@db/audit"
    for _ in range(3):
        queue_run_failure(world.connection, settings, "3f2a", "daily_documents_job", error, "http://d/runs/3f2a")
    world.clock.pass_by(seconds=5)
    assert world.due()
    sent = world.send()
    assert kinds(sent) == ["run failed"]
    assert len(receiver.keys) == 1
    assert one(world.connection, "SELECT happened FROM alert_incidents") == 1
    assert all("hunter2" not in one.text and "SECRET" in one.text for one in sent.sent)


def test_the_heart_beats_once_a_day_while_messages_get_out(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_HEARTBEAT_URL", f"http://127.0.0.1:{receiver.server.server_port}/beat")
    world.send()
    world.send()
    assert receiver.got == [{"path": "/beat"}]
    receiver.mode = "fail"
    world.fail()
    world.send()
    world.clock.pass_by(days=1.5)
    world.send()
    assert len(receiver.got) == 1
    receiver.mode = "take"
    world.clock.pass_by(hours=1)
    world.send()
    assert receiver.got[-1] == {"path": "/beat"}


def tick() -> object:
    """What the sensor asks for, by the server's clock."""
    given = {"resources": defs.resources, "definitions": defs}
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance, "0", **given) as context:
        return defs.resolve_sensor_def("failure_alerts_sensor")(context)


@pytest.mark.parametrize("mode", ["refuse", "hang", "fail"])
def test_an_endpoint_that_is_down_for_an_hour(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """All are delivered afterwards, in order; neither the sensor's question nor a pass takes five seconds."""
    with receiving() as second:
        address = f"{receiver.url} {second.url}"
        if mode == "refuse":
            receiver.close()
        receiver.mode = mode
        monkeypatch.setenv("AUDIT_ALERT_URLS", address)
        question, one_tick, one_pass = Stopwatch(), Stopwatch(), Stopwatch()
        ticks: list[object] = []
        for number in range(20):
            world.fail(operation=f"step-{'x' * number}")
            world.clock.pass_by(minutes=3)
            with question.running():
                world.due()
            with one_tick.running():
                ticks.append(tick())
            with one_pass.running():
                world.send()
        assert receiver.got == []
        assert len(second.got) >= 5
        monkeypatch.setenv("AUDIT_ALERT_URLS", address)
        receiver.mode = "take"
        if mode == "refuse":
            receiver.reopen()
        world.clock.pass_by(hours=1)
        world.send()
        assert receiver.keys == second.keys
        attempts = [message["attempt"] for message in receiver.got]
        assert attempts[0] > 1
        assert set(attempts[1:]) == {1}
    assert question.longest < 1
    assert len(ticks) == 20
    assert all(isinstance(asked, dg.RunRequest) for asked in ticks), "each had something to do"
    assert one_tick.longest < 5
    assert one_pass.longest < 5
    assert one(world.connection, "SELECT count(*) FROM alert_outbox WHERE digest IS NULL") == 0
    assert one(world.connection, "SELECT count(*) FROM alert_messages WHERE sent_at IS NULL") == 0


@pytest.mark.chaos
def test_sixteen_writers_and_every_failure_in_one_digest(world: World, receiver: Receiver, settings: Settings) -> None:
    writing = [threading.Thread(target=_write, args=(settings, number)) for number in range(WRITERS)]
    for thread in writing:
        thread.start()
    while any(thread.is_alive() for thread in writing):
        send_alerts(world.connection, Settings.load())
    for thread in writing:
        thread.join()
    world.clock.now = datetime.now(UTC)
    for _ in range(3):
        world.clock.pass_by(hours=2)
        world.send()
    assert one(world.connection, "SELECT count(*) FROM alert_outbox") == FAILURES
    assert one(world.connection, "SELECT count(*) FROM alert_outbox WHERE digest IS NULL OR sent_at IS NULL") == 0
    assert one(world.connection, "SELECT sum(happened) FROM alert_incidents") == FAILURES
    told = one(world.connection, "SELECT count(DISTINCT digest) FROM alert_outbox")
    assert told == one(world.connection, "SELECT count(DISTINCT key) FROM alert_messages") == len(set(receiver.keys))
    assert len(receiver.keys) == len(set(receiver.keys))


def _write(settings: Settings, number: int) -> None:
    fate = random.Random(number)  # noqa: S311 - chance, not secrecy
    left = FAILURES // WRITERS
    with connect(settings) as connection:
        while left:
            batch = min(left, fate.randint(1, 20))
            with connection.transaction():
                failed = {"success": False, "tool_name": f"tool-{'abc'[fate.randrange(3)]}"}
                append(connection, [make_entry(error_message=f"no station {left}", **failed) for _ in range(batch)])
                threading.Event().wait(fate.uniform(0, 0.1))
            left -= batch
