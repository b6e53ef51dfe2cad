"""Make a PostgreSQL data folder and start the server on it. The callers hold the start lock."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from audit_dagster.errors import DatabaseError
from audit_dagster.store import postmaster
from audit_dagster.store.account import SHARED, Account, can_enter, make_folder, run
from audit_dagster.store.binaries import Binaries

HOST = "127.0.0.1"
NAME = "audit"  # of the database and of the user
_START_SECONDS = 300  # a recovery after a crash may take long, and starts anew when it is broken off
_PASSING_SECONDS = 30
# No unix socket: its path has a limit of 107 bytes, a state folder has none. fsync stays on: this is the lab's data.
_OPTIONS = (
    f"-c listen_addresses={HOST} -c unix_socket_directories= -c max_connections=100 -c shared_buffers=128MB "
    "-c fsync=on -c logging_collector=off -c log_checkpoints=off"
)
# A start that fails with these succeeds soon: the port was taken meanwhile, orphans of a killed postmaster are still
# ending, or a start begun by a killed process is under way.
_PASSING = ("Address already in use", "pre-existing shared memory block", "postmaster.pid", "is shutting down")
_LARGEST_LOG = 5_000_000
_LONGEST_PATH = 900  # PostgreSQL's own limit is 1,023 bytes, with its file names


def shared_folder(home: Path) -> Path:
    """Where data goes that `nobody` could not reach under `home`."""
    return SHARED / hashlib.sha256(os.fsencode(home)).hexdigest()[:12]


def place(home: Path, folder: Path, major: int, account: Account | None) -> Path:
    """Where a new data folder goes: one per major version, since no other version can read it."""
    if "\n" in str(home):  # PostgreSQL's own files hold one path a line
        raise DatabaseError(f"the path {str(home)!a} has a line break: set AUDIT_STATE_DIR to one without")
    if can_enter(account, folder):
        data = folder / str(major) / "data"
        if len(os.fsencode(data)) > _LONGEST_PATH:
            raise DatabaseError(f"the path {home} is too long for PostgreSQL: set AUDIT_STATE_DIR to a shorter one")
        return data
    data = shared_folder(home) / str(major) / "data"
    if data.exists():  # its server.json is gone, so this is a fresh start; but data is never thrown away
        postmaster.stop(data)
        data.rename(data.with_name(f"data-left-{time.strftime('%Y%m%d-%H%M%S')}"))
    make_folder(SHARED)
    make_folder(data.parent.parent)
    label = data.parent.parent / "state-folder.txt"
    label.touch(mode=0o600)
    label.write_text(f"Data of the embedded PostgreSQL of {str(home)!a}\n")
    return data


def create(binaries: Binaries, account: Account | None, data: Path, password: str, log: Path) -> None:
    """initdb and the database, in a folder that gets its name when all is done: killed half-way, nothing remains."""
    parent = data.parent
    make_folder(parent)
    _sweep(parent)
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=parent))
    secret = parent / f"{fresh.name}.password"
    try:
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
        if account:
            for path in (fresh, secret):
                os.chown(path, account.uid, account.gid)
        _initdb(binaries, account, fresh, secret, log)
        _single_user(binaries, account, fresh, f"CREATE DATABASE {NAME};", log)
        fresh.rename(data)
    finally:
        secret.unlink(missing_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Of a creation that was killed. Its initdb may still be writing, so each start looks again."""
    for left in parent.glob("new-*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _initdb(binaries: Binaries, account: Account | None, data: Path, secret: Path, log: Path) -> None:
    command: list[str | Path] = [binaries.folder / "initdb", "-D", data, "-U", NAME, "--pwfile", secret]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
    if binaries.major >= 16:
        # The password has 192 random bits: more rounds add no safety, and Dagster opens a connection per event.
        command += ["--set", "scram_iterations=1"]
    with _opened(log) as output:
        for locale in ("C.UTF-8", "C"):
            if run([*command, f"--locale={locale}"], account, output=output).returncode == 0:
                return
    raise DatabaseError(f"initdb could not make {data.parent}: see {log}, which ends with: {_tail(log)}")


def set_password(binaries: Binaries, account: Account | None, data: Path, password: str, log: Path) -> None:
    """For data whose server.json was lost. The server must be stopped."""
    _single_user(binaries, account, data, f"ALTER ROLE {NAME} PASSWORD '{password}';", log)


def _single_user(binaries: Binaries, account: Account | None, data: Path, statement: str, log: Path) -> None:
    """Without a server: no port, no login, and done before anyone can connect."""
    command: list[str | Path] = [binaries.folder / "postgres", "--single", "-D", data]
    command += ["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "postgres"]
    # Its output echoes nothing but a prompt; errors go to the log, statements (a password) do not.
    with _opened(log) as output:
        done = run(command, account, output=output, text=statement.encode() + b"\n")
    if done.returncode:
        raise DatabaseError(f"PostgreSQL could not prepare {data}: see {log}, which ends with: {_tail(log)}")


def start(binaries: Binaries, account: Account | None, data: Path, port: int, log: Path) -> postmaster.Postmaster:
    """Start it, or wait for the one that is starting. `port` is taken again if it is free, so that processes that hold
    the settings of a killed server find the next one."""
    begin = time.monotonic()
    _sweep(data.parent)
    while True:
        server = postmaster.find(data)
        if server and server.ready:
            return server
        if server is None:
            seen = log.stat().st_size if log.exists() else 0
            _disown(data)
            if _pg_ctl_start(binaries, account, data, _free_port(port), log):
                continue
            reason = _tail(log, since=seen)
            passing = any(words in reason for words in _PASSING) and time.monotonic() - begin < _PASSING_SECONDS
            if not passing and postmaster.find(data) is None:
                raise DatabaseError(f"PostgreSQL did not start on {data}: see {log}, which ends with: {reason}")
        if time.monotonic() - begin > _START_SECONDS:
            raise DatabaseError(f"PostgreSQL is not ready yet: try again in a minute. {log} ends with: {_tail(log)}")
        time.sleep(0.05)


def _pg_ctl_start(binaries: Binaries, account: Account | None, data: Path, port: int, log: Path) -> bool:
    # The folder goes in PGDATA, because pg_ctl pastes -D and -l into a shell command line.
    command: list[str | Path] = [binaries.folder / "pg_ctl", "start", "-w", "-s", "-t", str(_START_SECONDS)]
    with _opened(log) as output:
        done = run([*command, "-o", f"-p {port} {_OPTIONS}"], account, output=output, PGDATA=str(data))
    return done.returncode == 0


def _disown(data: Path) -> None:
    """After a restart of the machine the number in a left postmaster.pid may belong to another process of this user,
    and PostgreSQL would refuse to start. It ignores the number of pg_ctl's parent, so put ours there; deleting the
    file instead would take away its check for orphans that still use the memory."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(data / "postmaster.pid", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "r+b") as file:
            first, rest = file.read().split(b"\n", 1)
            if postmaster.exists(abs(int(first))):
                file.seek(0)
                file.truncate()
                file.write(b"%d\n%b" % (os.getpid(), rest))


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise DatabaseError(f"no TCP port is free on {HOST}: end some programs and try again")


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _tail(log: Path, since: int = 0, lines: int = 6) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - 4000))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return str(error)
    return " | ".join(line.strip() for line in text.splitlines()[-lines:])
