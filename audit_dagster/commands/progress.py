"""A bar with rate and time left, or a spinner, on stderr, where a person waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

from audit_dagster.commands.tables import on_terminal

_PATIENCE_SECONDS = 0.5  # what is over sooner needs no bar


def tracked(what: str, total: int | None = None, *, quiet: bool = False) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """What goes through items, and shows how far it is: `what` is the items' name in the plural.

    Where stdout or stderr is no terminal, or `quiet`, nothing is shown. `total` is for items of no known length.
    """
    return (lambda items: _shown(items, what, total)) if _is_watched(quiet) else lambda items: items


@contextmanager
def spinner(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Show that something goes on during the block, of which nobody knows how far it is; nothing where `tracked` would.

    `what` is one or a few words.
    """
    if not _is_watched(quiet):
        yield
        return
    from threading import Timer

    from rich.console import Console
    from rich.status import Status

    status = Status(what, console=Console(stderr=True))
    start = Timer(_PATIENCE_SECONDS, status.start)
    start.start()
    try:
        yield
    finally:
        start.cancel()
        start.join()
        status.stop()


def _is_watched(quiet: bool) -> bool:
    return not quiet and on_terminal() and sys.stderr is not None and sys.stderr.isatty()


def _shown(items: Iterable[Any], what: str, total: int | None) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.1f}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeLeft())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(what, total=len(items) if isinstance(items, Sized) else total)
    started = time.monotonic()
    try:
        for item in items:
            yield item
            progress.advance(task)
            is_long = time.monotonic() - started > _PATIENCE_SECONDS
            if is_long and not progress.finished and not progress.live.is_started:
                progress.start()
    finally:
        if progress.live.is_started:
            progress.stop()
