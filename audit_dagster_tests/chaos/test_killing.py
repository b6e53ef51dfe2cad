"""Tools, drainers and the server are killed in the middle of things: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect
from audit_dagster.store.drain import DIED
from audit_dagster_tests.chaos.world import (
    DRAINER,
    SCALE,
    drainers,
    kill,
    outcomes,
    running,
    server_processes,
    slow_down_inserts,
    sync,
    wait_until,
)

pytestmark = pytest.mark.chaos

OPERATIONS = 3000 * SCALE
DRAINER_KILLS = 50 * SCALE
SERVER_KILLS = 10 * SCALE
_WORKERS = 4
_SHARE = OPERATIONS // _WORKERS
_WORKER = Path(__file__).with_name("workers.py")
_LONGEST_DRAINER_LIFE_SECONDS = 1.5
_LONGEST_SERVER_LIFE_SECONDS = 0.5
_INSERT_SECONDS = 0.001  # so that many a drainer is killed while rows are stored
_fate = random.Random(8)  # noqa: S311 - chance, not secrecy


def test_whoever_is_killed_nothing_is_lost_or_twice(own_server: Settings) -> None:
    with connect(own_server) as connection:
        slow_down_inserts(connection, _INSERT_SECONDS)
    folder = own_server.state_dir.parent
    stop = folder / "stop"
    worker = shutil.copy(_WORKER, folder)  # out of this repository, which each process would ask git about
    commands = [(sys.executable, worker, f"w{number}", folder, str(_SHARE), stop) for number in range(_WORKERS)]
    with running(*commands) as workers:
        _kill_drainers_and_server(own_server)
        stop.touch()
        assert [(worker.communicate()[1], worker.returncode) for worker in workers] == [("", 0)] * _WORKERS
    print(sync())
    _compare(_journals(folder), own_server)


def _kill_drainers_and_server(settings: Settings) -> None:
    with _Drainers(settings) as ours:
        for number in range(DRAINER_KILLS):
            ours.kill_one()
            if number % (DRAINER_KILLS // SERVER_KILLS) == 0:
                ours.kill_server(whole=number % 2 == 0)


class _Drainers:
    """Drainers at work: those that the tools start, and while a back-off keeps them from it, those started here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> _Drainers:
        return self

    def __exit__(self, *_: object) -> None:
        for drainer in self._started:
            drainer.kill()
            drainer.wait()

    def kill_one(self) -> None:
        """At a random point of its life."""
        killed: list[int] = []
        while not killed:
            self._keep_one()
            time.sleep(_fate.uniform(0, _LONGEST_DRAINER_LIFE_SECONDS))
            killed = [pid for pid in drainers(self._settings) if kill(pid)]
        wait_until(lambda: not set(killed) & set(drainers(self._settings)))

    def kill_server(self, *, whole: bool) -> None:
        """The postmaster alone, or with all that it started; after a drainer has started it, if need be."""
        time.sleep(_fate.uniform(0, _LONGEST_SERVER_LIFE_SECONDS))
        while not ((processes := server_processes(self._settings)) and kill(processes[0])):
            self._keep_one()
            time.sleep(0.02)
        for pid in processes[1:] if whole else ():
            kill(pid)

    def _keep_one(self) -> None:
        if not drainers(self._settings):
            self._started.append(subprocess.Popen(DRAINER))


def _journals(folder: Path) -> dict[str, set[str]]:
    """What happened to each operation: b it began, x it was about to end, e it ended, k its process was killed."""
    events: dict[str, set[str]] = defaultdict(set)
    for path in folder.glob("*.journal"):
        for line in path.read_text().splitlines():
            event, operation = line.split()
            events[operation].add(event)
    return events


def _compare(journal: dict[str, set[str]], settings: Settings) -> None:
    rows = outcomes(settings)
    began = {operation for operation, events in journal.items() if "b" in events}
    interrupted = {operation for operation in began if "x" not in journal[operation]}
    ended = {operation for operation in began if "e" in journal[operation]}
    killed = {operation for operation, events in journal.items() if "k" in events}
    print(f"{len(began)} began, {len(ended)} ended, {len(killed)} killed, {len(interrupted)} of them in the middle")
    assert len(began) >= OPERATIONS
    assert len(killed) > 0.09 * OPERATIONS
    assert len(interrupted) > 0.01 * OPERATIONS
    assert began - rows.keys() == set()
    assert {name: row for name, row in rows.items() if row[0] != 1} == {}
    failed = (1, False, DIED)
    assert {name: rows[name] for name in interrupted if rows[name] != failed} == {}
    assert {name: rows[name] for name in ended if rows[name] != (1, True, None)} == {}
    # Killed between the beginning and its mention, or around the end: what the row says is right either way.
    assert rows.keys() - began <= killed
    assert {name: rows[name] for name in rows.keys() - began if rows[name] != failed} == {}
    with connect(settings) as connection:
        (alerts,) = connection.execute("SELECT count(*) FROM alert_outbox").fetchone() or (0,)
    assert alerts == sum(not success for _, success, _ in rows.values())
