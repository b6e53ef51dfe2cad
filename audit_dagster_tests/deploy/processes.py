"""The processes of a deployment, as the files under deploy/ start them; each ends with its whole session."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"


def program_path() -> str:
    """PATH, with this environment's programs first."""
    return f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process its output in `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PATH": program_path(), **environment},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def daemon(definitions: Path, round_seconds: float = 1) -> list[str]:
    """The command of Dagster's daemon, which goes the round of its sensors more often than each five seconds."""
    code = f"from dagster._daemon import cli, sensor; sensor.MIN_INTERVAL_LOOP_TIME = {round_seconds}; cli.main()"
    return [sys.executable, "-c", code, "run", "-f", str(definitions)]


def kill(process: subprocess.Popen[bytes]) -> None:
    """As if its machine lost power."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    kill(process)


def wait_until(true: Callable[[], object], seconds: float, what: str, *logs: Path) -> None:
    """Until the condition holds. Fails with the ends of the logs."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            tails = "\n".join(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}" for log in logs)
            raise AssertionError(f"not within {seconds} s: {what}\n{tails}")
        time.sleep(0.2)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
