"""`audit-dagster run`: the command is itself, and is recorded."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.recording.command import flags_of
from audit_dagster.settings import Settings
from audit_dagster_tests.recording.stored import only_entry

RUN = [sys.executable, "-m", "audit_dagster.cli", "run"]


def run(*command: str, options: tuple[str, ...] = (), **keywords: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*RUN, *options, "--", *command], check=False, **{"capture_output": True, **keywords})  # type: ignore[call-overload,no-any-return]


def test_streams_and_exit_code_are_the_commands(settings: Settings) -> None:
    done = run("bash", "-c", "cat; printf 'err\\n\\377' >&2; exit 7", input=b"in\x00put")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"in\x00put", b"err\n\xff")
    assert only_entry().results["exit_code"] == 7
    assert only_entry().error_message == "err\n\ufffd"
    assert not only_entry().success


def test_argv_arrives_and_is_recorded_exactly(settings: Settings) -> None:
    words = ["", "a b", "-x", "--", "$(touch canary)", "'", '"', "\n", "*", "°", "--note"]
    done = run(sys.executable, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *words)
    assert done.stdout.decode() == f"{__import__('json').dumps(words)}\n"
    command = only_entry().command
    assert command is not None
    assert command[3:] == words
    assert not Path("canary").exists()


def test_a_command_that_could_not_be_kept_is_not_run_again(settings: Settings) -> None:
    from audit_dagster.reproduction.plan import ScriptConfig, make_plan

    run("true", "x" * 120_000)
    run("true", os.fsdecode(b"\xff"))
    run("true", "--password=hunter22")
    plan = make_plan(AuditService().recent_entries(), ScriptConfig())
    asks = ["true", "--password=${SECRET:PASSWORD}"]
    assert [step.argv for step in plan.steps] == [["true", "x" * 120_000], asks]
    assert {item.reason for item in plan.left_out} == {
        "its command could not be kept as it was: it was too long, or had bytes that are no text"
    }


def test_names_and_notes(settings: Settings) -> None:
    run("true", options=("--tool-name", "sensing-data", "--operation", "extract", "--note", "20 °C; $(x)"))
    entry = only_entry()
    assert (entry.tool_name, entry.operation, entry.note, entry.success) == (
        "sensing-data",
        "extract",
        "20 °C; $(x)",
        True,
    )
    assert entry.error_message is None


def test_flags_become_parameters() -> None:
    argv = [
        "x",
        "--project",
        "Winter Turf - v3",
        "-v",
        "--dry-run",
        "--start-date=2023-01-01",
        "--end",
        "",
        "--",
        "--no",
    ]
    assert flags_of(argv) == {
        "project": "Winter Turf - v3",
        "dry_run": True,
        "start_date": "2023-01-01",
        "end": "",
    }


def test_a_command_that_is_not_there(settings: Settings) -> None:
    done = run("no-such-command")
    assert done.returncode == 127
    assert done.stderr == b"no-such-command: No such file or directory\n"
    assert only_entry().results["exit_code"] == 127


def test_a_command_that_may_not_run(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("x")
    assert run(str(tmp_path / "plain.txt")).returncode == 126


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(settings: Settings, number: signal.Signals, tmp_path: Path) -> None:
    code = f"trap 'echo caught; exit 9' {number.value}; echo > ready; while :; do sleep 0.05; done"
    started = subprocess.Popen([*RUN, "--", "bash", "-c", code], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    _wait_for(tmp_path / "ready")
    started.send_signal(number)
    output, _ = started.communicate(timeout=20)
    assert (started.returncode, output) == (9, b"caught\n")


def test_a_signal_that_ends_the_command_ends_it_visibly(settings: Settings, tmp_path: Path) -> None:
    done = run("bash", "-c", "kill -SEGV $$")
    assert done.returncode == -signal.SIGSEGV
    assert only_entry().results["exit_code"] == 128 + signal.SIGSEGV
    assert only_entry().error_message == f"ended by signal {signal.SIGSEGV.value}"


def test_an_exit_code_above_128_is_no_signal(settings: Settings) -> None:
    assert run("bash", "-c", "exit 143").returncode == 143


def test_a_daemon_that_the_command_leaves_behind_may_write_on(settings: Settings, tmp_path: Path) -> None:
    code = "(sleep 3; echo late >&2; echo $? > wrote) & exit 0"
    began = time.monotonic()
    with (tmp_path / "stderr").open("wb") as stderr:
        assert run("bash", "-c", code, capture_output=False, stdout=subprocess.DEVNULL, stderr=stderr).returncode == 0
    assert time.monotonic() - began < 3, "nobody waits for it"
    for name in ("wrote", "stderr"):
        _wait_for(tmp_path / name)
    assert (tmp_path / "wrote").read_text() == "0\n"
    assert (tmp_path / "stderr").read_text() == "late\n"


def test_lines_of_one_file_keep_their_order(settings: Settings, tmp_path: Path) -> None:
    code = "for i in 1 2 3 4 5 6 7 8; do echo out$i; echo err$i >&2; done; exit 3"
    with (tmp_path / "log").open("wb") as log:
        done = run("bash", "-c", code, capture_output=False, stdout=log, stderr=subprocess.STDOUT)
    written = (tmp_path / "log").read_text()
    assert (done.returncode, written) == (3, "".join(f"out{i}\nerr{i}\n" for i in range(1, 9)))
    assert only_entry().error_message == written.strip()


@pytest.mark.parametrize("together", [True, False])
def test_a_command_learns_that_nobody_reads_any_more(settings: Settings, together: bool) -> None:
    command = [*RUN, "--", "bash", "-c", "trap '' PIPE; while echo x >&2; do :; done; exit 5"]
    reader, writer = os.pipe()
    with subprocess.Popen(command, stderr=writer, stdout=writer if together else subprocess.DEVNULL) as process:
        os.close(writer)
        assert os.read(reader, 2) == b"x\n"
        os.close(reader)
        assert process.wait(timeout=20) == 5


def test_a_new_size_reaches_the_terminal_of_stderr(settings: Settings) -> None:
    code = """
