"""A person who waits sees how far it is; programs, pipes and files see nothing of it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_dagster.recording.recorder import Recording
from audit_dagster.settings import Settings
from audit_dagster.store.drain import drain
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.test_ask import JUNE, Store

WAIT = (
    "import sys, time\n"
    "from audit_dagster.commands.progress import tracked\n"
    "for one in tracked('days', quiet={quiet})({items}): time.sleep({seconds})\n"
    "print('done')\n"
)
ESCAPE = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")
AUDIT = (sys.executable, "-m", "audit_dagster.cli")


def in_terminal(*command: str, **streams: int) -> str:
    """What a terminal gets of a program that writes both its streams to it, but for those that are given."""
    reader, writer = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    environment = {**kept, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(command, env=environment, **{"stdout": writer, "stderr": writer, **streams}) as process:
        os.close(writer)
        shown = b""
        try:
            while piece := os.read(reader, 65536):
                shown += piece
        except OSError:  # so a terminal ends on Linux
            pass
        os.close(reader)
    assert process.returncode == 0, shown
    return shown.decode()


def waiting(items: str, seconds: float, *, quiet: bool = False, **streams: int) -> str:
    return in_terminal(sys.executable, "-c", WAIT.format(items=items, seconds=seconds, quiet=quiet), **streams)


def test_a_bar_with_rate_and_time_left() -> None:
    shown = ESCAPE.sub("", waiting("range(6)", 0.25))
    assert re.search(r"days [━╺╸]+ 4/6 [34]\.\d/s 0:00:0\d", shown), shown
    assert shown.rstrip().endswith("done")
    assert re.search(r"days ━+ 4/\? [34]\.\d/s", ESCAPE.sub("", waiting("iter(range(6))", 0.25)))


@pytest.mark.parametrize("unseen", [{"quiet": True}, {"stdout": subprocess.DEVNULL}, {"stderr": subprocess.DEVNULL}])
def test_nobody_waits_nothing_is_shown(unseen: dict[str, int]) -> None:
    assert waiting("range(3)", 0.3, **unseen) in {"done\r\n", ""}


def test_what_is_over_at_once_has_no_bar() -> None:
    assert waiting("range(1000)", 0) == "done\r\n"


SPIN = (
    "import sys, time\n"
    "from audit_dagster.commands.progress import spinner\n"
    "with spinner('searching', quiet={quiet}): time.sleep({seconds})\n"
    "print('done')\n"
)


def test_a_spinner_where_nobody_knows_how_far_it_is() -> None:
    shown = ESCAPE.sub("", in_terminal(sys.executable, "-c", SPIN.format(seconds=0.9, quiet=False)))
    assert re.search(r"[^\w\s] searching", shown), shown
    assert shown.rstrip().endswith("done")
    for unseen in ({"stderr": subprocess.DEVNULL}, {"stdout": subprocess.DEVNULL}):
        assert in_terminal(sys.executable, "-c", SPIN.format(seconds=0.9, quiet=False), **unseen) in {"done\r\n", ""}
    for seconds, quiet in ((0.9, True), (0, False)):
        assert in_terminal(sys.executable, "-c", SPIN.format(seconds=seconds, quiet=quiet)) == "done\r\n"


def test_questions_that_take_long_have_a_spinner(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    connection.execute("BEGIN")
    connection.execute("LOCK audit_logs IN ACCESS EXCLUSIVE MODE")  # they wait, as for a million rows
    release = threading.Timer(3, connection.execute, ["ROLLBACK"])
    release.start()
    questions = {"searching": ("search", "nowhere"), "counting": ("stats",), "the page of all reports": ("site",)}
    with ThreadPoolExecutor() as pool:
        shown = pool.map(lambda words: in_terminal(*AUDIT, *words), questions.values())
        for what, text in zip(questions, shown, strict=True):
            assert re.search(rf"[^\w\s] {what}", ESCAPE.sub("", text)), text
    release.join()


def test_the_files_of_the_spool_are_counted(settings: Settings, without_drainer: None) -> None:
    for _ in range(3):
        recording = Recording("tool", "x")
        recording.start(None)
        recording.finish(success=True, error_message=None)
    seen: list[Path] = []
    assert drain(settings, lambda paths: (seen.append(path) or path for path in paths)).stored == 3
    assert len(seen) == 3


def test_reports_into_a_pipe_are_as_ever(settings: Settings, store: Store) -> None:
    store(make_entry())
    done = subprocess.run([*AUDIT, "report", *JUNE], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("logs/2023-06-15.md\nWrote 1 daily report to logs.\n", "")
