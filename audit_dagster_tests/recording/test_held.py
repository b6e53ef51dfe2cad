"""What belongs to the tool stays the tool's while something is recorded: its signals, its children, its blocks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from audit_dagster import log_custom_operation
from audit_dagster.audit_service import AuditService
from audit_dagster.recording import drainer, recorder
from audit_dagster.settings import Settings
from audit_dagster_tests.recording.stored import only_entry


def run(code: str, *options: str, **others: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **others}
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SLOW_TO_RECORD = """
import signal, sys
from audit_dagster import log_custom_operation
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with log_custom_operation("tool", sys.argv[1]) as logger:
    for number in range(3):
        logger.add_result(str(number), [[0.5] * 100] * 900)
    print("ending", flush=True)
print("the tool went on")
"""


def test_a_signal_that_comes_while_the_end_is_recorded_ends_the_tool(settings: Settings) -> None:
    for number in range(8):
        command = [sys.executable, "-c", SLOW_TO_RECORD, str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "ending\n"
            time.sleep(0.02 * number)
            process.terminate()
            assert (process.stdout.read(), process.wait()) == ("", 143), number
    assert len(AuditService().recent_entries()) == 8


def test_the_tools_own_timeout_is_the_tools(settings: Settings, tmp_path: Path) -> None:
    """It comes while a slow git keeps the start waiting: no block is entered, and the operation has failed by it."""
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f'#!/bin/sh\nsleep 1\nexec {real} "$@"\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", repository], check=True)
    code = """
        import os, signal, sys
        from audit_dagster import log_custom_operation
        class TooLong(Exception): pass
        def late(*_): raise TooLong("after 0.2 s")
        os.chdir(sys.argv[1])
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with log_custom_operation("tool", "x"):
                print("inside")
        except TooLong as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(repository)]
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("after 0.2 s\n", "", 0)
    assert only_entry().error_message == "TooLong: after 0.2 s"


def test_handlers_are_as_they_were_and_are_called_once(settings: Settings) -> None:
    came: list[int] = []

    class Signalling(str):
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGUSR1)
            assert came == [], "not yet"
            return "a value"

    class Value:
        tolist = None
        __str__ = lambda _self: str(Signalling())  # noqa: E731

    def handler(number: int, _frame: object) -> None:
        came.append(number)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with log_custom_operation("tool", "x") as logger:
            logger.add_result("value", Value())
        assert came == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert only_entry().results == {"value": "a value"}


def test_a_tool_that_waits_for_its_children_finds_only_its_own(settings: Settings) -> None:
    code = """
        import os
        from audit_dagster import log_custom_operation
        with log_custom_operation("tool", "x"):
            pass
        try:
            print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("none")
    """
    done = run(code, "-W", "error", "-X", "dev")
    assert (done.stdout, done.stderr) == ("none\n", "")
    assert only_entry().operation == "x"


@pytest.mark.parametrize(("attribute", "value"), [("executable", "/opt/turf/turf-tool"), ("frozen", True)])
def test_a_program_that_python_is_a_part_of_is_not_started_again(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    attribute: str,
    value: object,
) -> None:
    monkeypatch.setattr(recorder, "_warned", False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, attribute, value, raising=False)
        with log_custom_operation("tool", "x"):
            pass
    said = capfd.readouterr().err
    assert said.startswith("audit-dagster: operations wait in the spool, and nobody could be started to store them: ")
    assert said.endswith("is no Python: run `audit-dagster sync`\n")
    drainer.wake(settings)
    assert only_entry().operation == "x"


def test_threads_that_share_a_logger_have_a_block_each(settings: Settings) -> None:
    """The first to enter is the first to leave, with an error that is its own."""
    logger = log_custom_operation("tool", "shared")
    entered, left = threading.Event(), threading.Event()

    def first() -> None:
        with pytest.raises(ZeroDivisionError), logger:
            logger.add_parameter("who", 1)
            entered.set()
            time.sleep(0.1)  # until the second is inside
            _ = 1 / 0
        left.set()

    def second() -> None:
        entered.wait(5)
        with logger:
            logger.add_parameter("who", 2)
            left.wait(5)

    threads = [threading.Thread(target=function) for function in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {entry.parameters["who"]: entry.error_message for entry in AuditService().recent_entries()}
    assert found == {1: "ZeroDivisionError: division by zero", 2: None}


def test_the_users_name_is_not_asked_for_through_a_socket(settings: Settings) -> None:
    code = """
        import os, sys
        from audit_dagster import log_custom_operation
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            os.environ.pop(name, None)
        with log_custom_operation("tool", "x"):
            pass
        print("pwd" in sys.modules)
    """
    assert run(code).stdout == "False\n"
    assert only_entry().user_name == pwd.getpwuid(os.getuid()).pw_name
