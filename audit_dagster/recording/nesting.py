"""Which operation goes on around the code that runs now: in this process, and in those that it starts.

Inside a process a ContextVar tells; to a child process AUDIT_PARENT_OPERATION does. The variable names an operation
only where there is no doubt: with two at once in different threads a child is told what this process was told itself.
"""

from __future__ import annotations

import contextlib
import os
from contextvars import ContextVar, Token

PARENT_VARIABLE = "AUDIT_PARENT_OPERATION"
_current: ContextVar[str | None] = ContextVar("audit_dagster_current_operation", default=None)
_parents: dict[str, str | None] = {}  # of the operations that go on in this process
_told: str | None = None  # what the environment said before the first of them

os.register_at_fork(after_in_child=_parents.clear)

Place = tuple[str | None, Token[str | None]]


def current() -> str | None:
    """The id of the operation around; None where there is none, or none that is recorded."""
    return _current.get() or (_told if _parents else os.environ.get(PARENT_VARIABLE))


def enter(operation_id: str | None) -> Place:
    """From here on this operation is the one around. One that is not recorded leaves things as they are."""
    global _told  # noqa: PLW0603 - the process has one environment
    if operation_id is not None:
        around = current()
        if not _parents:
            _told = os.environ.get(PARENT_VARIABLE)
        _parents[operation_id] = around
        _tell_children()
    return operation_id, _current.set(operation_id or _current.get())


def leave(place: Place) -> None:
    """Undo `enter`."""
    operation_id, token = place
    with contextlib.suppress(ValueError):  # a generator may end in another context than it began in
        _current.reset(token)
    if operation_id is not None:
        _parents.pop(operation_id, None)
        _tell_children()


def _tell_children() -> None:
    parents = dict(_parents)
    innermost = parents.keys() - set(parents.values())
    told = innermost.pop() if len(innermost) == 1 else _told
    if told is None:
        os.environ.pop(PARENT_VARIABLE, None)
    else:
        os.environ[PARENT_VARIABLE] = told
