"""The drainer's connection breaks where it hurts: after the COMMIT, before the answer, again and again, or silently."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from audit_dagster.errors import DatabaseError
from audit_dagster.recording.spool import waiting
from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect, open_connection
from audit_dagster.store.drain import drain
from audit_dagster_tests.chaos.proxy import CUT, FALLS_DARK, GOOD, Proxy
from audit_dagster_tests.chaos.world import (
    CLI,
    SCALE,
    Connection,
    count,
    outcomes,
    record,
    running,
    slow_down_inserts,
    sync,
    wait_until,
)

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("without_drainer")]

ENTRIES = 2000 * SCALE
_INSERT_SECONDS = 0.0005
_TERMINATED_AFTER_SECONDS = 0.2  # on average, by chance: however slow the machine, some batch gets through
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'audit_dagster' AND pid <> pg_backend_pid()
"""
_IMPATIENT_DRAINER = "from audit_dagster.store import drain; drain._ANSWER_SECONDS = 1; drain.main()"


@pytest.mark.parametrize("entries", [1, 200])
def test_cut_after_the_commit_and_before_the_answer(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    for number in range(entries):
        record(f"operation {number}")
    with _through(settings, FALLS_DARK, monkeypatch) as proxy:
        with running((*CLI, "sync")) as (syncing,):
            wait_until(lambda: count(connection) == entries)
            proxy.become(CUT)
            assert syncing.stderr is not None
            assert syncing.stderr.read().startswith("Error: the database did not take the entries: ")
            assert syncing.wait() == 1
        assert len(waiting(settings.spool_dir)) == entries
        assert sync() == f"0 stored, {entries} already there, 0 in quarantine\n"
    assert outcomes(settings) == {f"operation {number}": (1, True, None) for number in range(entries)}


def test_an_answer_that_never_comes_does_not_hold_the_spool(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drainer gives up in time, and whoever comes next finds the lock free and the network healed."""
    record("one")
    with _through(settings, FALLS_DARK, monkeypatch) as proxy:
        with subprocess.Popen([sys.executable, "-c", _IMPATIENT_DRAINER]) as drainer:
            wait_until(lambda: count(connection) == 1)
            proxy.become(GOOD)
            assert sync() == "0 stored, 1 already there, 0 in quarantine\n"
        assert drainer.returncode == 0
    assert outcomes(settings) == {"one": (1, True, None)}


def test_connections_terminated_all_the_time(settings: Settings) -> None:
    for number in range(ENTRIES):
        record(f"operation {number}")
    with connect(settings) as connection:
        slow_down_inserts(connection, _INSERT_SECONDS)
    failures = 0
    with _terminating(settings):
        while waiting(settings.spool_dir):
            try:
                drain(settings)
            except DatabaseError:
                failures += 1
    print(f"{failures} drains failed")
    assert failures >= 5 * SCALE
    assert outcomes(settings) == {f"operation {number}": (1, True, None) for number in range(ENTRIES)}


@contextmanager
def _through(settings: Settings, mode: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the server leads through a proxy, for every process from here on."""
    assert settings.postgres is not None
    with Proxy(settings.postgres, mode) as proxy:
        for name, value in proxy.place.as_environment().items():
            monkeypatch.setenv(name, value)
        yield proxy


@contextmanager
def _terminating(settings: Settings) -> Iterator[None]:
    """An administrator with a grudge against the drainers."""
    assert settings.postgres is not None
    enough = threading.Event()
    with open_connection(settings.postgres) as administrator:

        def terminate() -> None:
            fate = random.Random(8)  # noqa: S311 - chance, not secrecy
            while not enough.wait(fate.expovariate(1 / _TERMINATED_AFTER_SECONDS)):
                administrator.execute(_TERMINATE)

        thread = threading.Thread(target=terminate)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()
