"""`audit-dagster shell-hook`: commands that are typed run as they did before, and are recorded."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry
from audit_dagster.render import render
from audit_dagster.settings import Settings

BIN = Path(sys.prefix) / "bin"
GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
START = {"bash": ["bash", "--norc", "--noprofile"], "zsh": ["zsh", "-f"]}
PATIENCE_SECONDS = 20


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed; .ci/run installs it on Debian")
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    return str(request.param)


def typed(shell: str, script: str, *, options: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run a script in a shell with the hook, as `options` set it."""
    code = f'{options}\neval "$(audit-dagster shell-hook {shell})"\n{script}'
    return subprocess.run([*START[shell], "-c", code], check=False, capture_output=True)


def text(shell: str) -> str:
    return render("shell_hook.sh.j2", **{"shell": shell})


def recorded() -> list[LogEntry]:
    return AuditService().recent_entries(None)


def commands() -> list[list[str]]:
    return sorted(entry.command or [] for entry in recorded())


# ---- The text ----


def test_it_is_printed(shell: str) -> None:
    done = subprocess.run(["audit-dagster", "shell-hook", shell], check=True, capture_output=True, text=True)
    assert done.stdout == text(shell)
    subprocess.run([shell, "-n", "-c", done.stdout], check=True)


def test_another_shell_is_refused() -> None:
    command = [sys.executable, "-m", "audit_dagster.cli", "shell-hook", "fish"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'fish' is not one of 'bash', 'zsh'" in done.stderr


def test_shellcheck_finds_nothing() -> None:
    command = [BIN / "shellcheck", "--shell=bash", "--severity=style", "-"]
    done = subprocess.run(command, input=text("bash").encode(), check=False)
    assert done.returncode == 0


def test_it_has_nothing_that_bash_3_lacks() -> None:
    newer = (
        r"declare -[AgnlucI]|local -[An]|\$\{\w+[,^@]|\$\{\w+: -|mapfile|readarray|coproc|&>>|\|&|;;?&|\[\[ -v|\$EPOCH"
    )
    assert re.findall(newer, text("bash")) == []


def test_the_guides_lines(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    section = GUIDE.read_text("utf-8").split("\n### As you type\n")[1].split("\n## ")[0]
    lines = section.split("  ```bash\n")[1].split("  ```\n")[0].replace("make Rscript", "dash seq")
    done = subprocess.run(["bash", "-c", f"{lines}\naudit_record; seq 1"], check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"dash\nseq\n1\n", b"")
    assert commands() == [["seq", "1"]]


# ---- audit_record ----


def test_chosen_commands_are_recorded_and_others_are_not(settings: Settings, shell: str) -> None:
    done = typed(shell, "audit_record seq dash\naudit_record\nseq 2; dash -c 'exit 3'; echo $?; ls / >/dev/null")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"dash\nseq\n1\n2\n3\n", b"")
    assert commands() == [["dash", "-c", "exit 3"], ["seq", "2"]]


def test_off_takes_it_back(settings: Settings, shell: str) -> None:
    script = "audit_record seq dash ls; audit_record --off dash; audit_record; dash -c :; seq 1"
    done = typed(
        shell, f"{script}; audit_record --off seq ls; audit_record; seq 1; audit_record seq; seq 3 | tail -n 1"
    )
    assert (done.stdout, done.stderr) == (b"ls\nseq\n1\n1\n3\n", b"")
    assert commands() == [["seq", "1"], ["seq", "3"]]


def test_the_hook_may_come_twice(settings: Settings, shell: str) -> None:
    again = f'audit_record seq; eval "$(audit-dagster shell-hook {shell})"; audit_record seq; audit_record; seq 1'
    assert typed(shell, again, options="set -eu").stdout == b"seq\n1\n"
    assert commands() == [["seq", "1"]]


NO_NAME = "no name of a program"
NOTHING = "there is no such program on PATH"
REFUSED = [
    ("cd", "to this shell it is no program: builtin"),
    ("printf", "to this shell it is no program: builtin"),
    ("mine", "to this shell it is no program: function"),
    ("audit_record", "to this shell it is no program: function"),
    ("ll", "to this shell it is no program: alias"),
    ("no-such-program", NOTHING),
    ("plain.txt", NOTHING),
    *(
        (name, NO_NAME)
        for name in ("''", "-x", "--list", ".", "..", "/bin/ls", "./run", "'seq dash'", "'a;b'", "'a\nb'")
    ),
    *(
        (name, NO_NAME)
        for name in ("'$(touch canary)'", "'`touch canary`'", "'x() { touch canary; }; y'", "'*'", "'a&b'")
    ),
    *(
        (name, NO_NAME)
        for name in ("'seq>canary'", "'a=b'", "'\"'", '"\'"', "'\\'", "'{ touch canary; }'", "é", "'ls '")
    ),
]


def test_what_is_no_program_is_refused_with_the_reason(settings: Settings, shell: str, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("not executable")
    before = (
        f"PATH=$PATH:{tmp_path}; mine() {{ :; }}; [ -n \"$ZSH_VERSION\" ] || shopt -s expand_aliases; alias ll='ls -l'"
    )
    refused = [*REFUSED, ("if", f"to this shell it is no program: {'keyword' if shell == 'bash' else 'reserved'}")]
    for option, reasons in (("", [why for _, why in refused]), ("--off ", [NO_NAME, "it is not recorded"])):
        lines = [f"audit_record {option}{name} || echo $?" for name, _ in refused]
        done = typed(shell, "\n".join(["audit_record seq dash", *lines, "audit_record"]), options=before)
        messages = done.stderr.decode().splitlines()
        assert done.stdout.decode() == "1\n" * len(refused) + "dash\nseq\n", messages
        assert all(message.startswith("audit_record: ") for message in messages)
        found = [message.split(": ", 2)[2] for message in messages]
        assert found == reasons if not option else set(found) == set(reasons)
    assert not (tmp_path / "canary").exists()


def test_one_bad_name_keeps_no_good_one_away(settings: Settings, shell: str) -> None:
    done = typed(shell, "audit_record no-such-program seq cd dash; echo $?; audit_record")
    assert done.stdout == b"1\ndash\nseq\n"


def test_names_with_every_character_that_a_name_may_have(settings: Settings, shell: str, tmp_path: Path) -> None:
    names = ["g++", "python3.11", "apt-get", "7z", "_x", "R", "a.b-c+d_e", "if-then", "42"]
    (tmp_path / "bin").mkdir()
    for name in names:
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "{name}" "$1"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    script = "\n".join([f"audit_record {' '.join(names)}", *(f"{name} x" for name in names)])
    done = typed(shell, script, options=f"set -eu; PATH={tmp_path}/bin:$PATH")
    assert (done.stdout.decode(), done.stderr) == ("".join(f"{name} x\n" for name in names), b"")
    assert commands() == sorted([name, "x"] for name in names)


# ---- As before ----

WORDS = [
    "",
    "a b",
    "-x",
    "--",
    "--note",
    "$(touch canary)",
    "`x`",
    "'",
    '"',
    "\\",
    "\n",
    "*",
    "~",
    "!!",
    "°",
    "a=b",
    "\x1b",
]


def test_words_arrive_byte_for_byte(settings: Settings, shell: str) -> None:
    """Also bytes that are no text."""
    code = 'eval "$(audit-dagster shell-hook "$1")"; shift; audit_record dash; dash "$@"'
    words = ["-c", r'printf "%s\0" "$@"', "dash", *WORDS, "\udcff"]
    done = subprocess.run([*START[shell], "-c", code, shell, shell, *words], check=False, capture_output=True)
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in words[3:])
    assert not Path("canary").exists()


@pytest.mark.parametrize("options", ["", "set -eu -o pipefail"])
def test_exit_codes_streams_and_pipes(settings: Settings, shell: str, options: str) -> None:
    script = """
audit_record dash seq cat grep
dash -c 'exit 7' || echo "or $?"
dash -c 'exit 0' && echo "and"
if grep -q x /dev/null; then echo yes; else echo "no $?"; fi
! dash -c 'exit 1' && echo "not"
{ dash -c 'kill -TERM $$'; } 2>/dev/null || echo "signal $?"
echo in | cat - > out 2> err; cat < out
dash -c 'echo to stderr >&2' 2>&1 | cat
echo "$(seq 2 | tail -n 1)"
seq 100000 | head -n 1 || echo "pipe $?"
NAME=value dash -c 'echo "$NAME"'; echo "${NAME-unset}"
for word in a b; do dash -c 'echo "$1"; cat >/dev/null' x $word; done </dev/null
while read -r line; do echo "read $line"; seq 1 >/dev/null </dev/null; done <<END
1
2
END
(dash -c 'exit 5'; echo unreached) || echo "sub"
dash -c 'exit 9'
"""
    expected = ["or 7", "and", "no 1", "not", "signal 143", "in", "to stderr", "2", "1"]
    expected += ["pipe 141"] if "pipefail" in options else []
    expected += ["value", "unset", "a", "b", "read 1", "read 2"]
    expected += ["unreached"]
    done = typed(shell, script, options=options)
    assert (done.stdout.decode().splitlines(), done.stderr, done.returncode) == (expected, b"", 9)


def test_set_e_ends_the_shell_at_a_failure(settings: Settings, shell: str) -> None:
    done = typed(shell, "audit_record dash; echo before; dash -c 'exit 6'; echo after", options="set -eu")
    assert (done.returncode, done.stdout) == (6, b"before\n")


def test_other_descriptors_arrive(settings: Settings, shell: str) -> None:
    script = "audit_record cat dash\ncat <(echo one) <(echo two)\ndash -c 'echo three >&3' 3>out; command cat out"
    done = typed(shell, script)
    assert (done.stdout, done.stderr) == (b"one\ntwo\nthree\n", b"")


def test_a_background_job_is_waited_for(settings: Settings, shell: str) -> None:
    done = typed(shell, "audit_record dash; dash -c 'sleep 0.2; echo x; exit 4' & wait $!; echo $?")
    assert done.stdout == b"x\n4\n"


@pytest.mark.parametrize("options", ["", "set -a"])
def test_scripts_and_other_shells_are_not_affected(
    settings: Settings, shell: str, tmp_path: Path, options: str
) -> None:
    (tmp_path / "script.sh").write_text("seq 1\ncommand -v seq\n")
    script = (
        "audit_record seq; for one in bash dash zsh; do if command -v $one; then $one script.sh; fi; done; env seq 2"
    )
    done = typed(shell, script.replace("if command -v $one;", "if command -v $one >/dev/null;"), options=options)
    answer = b"1\n/usr/bin/seq\n"
    assert (done.stdout, done.stderr) == (answer * (2 + bool(shutil.which("zsh"))) + b"1\n2\n", b"")
    assert recorded() == []


# ---- audit-dagster goes away ----


@pytest.mark.parametrize("how", ["PATH=/usr/bin:/bin", "rm there/audit-dagster", "chmod -x there/audit-dagster"])
def test_without_audit_dagster_it_runs_on_with_one_line(
    settings: Settings, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "audit-dagster").write_text(f'#!/bin/sh\nexec "{BIN}/audit-dagster" "$@"\n')
    (there / "audit-dagster").chmod(0o755)
    monkeypatch.setenv("PATH", f"{there}:/usr/bin:/bin")
    script = f"audit_record seq dash; seq 1; {how}; seq 2 | tail -n 1; seq 3; dash -c 'exit 5'; echo $?"
    done = typed(shell, script, options="set -u")
    assert done.stdout == b"1\n2\n1\n2\n3\n5\n"
    warning = b"audit-dagster is no longer on PATH: seq is not recorded\n"
    # A pipe's part is a shell of its own, and cannot tell the others that it has told.
    assert done.stderr == warning * 2
    assert commands() == [["seq", "1"]]


# ---- On a terminal ----


class Terminal:
    """An interactive shell under a terminal of its own."""

    def __init__(self, shell: str) -> None:
        self.unread = ""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            environment = {**os.environ, "PS1": "ready> ", "TERM": "dumb"}
            os.execvpe(shell, [*START[shell], "-i"], environment)  # noqa: S606
        self.expect("ready> ")
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 1000, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def run(self, line: str) -> str:
        """Type a line; what the shell shows up to the next prompt, without the echo of the line."""
        self.type(f"{line}; echo 'a''fter'\r")
        shown = self.expect("after\r\n")
        self.expect("ready> ")
        return shown

    def expect(self, pattern: str) -> str:
        """Wait for a pattern; what came before it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (match := re.search(pattern, self.unread)) is None:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._terminal], [], [], left)[0], f"no {pattern!r} in {self.unread!r}"
            self.unread += os.read(self._terminal, 65536).decode("utf-8", "replace")
        before, self.unread = self.unread[: match.start()], self.unread[match.end() :]
        return before

    def close(self) -> None:
        os.close(self._terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGHUP)
        os.waitpid(self._pid, 0)


@pytest.fixture
def terminal(settings: Settings, shell: str) -> Iterator[Terminal]:
    opened = Terminal(shell)
    try:
        opened.run(f'eval "$(audit-dagster shell-hook {shell})"')
        opened.run("audit_record dash cat")
        yield opened
    finally:
        opened.close()


SLOW = "dash -c 'echo $$ >pid; exec sleep 60'"


def running() -> int:
    """The process of SLOW, once it sleeps."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            process = int(Path("pid").read_text())
            if Path(f"/proc/{process}/comm").read_text() == "sleep\n":
                Path("pid").unlink()
                return process
        time.sleep(0.01)
    raise AssertionError("it never ran")


def wait_for_state(process: int, state: str) -> None:
    """T: stopped, S: asleep, "": gone."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    found = None
    while found != state:
        assert time.monotonic() < deadline, f"{process} is {found}, not {state}"
        try:
            found = Path(f"/proc/{process}/stat").read_text().split()[2]
        except FileNotFoundError:
            found = ""
        time.sleep(0.01)


def wait_for_foreground(process: int) -> None:
    """Until the terminal's group is the process's."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    fields = ["?"] * 8
    while fields[4] != fields[7] or fields[4] == "?":
        assert time.monotonic() < deadline, f"{process} stays in the background"
        fields = Path(f"/proc/{process}/stat").read_text().split()
        time.sleep(0.01)


def test_ctrl_c_ends_the_command_and_not_the_shell(terminal: Terminal) -> None:
    terminal.type(f"{SLOW}\r")
    process = running()
    terminal.type("\x03")
    terminal.expect("ready> ")
    assert "130" in terminal.run("echo $?")
    wait_for_state(process, "")
    assert [entry.error_message for entry in recorded()] == ["ended by signal 2"]


def test_ctrl_c_ends_a_loop_around_the_command(terminal: Terminal) -> None:
    terminal.type(f"for i in 1 2 3; do {SLOW}; done\r")
    running()
    terminal.type("\x03")
    terminal.expect("ready> ")
    assert len(recorded()) == 1


def test_ctrl_z_fg_and_bg(terminal: Terminal) -> None:
    terminal.type(f"{SLOW}\r")
    process = running()
    terminal.type("\x1a")
    terminal.expect("(?i)stopped|suspended")
    terminal.expect("ready> ")
    wait_for_state(process, "T")
    assert re.search("(?i)stopped|suspended", terminal.run("jobs"))
    terminal.run("bg")
    assert re.search("(?i)running|continued", terminal.run("jobs"))
    wait_for_state(process, "S")
    terminal.type("fg\r")
    wait_for_foreground(process)
    terminal.type("\x03")
    terminal.expect("ready> ")
    wait_for_state(process, "")


def test_a_job_in_the_background_ends_with_kill(terminal: Terminal) -> None:
    terminal.type(f"{SLOW} &\r")
    process = running()
    terminal.expect("ready> ")
    terminal.run("kill %1; wait")
    wait_for_state(process, "")
    assert [entry.error_message for entry in recorded()] == ["ended by signal 15"]


def test_the_terminal_is_the_commands(terminal: Terminal) -> None:
    assert "in out err" in terminal.run(
        'dash -c \'[ -t 0 ] && printf in; [ -t 1 ] && printf " out"; [ -t 2 ] && echo " err"\''
    )
    terminal.type("cat\r")
    time.sleep(0.5)
    terminal.type("typed\r")
    terminal.expect("typed\r\ntyped\r\n")
    terminal.type("\x04")
    terminal.expect("ready> ")
    assert "0" in terminal.run("echo $?")


def test_ctrl_c_before_the_command_began_ends_as_a_signal(
    settings: Settings, tmp_path: Path, git: Callable[..., str]
) -> None:
    """Else a shell's loop around it would go on. A git that takes its time holds the recording at its start."""
    git("init", "--quiet")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\ntouch asked\nexec sleep 60\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "audit_dagster.cli", "run", "--", "touch", "ran"]
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not Path("asked").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=PATIENCE_SECONDS)[1] == b""
    assert process.returncode == -signal.SIGINT
    assert not Path("ran").exists()
