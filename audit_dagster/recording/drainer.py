"""Wakes the process that carries the spool to the database. The recorded tool itself never connects to anything."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path

from audit_dagster.settings import Settings

LOCK_NAME = "drain.lock"
BACKOFF_NAME = "drain.backoff"
LONGEST_BACKOFF_SECONDS = 600
DELIVERED_NAME = "drain.delivered"  # its time of change tells when the database last took something


def wake(settings: Settings) -> None:
    """Start the drainer, detached, unless one is at work or the last one failed a moment ago. Raises OSError."""
    if _is_backing_off(settings.spool_dir):
        return
    lock = _free_lock(settings.spool_dir)
    if lock is None:
        return
    import subprocess

    try:
        # `-P`, and `/` as its folder: neither the tool's files nor its `.env` may change what the drainer does. It
        # inherits the lock, so that nobody starts a second one while this one is starting. The shell ends at once: a
        # tool that waits for its own children finds no other.
        subprocess.Popen(
            ["/bin/sh", "-c", '"$@" &', "sh", _python(), "-P", "-m", "audit_dagster.store.drain", str(lock)],
            cwd="/",
            env=settings.child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(lock,),
        ).wait()
    finally:
        os.close(lock)


def _python() -> str:
    """This Python. Raises OSError where there is none: a program that Python is a part of would be run once more."""
    path = sys.executable or ""
    is_python = Path(path).name.lower().startswith(("python", "pypy")) and not getattr(sys, "frozen", False)
    if not is_python or not os.access(path, os.X_OK):
        raise OSError(f"'{path}' is no Python: run `audit-dagster sync`")
    return path


def _free_lock(spool_dir: Path) -> int | None:
    """The spool's lock, taken; None where a drainer has it, which looks once more after letting go of it."""
    descriptor = os.open(spool_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_backing_off(spool_dir: Path) -> bool:
    try:
        not_before = json.loads((spool_dir / BACKOFF_NAME).read_text("utf-8"))["not_before"]
        # More than the longest is no back-off: the clock was ahead when the drainer failed.
        return 0 < float(not_before) - time.time() <= LONGEST_BACKOFF_SECONDS
    except (OSError, ValueError, KeyError, TypeError):
        return False
