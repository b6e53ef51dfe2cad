"""Wakes the process that carries the spool to the database. The recorded tool itself never connects to anything."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from audit_dagster.recording.spool import is_locked
from audit_dagster.settings import Settings

LOCK_NAME = "drain.lock"
BACKOFF_NAME = "drain.backoff"


def wake(settings: Settings) -> None:
    """Start the drainer, detached, unless one is at work or the last one failed a moment ago. Raises OSError."""
    # One at work looks once more after letting go of its lock, so that nothing is left behind.
    if _is_backing_off(settings.spool_dir) or is_locked(settings.spool_dir / LOCK_NAME):
        return
    # `-P`, and `/` as its folder: neither the tool's files nor its `.env` may change what the drainer does.
    subprocess.Popen(
        [sys.executable, "-P", "-m", "audit_dagster.store.drain"],
        cwd="/",
        env=settings.child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _is_backing_off(spool_dir: Path) -> bool:
    try:
        not_before = json.loads((spool_dir / BACKOFF_NAME).read_text("utf-8"))["not_before"]
        return time.time() < float(not_before)
    except (OSError, ValueError, KeyError, TypeError):
        return False
