"""Which operation goes on around the code that runs now: in this process, and in those that it starts.

Inside a process a ContextVar tells; to a child process AUDIT_PARENT_OPERATION does. Both name an operation only where
there is no doubt: one that has ended is nobody's parent, nor is a generator's while the generator waits; with two at
once in different threads a child is told what this process was told itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
from _thread import RLock
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

from audit_dagster.recording.spool import has_end, is_locked, waiting

PARENT_VARIABLE = "AUDIT_PARENT_OPERATION"
_GENERATOR, _ASYNC_GENERATOR = 0x20, 0x200  # of a code object's flags; importing inspect would cost 10 ms
_HERE = str(Path(__file__).parent) + os.sep


_around: ContextVar[tuple[str, ...]] = ContextVar("audit_dagster_operations_around", default=())
# Those that go on in this process: which are around each, and the frame of the generator that began it, if one did.
_running: dict[str, tuple[tuple[str, ...], FrameType | None]] = {}
_told: str | None = None  # what this process was told when the first of them began, or when it was forked
_is_fork = False
_lock = RLock()

Place = str | None


def current() -> str | None:
    """The id of the operation around; None where there is none, or none that is recorded."""
    for operation_id in reversed(_around.get()):
        operation = _running.get(operation_id)
        if operation and not (operation[1] and operation[1].f_back is None):  # without a frame back the generator waits
            return operation_id
    with _lock:
        return _told if _running or _is_fork else os.environ.get(PARENT_VARIABLE)


def is_around(place: Place) -> bool:
    """Whether it began in this thread and task, or in what started them, and goes on."""
    return place is not None and place in _around.get()


def goes_on(operation_id: str, spool_dir: Path) -> bool:
    """False where it was told to this process, a worker that may outlive the operation in which it began, and ended."""
    if operation_id in _running or not (_is_fork or _is_worker()):
        return True
    try:
        own = (path for path in waiting(spool_dir) if path.stem.endswith(operation_id))
        return any(is_locked(path) and not has_end(path) for path in own)  # the drainer locks those that have one
    except OSError:
        return False


def enter(operation_id: str | None) -> Place:
    """From here on this operation is the one around. One that is not recorded leaves things as they are."""
    global _told  # noqa: PLW0603 - the process has one environment
    if operation_id is not None:
        with _lock:
            if not _running and not _is_fork:
                _told = os.environ.get(PARENT_VARIABLE)
            around = tuple(one for one in _around.get() if one in _running)
            _running[operation_id] = around, _generator()
            _around.set((*around, operation_id))
            _tell_children()
    return operation_id


def leave(place: Place) -> None:
    """Undo `enter`."""
    if place is not None:
        with _lock:
            _running.pop(place, None)
            _around.set(tuple(one for one in _around.get() if one != place))
            _tell_children()


def _generator() -> FrameType | None:
    """The generator in which an operation begins: who takes from it is outside of the operation while it waits.

    Not one that `contextlib` makes a block of, whose code is inside.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame and not _is_generator(frame) and frame.f_code.co_filename.startswith((_HERE, contextlib.__file__)):
        frame = frame.f_back
    if frame is None or not _is_generator(frame):
        return None
    caller = frame.f_back
    return None if caller and caller.f_code.co_filename == contextlib.__file__ else frame


def _is_generator(frame: FrameType) -> bool:
    return bool(frame.f_code.co_flags & (_GENERATOR | _ASYNC_GENERATOR))


def _tell_children() -> None:
    around = {name: around for name, (around, generator) in _running.items() if generator is None}
    innermost = around.keys() - {name for names in around.values() for name in names}
    told = innermost.pop() if len(innermost) == 1 else _told
    if told is None:
        os.environ.pop(PARENT_VARIABLE, None)
    else:
        os.environ[PARENT_VARIABLE] = told


def _is_worker() -> bool:
    multiprocessing = sys.modules.get("multiprocessing.process")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def _after_fork() -> None:
    global _told, _is_fork, _lock  # noqa: PLW0603 - the child is a process of its own
    # A lock that another thread held would stay locked: ours is made anew, and the environment, which has one, stays.
    _lock = RLock()
    _told, _is_fork = current(), True
    _running.clear()


os.register_at_fork(after_in_child=_after_fork)
