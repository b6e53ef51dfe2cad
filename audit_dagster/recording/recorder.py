"""`log_custom_operation`: records a block of code as one operation.

Every failure of recording is caught, told once on stderr, and never changes what the recorded code does.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from datetime import datetime
from functools import wraps
from types import TracebackType
from typing import Any

from audit_dagster.recording import capture, drainer
from audit_dagster.recording.redact import Redactor
from audit_dagster.recording.spool import SpoolFile
from audit_dagster.recording.storable import Storable
from audit_dagster.recording.switch import read_switch
from audit_dagster.settings import Settings

_LONGEST_ERROR = 10_000
_LONGEST_COMMAND = 4_000_000  # longer than what a system takes as one command
_COROUTINE, _GENERATOR = 0x80, 0x20  # of a code object's flags; importing inspect would cost 10 ms
_current: ContextVar[str | None] = ContextVar("audit_dagster_current_operation", default=None)
_warned = False


class Recording:
    """One operation being recorded, from `start` to `finish`. Nothing in it raises."""

    def __init__(self, tool_name: str, operation: str) -> None:
        self.tool_name = tool_name
        self.operation = operation
        self.operation_id: str | None = None
        self.parameters: dict[str, Any] = {}
        self.results: dict[str, Any] = {}
        self.notes: list[str] = []
        self._settings: Settings | None = None
        self._file: SpoolFile | None = None
        self._redactor: Redactor | None = None
        self._started = time.monotonic()

    def start(self, command: list[str] | None, *, parent: str | None = None, started: datetime | None = None) -> None:
        """Capture what is known now and open the spool file."""
        with _harmless("this operation is not recorded"):
            settings = Settings.load()
            if not read_switch(settings).enabled:
                return
            form = capture.begin_form(self.tool_name, self.operation, parent=parent, started=started)
            name = f"{time.time_ns()}-{form['operation_id']}"
            self._redactor = Redactor()
            kept = command and self._redactor.argv(Storable(_LONGEST_COMMAND, _LONGEST_COMMAND).convert(command))
            form = self._redactor.value(Storable().convert(form))
            form["command"] = kept
            if kept != command:
                form["context"]["command_is_exact"] = False
            self._file = SpoolFile(settings.spool_dir, name, form)
            self._settings = settings
            self.operation_id = form["operation_id"]
        self._started = time.monotonic()

    def finish(self, *, success: bool, error_message: str | None) -> None:
        """Write the end and wake the drainer."""
        duration = max(0.0, time.monotonic() - self._started)
        if self._file is None or self._settings is None or self._redactor is None:
            return
        with _harmless("the end of this operation is not recorded"):
            storable = Storable()
            end = storable.convert(
                {
                    "parameters": self.parameters,
                    "results": self.results,
                    "note": "\n".join(self.notes) or None,
                    "error_message": error_message[:_LONGEST_ERROR] if error_message else None,
                }
            )
            end = {**self._redactor.value(end), "success": success, "duration_seconds": duration}
            if storable.changed:
                end["sanitised"] = storable.changed
            self._file.finish(end)
        with _harmless("operations wait in the spool, and nobody could be started to store them"):
            drainer.wake(self._settings)


class log_custom_operation:  # noqa: N801 - the documented name
    """Record a block as an operation of `tool_name`.

    ::

        with log_custom_operation("custom_analysis", "statistical_summary") as logger:
            logger.add_result("mean_temperature", 21.5)
            logger.add_note("Statistical summary of temperature data")

    An exception inside is recorded and goes on its way; a result `success` that is false marks the operation as
    failed. Logging that is switched off, or that fails, changes nothing for the block.
    """

    def __init__(self, tool_name: str, operation: str, *, started: datetime | None = None) -> None:
        """`started` replaces the time of the start, for who re-enacts an earlier day."""
        self._name = Storable().convert(tool_name), Storable().convert(operation), started
        self._active: list[tuple[Recording, Token[str | None]]] = []
        self._next = self._new()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Record each call, from its beginning to its end: a coroutine's and a generator's too."""
        flags = getattr(getattr(function, "__code__", None), "co_flags", 0)

        @wraps(function)
        def called(*args: Any, **keywords: Any) -> Any:
            with self._again():
                return function(*args, **keywords)

        @wraps(function)
        async def awaited(*args: Any, **keywords: Any) -> Any:
            with self._again():
                return await function(*args, **keywords)

        @wraps(function)
        def generated(*args: Any, **keywords: Any) -> Any:
            with self._again():
                return (yield from function(*args, **keywords))

        return awaited if flags & _COROUTINE else generated if flags & _GENERATOR else called

    def _again(self) -> log_custom_operation:
        tool_name, operation, started = self._name
        return log_custom_operation(tool_name, operation, started=started)

    def add_parameter(self, name: str, value: Any) -> None:
        """Note one of the operation's inputs."""
        self._recording.parameters[name] = value

    def add_result(self, name: str, value: Any) -> None:
        """Note one of the operation's outcomes."""
        self._recording.results[name] = value

    def add_note(self, note: str) -> None:
        """Say something in your own words; several notes become lines of one."""
        with _harmless("a note is not recorded"):
            self._recording.notes.append(str(note))

    def __enter__(self) -> log_custom_operation:
        recording, self._next = self._next, self._new()
        recording.start(capture.process_command(), parent=_current.get(), started=self._name[2])
        self._active.append((recording, _current.set(recording.operation_id or _current.get())))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        recording, token = self._active.pop()
        with contextlib.suppress(ValueError):  # a generator may end in another context than it began in
            _current.reset(token)
        failed = error is not None and not _is_clean_exit(error)
        success = not failed and recording.results.get("success", True) is not False
        recording.finish(success=success, error_message=_error_text(error) if failed else None)

    @property
    def _recording(self) -> Recording:
        return self._active[-1][0] if self._active else self._next

    def _new(self) -> Recording:
        tool_name, operation, _ = self._name
        return Recording(str(tool_name), str(operation))


def _is_clean_exit(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and error.code in (None, 0)


def _error_text(error: BaseException | None) -> str:
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:  # an exception's own __str__ may fail
        text = "<no text>"
    return f"{kind}: {text}" if text else kind


@contextlib.contextmanager
def _harmless(consequence: str) -> Any:
    """Swallow whatever recording raises; say so once per process."""
    global _warned  # noqa: PLW0603 - once per process is what it says
    try:
        yield
    except Exception as error:
        if not _warned:
            _warned = True
            with contextlib.suppress(Exception):
                print(f"audit-dagster: {consequence}: {_error_text(error)}", file=sys.stderr)  # noqa: T201


__all__ = ["Recording", "log_custom_operation"]
