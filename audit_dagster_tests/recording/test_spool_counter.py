"""Each operation of a spool has a number: none twice, none left out, whoever dies or stands still."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from audit_dagster import log_custom_operation
from audit_dagster.recording import handed_in
from audit_dagster.recording.spool import COUNTER_NAME, number_of, waiting
from audit_dagster.settings import Settings
from audit_dagster_tests.recording.stored import entries, only_entry

pytestmark = pytest.mark.usefixtures("without_drainer")

_MANY = """
import sys
from audit_dagster import log_custom_operation
from audit_dagster.recording import drainer

drainer.wake = lambda settings: None
print(flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    with log_custom_operation("lab", "many"):
        pass
"""


def record(times: int = 1) -> None:
    for _ in range(times):
        with log_custom_operation("lab", "step"):
            pass


def numbers(settings: Settings) -> list[int]:
    found = [number_of(path) for path in waiting(settings.spool_dir)]
    assert len({number["id"] for number in found if number}) <= 1
    return [number["number"] for number in found if number]


def crowd(size: int, operations: int) -> list[subprocess.Popen[str]]:
    """Processes that have imported everything and wait for a line."""
    command = [sys.executable, "-c", _MANY, str(operations)]
    made = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(size)]
    for process in made:
        assert process.stdout is not None
        process.stdout.readline()
    return made


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.communicate(timeout=60)


def test_operations_are_numbered_in_the_database(settings: Settings) -> None:
    record(3)
    handed_in.record(b'{"tool_name": "lab", "operation": "told", "success": true}')
    spools = [entry.context["spool"] for entry in entries()]
    assert [spool["number"] for spool in spools] == [1, 2, 3, 4]
    assert {spool["id"] for spool in spools} == {(settings.spool_dir / COUNTER_NAME).read_text().split()[0]}


def test_what_is_not_recorded_takes_no_number(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, unwarned: None
) -> None:
    record()
    monkeypatch.setenv("POSTGRES_LOGGING_STATUS", "false")
    record()
    monkeypatch.setenv("POSTGRES_LOGGING_STATUS", "true")
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    record()
    monkeypatch.undo()
    monkeypatch.setenv("AUDIT_STATE_DIR", str(settings.state_dir))
    monkeypatch.setattr("audit_dagster.recording.drainer.wake", lambda _settings: None)
    record()
    assert numbers(settings) == [1, 2]


def test_threads_and_forks(settings: Settings) -> None:
    threads = [threading.Thread(target=record, args=(50,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            record(20)
            os._exit(0)
        children.append(child)
    for thread in threads:
        thread.join()
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert len(waiting(settings.spool_dir)) == 320
    assert sorted(numbers(settings)) == list(range(1, len(numbers(settings)) + 1))
    assert len(numbers(settings)) > 250


@pytest.mark.chaos  # how many get a number is a question of time
def test_64_processes_at_once(settings: Settings) -> None:
    processes = crowd(64, 25)
    for process in processes:
        go(process)
    end(processes)
    found = sorted(numbers(settings))
    print(f"{len(found)} of 1600 have a number")
    assert len(waiting(settings.spool_dir)) == 1600
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 1200


def test_who_is_killed_leaves_no_gap(settings: Settings) -> None:
    for round_ in range(6):
        processes = crowd(4, 10_000)
        for process in processes:
            go(process)
        time.sleep(0.05 + 0.02 * round_)  # the moment of the kill is what varies
        for process in processes:
            process.kill()
        end(processes)
    record()
    found = Counter(numbers(settings))
    print(f"{found.total()} numbers, {found.total() - len(found)} twice")
    assert sorted(found) == list(range(1, len(found) + 1))
    assert found.total() - len(found) <= 24  # at most one for each that was killed
    assert found.total() > 100


def test_nobody_waits_for_a_process_that_stands_still(settings: Settings) -> None:
    record()
    path = settings.spool_dir / COUNTER_NAME
    holder = os.open(path, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    started = time.monotonic()
    record()
    assert time.monotonic() - started < 0.5
    os.close(holder)
    record()
    assert len(waiting(settings.spool_dir)) == 3
    assert numbers(settings) == [1, 2]
    assert [entry.context.get("spool", {}).get("number") for entry in entries()] == [1, None, 2]


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("put", [a_folder, a_pipe, a_link])
def test_something_else_in_the_counters_place(settings: Settings, put: Callable[[Path], None]) -> None:
    settings.spool_dir.mkdir(parents=True)
    put(settings.spool_dir / COUNTER_NAME)
    record()
    assert "spool" not in only_entry().context


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 20, b"not hex 1\n", b"00112233445566 9", b"0011223344556677 -9\n", b"\xff" * 5000]
)
def test_a_damaged_counter_begins_anew(settings: Settings, content: bytes) -> None:
    settings.spool_dir.mkdir(parents=True)
    (settings.spool_dir / COUNTER_NAME).write_bytes(content)
    record(2)
    spools = [entry.context["spool"] for entry in entries()]
    assert [spool["number"] for spool in spools] == [1, 2]
    assert len({spool["id"] for spool in spools}) == 1


def test_a_stopped_process_is_gone_on_with(settings: Settings) -> None:
    (process,) = crowd(1, 200)
    go(process)
    process.send_signal(signal.SIGSTOP)
    record(3)
    process.send_signal(signal.SIGCONT)
    end([process])
    assert sorted(numbers(settings)) == list(range(1, len(numbers(settings)) + 1))
    assert len(waiting(settings.spool_dir)) == 203