import os, signal, sys
signal.signal(signal.SIGWINCH, lambda *_: None)
print(os.get_terminal_size(2).columns, flush=True)
while os.get_terminal_size(2).columns == 80:
    signal.sigtimedwait([], 0.05)
print(os.get_terminal_size(2).columns, flush=True)
"""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [*RUN, "--", sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "80\n"
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        process.send_signal(signal.SIGWINCH)  # as a terminal does to those that it controls
        assert process.stdout.readline() == "120\n"
    for end in (ours, theirs):
        os.close(end)


def test_on_a_terminal_stderr_stays_one(settings: Settings) -> None:
    reader, writer = pty.openpty()
    code = "[ -t 2 ] && echo terminal >&2; exit 4"
    done = run("bash", "-c", code, capture_output=False, stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    assert os.read(reader, 1000) == b"terminal\r\n"
    os.close(reader)
    assert done.returncode == 4


def test_much_output_passes_whole_and_only_the_tail_is_kept(settings: Settings) -> None:
    done = run("bash", "-c", "seq 200000 >&2; exit 1")
    assert done.stderr == b"".join(b"%d\n" % number for number in range(1, 200001))
    assert len(only_entry().error_message or "") < 5000
    assert (only_entry().error_message or "").endswith("\n200000")


def test_an_operation_inside_knows_its_parent(settings: Settings) -> None:
    inner = "from audit_dagster import log_custom_operation\nwith log_custom_operation('tool', 'inner'): pass"
    run(sys.executable, "-c", inner)
    entries = {entry.operation: entry for entry in AuditService().recent_entries()}
    assert entries["inner"].context["parent_operation_id"] == entries["run"].operation_id


def test_no_command_is_a_usage_error(settings: Settings) -> None:
    assert subprocess.run(RUN, check=False, capture_output=True).returncode == 2


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)
