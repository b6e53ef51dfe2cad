"""The switch holds across processes, sessions and folders, for one user; and what the status says is so."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_dagster import get_logging_status, log_custom_operation, recent_logs, set_global_logging
from audit_dagster.recording.recorder import Recording
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store import embedded
from audit_dagster.store.connect import open_connection
from audit_dagster.store.drain import drain
from audit_dagster_tests.store.test_embedded import open_folder

CLI = (sys.executable, "-m", "audit_dagster.cli")
RECORD_ONE = """
from audit_dagster import log_custom_operation
with log_custom_operation("tool", "one"):
    pass
"""
ASK = "from audit_dagster import get_logging_status; print(get_logging_status()['enabled'])"


def audit(*words: str) -> subprocess.CompletedProcess[str]:
    """A command, in a session of its own."""
    command = ["setsid", "--wait", *CLI, *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def status_lines(*labels: str) -> list[str]:
    shown = audit("postgres-logging-status")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = {label: value.strip() for label, _, value in (line.partition(":") for line in shown.stdout.splitlines())}
    return [lines[label] for label in labels]


def python(code: str) -> str:
    """What a process in another session prints."""
    command = ["setsid", "--wait", sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# ---- The switch ----


def test_it_holds_in_every_later_session_and_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert audit("postgres-logging-status").stdout.startswith("Postgres logging: enabled (default)\n")
    assert audit("disable-postgres-logging").stdout == "Postgres logging: disabled (settings file)\n"
    assert status_lines("Postgres logging", "Decided by") == ["disabled (settings file)", str(settings.config_file)]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert python(ASK) == "False\n"
    python(RECORD_ONE)
    assert recent_logs() == []
    assert audit("enable-postgres-logging").stdout == "Postgres logging: enabled (settings file)\n"
    assert python(ASK) == "True\n"
    python(RECORD_ONE)
    assert [log["operation"] for log in recent_logs()] == ["one"]


def test_the_environment_overrides_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_LOGGING_STATUS", "false")
    assert python(ASK) == "False\n"
    overridden = ["disabled (environment)", "POSTGRES_LOGGING_STATUS in the environment"]
    assert status_lines("Postgres logging", "Decided by") == overridden
    done = audit("enable-postgres-logging")
    assert (done.returncode, done.stdout) == (1, "Postgres logging: disabled (environment)\n")
    assert done.stderr == "Error: POSTGRES_LOGGING_STATUS in the environment decides otherwise: unset it\n"
    monkeypatch.delenv("POSTGRES_LOGGING_STATUS")
    assert python(ASK) == "True\n"


def test_an_env_file_in_a_folder_above_overrides_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_global_logging(True)
    env_file = tmp_path / "project" / ".env"
    below = tmp_path / "project" / "a" / "b"
    below.mkdir(parents=True)
    env_file.write_text("POSTGRES_LOGGING_STATUS=off\n")
    monkeypatch.chdir(below)
    overridden = ["disabled (environment)", f"POSTGRES_LOGGING_STATUS in {env_file}"]
    assert status_lines("Postgres logging", "Decided by") == overridden
    python(RECORD_ONE)
    assert f"{env_file} decides otherwise" in audit("enable-postgres-logging").stderr
    monkeypatch.setenv("POSTGRES_LOGGING_STATUS", "on")
    assert python(ASK) == "True\n"
    python(RECORD_ONE)
    monkeypatch.delenv("POSTGRES_LOGGING_STATUS")
    monkeypatch.chdir(tmp_path)
    assert python(ASK) == "True\n"
    assert len(recent_logs()) == 1


def test_a_broken_settings_file_is_a_problem_that_a_switch_solves(settings: Settings) -> None:
    """Nothing is recorded then: the status is where one looks for the reason, so it has to work."""
    settings.config_file.parent.mkdir(parents=True, exist_ok=True)
    settings.config_file.write_text("{")
    logging, problem = status_lines("Postgres logging", "Problem")
    assert logging == "disabled (settings file)"
    assert problem == f"{settings.config_file} is broken: delete it, or enable or disable logging again"
    assert audit("enable-postgres-logging").returncode == 0
    assert get_logging_status()["problems"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users")
def test_each_user_has_a_switch_of_their_own() -> None:
    with new_user("ada") as ada, new_user("ben") as ben:
        assert as_user(ada, *CLI, "disable-postgres-logging") == "Postgres logging: disabled (settings file)\n"
        assert as_user(ada, sys.executable, "-c", ASK) == "False\n"
        assert as_user(ben, sys.executable, "-c", ASK) == "True\n"
        as_user(ben, sys.executable, "-c", RECORD_ONE, POSTGRES_PORT="1")
        shown = {user: json.loads(as_user(user, *CLI, "postgres-logging-status", "--json")) for user in (ada, ben)}
        assert [shown[user]["enabled"] for user in (ada, ben)] == [False, True]
        assert [shown[user]["waiting"] for user in (ada, ben)] == [0, 1]
        assert shown[ada]["decided_where"] == f"{pwd.getpwnam(ada).pw_dir}/.config/audit-dagster/settings.json"


@contextmanager
def new_user(name: str) -> Iterator[str]:
    user = f"audit-{name}-{os.getpid()}"
    home = tempfile.mkdtemp(prefix="audit-home-")
    subprocess.run(["useradd", "--no-create-home", "--home-dir", home, user], check=True)
    shutil.chown(home, user)
    try:
        yield user
    finally:
        subprocess.run(["userdel", user], check=True)
        shutil.rmtree(home)


def as_user(user: str, *command: str, **variables: str) -> str:
    """What a command prints as that user, in a session of its own that leaves no process. A Python in root's home is
    shown to it there."""
    python = Path(sys.base_prefix)
    reach = "true"
    if python.is_relative_to("/root"):
        reach = (
            f"mount --bind {python} /mnt; mount -t tmpfs -o mode=0755 tmpfs /root;"
            f" mkdir -p {python}; mount --bind /mnt {python}"
        )
    script = f'{reach}; cd /; exec setsid --wait runuser -u {user} -- "$@"'
    home = pwd.getpwnam(user).pw_dir
    environment = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
    words = ["unshare", "--mount", "--pid", "--fork", "bash", "-ec", script, "bash", *command]
    done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


# ---- The status ----


@pytest.fixture
def no_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's user has lost is not counted."""
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))


