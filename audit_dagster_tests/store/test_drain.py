"""From the spool to the database: nothing lost, nothing twice, whatever happens in between."""

from __future__ import annotations

import os
import signal
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
from audit_dagster.store import drain as drain_module
from audit_dagster.store.drain import QUARANTINE, drain

Connection = psycopg.Connection[Any]


def record(operation: str, result: object = None) -> None:
    recording = Recording("tool", operation)
    recording.start(None)
    recording.results["value"] = result
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


def test_one_poison_entry_is_quarantined_and_its_neighbours_are_stored(
    settings: Settings, connection: Connection, without_drainer: None
) -> None:
    for number in range(40):
        record(f"operation {number}")
    poison, torn = waiting(settings.spool_dir)[7], waiting(settings.spool_dir)[21]
    _replace_line(poison, '"duration_seconds":', '"duration_seconds":-')
    torn.write_bytes(torn.read_bytes().replace(b"operation", b"0peration"))
    drained = drain(settings)
    assert (drained.stored, drained.quarantined) == (38, 2)
    reasons = {path.stem: path.read_text() for path in (settings.spool_dir / QUARANTINE).glob("*.reason")}
    assert "duration_seconds" in reasons[poison.stem]
    assert "checksum" in reasons[torn.stem]
    assert count(connection) == 38


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


def test_drainers_killed_at_random_lose_nothing(
    settings: Settings, connection: Connection, without_drainer: None
) -> None:
    for number in range(400):
        record(str(number), "x" * 1000)
    command = [sys.executable, "-m", "audit_dagster.store.drain"]
    for attempt in range(6):
        drainer = subprocess.Popen(command)
        time.sleep(0.25 + 0.05 * attempt)
        drainer.send_signal(signal.SIGKILL)
        drainer.wait()
    drain(settings)
    assert count(connection) == 400
    assert waiting(settings.spool_dir) == []


def test_many_drainers_at_once(settings: Settings, connection: Connection, without_drainer: None) -> None:
    for number in range(200):
        record(str(number))
    drainers = [subprocess.Popen([sys.executable, "-m", "audit_dagster.store.drain"]) for _ in range(4)]
    assert [drainer.wait(timeout=60) for drainer in drainers] == [0, 0, 0, 0]
    assert count(connection) == 200


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


def _replace_line(path: Path, old: str, new: str) -> None:
    """Change a file's last line as a broken tool might: with a checksum that fits."""
    import json
    import zlib

    first, second, *_ = path.read_bytes().splitlines()
    text = second.split(b" ", 2)[2].decode().replace(old, new).encode()
    json.loads(text)
    path.write_bytes(first + b"\n" + b"%08x %d %s\n" % (zlib.crc32(text), len(text), text))


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


assert drain_module.BATCH < 400  # the tests above span several batches
