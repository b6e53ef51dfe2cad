"""Carries the spool to the database: one drainer per spool, idempotent, and one bad entry never holds up the others.

A file's lock is held until its row is committed, and only then is the file removed: a crash in between stores it again,
which `audit_append` answers with `duplicate`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError, DatabaseError, EntryError
from audit_dagster.recording.drainer import BACKOFF_NAME, DELIVERED_NAME, LOCK_NAME, LONGEST_BACKOFF_SECONDS
from audit_dagster.recording.spool import PATCHES, SpoolError, has_end, is_locked, number_of, read_lines, waiting
from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect
from audit_dagster.store.query import append, keep_patch

if TYPE_CHECKING:
    from psycopg import Connection

Track = Callable[[Iterable[Path]], Iterable[Path]]
BATCH = 200
QUARANTINE = "quarantine"
DIED = "the process ended before the operation finished"
_DRAFT_SUFFIX = ".tmp"
_DRAFT_AGE_SECONDS = 60
_LINGER_SECONDS = 1.0
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 20
_FIRST_BACKOFF_SECONDS = 5
_STATEMENT_TIMEOUT = "SET statement_timeout = '30s'"
_ANSWER_SECONDS = 35  # after the server has given up by itself
_SLOWEST_BYTES_PER_SECOND = 1000


@dataclass(slots=True)
class Drained:
    """What one drain did with the spool's files."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Held:
    path: Path
    descriptor: int
    entry: LogEntry


def drain(settings: Settings, track: Track = iter) -> Drained:
    """Store every finished or abandoned operation of the spool. Its files go through `track`, which may tell how far.

    Where a drainer is at work already, waits until it has stored what has ended by now. Raises DatabaseError where the
    database cannot be reached, or that drainer takes very long, and AuditError where the spool belongs to another user;
    the spool is then as it was.
    """
    try:
        return _drain(settings, track)
    except OSError as error:
        message = f"the spool {settings.spool_dir} cannot be used: {error}: give it to the user who runs the tools"
        raise AuditError(message) from error


def _drain(settings: Settings, track: Track) -> Drained:
    drained = Drained()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    ended = [path for path in waiting(settings.spool_dir) if _has_ended(path)]
    while has_work(settings.spool_dir):
        try:
            with _only_drainer(settings.spool_dir):
                _drain_locked(settings, drained, track)
                break
        except BlockingIOError:
            if not any(path.exists() for path in ended):
                break
            if time.monotonic() > deadline:
                raise DatabaseError("another process is storing the spool and does not come to an end") from None
            time.sleep(_POLL_SECONDS)
    return drained


def has_work(spool_dir: Path) -> bool:
    """Whether any file waits, a running operation's included."""
    return bool(waiting(spool_dir))


def main() -> None:
    """The detached drainer: drains until the spool has been empty for a second, then looks once more and ends."""
    settings = Settings.load()
    inherited = int(sys.argv[1]) if len(sys.argv) > 1 else None
    while True:
        try:
            with _only_drainer(settings.spool_dir, inherited):
                inherited = None
                _drain_until_quiet(settings)
        except BlockingIOError:
            return
        except (AuditError, OSError):
            _back_off(settings.spool_dir)
            return
        if not _finished_files(settings.spool_dir):
            return


def _drain_until_quiet(settings: Settings) -> None:
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _LINGER_SECONDS:
        drained = Drained()
        if _finished_files(settings.spool_dir):
            _drain_locked(settings, drained)
            (settings.spool_dir / BACKOFF_NAME).unlink(missing_ok=True)
        if drained.stored or drained.duplicates or drained.quarantined:
            quiet_since = time.monotonic()
        time.sleep(_POLL_SECONDS)


def _drain_locked(settings: Settings, drained: Drained, track: Track = iter) -> None:
    import psycopg

    _remove_old_drafts(settings.spool_dir)
    try:
        with connect(settings) as connection:
            with _in_time(connection, 0):
                connection.execute(_STATEMENT_TIMEOUT)
            operations = waiting(settings.spool_dir)  # before the patches: one that comes now may bring its own
            _store_patches(connection, settings.spool_dir, drained)
            _store_operations(connection, track(operations), drained)
    except psycopg.Error as error:
        raise DatabaseError(f"the database went away: {' '.join(str(error).split())}") from error


def _store_operations(connection: Connection[Any], operations: Iterable[Path], drained: Drained) -> None:
    held: list[_Held] = []
    for path in operations:
        taken = _take(path, drained)
        if taken is not None:
            held.append(taken)
        if len(held) == BATCH:
            _store(connection, held, drained)
            held = []
    _store(connection, held, drained)


