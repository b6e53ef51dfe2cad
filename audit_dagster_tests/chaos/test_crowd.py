"""Many at once: 64 processes that record, 8 drainers that are started again and again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit_dagster.settings import Settings
from audit_dagster.store.connect import open_connection
from audit_dagster_tests.chaos.world import (
    DRAINER,
    SCALE,
    Connection,
    outcomes,
    running,
    slow_down_inserts,
    sync,
    wait_until,
)

pytestmark = pytest.mark.chaos

PROCESSES = 64
DRAINERS = 8
OPERATIONS = 16 * SCALE
_ROUNDS = 3
_CROWD = Path(__file__).with_name("crowd.py")
_SAMPLED_EVERY_SECONDS = 0.002
_INSERT_SECONDS = 0.005  # so slow that two drainers, if there were two, would be seen side by side
_APPENDING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%audit_append%'
"""


def test_a_crowd_of_tools_and_drainers(settings: Settings, connection: Connection, tmp_path: Path) -> None:
    slow_down_inserts(connection, _INSERT_SECONDS)
    tool = shutil.copy(_CROWD, tmp_path)  # out of this repository, which each process would ask git about
    commands = [(sys.executable, tool, tmp_path, str(number), str(OPERATIONS)) for number in range(PROCESSES)]
    with running(*commands) as tools, _appending(settings) as seen:
        wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == PROCESSES, seconds=60)
        (tmp_path / "go").touch()
        ends = _drain_until_ended(tools)
        assert [(one.communicate()[1], one.returncode) for one in tools] == [("", 0)] * PROCESSES
        print(sync())
    print(f"{len(ends)} drainers were started here; appending at once: {dict(seen)}")
    assert set(ends) == {0}
    assert seen[1] > 50
    assert seen.keys() == {0, 1}
    expected = {f"{process}-{number}" for process in range(PROCESSES) for number in range(OPERATIONS)}
    assert outcomes(settings) == dict.fromkeys(expected, (1, True, None))


def _drain_until_ended(tools: list[subprocess.Popen[str]]) -> list[int]:
    """Keep the drainers coming while the tools live, for some rounds in any case; how each of them ended."""
    started: list[subprocess.Popen[bytes]] = []
    while len(started) < _ROUNDS * DRAINERS or any(tool.poll() is None for tool in tools):
        if sum(drainer.poll() is None for drainer in started) < DRAINERS:
            started.append(subprocess.Popen(DRAINER))
        else:
            time.sleep(0.01)
    return [drainer.wait(timeout=60) for drainer in started]


@contextmanager
def _appending(settings: Settings) -> Iterator[Counter[int]]:
    """How often how many sessions were seen appending at the same time."""
    assert settings.postgres is not None
    seen: Counter[int] = Counter()
    enough = threading.Event()
    with open_connection(settings.postgres) as observer:

        def observe() -> None:
            while not enough.wait(_SAMPLED_EVERY_SECONDS):
                (number,) = observer.execute(_APPENDING).fetchone() or (0,)
                seen[number] += 1

        thread = threading.Thread(target=observe)
        thread.start()
        try:
            yield seen
        finally:
            enough.set()
            thread.join()
