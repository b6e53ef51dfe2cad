"""The operation that the run of one Click command is: its names, its parameters, and how it ended.

A context holds it, from the parsing of the words until what the command opened is closed. Click is not imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextvars import ContextVar
from io import IOBase
from pathlib import PurePath
from types import TracebackType
from typing import Any, NamedTuple

from audit_dagster.recording import capture, nesting
from audit_dagster.recording.recorder import Recording, error_text, harmless
from audit_dagster.recording.storable import Storable
from audit_dagster.recording.tool_code import file_of

TOOL = "_audit_dagster_tool"  # of a command that was given to record_cli
LOST = "this command is not recorded"
words_of_process: ContextVar[bool] = ContextVar("audit_dagster_words_of_process", default=False)
_FAILURES = "audit_dagster.failures"  # in Context.meta, which all contexts of an invocation share
_FILE_TYPES = {"LazyFile", "_LazyFile", "KeepOpenFile", "_KeepOpenFile", "_AtomicFile"}


def is_given(ctx: Any) -> bool:
    """Whether this command, or one above it, was given to record_cli."""
    return any(TOOL in vars(one.command) for one in _contexts(ctx))


def count_failure(ctx: Any) -> None:
    """Whatever the groups above this context see fail from now on, they need not record."""
    ctx.meta[_FAILURES] = ctx.meta.get(_FAILURES, 0) + 1


class Operation:
    """The run of a context's command, or its failure to run."""

    def __init__(self, ctx: Any) -> None:
        self.ends_with_context = False
        self._ctx = ctx
        self._recording: Recording | None = None
        self._place: nesting.Place | None = None
        self._ending: _Ending | None = None
        self._failures = 0

    def begin(self) -> None:
        """The words are parsed, and the command is about to run. A group that passes on is no operation."""
        state = vars(self._ctx)
        self._failures = self._ctx.meta.get(_FAILURES, 0)
        words = state.get("_protected_args") or state.get("protected_args") or self._ctx.args
        if not (words and hasattr(self._ctx.command, "resolve_command")):
            self._start()

    def ended(self, returned: Any) -> None:
        """The command returned."""
        if self._recording is not None:
            with harmless("the results of this command are not recorded"):
                if isinstance(returned, Mapping):
                    self._recording.results.update(returned)
            self._end(_Ending(0, None, None))

    def failed(self, error: BaseException) -> None:
        """The command raised: a group's own failure, if no operation below has recorded it."""
        if self._recording is not None:
            self._end(_ending_by(error, self._ctx))
        elif self._ctx.meta.get(_FAILURES, 0) == self._failures:
            self.refused(error)

    def refused(self, error: BaseException) -> None:
        """It failed before it ran. `--help` and the like are no operations."""
        ending = _ending_by(error, self._ctx)
        if ending.exit_code != 0 and type(error).__name__ != "NoArgsIsHelpError":
            self.ends_with_context = False
            self._start()
            self._end(ending)

    def _start(self) -> None:
        recording = Recording(*_names(self._ctx))
        _tell_parameters(recording, self._ctx)
        command = capture.process_command() if words_of_process.get() else None
        recording.start(command, code_file=file_of(self._ctx.command.callback))
        self._recording, self._place = recording, nesting.enter(recording.operation_id)

    def _end(self, ending: _Ending) -> None:
        self._ending = ending
        if ending.exit_code != 0:
            count_failure(self._ctx)
        if not self.ends_with_context or vars(self._ctx).get("_depth", 0) == 0:
            self._finish(ending)

    def _finish(self, ending: _Ending) -> None:
        recording, self._recording = self._recording, None
        if recording is None or self._place is None:
            return
        nesting.leave(self._place)
        recording.results["exit_code"] = ending.exit_code
        success = ending.exit_code == 0 and Storable().convert(recording.results.get("success", True)) is not False
        recording.finish(success=success, error_message=ending.message, error=ending.error)

    def __enter__(self) -> Operation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The context is closed: what it opened was written, or failed to be."""
        with harmless(LOST, loses=True):
            self.ends_with_context = False  # closed in the midst of its run, it ends with the run
            if self._ending is None or self._recording is None:
                return
            closing = _ending_by(error, self._ctx) if error is not None else self._ending
            if self._ending.exit_code == 0:
                self._end(closing)
            else:
                self._finish(self._ending)


class _Ending(NamedTuple):
    """The exit code that a process gets from it, the message, and the error whose traceback says more."""

    exit_code: int
    message: str | None
    error: BaseException | None


def _ending_by(error: BaseException, ctx: Any) -> _Ending:
    kinds = {base.__name__ for base in type(error).__mro__ if "click" in base.__module__ or "typer" in base.__module__}
    if isinstance(error, (KeyboardInterrupt, EOFError)):
        is_typer = "typer" in type(ctx.find_root().command).main.__module__
        return _Ending(130 if is_typer and isinstance(error, KeyboardInterrupt) else 1, "Aborted", None)
    if isinstance(error, SystemExit) or kinds & {"Exit", "Abort"}:
        return _ending_by_leaving(error, "Aborted" if "Abort" in kinds else None)
    with contextlib.suppress(Exception):  # an application's own exception may fail to tell its message
        if "ClickException" in kinds:
            kind = "UsageError" if "UsageError" in kinds else type(error).__name__
            return _Ending(int(error.exit_code), f"{kind}: {error.format_message()}", None)  # type: ignore[attr-defined]
    return _Ending(1, error_text(error), error)


def _ending_by_leaving(error: BaseException, message: str | None) -> _Ending:
    code = error.code if isinstance(error, SystemExit) else getattr(error, "exit_code", 1)
    if not isinstance(code, int):
        return _Ending(0, None, None) if code is None else _Ending(1, error_text(error), None)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if code and isinstance(cause, Exception):  # who catches an error, tells it in his own way and leaves
        return _Ending(code, error_text(cause), cause)
    return _Ending(code, (message or f"{type(error).__name__}: {code}") if code else None, None)


# ---- Its names and parameters ----


def _contexts(ctx: Any) -> list[Any]:
    """From the outermost to this one."""
    around = [ctx]
    while around[0].parent is not None:
        around.insert(0, around[0].parent)
    return around


def _names(ctx: Any) -> tuple[str, str]:
    """The tool and the operation."""
    contexts = _contexts(ctx)
    tools = ((place, vars(one.command).get(TOOL)) for place, one in enumerate(contexts))
    place, tool = next(((place, tool) for place, tool in tools if tool is not None), (0, None))
    words = [_word(one) for one in contexts[place + 1 :] if one.info_name]
    if tool is not None:
        return tool, " ".join(words) or "run"
    if len(words) > 1:
        return words[0], " ".join(words[1:])
    return _program(contexts[0]), words[0] if words else "run"


def _word(ctx: Any) -> str:
    """The name under which the group above lists the command, though it may have been called by an alias."""
    siblings = getattr(ctx.parent.command, "commands", None) or {}
    known = [name for name, command in siblings.items() if command is ctx.command]
    return str(known[0] if known and ctx.info_name not in known else ctx.info_name)


def _program(ctx: Any) -> str:
    """What was typed, where it was: else the program that runs is another one."""
    typed, given = ctx.info_name, ctx.command.name
    name = str((typed or given if words_of_process.get() else given or typed) or "cli").removeprefix("python -m ")
    return PurePath(name).name.removesuffix(".py") or name


def _tell_parameters(recording: Recording, ctx: Any) -> None:
    """All of the command's own parameters, those that somebody gave to the groups above it, and the note."""
    defaults = set[str]()
    for one in _contexts(ctx):
        for name, value in one.params.items():
            is_default = getattr(one.get_parameter_source(name), "name", None) in {"DEFAULT", "DEFAULT_MAP"}
            if value is None or type(value).__name__ == "Sentinel" or (is_default and one is not ctx):
                continue
            if name == "note" and isinstance(value, str):
                recording.notes += [value] if value else []
                continue
            recording.parameters[name] = _plain(value)
            (defaults.add if is_default else defaults.discard)(name)
        hidden = [parameter for parameter in one.command.params if getattr(parameter, "hide_input", False)]
        recording.secret_parameters.update(*((parameter.name, *parameter.opts) for parameter in hidden))
    recording.context["default_parameters"] = sorted(defaults)


def _plain(value: Any) -> Any:
    """Files become their names: to look closer at a lazy one would open it."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, IOBase) or type(value).__name__ in _FILE_TYPES:
        return str(getattr(value, "name", type(value).__name__))
    return value
