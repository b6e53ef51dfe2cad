"""`audit-dagster dev`: Dagster's UI and daemon over the audit log, and nothing left behind when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

from audit_dagster.dagster_home import prepare
from audit_dagster.settings import Settings
from audit_dagster.store import embedded

_PATIENCE_SECONDS = 20


def run_dagster(port: int) -> int:
    """Serve 127.0.0.1:`port` until SIGINT, SIGTERM or SIGHUP; 0 after a signal, else Dagster's own exit code."""
    settings = Settings.load()
    home = prepare(settings)
    command = [sys.executable, "-m", "dagster", "dev", "-m", "audit_dagster.definitions"]
    # A session of its own: one signal to the group reaches the webserver, the daemon and the code server.
    child = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], cwd=home, start_new_session=True)
    asked = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        while child.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=_PATIENCE_SECONDS if asked.is_set() else 1)
                break
            if asked.is_set():
                break
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if settings.postgres is None:
            embedded.stop_if_unused(settings.state_dir)
    return 0 if asked.is_set() else child.returncode
