"""Quiet hours, routes and thresholds of a YAML file through the whole service, in the nights when the clock changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from audit_dagster.alert_service import alerts_due, send_alerts
from audit_dagster.settings import Settings
from audit_dagster.store.query import append
from audit_dagster_tests.alerts.world import KEY_VARIABLE, Receiver, one, receiving
from audit_dagster_tests.conftest import make_entry

Connection = psycopg.Connection[Any]
CHICAGO = ZoneInfo("America/Chicago")
RULES = """
window: 2 minutes
still_failing: [3 hours]
slow: {factor: 1.5, min_seconds: 10, runs: 3}
silent: off
quiet_hours: {from: "22:00", to: "07:00"}
urgent: [etl-*]
mute: [sandbox-*]
targets: {soil-team: "${SOIL_TEAM}"}
routes:
  - {tools: "soil-*", targets: [soil-team]}
  - {tools: "*", targets: ["webhook+http://127.0.0.1", file]}
"""
# Far from today: the outbox has the server's own hour, and nobody may be before it.
SPRING, AUTUMN = datetime(2040, 3, 10, 21, tzinfo=CHICAGO), datetime(2040, 11, 3, 21, tzinfo=CHICAGO)


class Night:
    """The service from an evening on, a minute after the other; who got what, when by the clock on the wall."""

    def __init__(self, connection: Connection, lab: Receiver, soil: Receiver) -> None:
        self._connection, self.lab, self.soil = connection, lab, soil
        self.now = SPRING

    def begin(self, evening: datetime) -> None:
        self.now = evening.astimezone(ZoneInfo("UTC"))

    def run(self, tool_name: str, **fields: Any) -> None:
        entry = make_entry(timestamp=self.now, tool_name=tool_name, **fields)
        assert append(self._connection, [entry]) == ["stored"]

    def fail(self, tool_name: str) -> None:
        self.run(tool_name, success=False, error_message="broken")

    def until(self, end: datetime, step: timedelta = timedelta(minutes=10)) -> list[tuple[str, str, str]]:
        """What was sent, to all but the folder: the hour, its kind, and whose subject."""
        seen = []
        while self.now <= end.astimezone(self.now.tzinfo):
            sent = send_alerts(self._connection, Settings.load(), lambda: self.now).sent
            assert [attempt.error for attempt in sent if attempt.error] == []
            hour = f"{self.now.astimezone(CHICAGO):%H:%M %Z}"
            seen += [(hour, item.kind, item.subject.split()[0]) for item in sent if item.target != "file"]
            self.now += step
        return seen

    def is_quiet_now(self) -> bool:
        return not alerts_due(self._connection, self.now)


@pytest.fixture
def night(connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.setenv("AUDIT_ALERTS_FILE", str(tmp_path / "rules.yaml"))
    monkeypatch.setenv("AUDIT_TIMEZONE", "America/Chicago")
    monkeypatch.setenv(KEY_VARIABLE, "key")
    with receiving() as lab, receiving() as soil:
        monkeypatch.setenv("AUDIT_ALERT_URLS", lab.url)
        monkeypatch.setenv("SOIL_TEAM", soil.url)
        yield Night(connection, lab, soil)


@pytest.mark.parametrize(("evening", "hours", "ends"), [(SPRING, 9, "07:00 CDT"), (AUTUMN, 11, "07:00 CST")])
def test_a_night_with_a_clock_change(
    night: Night, connection: Connection, evening: datetime, hours: int, ends: str
) -> None:
    """Held whatever the length of the night, then told once, each by its route; what is urgent goes at once."""
    night.begin(evening + timedelta(hours=2))
    for tool in ("turf", "soil-moisture", "etl-nightly", "sandbox-1"):
        night.fail(tool)
    urgent = night.until(night.now)
    assert [found[1:] for found in urgent] == [("first seen", "etl-nightly")]
    assert night.is_quiet_now()
    morning = evening.replace(hour=7) + timedelta(days=1)
    real_length = (morning.timestamp() - evening.timestamp()) / 3600
    assert real_length == hours, "an hour less, or more, than in other nights"
    assert night.until(datetime.fromtimestamp(morning.timestamp() - 60, CHICAGO)) == []
    night.now = morning.astimezone(night.now.tzinfo)
    assert not night.is_quiet_now()
    told = night.until(morning)
    assert sorted(told) == [(ends, "first seen", "soil-moisture"), (ends, "first seen", "turf")]
    assert night.until(morning + timedelta(hours=2)) == []
    subjects = [message["subject"].split()[0] for message in (*night.lab.got, *night.soil.got)]
    assert sorted(subjects) == ["etl-nightly", "soil-moisture", "turf"], (
        "the route's own, the others', once, none muted"
    )
    assert [message["attempt"] for message in night.lab.got + night.soil.got] == [1, 1, 1]
    assert one(connection, "SELECT count(*) FROM alert_messages WHERE sent_at IS NULL") == 0


@pytest.mark.parametrize(
    ("evening", "end", "held_at", "told_at"),
    [
        (SPRING, "02:30", datetime(2040, 3, 11, 1, 50, tzinfo=CHICAGO), "03:30 CDT"),  # 02:30 does not exist
        (AUTUMN, "01:30", datetime(2040, 11, 4, 1, 20, tzinfo=CHICAGO), "01:30 CDT"),  # it comes twice: the first
    ],
)
def test_quiet_hours_that_end_where_the_clock_changes(
    night: Night, tmp_path: Path, evening: datetime, end: str, held_at: datetime, told_at: str
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES.replace("07:00", end))
    night.begin(evening + timedelta(hours=2))
    night.fail("turf")
    assert night.until(held_at) == []
    assert night.until(held_at + timedelta(hours=3)) == [(told_at, "first seen", "turf")]


def test_what_goes_on_failing_at_night_is_one_message_in_the_morning(night: Night) -> None:
    night.begin(AUTUMN)
    night.fail("turf")
    assert night.until(AUTUMN + timedelta(minutes=50)) == [("21:00 CDT", "first seen", "turf")]
    for _ in range(9):
        night.fail("turf")
        assert night.until(night.now + timedelta(minutes=50)) == []
    morning = night.until(datetime(2040, 11, 4, 7, 10, tzinfo=CHICAGO))
    assert morning == [("07:00 CST", "still failing", "turf")]
    assert [message["subject"] for message in night.lab.got] == [
        "turf extract failed: broken",
        "turf extract still fails: broken (9 times)",
    ]


def test_thresholds_of_the_file(night: Night) -> None:
    night.begin(SPRING.replace(hour=12))
    for _ in range(3):
        night.run("soil-moisture", duration_seconds=20.0)
    night.now += timedelta(minutes=6)
    assert night.until(night.now) == []
    night.run("soil-moisture", duration_seconds=29.0)  # 1.5 times, but only 9 s more
    night.now += timedelta(minutes=6)
    assert night.until(night.now) == []
    night.run("soil-moisture", duration_seconds=60.0)
    night.now += timedelta(minutes=6)
    assert [found[1:] for found in night.until(night.now)] == [("unusually slow", "soil-moisture")]
    assert (night.lab.got, len(night.soil.got)) == ([], 1)
