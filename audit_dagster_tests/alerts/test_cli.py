"""`audit-dagster alerts`: a person sees what is open, and says what need not be told."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from audit_dagster.alert_service import send_alerts
from audit_dagster.settings import Settings
from audit_dagster.store.query import append
from audit_dagster_tests.alerts.world import KEY_VARIABLE, one, receiving
from audit_dagster_tests.conftest import make_entry

Connection = psycopg.Connection[Any]


def alerts(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "audit_dagster.cli", "alerts", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def fail(connection: Connection, tool_name: str, error: str = "broken") -> None:
    entry = make_entry(success=False, tool_name=tool_name, error_message=error, timestamp=datetime.now(UTC))
    assert append(connection, [entry]) == ["stored"]


def kinds(connection: Connection, **later: float) -> list[str]:
    now = datetime.now(UTC) + timedelta(**later)
    sent = send_alerts(connection, Settings.load(), lambda: now).sent
    assert [attempt.error for attempt in sent if attempt.error] == []
    return [attempt.kind for attempt in sent]


def test_list_and_acknowledge(connection: Connection, settings: Settings) -> None:
    assert alerts("list").stdout == "No open incidents.\n"
    fail(connection, "turf", "no\x1b[31m station 4\nat all")
    assert kinds(connection) == ["first seen"]
    listed = alerts("list").stdout
    assert "1\tfailing\t" in listed
    assert "\x1b" not in listed
    assert listed.count("\n") == 1
    (form,) = json.loads(alerts("list", "--json").stdout)
    assert (form["id"], form["tool_name"], form["happened"]) == (1, "turf", 1)

    assert alerts("ack", 1).stdout == "Acknowledged 1: turf extract.\n"
    fail(connection, "turf", "no\x1b[31m station 5\nat all")
    assert kinds(connection, hours=2) == []
    assert "1\tacknowledged\t" in alerts("list").stdout
    append(connection, [make_entry(tool_name="turf", timestamp=datetime.now(UTC))])
    assert kinds(connection, hours=4) == ["resolved"]
    assert alerts("list").stdout == "No open incidents.\n"
    assert "1\tresolved\t" in alerts("list", "--all").stdout
    refused = alerts("ack", 1)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there is no open incident 1" in refused.stderr


def test_of_a_traceback_the_list_has_the_end(connection: Connection, settings: Settings) -> None:
    lines = "".join(f'  File "parse.py", line {number}\n' for number in range(50))
    fail(connection, "turf", f"Traceback (most recent call last):\n{lines}ValueError: no column `site`")
    assert kinds(connection) == ["first seen"]
    assert alerts("list").stdout.endswith("\tValueError: no column `site`\n")


def test_list_says_which_target_is_down(
    connection: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "hunter2")
    with receiving() as slack:
        slack.mode = "fail"
        monkeypatch.setenv("AUDIT_ALERT_URLS", slack.url)
        fail(connection, "turf")
        now = datetime.now(UTC)
        assert [attempt.target for attempt in send_alerts(connection, Settings.load(), lambda: now).sent] == [
            *("webhook+http://127.0.0.1", "file")
        ]
        connection.execute("UPDATE alert_messages SET created_at = '2026-11-22 08:00 UTC'")
        listed = alerts("list")
        assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 1)
        assert listed.stderr == (
            "Target 'webhook+http://127.0.0.1' is down: 1 of its messages waiting since 2026-11-22 08:00:00 (UTC), "
            f"1 failed attempts, the next at {now + timedelta(minutes=1):%Y-%m-%d %H:%M:%S}. "
            "Last error: 127.0.0.1 answered 500\n"
        )
        connection.execute("UPDATE alert_targets SET busy_until = now()")
        assert "the next is due. Last" in alerts("list").stderr
        (form,) = json.loads(alerts("list", "--json").stdout)
        assert form["tool_name"] == "turf"
        header, row = alerts("list", "--csv").stdout.splitlines()
        assert header == "id,state,last_seen,happened,tool_name,operation,error_message"
        assert row.endswith(",1,turf,extract,broken")
        slack.mode = "take"
        assert kinds(connection) == ["first seen"]
        assert alerts("list").stderr == ""


def test_muted_is_counted_and_not_told(connection: Connection, settings: Settings) -> None:
    assert "Muted 'sandbox-*' until " in alerts("mute", "sandbox-*", "--for", "2d").stdout
    fail(connection, "sandbox-1")
    fail(connection, "turf")
    assert kinds(connection) == ["first seen"]
    assert one(connection, "SELECT count(*) FROM alert_outbox WHERE digest IS NULL") == 1
    assert one(connection, "SELECT sum(happened) FROM alert_incidents") == 2
    assert kinds(connection, hours=30) == []
    number = one(connection, "SELECT id FROM alert_incidents WHERE tool_name = 'turf'")
    assert f"Muted {number} (turf extract) until" in alerts("mute", number, "--for", "30 d").stdout
    of_incident, of_pattern = alerts("list").stderr.splitlines()
    assert of_incident.startswith("Muted until ") and of_incident.endswith(f" (UTC): {number} (turf extract)")
    assert of_pattern.endswith(" (UTC): 'sandbox-*'")
    fail(connection, "turf")
    assert kinds(connection, hours=47) == []
    assert kinds(connection, hours=50) == ["first seen"]
    assert alerts("unmute", number).stdout == f"No longer muted: {number} (turf extract).\n"
    assert kinds(connection, hours=52) == ["still failing"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("ack", "0"), "0 is not in the range"),
        (("ack", "x"), "not a valid integer"),
        (("mute", "a", "--for", "soon"), "is no length of time: give one such as 10 minutes"),
        (("mute", "99"), "there is no incident 99"),
        (("mute", "9" * 40), "there is no incident 999"),
        (("mute", ""), "is no pattern"),
        (("mute", "=f"), "is no pattern"),
        (("unmute", "nothing\x1b"), "is not muted"),
    ],
)
def test_words_that_are_off(settings: Settings, words: tuple[str, ...], part: str) -> None:
    refused = alerts(*words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert part in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "\x1b" not in refused.stderr


def test_test_says_who_got_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as good, receiving() as bad:
        bad.mode = "fail"
        monkeypatch.setenv(KEY_VARIABLE, "hunter2")
        monkeypatch.setenv("AUDIT_ALERT_URLS", good.url)
        done = alerts("test")
        assert done.returncode == 0, done.stderr
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["ok", "ok"]
        monkeypatch.setenv("AUDIT_ALERT_URLS", f"{good.url} {bad.url}")
        done = alerts("test")
        assert done.returncode == 1
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["ok", "FAILED", "ok"]
        assert "not every target got the message" in done.stderr
        assert len(good.got) == 2
        assert "hunter2" not in done.stdout + done.stderr
