"""Signals wait while something is recorded: what their handlers raise is the tool's, and would be taken for ours."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Not those that end a process at once, nor Ctrl-C as Python has it: nothing here catches KeyboardInterrupt.
_HELD = (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def held() -> Iterator[None]:
    """The handlers of what comes meanwhile are called afterwards, each as often as it came."""
    came: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Any] = {}
    try:
        for number in _HELD:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not signal.default_int_handler:
                handlers[number] = handler
                signal.signal(number, lambda *what: came.append(what))
    except ValueError:  # in another thread than the main one, in which alone handlers run
        handlers.clear()
    try:
        yield
    finally:
        for which, handler in handlers.items():
            signal.signal(which, handler)
        for which, frame in came:
            handlers[which](which, frame)
