"""The files that an operation reads and makes: path, size, time of change, and SHA-256.

Declared ones, and those that its command, parameters and results name. Contents are read in pieces and up to a limit:
what lies beyond has no SHA-256, since nobody waits minutes for a tool to start. Nor has a file of secrets.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, NamedTuple

from audit_dagster.recording.redact import is_secret_file

MOST_FILES = 100
MOST_BYTES = 256 * 1024 * 1024  # of one operation's inputs, and of its outputs
_MOST_CANDIDATES = 1000
_LONGEST_PATH = 4096
_PIECE = 1024 * 1024
_MOST_REMEMBERED = 1000
_CLOCK_STEP_NS = 20_000_000  # a file's times come from a clock that is read some hundred times a second
_NAMED = re.compile(r"(?:-[^=]*|[\w.+-]{1,100})=(?P<path>.*)", re.DOTALL)  # a sentence with `=` in it is none
_digests: dict[Seen, str] = {}
Json = dict[str, Any]


class Seen(NamedTuple):
    """A regular file as it was found; by its times, size and inode one tells whether it was changed since."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def changed_after(self, moment_ns: int) -> bool:
        """Whether it was, or may have been, changed after that time of this machine's clock."""
        return self.ctime_ns > moment_ns - _CLOCK_STEP_NS


class Watch:
    """The files of one operation, from its start, when this is made of `values`, to its end."""

    def __init__(self, values: Iterable[Any], directory: str) -> None:
        self._directory = directory
        self._since = time.time_ns()
        self._seen = named_in(values, directory)
        self.inputs = facts(self._seen.values())

    def ended(self, inputs: Any, parameters: Any, words: Any, outputs: Iterable[Any]) -> tuple[list[Json], list[Json]]:
        """The inputs, those included that were named late, and the outputs: `outputs`, and what was made or changed."""
        now = named_in([*outputs, inputs, words, parameters], self._directory)
        declared = named_in(outputs, self._directory).keys()
        made = {path: seen for path, seen in now.items() if path in declared or self._is_changed(seen)}
        wanted = named_in([inputs], self._directory).keys()
        late = named_in([inputs, parameters], self._directory)
        late = {path: seen for path, seen in late.items() if path in wanted or path not in made}
        read = facts(seen for path, seen in late.items() if path not in self._seen)
        # What one named late was before it was changed, nobody knows.
        read = [{**one, "sha256": None} if late[one["path"]].ctime_ns > self._since else one for one in read]
        after = facts(made.values())
        return self.inputs + read, [one for one in after if one["path"] in declared or one not in self.inputs]

    def _is_changed(self, seen: Seen) -> bool:
        before = self._seen.get(seen.path)
        return seen.changed_after(self._since) or (before is not None and before != seen)


def named_in(values: Iterable[Any], directory: str) -> dict[str, Seen]:
    """The regular files among `values`: texts and paths, those inside lists and mappings, `--flag=path`, `name=path`.

    Relative ones are looked for in `directory`. The keys are absolute paths. Never raises.
    """
    found: dict[str, Seen] = {}
    with contextlib.suppress(Exception):  # a tool's object may raise anything when it is looked at
        for number, word in enumerate(_words(values, 0)):
            if number >= _MOST_CANDIDATES or len(found) >= MOST_FILES:
                break
            named = _NAMED.match(word)
            seen = look(word, directory) or (look(named["path"], directory) if named else None)
            if seen:
                found.setdefault(seen.path, seen)
    return found


def look(path: str, directory: str) -> Seen | None:
    """The regular file of that name, None where there is none. Never raises."""
    if not path or len(path) > _LONGEST_PATH or "\n" in path:
        return None
    try:
        absolute = os.path.abspath(os.path.join(directory, path))  # noqa: PTH100, PTH118 - a hot path, and `..` must go
        status = os.stat(absolute)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode) or absolute.startswith(("/proc/", "/sys/", "/dev/")):
        return None
    return Seen(absolute, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def facts(found: Iterable[Seen]) -> list[Json]:
    """What is recorded of files, those beyond MOST_BYTES in all without a SHA-256. Never raises."""
    left = MOST_BYTES
    recorded = []
    for seen in found:
        digest = None
        if seen.size <= left and not is_secret_file(PurePath(seen.path).name):
            left -= seen.size
            digest = _sha256(seen)
        recorded.append({"path": seen.path, "size": seen.size, "mtime": _moment(seen.mtime_ns), "sha256": digest})
    return recorded


def _words(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, (str, PurePath)):
        yield str(value)
    elif depth < 4 and isinstance(value, Mapping):
        for item in list(value.values())[:_MOST_CANDIDATES]:
            yield from _words(item, depth + 1)
    elif depth < 4 and isinstance(value, (list, tuple, set, frozenset)):
        for item in list(value)[:_MOST_CANDIDATES]:
            yield from _words(item, depth + 1)


def _moment(time_ns: int) -> str | None:
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # a file may say that it is of the year 30000
        return None


def _sha256(seen: Seen) -> str | None:
    known = _digests.get(seen)
    if known:
        return known
    import hashlib  # 3 ms, for who has files

    digest = hashlib.sha256()
    left = seen.size
    may_change_unseen = seen.changed_after(time.time_ns())
    try:
        descriptor = os.open(seen.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                digest.update(piece)
                left -= len(piece)
    except OSError:
        return None
    if left:  # it shrank while we read it
        return None
    if may_change_unseen:
        return digest.hexdigest()
    if len(_digests) >= _MOST_REMEMBERED:
        _digests.clear()
    _digests[seen] = digest.hexdigest()
    return _digests[seen]
