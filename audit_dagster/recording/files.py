"""The files that an operation reads and makes: path, size, time of change, and SHA-256.

Declared ones, and those that its command, parameters and results name. Contents are read in pieces and up to a limit:
what lies beyond has no SHA-256, since nobody waits minutes for a tool to start.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, NamedTuple

MOST_FILES = 100
MOST_BYTES = 256 * 1024 * 1024  # of one operation's inputs, and of its outputs
_MOST_CANDIDATES = 1000
_LONGEST_PATH = 4096
_PIECE = 1024 * 1024
_MOST_REMEMBERED = 1000
_digests: dict[tuple[str, int, int, int], str] = {}


class Seen(NamedTuple):
    """A regular file as it was found. `mtime_ns` and `inode` tell whether it was changed since."""

    path: str
    size: int
    mtime_ns: int
    inode: int


def named_in(values: Iterable[Any], directory: str) -> dict[str, Seen]:
    """The regular files among `values`: texts and paths, those inside lists and mappings, and `--flag=path`.

    Relative ones are looked for in `directory`. The keys are absolute paths. Never raises.
    """
    found: dict[str, Seen] = {}
    for number, word in enumerate(_words(values, 0)):
        if number >= _MOST_CANDIDATES or len(found) >= MOST_FILES:
            break
        _, equals, behind = word.partition("=") if word.startswith("-") else ("", "", "")
        seen = look(behind if equals else word, directory)
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
    return Seen(absolute, status.st_size, status.st_mtime_ns, status.st_ino)


def facts(found: Iterable[Seen]) -> list[dict[str, Any]]:
    """What is recorded of files, those beyond MOST_BYTES in all without a SHA-256. Never raises."""
    left = MOST_BYTES
    recorded = []
    for seen in found:
        digest = None
        if seen.size <= left:
            left -= seen.size
            digest = _sha256(seen)
        changed = datetime.fromtimestamp(seen.mtime_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        recorded.append({"path": seen.path, "size": seen.size, "mtime": changed, "sha256": digest})
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


def _sha256(seen: Seen) -> str | None:
    known = _digests.get(seen)
    if known:
        return known
    import hashlib  # 3 ms, for who has files

    digest = hashlib.sha256()
    left = seen.size
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
    if len(_digests) >= _MOST_REMEMBERED:
        _digests.clear()
    _digests[seen] = digest.hexdigest()
    return _digests[seen]
