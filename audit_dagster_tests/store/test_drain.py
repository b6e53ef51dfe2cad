"""From the spool to the database: nothing lost, nothing twice, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.errors import AuditError
from audit_dagster.recording.recorder import Recording
from audit_dagster.recording.spool import waiting
from audit_dagster.settings import Settings
from audit_dagster.store.drain import drain

Connection = psycopg.Connection[Any]


def record(operation: str) -> None:
    recording = Recording("tool", operation)
    recording.start(None)
    recording.finish(success=True, error_message=None)


def count(connection: Connection) -> int:
    (found,) = connection.execute("SELECT count(*) FROM audit_logs").fetchone() or (0,)
    return int(found)


def test_the_detached_drainer_stores_without_being_asked(settings: Settings, connection: Connection) -> None:
    record("x")
    _wait_until(lambda: not waiting(settings.spool_dir))
    assert count(connection) == 1


def test_another_users_file_and_lock_harm_nobody(
    settings: Settings, connection: Connection, without_drainer: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody once used sudo. Root may read every file, so there a FIFO stands for one that is not to be taken."""
    record("mine")
    theirs = settings.spool_dir / "1-theirs.op"
    if os.geteuid() == 0:
        os.mkfifo(theirs)
    else:
        theirs.touch(mode=0)
    drained = drain(settings)
    assert (drained.stored, drained.unreadable) == (1, os.geteuid() != 0)
    drainer = subprocess.run([sys.executable, "-m", "audit_dagster.store.drain"], check=False, timeout=20)
    assert drainer.returncode == 0
    (settings.spool_dir / "drain.lock").unlink()
    (settings.spool_dir / "drain.lock").mkdir()
    record("another")
    assert [entry.operation for entry in AuditService().recent_entries()] == ["mine"]
    assert "cannot be used" in capsys.readouterr().err
    with pytest.raises(AuditError, match="give it to the user"):
        drain(settings)


def test_draining_again_adds_nothing(
    settings: Settings, connection: Connection, tmp_path: Path, without_drainer: None
) -> None:
    """A crash between COMMIT and the file's removal leaves the file: it is a duplicate then."""
    recording = Recording("tool", "x")
    recording.start(None)
    (path,) = waiting(settings.spool_dir)
    kept = tmp_path / "kept"
    os.link(path, kept)
    recording.finish(success=True, error_message=None)
    drain(settings)
    kept.rename(path)
    assert drain(settings).duplicates == 1
    assert count(connection) == 1


def test_an_unreachable_database_keeps_everything_and_backs_off(
    settings: Settings, connection: Connection, monkeypatch: Any
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "1")
    record("x")
    backoff = settings.spool_dir / "drain.backoff"
    _wait_until(backoff.exists)
    assert len(waiting(settings.spool_dir)) == 1
    monkeypatch.setenv("POSTGRES_PORT", str(settings.postgres.port if settings.postgres else 0))
    record("y")  # no drainer starts: the last one failed a moment ago
    time.sleep(0.5)
    assert len(waiting(settings.spool_dir)) == 2
    assert drain(settings).stored == 2  # a reader does not wait for the back-off
    assert count(connection) == 2


def test_a_draft_of_a_dead_process_is_swept_up(settings: Settings, connection: Connection) -> None:
    settings.spool_dir.mkdir(parents=True)
    old, new = settings.spool_dir / "1-old.tmp", settings.spool_dir / "2-new.tmp"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    record("x")
    drain(settings)
    _wait_until(lambda: not old.exists())
    assert new.exists()


def test_a_writers_account_is_enough(settings: Settings, connection: Connection, without_drainer: None) -> None:
    assert settings.postgres is not None
    connection.execute("CREATE ROLE only_writer LOGIN PASSWORD 'w' IN ROLE audit_writer")
    try:
        record("x")
        writer = settings._replace(postgres=settings.postgres._replace(user="only_writer", password="w"))
        assert drain(writer).stored == 1
    finally:
        connection.execute("DROP ROLE only_writer")


def test_an_account_that_may_only_read_reads_on(
    settings: Settings, connection: Connection, without_drainer: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings.postgres is not None
    connection.execute("CREATE ROLE only_reader LOGIN PASSWORD 'r' IN ROLE audit_reader")
    try:
        record("x")
        reader = settings._replace(postgres=settings.postgres._replace(user="only_reader", password="r"))
        assert AuditService(reader).recent_entries() == []
        assert "the spool stays as it is" in capsys.readouterr().err
        assert len(waiting(settings.spool_dir)) == 1
    finally:
        connection.execute("DROP ROLE only_reader")


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
