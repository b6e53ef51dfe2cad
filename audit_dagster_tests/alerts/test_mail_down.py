"""A real mail server that refuses, hangs or says no: others get their messages, and it gets its own when it is back."""

from __future__ import annotations

import email
import email.policy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest

from audit_dagster.alert_send import Sent
from audit_dagster.alert_service import send_alerts
from audit_dagster.definitions import defs
from audit_dagster.settings import Settings
from audit_dagster.store.query import append
from audit_dagster_tests.alerts.servers import free_port, mail_server, silent_server
from audit_dagster_tests.alerts.world import KEY_VARIABLE, Receiver, Stopwatch, one, receiving
from audit_dagster_tests.conftest import make_entry

Connection = psycopg.Connection[Any]
MAIL = "mailto://127.0.0.1"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@contextmanager
def refusing(port: int) -> Iterator[None]:
    """Nobody listens."""
    yield


@contextmanager
def saying(port: int, answer: str) -> Iterator[None]:
    with mail_server(port) as mail:
        mail.refusal = answer
        yield


def trouble(name: str, port: int) -> AbstractContextManager[object]:
    if name == "refuses":
        return refusing(port)
    return silent_server(port) if name == "hangs" else saying(port, name)


class Post:
    """The service, with a mail server at a port, and a webhook beside it."""

    def __init__(self, connection: Connection, other: Receiver, port: int) -> None:
        self.connection, self.other, self.port = connection, other, port
        self.now = datetime.now(UTC)

    def fail(self, operation: str) -> None:
        assert append(self.connection, [make_entry(success=False, operation=operation, error_message="no")]) == [
            "stored"
        ]

    def send(self, **later: float) -> list[Sent]:
        """One pass, so much later: what was tried by mail."""
        self.now = max(self.now, datetime.now(UTC)) + timedelta(**later)
        done = send_alerts(self.connection, Settings.load(), lambda: self.now)
        assert [sent for sent in done.sent if sent.error and sent.target != MAIL] == []
        return [sent for sent in done.sent if sent.target == MAIL]


@pytest.fixture
def post(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    port = free_port()
    monkeypatch.setenv(KEY_VARIABLE, "key")
    with receiving() as other:
        address = f"mailto://127.0.0.1:{port}/?from=audit@example.org&to=ada@example.org"
        monkeypatch.setenv("AUDIT_ALERT_URLS", f"{address} {other.url}")
        yield Post(connection, other, port)


TROUBLES = {
    "refuses": "cannot be reached: Connection refused",
    "hangs": "did not answer",
    "451 try again later": "answered 451",
    "554 no thanks": "answered 554",
}


@pytest.mark.parametrize("name", TROUBLES)
def test_after_an_hour_all_mail_gets_out_in_order(post: Post, name: str) -> None:
    steps = [f"step-{letter}" for letter in "abcdefghijkl"]
    start, one_pass = post.now, Stopwatch()
    tried: list[Sent] = []
    with trouble(name, post.port):
        for step in steps:
            post.fail(step)
            with one_pass.running():
                tried += post.send(minutes=5.5)
    assert post.now - start > timedelta(hours=1)
    assert len(tried) >= 5 and all(sent.error for sent in tried)
    assert len(post.other.got) >= 5, "the webhook has its messages all the while"
    assert one_pass.longest < 5
    with mail_server(post.port) as mail:
        assert [sent for sent in post.send(hours=1) if sent.error] == []
        got = [email.message_from_bytes(raw, policy=email.policy.default) for raw in mail.got]
    assert [message["subject"] for message in post.other.got] == [
        str(message["Subject"]).removeprefix("May be a repeat: ") for message in got
    ]
    text = "".join(message["text"] for message in post.other.got)
    assert [step for step in steps if step not in text] == []
    assert one(post.connection, "SELECT count(*) FROM alert_messages WHERE sent_at IS NULL") == 0


@pytest.mark.parametrize(("name", "error"), [(name, f"{MAIL} {error}") for name, error in TROUBLES.items()])
def test_mail_is_tried_again_until_it_gets_out_once(post: Post, name: str, error: str) -> None:
    post.fail("first")
    with trouble(name, post.port):
        said = run_the_job()
        assert [line for line in said if line.startswith(f"{MAIL}: {error}")], said
        assert len(post.other.got) == 1, "the webhook does not wait for the mail"
        assert "\tfirst\tno" in listed()
        assert post.send(seconds=30) == []
        again = post.send(minutes=1)
        assert [sent.error and sent.error.startswith(error) for sent in again] == [True]
        post.fail("second")
        assert post.send(seconds=90) == [], "two minutes after the second attempt, not one"
        assert [bool(sent.error) for sent in post.send(minutes=10)] == [True]
        assert len(post.other.got) == 2
        assert failures_in_a_row(post) == 3
    with mail_server(post.port) as mail:
        assert post.send(minutes=2) == [], "four, after the third"
        assert [sent.error for sent in post.send(minutes=3)] == [None, None]
        assert post.send(minutes=30) == []
        subjects = [str(email.message_from_bytes(raw, policy=email.policy.default)["Subject"]) for raw in mail.got]
    assert subjects == ["May be a repeat: sensing-data first failed: no", "sensing-data second failed: no"]
    assert [message["attempt"] for message in post.other.got] == [1, 1]
    assert failures_in_a_row(post) == 0
    assert one(post.connection, "SELECT count(*) FROM alert_messages WHERE sent_at IS NULL") == 0
    assert "\tsecond\tno" in listed()


def run_the_job() -> list[str]:
    """What the run of the alerts says in its log."""
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("failure_alerts_job")
        done = job.execute_in_process(run_config=_QUIET, instance=instance)
        return [entry.user_message for entry in instance.all_logs(done.run_id)]


def listed() -> str:
    command = [sys.executable, "-m", "audit_dagster.cli", "alerts", "list"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def failures_in_a_row(post: Post) -> int:
    found: int = one(post.connection, "SELECT failed_in_a_row FROM alert_targets WHERE name LIKE 'mailto:%'")
    return found