@contextlib.contextmanager
def _in_time(connection: Connection[Any], size: int) -> Iterator[None]:
    """Break the connection off where `size` bytes are not answered: in a network that went dark nothing else would end
    the waiting, and the spool's lock would be held for ever."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        seconds = _ANSWER_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
        timer = threading.Timer(seconds, line.shutdown, [socket.SHUT_RDWR])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _take(path: Path, drained: Drained) -> _Held | None:
    """Lock and read one file; None for a running operation's or another user's. A damaged one goes to quarantine."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        drained.unreadable += not isinstance(error, FileNotFoundError)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _Held(path, descriptor, _entry(path, descriptor))
    except BlockingIOError:
        pass
    except (SpoolError, EntryError) as error:
        _quarantine(path.parent, path, str(error), drained)
    os.close(descriptor)
    return None


def _entry(path: Path, descriptor: int) -> LogEntry:
    lines = list(read_lines(descriptor))
    if not lines:
        raise SpoolError("the file has no begin line")
    form: dict[str, Any] = {**lines[0]}
    end: dict[str, Any] = lines[1] if len(lines) > 1 else {"success": False, "error_message": DIED}
    number = number_of(path)
    spool = {"spool": number} if number else {}
    form |= {**end, "context": {**form["context"], **end.get("context", {}), **spool}}
    return LogEntry.from_json(form)


def _store(connection: Connection[Any], held: list[_Held], drained: Drained) -> None:
    try:
        with _in_time(connection, sum(os.fstat(item.descriptor).st_size for item in held)):
            answers = append(connection, [item.entry for item in held])
        for item, answer in zip(held, answers, strict=True):
            if answer in {"stored", "duplicate"}:
                item.path.unlink(missing_ok=True)
                drained.stored += answer == "stored"
                drained.duplicates += answer == "duplicate"
            else:
                _quarantine(item.path.parent, item.path, answer, drained)
        if {"stored", "duplicate"} & set(answers):
            with contextlib.suppress(OSError):
                held[0].path.with_name(DELIVERED_NAME).touch(0o600)
    finally:
        for item in held:
            os.close(item.descriptor)


def _store_patches(connection: Connection[Any], spool_dir: Path, drained: Drained) -> None:
    """Before the operations that name them. A patch is removed when it is stored: who needs it again writes it anew."""
    for path in sorted((spool_dir / PATCHES).glob("*")):
        if path.suffix == _DRAFT_SUFFIX or not path.is_file():
            continue
        try:
            content = path.read_bytes()
        except OSError as error:  # another drainer was quicker, or it is another user's
            drained.unreadable += not isinstance(error, FileNotFoundError)
            continue
        if hashlib.sha256(content).hexdigest() == path.name:
            with _in_time(connection, len(content)):
                keep_patch(connection, content)
            path.unlink(missing_ok=True)
        else:
            _quarantine(spool_dir, path, "a patch whose content does not fit its name", drained)


def _quarantine(spool_dir: Path, path: Path, reason: str, drained: Drained) -> None:
    folder = spool_dir / QUARANTINE
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / f"{path.stem}.reason").write_text(f"{reason}\n", "utf-8")
    path.rename(folder / path.name)
    drained.quarantined += 1


@contextlib.contextmanager
def _only_drainer(spool_dir: Path, inherited: int | None = None) -> Iterator[None]:
    """Hold the spool's lock: the one that who woke us took, or one of our own. Raises BlockingIOError."""
    descriptor = inherited
    if descriptor is None:
        descriptor = os.open(spool_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _has_ended(path: Path) -> bool:
    try:
        return has_end(path)
    except OSError:
        return False


def _finished_files(spool_dir: Path) -> bool:
    return any(not is_locked(path) for path in waiting(spool_dir))


def _remove_old_drafts(spool_dir: Path) -> None:
    """A draft is a begin line, or a patch, whose process died before the operation's code ran."""
    for draft in (*spool_dir.glob(f"*{_DRAFT_SUFFIX}"), *spool_dir.glob(f"{PATCHES}/*{_DRAFT_SUFFIX}")):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _DRAFT_AGE_SECONDS:
                if draft.is_dir():
                    shutil.rmtree(draft)
                elif not is_locked(draft):
                    draft.unlink()


def _back_off(spool_dir: Path) -> None:
    path = spool_dir / BACKOFF_NAME
    try:
        failures = int(json.loads(path.read_text("utf-8"))["failures"]) + 1
    except (OSError, ValueError, KeyError, TypeError):
        failures = 1
    delay = min(_FIRST_BACKOFF_SECONDS * 2 ** (failures - 1), LONGEST_BACKOFF_SECONDS)
    with contextlib.suppress(OSError):
        path.write_text(json.dumps({"failures": failures, "not_before": time.time() + delay}), "utf-8")


if __name__ == "__main__":
    main()
