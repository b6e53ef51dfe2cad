"""`record_cli`: every command of a Click or Typer application records itself when it is invoked.

Click is never imported: what has a command's methods is one, also where an application carries a Click of its own. The
hooks are set on the application's objects and call through; no frame of theirs stays in a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, wraps
from types import MethodType
from typing import Any

from audit_dagster.recording.click_operation import LOST, TOOL, Operation, count_failure, is_given, words_of_process
from audit_dagster.recording.recorder import harmless

UNRECORDED = "audit_dagster_unrecorded"  # a command that has this attribute, and it is true, is no operation
_HOOKED = "_audit_dagster_hooked"  # of a class that _hook made
_OWN = "_audit_dagster_own"  # of a command: what stood on the object in the place of a method
_OPERATION = "_audit_dagster_operation"  # of a context


def record_cli(application: Any, tool: str | None = None) -> Any:
    """Make every command of a Click command or group, or of a Typer application, record itself; returns the command.

    For Click that is the same object. A Typer application records from then on when it is called itself, too; what is
    returned is the Click command made of it. `tool` is the name to record under; where it is not given, the first word
    below the application is, or the application's own name where there is but one word. Never raises.
    """
    command = application
    with harmless("this application is not recorded"):
        if hasattr(application, "registered_commands"):
            command = _typer_command(application, tool)
        elif not getattr(application, UNRECORDED, False):
            if TOOL not in vars(application):
                _hook(application)
                setattr(application, TOOL, None)
            if tool is not None:
                setattr(application, TOOL, str(tool))
    return command


def _typer_command(application: Any, tool: str | None) -> Any:
    """Typer makes new commands at each call: give it classes whose commands record themselves."""
    kind = next(base for base in type(application).__mro__ if base.__name__ == "Typer")
    typer = sys.modules[kind.__module__]
    callback = application.registered_callback
    group = callback if isinstance(getattr(callback, "cls", None), type) else application.info
    group.cls = _recording_class(group.cls if isinstance(group.cls, type) else typer.TyperGroup, tool)
    if len(application.registered_commands) == 1:
        (single,) = application.registered_commands
        single.cls = _recording_class(single.cls or typer.TyperCommand, tool)
    return typer.get_command(application)


def _recording_class(base: Any, tool: str | None) -> type:
    def initialise(self: Any, *arguments: Any, **keywords: Any) -> None:
        base.__init__(self, *arguments, **keywords)
        record_cli(self, tool)

    return type(base.__name__, (base,), {"__init__": initialise, "__module__": base.__module__})


# ---- The hooks ----


def _hook(command: Any) -> None:
    """Give the command a class whose methods tell us and call through: a copy of the command takes them along.

    What the application itself put on the object, in the place of a method, is called as before.
    """
    kind: Any = type(command)
    if not getattr(kind, _HOOKED, False):
        command.__class__ = _hooked_class(kind)
        own = vars(command)
        setattr(command, _OWN, {name: own.pop(name) for name in (*_METHODS, "main") if name in own})


@cache
def _hooked_class(kind: Any) -> Any:
    methods = {name: _telling(kind, name, *calls) for name, calls in _METHODS.items() if hasattr(kind, name)}
    made = {**methods, "main": _main(kind), _HOOKED: True, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), made)


def _telling(
    kind: Any,
    name: str,
    before: Callable[..., Any],
    failed: Callable[[Any, BaseException], None],
    ended: Callable[[Any, Any], None],
) -> Callable[..., Any]:
    """A method that takes a context, with calls around it; what `before` returns is what the others get."""

    @wraps(getattr(kind, name))
    def telling(command: Any, ctx: Any, *arguments: Any, **keywords: Any) -> Any:
        watcher = None
        with harmless(LOST, loses=True):
            watcher = before(ctx)
        try:
            returned = _inner(command, kind, name)(ctx, *arguments, **keywords)
        except BaseException as error:
            _hide_frame(error)
            with harmless(LOST, loses=True):
                if watcher is not None:
                    failed(watcher, error)
            raise
        with harmless(LOST, loses=True):
            if watcher is not None:
                ended(watcher, returned)
        return returned

    return telling


def _main(kind: Any) -> Callable[..., Any]:
    """`main`, which alone knows whether the words are those of the process: no argv repeats others."""

    @wraps(kind.main)
    def main(command: Any, *arguments: Any, **keywords: Any) -> Any:
        words = arguments[0] if arguments else keywords.get("args")
        place = words_of_process.set(words is None or (bool(words) and list(words) == sys.argv[1:]))
        try:
            return _inner(command, kind, "main")(*arguments, **keywords)
        except BaseException as error:
            _hide_frame(error)
            raise
        finally:
            words_of_process.reset(place)

    return main


def _inner(command: Any, kind: Any, name: str) -> Any:
    """The method as it was."""
    return vars(command).get(_OWN, {}).get(name) or MethodType(getattr(kind, name), command)


def _hide_frame(error: BaseException) -> None:
    """Take the frame that caught it, and raises it again, out of its traceback."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next


def _parsing(ctx: Any) -> Operation | None:
    if ctx.resilient_parsing or not is_given(ctx):
        return None
    operation: Operation | None = vars(ctx).get(_OPERATION)
    if operation is None:
        operation = Operation(ctx)
        setattr(ctx, _OPERATION, operation)
        ctx.with_resource(operation)  # in first, out last: by then the files among the parameters are closed
        operation.ends_with_context = True
    return operation


def _invoking(ctx: Any) -> Operation | None:
    if not is_given(ctx):
        return None
    operation: Operation = vars(ctx).pop(_OPERATION, None) or Operation(ctx)
    operation.begin()
    return operation


def _resolved(ctx: Any, found: Any) -> None:
    command = found[1]
    if command is not None and getattr(command, UNRECORDED, False):
        count_failure(ctx)  # whatever fails in there is not for us to tell
    elif command is not None:
        _hook(command)


def _nothing(*_: Any) -> None:
    return None


_METHODS = {
    "parse_args": (_parsing, Operation.refused, _nothing),
    "invoke": (_invoking, Operation.failed, Operation.ended),
    "resolve_command": (lambda ctx: ctx, _nothing, _resolved),
}