def test_everything_at_the_beginning(settings: Settings, no_losses: None) -> None:
    place = settings.postgres
    assert place is not None
    assert get_logging_status() == {
        "enabled": True,
        "decided_by": "default",
        "decided_where": None,
        "spool_dir": str(settings.spool_dir),
        "waiting": 0,
        "running": 0,
        "quarantined": 0,
        "quarantine_reasons": [],
        "last_delivered": None,
        "lost": 0,
        "last_lost": None,
        "database": f"{place.host}:{place.port}/{place.db}",
        "database_answers": True,
        "database_problem": None,
        "problems": [],
    }
    assert audit("postgres-logging-status").stdout.splitlines() == [
        "Postgres logging: enabled (default)",
        f"Spool:            {settings.spool_dir}",
        "Waiting:          0",
        "In quarantine:    0",
        "Last delivered:   never",
        "Lost:             0",
        f"Database:         {place.host}:{place.port}/{place.db}",
        "Database answers: yes",
    ]


def test_what_waits_runs_was_delivered_and_was_refused(
    settings: Settings, without_drainer: None, no_losses: None
) -> None:
    ended = Recording("tool", "ended")
    ended.start(None)
    ended.finish(success=True, error_message=None)
    with log_custom_operation("tool", "runs"):
        status = get_logging_status()
        assert (status["waiting"], status["running"]) == (2, 1)
        assert status_lines("Waiting") == ["2, 1 of them running"]
    (settings.spool_dir / "1-damaged.op").write_text("00000000 2 {}\n")
    drain(settings)
    status = get_logging_status()
    assert (status["waiting"], status["running"], status["quarantined"]) == (0, 0, 1)
    assert status["quarantine_reasons"] == [{"name": "1-damaged.op", "reason": "a line's checksum does not fit"}]
    assert datetime.now(UTC) - status["last_delivered"] < timedelta(minutes=1)
    told = json.loads(audit("postgres-logging-status", "--json").stdout)
    times = {"last_delivered": status["last_delivered"].isoformat()}
    assert told == {**status, **times}
    assert status_lines("In quarantine", "Refused") == ["1", "1-damaged.op: a line's checksum does not fit"]


def test_a_database_that_refuses_or_lacks_something(
    settings: Settings, empty_database: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.postgres is not None
    monkeypatch.setenv("POSTGRES_DB", empty_database.db)
    check_database(True, "run `audit-dagster init-db`")
    monkeypatch.setenv("POSTGRES_DB", settings.postgres.db)
    with open_connection(settings.postgres) as connection:
        connection.execute("CREATE ROLE only_looks LOGIN PASSWORD 'l' IN ROLE audit_reader")
    monkeypatch.setenv("POSTGRES_USER", "only_looks")
    monkeypatch.setenv("POSTGRES_PASSWORD", "l")
    try:
        check_database(True, "GRANT audit_writer TO only_looks")
    finally:
        with open_connection(settings.postgres) as connection:
            connection.execute("DROP ROLE only_looks")
    check_database(False, "correct POSTGRES_USER and POSTGRES_PASSWORD")
    monkeypatch.setenv("POSTGRES_PORT", "1")
    check_database(False, "correct POSTGRES_HOST and POSTGRES_PORT")


def check_database(answers: bool, advice: str) -> None:
    status = get_logging_status()
    assert status["database_answers"] is answers
    assert status["database_problem"].endswith(advice)


def test_a_server_that_accepts_and_never_answers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("POSTGRES_HOST", "127.0.0.1")
        monkeypatch.setenv("POSTGRES_PORT", str(silent.getsockname()[1]))
        status = get_logging_status()
    assert (status["database_answers"], status["database_problem"]) == (False, "no answer within 3 seconds")
    assert status["enabled"]


def test_a_server_that_is_silent_after_the_login(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("LOCK TABLE pg_proc IN ACCESS EXCLUSIVE MODE")
        answers = status_lines("Database answers")
    assert answers == ["no: no answer within 3 seconds"]


def test_the_embedded_server_is_asked_where_it_runs_and_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("POSTGRES_", "AUDIT_"))]:
        monkeypatch.delenv(name)
    with open_folder() as folder:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("AUDIT_STATE_DIR", str(folder / "state"))
        idle = "not asked: not running; it starts when it is needed"
        assert status_lines("Database", "Database answers") == [f"embedded server in {folder / 'state'}", idle]
        assert not (folder / "state").exists()
        assert recent_logs() == []
        assert status_lines("Database answers") == ["yes"]
        assert embedded.stop(folder / "state")
        assert status_lines("Database answers") == [idle]
