"""`audit-dagster run -- COMMAND`: runs any command as itself and records it.

Exit code, signals and the three streams are the command's. Only stderr passes through here, for the tail that becomes
the error message, and stdout where both are one file; where stderr is a terminal the command still sees one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import select
import signal
import stat
import subprocess
import sys
import termios
import tty
from datetime import datetime
from itertools import pairwise
from types import FrameType
from typing import Any

from audit_dagster.recording.nesting import PARENT_VARIABLE
from audit_dagster.recording.program import default_tool_name, program_file
from audit_dagster.recording.recorder import Recording
from audit_dagster.recording.storable import ending

_TAIL_BYTES = 4000
_CHUNK = 65536
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
_LONG_FLAG = re.compile(r"--(?P<name>[A-Za-z][\w-]*)(?:=(?P<value>.*))?", re.DOTALL)
NOT_FOUND = 127
NOT_EXECUTABLE = 126


def run_command(
    argv: list[str],
    tool_name: str | None,
    operation: str | None,
    note: str | None,
    *,
    started: datetime | None = None,
) -> int:
    """Run `argv` and record it; the exit code is the command's, or -N where signal N ended it.

    No file of ours takes the number of a standard stream that the caller closed; the command finds it closed, too.

    `started` replaces the time of the start, for who re-enacts an earlier day.
    """
    while os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) < 2:
        pass
    recording = Recording(tool_name or default_tool_name(argv), operation or "run")
    recording.parameters.update(flags_of(argv))
    if note:
        recording.notes.append(note)
    recording.start(argv, started=started, code_file=program_file(argv))
    code, tail = _run(argv, recording.operation_id)
    recording.results["exit_code"] = 128 - code if code < 0 else code
    recording.finish(success=code == 0, error_message=_error(code, tail) if code else None)
    return code


def flags_of(argv: list[str]) -> dict[str, Any]:
    """The parameters that the long flags of a command seem to say, for reports: `--start-date 2023-01-01 --dry-run`.

    Nothing runs from them; the exact argv is kept beside them.
    """
    found: dict[str, Any] = {}
    words = argv[1 : argv.index("--", 1) if "--" in argv[1:] else None]
    for word, following in pairwise([*words, "-"]):
        match = _LONG_FLAG.fullmatch(word)
        if match:
            name = match["name"].replace("-", "_")
            value = match["value"] if match["value"] is not None else following
            found[name] = True if match["value"] is None and value.startswith("-") else value
    return found


def _run(argv: list[str], operation_id: str | None) -> tuple[int, bytes]:
    reader, writer = os.openpty() if os.isatty(2) else os.pipe()
    if os.isatty(2):
        tty.setraw(writer)  # it changes no byte
        _copy_size(reader)
    environment = {**os.environ, PARENT_VARIABLE: operation_id} if operation_id else None
    with _Forwarding(reader if os.isatty(2) else None) as forwarding:
        try:
            stdout = writer if _is_stdout_the_same() else None
            child = subprocess.Popen(argv, stdout=stdout, stderr=writer, env=environment, close_fds=False)
        except OSError as error:
            os.close(writer)
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            message = f"{argv[0]}: {error.strerror}\n".encode("utf-8", "surrogateescape")
            os.write(2, message)
            return code, message
        os.close(writer)
        forwarding.to(child)
        relay = _Relay(reader)
        relay.follow(child)
        return child.wait(), relay.tail


def _copy_size(terminal: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, fcntl.ioctl(2, termios.TIOCGWINSZ, b"\0" * 8))


def _is_stdout_the_same() -> bool:
    """Whether stdout is the same file or pipe as stderr: only through one pipe do their lines keep their order.

    Not on a terminal, whose settings a command changes through its stdout.
    """
    try:
        out, err = os.fstat(1), os.fstat(2)
    except OSError:
        return False
    return (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino) and not stat.S_ISCHR(err.st_mode)


class _Relay:
    """Passes on what the command writes to stderr, and keeps its tail."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self.tail = b""

    def follow(self, child: subprocess.Popen[bytes]) -> None:
        """Pass everything on until the command has ended."""
        open_end = True
        while open_end and child.poll() is None:
            open_end = self._pass_on(timeout=0.05)
        if not open_end:
            os.close(self._reader)  # where nobody reads any more, the command learns it
        child.wait()
        while open_end and select.select([self._reader], [], [], 0)[0]:
            open_end = self._pass_on(timeout=0)
        if open_end:
            self._leave_to_background()
            os.close(self._reader)

    def _pass_on(self, timeout: float) -> bool:
        """Pass one chunk on, if one comes; False at the end of the stream, or where nobody reads any more."""
        if not select.select([self._reader], [], [], timeout)[0]:
            return True
        try:
            chunk = os.read(self._reader, _CHUNK)
        except OSError:  # a terminal whose last writer is gone
            return False
        try:
            view = memoryview(chunk)
            while view:
                view = view[os.write(2, view) :]
        except BrokenPipeError:
            return False
        except OSError:  # a full disk is no reason for the command to end
            pass
        self.tail = (self.tail + chunk)[-_TAIL_BYTES:]
        return bool(chunk)

    def _leave_to_background(self) -> None:
        """A daemon that the command left behind may write on: a process of its own passes that on until it ends."""
        if os.fork() == 0:
            os.setsid()
            while self._pass_on(timeout=3600):
                pass
            os._exit(0)


def _error(code: int, tail: bytes) -> str:
    text = tail.decode("utf-8", "replace")
    # Not from the middle of a word: half a secret is not known as one.
    lines = (ending(text, len(text) - 1) if len(tail) == _TAIL_BYTES else text).strip()
    return lines or (f"ended by signal {-code}" if code < 0 else f"exit code {code}")


class _Forwarding:
    """Passes signals on to the command, which alone decides what they do, and a new size to its `terminal`."""

    def __init__(self, terminal: int | None) -> None:
        self._terminal = terminal
        self._child: subprocess.Popen[bytes] | None = None
        self._pending: list[int] = []
        self._before: dict[int, object] = {}

    def to(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        for number in self._pending:
            child.send_signal(number)

    def __enter__(self) -> _Forwarding:
        for number in _FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's choice stays
                self._before[number] = signal.signal(number, self._forward)
        if self._terminal is not None:
            self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resize)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _resize(self, _number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            _copy_size(self._terminal or 0)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and _is_foreground():
            return  # Ctrl-C reached the command already: the terminal sends it to the whole group
        if self._child is None:
            self._pending.append(number)
        else:
            self._child.send_signal(number)


def _is_foreground() -> bool:
    return any(_terminal_group(stream) == os.getpgrp() for stream in (0, 1, 2))


def _terminal_group(stream: int) -> int | None:
    try:
        return os.tcgetpgrp(stream)
    except OSError:
        return None


def end_like(code: int) -> None:
    """End this process as the command ended: by the same signal where a signal ended it."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command left its own core file, if any
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


__all__ = ["end_like", "run_command"]
