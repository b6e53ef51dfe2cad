"""What the chaos tests share: how much is done, whose drainers run, and what is in the end to be found where."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from audit_dagster.recording.recorder import Recording
from audit_dagster.recording.spool import waiting
from audit_dagster.settings import Settings
from audit_dagster.store import postmaster
from audit_dagster.store.connect import connect

SCALE = 5 if os.environ.get("AUDIT_TEST_PROFILE") == "nightly" else 1
DRAINER = (sys.executable, "-m", "audit_dagster.store.drain")
CLI = (sys.executable, "-m", "audit_dagster.cli")

Connection = psycopg.Connection[Any]


def drainers(settings: Settings) -> list[int]:
    """The living drainers of this state folder, whoever started them."""
    ours = f"AUDIT_STATE_DIR={settings.state_dir}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile; a zombie has neither command line nor environment
            if b"audit_dagster.store.drain" in (folder / "cmdline").read_bytes():
                found += [int(folder.name)] * (ours in (folder / "environ").read_bytes().split(b"\0"))
    return found


def end_drainers(settings: Settings) -> None:
    """No drainer of a test outlives it."""
    for pid in drainers(settings):
        kill(pid)
    wait_until(lambda: not drainers(settings))


def kill(pid: int) -> bool:
    """`kill -9`; whether there was such a process."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def server_processes(settings: Settings) -> list[int]:
    """The embedded server's processes, the postmaster first; none where it does not run."""
    found = [postmaster.find(data) for data in settings.state_dir.glob("postgres/*/data")]
    return [pid for server in found if server for pid in (server.pid, *_children(server.pid))]


@contextmanager
def frozen(settings: Settings) -> Iterator[None]:
    """The server stopped as a whole.

    Its postmaster first: from then on none of its processes comes or goes, so those that are found can be woken again.
    """
    parent = server_processes(settings)[0]
    stopped = [parent]
    os.kill(parent, signal.SIGSTOP)
    try:
        wait_until(lambda: _state_of(parent) == "T")
        stopped += _children(parent)
        for pid in stopped[1:]:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _children(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(stat.parent.name)


def record(operation: str) -> None:
    """One operation."""
    recording = Recording("chaos", operation)
    recording.start(None)
    recording.finish(success=True, error_message=None)


def sync() -> str:
    """What `audit-dagster sync` says, which has to succeed."""
    done = subprocess.run([*CLI, "sync"], check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def outcomes(settings: Settings) -> dict[str, tuple[int, bool, str | None]]:
    """Of each operation, by its name: how many rows, and one row's success and error. The spool must be empty."""
    assert waiting(settings.spool_dir) == []
    assert not (settings.spool_dir / "quarantine").exists()
    query = "SELECT operation, count(*), bool_and(success), min(error_message) FROM audit_logs GROUP BY operation"
    with connect(settings) as connection:
        return {name: (number, success, error) for name, number, success, error in connection.execute(query)}


def count(connection: Connection) -> int:
    """The rows in the log."""
    (found,) = connection.execute("SELECT count(*) FROM audit_logs").fetchone() or (0,)
    return int(found)


def slow_down_inserts(connection: Connection, seconds: float) -> None:
    """Each new row takes so much longer in this test's database, so that things happen while rows are stored."""
    connection.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql"
        f" AS 'BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END'"
    )
    connection.execute("CREATE TRIGGER wait BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION wait()")


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Fails when it has not come about after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def running(*commands: tuple[str | Path, ...]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes, with their stderr at hand; killed at the end where they live on."""
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()
