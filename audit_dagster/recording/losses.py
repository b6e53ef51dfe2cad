"""How many operations could not be recorded, or not to their end.

The count is the length of a file without content: growing one by a byte takes no block of a full disk. Where the spool
cannot hold it, another folder does, and what counts is the sum of all. To start again from zero, delete the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from audit_dagster.settings import APP_NAME, Settings

FILE_NAME = "lost"
_TRIES = 100
_PAUSE_SECONDS = 0.001


class Losses(NamedTuple):
    """How many there were, and when the last one happened, in UTC; None where there was none."""

    count: int  # type: ignore[assignment]  # tuple's own count is of no use here
    last: datetime | None


def count(settings: Settings | None) -> None:
    """Count one loss, in the first folder that takes it. `settings` is None where they cannot be read. Never raises."""
    for folder in _folders(settings):
        with contextlib.suppress(Exception):
            folder.mkdir(mode=0o700, exist_ok=True)
            _check_folder(folder)
            _grow(folder / FILE_NAME)
            return


def total(settings: Settings | None) -> Losses:
    """What was counted in all folders together. Never raises."""
    found = {}
    for folder in _folders(settings):
        with contextlib.suppress(OSError, ValueError):
            _check_folder(folder)
            status = (folder / FILE_NAME).lstat()
            _check_file(status)
            if status.st_size:
                found[status.st_dev, status.st_ino] = status
    sizes, times = [one.st_size for one in found.values()], [one.st_mtime for one in found.values()]
    return Losses(sum(sizes), datetime.fromtimestamp(max(times), UTC) if times else None)


def _folders(settings: Settings | None) -> list[Path]:
    """Where the count may be, in the order in which they are tried."""
    spool = [Path(os.path.realpath(settings.spool_dir))] if settings else []
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    private = [Path(runtime, APP_NAME)] if runtime else []
    everyones = (os.environ.get("TMPDIR") or "/tmp", "/dev/shm")  # noqa: S108 - _check_folder is for these
    return [*spool, *private, *(Path(folder, f"{APP_NAME}-{os.geteuid()}") for folder in everyones)]


def _check_folder(folder: Path) -> None:
    """Raises OSError unless it is a folder of this user's: in /tmp anybody may have put something under its name."""
    status = folder.lstat()
    if not (stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()):
        raise PermissionError(f"{folder} is not this user's folder")


def _check_file(status: os.stat_result) -> None:
    if not (stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()):
        raise PermissionError(f"{FILE_NAME} is not this user's file")


def _grow(path: Path) -> None:
    """Make the file longer by one byte. Raises OSError."""
    # O_NONBLOCK: a FIFO must not hold the tool.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        _check_file(os.fstat(descriptor))
        for _ in range(_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(descriptor, os.fstat(descriptor).st_size + 1)
                return
            time.sleep(_PAUSE_SECONDS)
        raise TimeoutError(f"{path} stays locked")
    finally:
        os.close(descriptor)
