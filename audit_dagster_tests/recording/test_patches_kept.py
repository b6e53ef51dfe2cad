"""Patches on their way: once per content into the spool and the table, named by the operations that ran on them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.recording import git_state, spool
from audit_dagster.recording.recorder import Recording
from audit_dagster.recording.spool import PATCHES, keep_patch, waiting
from audit_dagster.settings import Settings
from audit_dagster.store.drain import QUARANTINE, drain

Git = Callable[..., str]
Connection = psycopg.Connection[Any]
pytestmark = pytest.mark.usefixtures("without_drainer")
RECORD = """
from audit_dagster.recording.recorder import Recording
for _ in range({}):
    recording = Recording("tool", "x")
    recording.start(None)
    recording.finish(success=True, error_message=None)
"""


@pytest.fixture
def dirty(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a change, which is the working directory."""
    folder = tmp_path / "repository"
    git("init", "--quiet", folder)
    monkeypatch.chdir(folder)
    Path("a.txt").write_text("one\n")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    Path("a.txt").write_text("two\n")
    return folder


def record(operation: str = "x") -> None:
    git_state._seen.clear()
    recording = Recording("tool", operation)
    recording.start(None)
    recording.finish(success=True, error_message=None)


def patches(connection: Connection) -> dict[str, bytes]:
    return dict(connection.execute("SELECT sha256, patch FROM audit_patches").fetchall())


def named() -> list[dict[str, Any]]:
    """What the operations say of their patches, newest first."""
    return [entry.context["git"]["patch"] for entry in AuditService().recent_entries(None)]


def test_twenty_operations_of_three_processes_share_one(
    settings: Settings, connection: Connection, dirty: Path, git: Git
) -> None:
    environment = {**os.environ, "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": "1"}  # no drainer gets through
    running = [subprocess.Popen([sys.executable, "-c", RECORD.format(number)], env=environment) for number in (7, 7, 6)]
    assert [process.wait() for process in running] == [0, 0, 0]
    (waits,) = (settings.spool_dir / PATCHES).iterdir()
    assert waits.stat().st_mode & 0o777 == 0o600
    assert waits.parent.stat().st_mode & 0o777 == 0o700
    facts = named()
    assert len(facts) == 20
    ((digest, content),) = patches(connection).items()
    assert all(one == facts[0] for one in facts)
    assert facts[0] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "tree": facts[0]["tree"],
        "exact": True,
    }
    assert digest == facts[0]["sha256"] == waits.name
    assert list((settings.spool_dir / PATCHES).iterdir()) == []
    Path("a.txt").write_text("three\n")
    record()
    assert len(patches(connection)) == 1
    assert named()[0] != facts[0]
    assert len(patches(connection)) == 2


def test_one_that_was_stored_is_stored_again_without_harm(
    settings: Settings, connection: Connection, dirty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("first")
    assert drain(settings).stored == 1
    monkeypatch.setattr(spool, "_kept_patches", set())  # a process that knows nothing of it
    record("second")
    assert len(list((settings.spool_dir / PATCHES).iterdir())) == 1
    assert drain(settings).stored == 1
    assert len(patches(connection)) == 1


def test_threads_may_keep_the_same_patch_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[BaseException] = []

    def keep(content: bytes) -> None:
        try:
            spool._kept_patches.clear()
            keep_patch(settings.spool_dir, content)
        except BaseException as error:
            failures.append(error)

    for number in range(20):
        content = bytes([number]) * 1_000_000
        threads = [threading.Thread(target=keep, args=(content,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    kept = list((settings.spool_dir / PATCHES).iterdir())
    assert len(kept) == 20
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in kept)


def test_a_torn_one_and_strange_things_hold_nothing_up(settings: Settings, connection: Connection, dirty: Path) -> None:
    record("first")
    (whole,) = (settings.spool_dir / PATCHES).iterdir()
    whole.write_bytes(whole.read_bytes()[:50])
    (settings.spool_dir / PATCHES / "a folder").mkdir()
    drained = drain(settings)
    assert (drained.stored, drained.quarantined) == (1, 1)
    assert patches(connection) == {}
    assert (settings.spool_dir / QUARANTINE / whole.name).exists()
    reason = settings.spool_dir / QUARANTINE / f"{whole.name}.reason"
    assert reason.read_text() == "a patch whose content does not fit its name\n"
    record("second")
    assert drain(settings).stored == 1


def test_one_that_comes_while_others_are_stored_is_not_forgotten(
    settings: Settings, connection: Connection, dirty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the patches and the operations another operation begins and ends: it waits for the next round."""
    from audit_dagster.store import drain as module

    stored = module._store_patches

    def and_another(*arguments: Any) -> None:
        stored(*arguments)
        Path("a.txt").write_text("meanwhile\n")
        record("meanwhile")

    record("before")
    monkeypatch.setattr(module, "_store_patches", and_another)
    assert drain(settings).stored == 1
    assert len(waiting(settings.spool_dir)) == 1
    monkeypatch.setattr(module, "_store_patches", stored)
    assert drain(settings).stored == 1
    assert len(patches(connection)) == 2


def test_a_writers_account_suffices_and_nobody_changes_what_is_there(
    settings: Settings, connection: Connection, dirty: Path
) -> None:
    assert settings.postgres is not None
    record()
    connection.execute("CREATE ROLE patch_writer LOGIN PASSWORD 'w' IN ROLE audit_writer")
    try:
        writer = settings._replace(postgres=settings.postgres._replace(user="patch_writer", password="w"))
        assert drain(writer).stored == 1
        connection.execute("SET ROLE patch_writer")
        for statement in ("SELECT * FROM audit_patches", "INSERT INTO audit_patches VALUES ('x', 'x')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        connection.execute("RESET ROLE")
    finally:
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE patch_writer")
    assert len(patches(connection)) == 1
    for replica in (False, True):
        if replica:
            connection.execute("SET session_replication_role = replica")
        for statement in ("UPDATE audit_patches SET patch = ''", "DELETE FROM audit_patches", "TRUNCATE audit_patches"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="audit_patches is append-only"):
                connection.execute(statement)
    assert len(patches(connection)) == 1


def test_without_a_commit_the_operation_says_why_there_is_none(
    settings: Settings, tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("init", "--quiet", tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    Path("file").touch()
    record()
    assert named() == [{"error": "no patch: there is no commit yet"}]


def test_a_spool_that_takes_no_patch_takes_the_operation(
    settings: Settings, dirty: Path, connection: Connection
) -> None:
    settings.spool_dir.mkdir(parents=True)
    (settings.spool_dir / PATCHES).write_text("in the way")
    record()
    (facts,) = named()
    assert facts["error"].startswith("no patch: ")
    assert AuditService().recent_entries()[0].git_dirty
