"""`audit-dagster dev`: Dagster's UI and daemon over the audit log, and nothing left behind when it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import click

from audit_dagster.dagster_home import prepare
from audit_dagster.errors import AuditError
from audit_dagster.settings import Settings
from audit_dagster.store import embedded

_HOST = "127.0.0.1"
_PATIENCE_SECONDS = 8
# A terminal that closes, or `timeout`, signals twice at once: that is one wish.
_ONE_WISH_SECONDS = 0.5
_PR_SET_CHILD_SUBREAPER = 36
# Says `dg dev`, which only developers have.
_NO_WARNING = "ignore:Function `dev_command` is superseded"
# Waits for the end of its stdin, which comes when we die, were it by `kill -9`.
_GUARD = 'read -r _; kill -INT "-$1"; for _ in $(seq "$2"); do kill -0 "-$1" || exit; sleep 1; done; kill -KILL "-$1"'


class _Wish:
    """That it ends: what the signals said. A second Ctrl-C wants it at once."""

    def __init__(self) -> None:
        self.since: float | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.since is None:
            self.since = now
        elif number == signal.SIGINT and now > self.since + _ONE_WISH_SECONDS:
            raise KeyboardInterrupt


def run_dagster(port: int) -> int:
    """Serve 127.0.0.1:`port` until SIGINT, SIGTERM or SIGHUP; 0 then.

    Raises AuditError where it cannot start, or ends by itself.
    """
    settings = Settings.load()
    _check_free(port)
    wish = _Wish()
    try:
        home = prepare(settings)
        if wish.since is None:
            _serve(home, port, wish)
    except (AuditError, KeyboardInterrupt):
        if wish.since is None:
            raise
    finally:
        if settings.postgres is None:
            embedded.stop_if_unused(settings.state_dir)
    if wish.since is None:
        raise AuditError("Dagster ended by itself: its messages above say why")
    return 0


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the webserver does
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise AuditError(f"cannot open {_HOST}:{port} ({error.strerror}): choose another with --port") from error


def _serve(home: Path, port: int, wish: _Wish) -> None:
    """Until Dagster ends or the wish comes; then end what is left of it."""
    click.echo(f"Dagster opens on http://{_HOST}:{port} in some seconds. Ctrl-C ends it.")
    sys.stdout.flush()
    _adopt_orphans()
    command = [sys.executable, "-W", _NO_WARNING, "-m", "dagster", "dev", "-m", "audit_dagster.definitions"]
    # A session of its own: one signal to its group reaches the webserver, the daemon, the code servers and the runs.
    child = subprocess.Popen([*command, "--host", _HOST, "--port", str(port)], cwd=home, start_new_session=True)
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sh", str(child.pid), str(_PATIENCE_SECONDS)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while wish.since is None and child.poll() is None:
            time.sleep(0.1)
        _signal(child.pid, signal.SIGINT)
        _wait_until_gone(child.pid, _PATIENCE_SECONDS)
    finally:
        _signal(child.pid, signal.SIGKILL)
        _wait_until_gone(child.pid, 1)
        os.killpg(guard.pid, signal.SIGKILL)
        guard.communicate()


def _adopt_orphans() -> None:
    """Whose parent dies first becomes our child, so that we can wait for it. Elsewhere than on Linux init does that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_until_gone(group: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while _lives(group) and time.monotonic() < deadline:
        time.sleep(0.05)


def _lives(group: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    return _signal(group, 0)


def _signal(group: int, number: int) -> bool:
    """True if there was anyone to receive it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of the dead
        return False
    return True
