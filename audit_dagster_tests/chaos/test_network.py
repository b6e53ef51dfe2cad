"""The network between the tools and the database is bad: no tool's exit waits for it, and later all is there."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from audit_dagster.recording.spool import waiting
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster_tests.chaos.proxy import DARK, GOOD, LATE, SLOW, Proxy
from audit_dagster_tests.chaos.world import SCALE, frozen, outcomes, sync

pytestmark = pytest.mark.chaos

PROCESSES = 100 * SCALE
LATER_SECONDS = 0.050
_ATTEMPTS = 3  # to see what recording adds, on a machine that has other things to do as well
_TOOL = Path(__file__).with_name("tool.py")
_numbers = itertools.count(1)


@pytest.mark.parametrize("trouble", [DARK, SLOW, LATE, "refused"])
def test_a_bad_network_holds_no_exit_and_loses_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trouble: str
) -> None:
    assert settings.postgres is not None
    with _refused(settings.postgres) if trouble == "refused" else _bad(settings.postgres, trouble) as (place, heal):
        for name, value in place.as_environment().items():
            monkeypatch.setenv(name, value)
        operations = _exits_do_not_wait(tmp_path)
        assert waiting(settings.spool_dir)
        heal()
        print(sync())
    assert outcomes(settings) == dict.fromkeys(operations, (1, True, None))


def test_a_frozen_server_holds_no_exit_and_loses_nothing(own_server: Settings) -> None:
    with frozen(own_server):
        operations = _exits_do_not_wait(own_server.state_dir.parent)
    print(sync())
    assert outcomes(own_server) == dict.fromkeys(operations, (1, True, None))


@contextmanager
def _bad(server: PostgresSettings, mode: str) -> Iterator[tuple[PostgresSettings, Callable[[], object]]]:
    with Proxy(server, mode) as proxy:
        yield proxy.place, lambda: proxy.become(GOOD)


@contextmanager
def _refused(server: PostgresSettings) -> Iterator[tuple[PostgresSettings, Callable[[], object]]]:
    with Proxy(server, GOOD) as closed:
        place = closed.place
    with ExitStack() as later:
        yield place, lambda: later.enter_context(Proxy(server, GOOD, place.port))


def _exits_do_not_wait(folder: Path) -> list[str]:
    """Recorded and other processes in pairs, so that the machine treats both alike; the names of those recorded."""
    tool = shutil.copy(_TOOL, folder)  # out of this repository, which each process would ask git about
    operations: list[str] = []
    for _ in range(_ATTEMPTS):
        names = [f"operation {next(_numbers)}" for _ in range(PROCESSES)]
        operations += names
        with ThreadPoolExecutor(2) as pool:
            pairs = [tuple(pool.map(_exit_seconds, (tool, tool), (name, "-"))) for name in names]
        recorded, unrecorded = (_p99(seconds) for seconds in zip(*pairs, strict=True))
        later = recorded - unrecorded
        print(f"exit, p99: recorded {recorded * 1000:.1f} ms, unrecorded {unrecorded * 1000:.1f} ms")
        if later < LATER_SECONDS:
            break
    assert later < LATER_SECONDS
    return operations


def _exit_seconds(tool: str, operation: str) -> float:
    """From the end of the tool's own code until the process is gone."""
    command = [sys.executable, tool, operation]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=pipe, stderr=pipe, text=True) as process:
        process.wait()
        gone = time.monotonic_ns()
        output, errors = process.communicate()
    end, *sockets = output.splitlines()
    assert (process.returncode, errors, sockets) == (0, "", [])
    return (gone - int(end)) / 1e9


def _p99(seconds: tuple[float, ...]) -> float:
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
