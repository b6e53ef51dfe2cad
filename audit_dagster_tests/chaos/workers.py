"""A parent of short processes, each of which records one operation: `python workers.py NAME FOLDER NUMBER STOP`.

Forked, because to start a Python for each of thousands takes minutes. About a tenth of them is killed at random points.
What happened to whom stands in `FOLDER/NAME.journal`, a line per event: `b` the operation began, `x` it is about to
end, `e` it ended; the parent adds `k` for a process that it killed. It goes on until NUMBER operations have begun and
the file STOP is there.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from audit_dagster.recording.recorder import log_custom_operation

KILLED_SHARE = 0.1
_LONGEST_WORK_SECONDS = 0.04


def work(operation: str, journal: int, seconds: float) -> None:
    """The short process."""
    with log_custom_operation("chaos", operation) as logger:
        os.write(journal, f"b {operation}\n".encode())
        time.sleep(seconds)
        logger.add_result("seconds", seconds)
        os.write(journal, f"x {operation}\n".encode())
    os.write(journal, f"e {operation}\n".encode())


class Parent:
    """Starts one process after the other, and kills some of them."""

    def __init__(self, name: str, journal: int) -> None:
        self._name, self._journal = name, journal
        self._fate = random.Random(name)  # noqa: S311 - chance, not secrecy
        self._lifetime = _LONGEST_WORK_SECONDS  # of the last one that lived to its end
        self._started = self._killed = 0

    def run_one(self) -> None:
        """From its start to its end, whichever that is."""
        self._started += 1
        operation = f"{self._name}-{self._started}"
        seconds = self._fate.uniform(0, _LONGEST_WORK_SECONDS)
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                work(operation, self._journal, seconds)
            finally:
                os._exit(0)
        if self._killed < KILLED_SHARE * self._started and self._fate.random() < 0.5:
            time.sleep(self._fate.uniform(0, self._lifetime))
            os.kill(pid, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
            self._killed += 1
            os.write(self._journal, f"k {operation}\n".encode())
        else:
            self._lifetime = time.monotonic() - begin


def main(name: str, folder: Path, number: int, stop: Path) -> None:
    """Run processes until there are enough."""
    path = folder / f"{name}.journal"
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    work(f"{name}-0", journal, 0)  # imports what is imported late, once for all
    parent = Parent(name, journal)
    while not (stop.exists() and path.read_bytes().count(b"b ") >= number):
        parent.run_one()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
