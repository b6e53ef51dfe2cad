"""Wakes the process that carries the spool to the database. The recorded tool itself never connects to anything."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from audit_dagster.settings import Settings

LOCK_NAME = "drain.lock"
BACKOFF_NAME = "drain.backoff"


def wake(settings: Settings) -> None:
    """Start the drainer, detached, unless one is at work or the last one failed a moment ago. Raises OSError."""
    if _is_backing_off(settings.spool_dir) or is_draining(settings.spool_dir):
        return
    # `-P`, and `/` as its folder: neither the tool's files nor its `.env` may change what the drainer does.
    subprocess.Popen(
        [sys.executable, "-P", "-m", "audit_dagster.store.drain"],
        cwd="/",
        env={**os.environ, **_environment(settings)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def is_draining(spool_dir: Path) -> bool:
    """Whether a drainer holds the spool's lock. It looks once more after letting go, so that nothing is left behind."""
    try:
        descriptor = os.open(spool_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_backing_off(spool_dir: Path) -> bool:
    try:
        not_before = json.loads((spool_dir / BACKOFF_NAME).read_text("utf-8"))["not_before"]
        return time.time() < float(not_before)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _environment(settings: Settings) -> dict[str, str]:
    known = settings.postgres.as_environment() if settings.postgres else {}
    return {**known, "AUDIT_SPOOL_DIR": str(settings.spool_dir), "AUDIT_STATE_DIR": str(settings.state_dir)}
