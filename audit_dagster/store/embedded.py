"""The embedded PostgreSQL: with no POSTGRES_* set it serves all processes of this user, starts on demand, and stops
when the last of them is gone.

In `<state_dir>/postgres` three locks, all flock so that a killed process gives up its own:
`users.lock`, shared, by each process that uses the server; `start.lock` around start and stop; `watchdog.lock` by the
watchdog (postmaster.watch), which waits for the users lock to be free and then stops the server. Who takes more than
one takes users, then start, then watchdog.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from audit_dagster.errors import ConfigurationError, DatabaseError
from audit_dagster.settings import PostgresSettings
from audit_dagster.store import binaries, cluster, postmaster
from audit_dagster.store.account import Account, environment, make_folder, server_account

_WATCHDOG_LOCK = "watchdog.lock"
_START_LOCK = "start.lock"
_LOG = "server.log"

_held: dict[Path, int] = {}  # the users locks of this process, by state folder
_guard = threading.RLock()


@dataclass(frozen=True, slots=True)
class _Record:
    """server.json: what is needed to reach the server and to start it again."""

    port: int
    password: str
    data: Path
    major: int
    bin: str

    def settings(self, port: int) -> PostgresSettings:
        return PostgresSettings(cluster.HOST, port, cluster.NAME, cluster.NAME, self.password)


def use(state_dir: Path) -> PostgresSettings:
    """Ensure the server of `state_dir` runs and keep it in use by this process until it ends or calls release()."""
    home = _real(state_dir)
    with _guard, _told(home):
        folder = _own_folder(home)
        _join(home, folder)
        try:
            with _locked(folder / _START_LOCK):
                return _ensure(home, folder)
        except BaseException:
            release(home)
            raise


def release(state_dir: Path) -> None:
    """This process no longer uses the server; the watchdog stops it once that holds for all."""
    with _guard:
        descriptor = _held.pop(_real(state_dir), None)
        if descriptor is not None:
            os.close(descriptor)  # not LOCK_UN, which would also end the use of a forked process


def stop(state_dir: Path) -> bool:
    """Stop it now, whoever uses it, and its watchdog. True if one was running."""
    home = _real(state_dir)
    folder = home / "postgres"
    with _guard, _told(home):
        release(home)
        if not folder.is_dir():
            return False
        with _locked(folder / _START_LOCK):
            record = _read(folder)
            stopped = record is not None and postmaster.stop(record.data)
            _end_watchdog(folder)
        return stopped


def stop_if_unused(state_dir: Path) -> bool:
    """Stop it now unless another process uses it. True if nothing runs afterwards."""
    home = _real(state_dir)
    release(home)
    folder = home / "postgres"
    if not folder.is_dir():
        return True
    with _told(home):
        users = os.open(folder / postmaster.USERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + 1  # the watchdog, too, takes the lock for a moment once we let go of it
            while not _try_lock(users):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.02)
            stop(home)
        finally:
            os.close(users)
    return True


def running(state_dir: Path) -> PostgresSettings | None:
    """The server, where it accepts connections; it is neither started nor kept in use."""
    home = _real(state_dir)
    with _told(home):
        record = _read(home / "postgres")
        server = postmaster.find(record.data) if record else None
        return record.settings(server.port) if record and server and server.ready else None


def _ensure(home: Path, folder: Path) -> PostgresSettings:
    record = _read(folder)
    server = postmaster.find(record.data) if record else None
    if record and server and server.ready:
        _watch(folder, record.data)
        return record.settings(server.port)
    account = server_account()
    if record is None or not record.data.is_dir():
        programs = binaries.find(account, _major_left(folder))
        record = _new_record(home, folder, programs, account)
    else:
        programs = binaries.find(account, record.major)
    _watch(folder, record.data)  # before there is anything to watch: who is killed from here on leaves nothing behind
    log = folder / _LOG
    if not record.data.is_dir():
        cluster.create(programs, account, record.data, record.password, log)
    server = cluster.start(programs, account, record.data, record.port, log)
    started = replace(record, port=server.port, bin=str(programs.folder))
    if started != record:
        _write(folder, started)
    return started.settings(server.port)


def _new_record(home: Path, folder: Path, programs: binaries.Binaries, account: Account | None) -> _Record:
    """Saved before initdb, so that no data exists whose password is unknown."""
    password = secrets.token_urlsafe(32)
    data = cluster.place(home, folder, programs.major, account)
    if data.is_dir():  # server.json was lost, the data was not
        postmaster.stop(data)
        cluster.set_password(programs, account, data, password, folder / _LOG)
    record = _Record(0, password, data, programs.major, str(programs.folder))
    _write(folder, record)
    return record


def _major_left(folder: Path) -> int | None:
    """Of data in `folder` that no server.json speaks of."""
    left = [int(path.parent.name) for path in folder.glob("*/data") if path.parent.name.isdecimal()]
    return max(left, default=None)


def _read(folder: Path) -> _Record | None:
    try:
        found = json.loads((folder / postmaster.SERVER_FILE).read_text())
        data = postmaster.data_folder(folder)
        return _Record(int(found["port"]), str(found["password"]), data, int(found["major"]), str(found["bin"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, record: _Record) -> None:
    inside = record.data.is_relative_to(folder)
    data = str(record.data.relative_to(folder) if inside else record.data)
    values = {"host": cluster.HOST, "port": record.port, "database": cluster.NAME, "user": cluster.NAME}
    values |= {"password": record.password, "data": data, "major": record.major, "bin": record.bin}
    descriptor, name = tempfile.mkstemp(prefix=".server-", dir=folder)  # 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(values, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(folder / postmaster.SERVER_FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _real(state_dir: Path) -> Path:
    return Path(os.path.realpath(state_dir))


def _own_folder(home: Path) -> Path:
    folder = home / "postgres"
    make_folder(home)
    make_folder(folder)
    if folder.stat().st_uid != os.geteuid():
        raise DatabaseError(f"{folder} belongs to another user: run as that user, or set AUDIT_STATE_DIR")
    return folder


@contextlib.contextmanager
def _told(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatabaseError(f"the embedded PostgreSQL of {home} cannot be used: {error}") from error


def _join(home: Path, folder: Path) -> None:
    """Hold the users lock. Waits while the watchdog stops the server."""
    held = _held.get(home)
    if held is not None and _is_file(held, folder / postmaster.USERS_LOCK):
        return
    release(home)
    _held[home] = _take(folder / postmaster.USERS_LOCK, fcntl.LOCK_SH)


def _take(path: Path, operation: int) -> int:
    """An open, locked descriptor of the file that has this name now: it may be deleted while we wait."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, operation)
            if _is_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _take(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _idle_seconds() -> float:
    text = os.environ.get("AUDIT_SERVER_IDLE_SECONDS") or "30"
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1e6:
            return float(text)
    raise ConfigurationError(f"AUDIT_SERVER_IDLE_SECONDS is {text!r}: set it to a number of seconds")


def _watch(folder: Path, data: Path) -> None:
    """Start a watchdog unless one lives. It inherits the descriptor that we locked, so there is never a moment in
    which two could start."""
    idle = _idle_seconds()
    try:
        lock = _take(folder / _WATCHDOG_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    users = os.open(folder / postmaster.USERS_LOCK, os.O_RDWR | os.O_CLOEXEC)
    log = os.open(folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(lock, 0)  # the watchdog writes its number itself
        watchdog = [sys.executable, "-I", "-S", postmaster.__file__, str(folder), str(data), str(lock), str(users)]
        subprocess.run(  # through a shell that ends at once: the watchdog must not become our zombie
            ["/bin/sh", "-c", '"$@" &', "sh", *watchdog, str(idle)],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            env=environment(),
            start_new_session=True,
            pass_fds=(lock, users),
        )
    except subprocess.SubprocessError as error:
        raise DatabaseError(f"the watchdog of the embedded PostgreSQL did not start: {error}") from error
    finally:
        for descriptor in (lock, users, log):
            os.close(descriptor)


def _end_watchdog(folder: Path) -> None:
    """Signal the number in its lock file while someone holds that lock, so never a stranger."""
    lock = os.open(folder / _WATCHDOG_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 10
    pid = 0
    try:
        while not _try_lock(lock):
            text = os.pread(lock, 20, 0).strip()
            if text.isdigit():  # empty: it has only just been started
                pid = int(text)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            if time.monotonic() > deadline:
                raise DatabaseError(f"the watchdog of {folder} (process {pid}) does not end: end it by hand")
            time.sleep(0.01)
        while pid and postmaster.exists(pid) and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        os.close(lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
