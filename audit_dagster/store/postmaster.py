"""One running PostgreSQL, found through its data folder: is it ready, stop it, watch over it.

Standard library only, and no import of this package: the watchdog runs this file alone (`python -I -S`), so that the
process that stays behind is small. Stopping needs signals only, so it works when the binaries are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

SERVER_FILE = "server.json"
USERS_LOCK = "users.lock"
# Fast shutdown, then immediate, then kill: each keeps what was committed; the later ones cost a recovery.
_STOP_SIGNALS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 15.0), (signal.SIGKILL, 5.0))


class Postmaster(NamedTuple):
    """What its postmaster.pid says."""

    pid: int
    port: int
    ready: bool


def find(data: Path) -> Postmaster | None:
    """The postmaster of this data folder if it lives. A file that a kill or a crash left behind counts for nothing."""
    try:
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
        pid = abs(int(lines[0]))  # negative: a single-user session
    except (OSError, ValueError, IndexError):
        return None
    if not _serves(pid, data):
        return None
    ready = len(lines) > 7 and lines[7].strip() == "ready"
    return Postmaster(pid, int(lines[3]) if ready else 0, ready)


def exists(pid: int) -> bool:
    """Whether a process has this number. The dead that nobody has collected yet (containers) do not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return "State:\tZ" not in _proc(pid, "status")


def _serves(pid: int, data: Path) -> bool:
    """Numbers are used again, so look closer where /proc tells: PostgreSQL works in its data folder, as its owner.
    The owner is checked because root is going to signal a number that it read in a file of `nobody`."""
    if not exists(pid):
        return False
    status = _proc(pid, "status")
    if not status:
        return True
    try:
        uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        return set(uids) == {str(data.stat().st_uid)} and Path(f"/proc/{pid}/cwd").samefile(data)
    except PermissionError:
        return True
    except (OSError, StopIteration):
        return False


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def stop(data: Path) -> bool:
    """Stop it and wait until it is gone. True if one was running."""
    server = find(data)
    if server is None:
        return False
    for number, seconds in _STOP_SIGNALS:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not exists(server.pid):
                return True
            time.sleep(0.01)
    raise TimeoutError(f"PostgreSQL (process {server.pid}) does not stop")


def data_folder(folder: Path) -> Path:
    """As server.json says: relative where it lies beside that file, so that the whole can be moved. Raises OSError,
    ValueError, KeyError or TypeError where the file is missing or broken."""
    return folder / str(json.loads((folder / SERVER_FILE).read_text())["data"])


def watch(folder: Path, data: Path, lock: int, users: int, idle_seconds: float) -> None:
    """Stop the server when no process holds the users lock, and none takes it for `idle_seconds`."""
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(idle_seconds)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        if _replaced(users, folder / USERS_LOCK):
            return  # the folder was deleted and made anew: its server has a watchdog of its own
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = data_folder(folder)
        stop(data)
        # In this order: who waits for the users lock looks next whether a watchdog is there, and must see none.
        os.close(lock)
        os.close(users)
        return


def _replaced(descriptor: int, path: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # who was started with it ignored passes that on
    watch(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
