"""The spool: one small file per operation on the local disk.

A file is made as `.tmp`, locked, given its `begin` line and only then renamed to `.op`, so that a `.op` file whose lock
is free and which has no `end` line belongs to a process that died. Every line carries its length and checksum.

The operations of a spool are numbered from 1 on, so that one that never reaches the database is missed. The number is
in the file's name, TIME-SPOOL-NUMBER-OPERATION.op, since the rename is what makes the operation: who dies before it
takes no number, and who dies right after it leaves its number to the next one too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUFFIX = ".op"
PATCHES = "patches"
COUNTER_NAME = "counter"
_LONGEST_COUNTER = 64
_LARGEST_NUMBER = 10**15
_COUNTER_TRIES = 100
_COUNTER_PAUSE_SECONDS = 0.0005
_SHORTENED_ERROR = 200
_kept_patches: set[Path] = set()
_open_files: weakref.WeakSet[SpoolFile] = weakref.WeakSet()


class SpoolError(Exception):
    """A spool file that nobody can read: its message says why."""


class SpoolFile:
    """The file of one running operation. The lock is held until `finish` or the death of the process."""

    def __init__(self, folder: Path, begin: dict[str, Any]) -> None:
        """Create the file of the operation in `folder`, with its begin line. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        moment, operation_id = time.time_ns(), begin["operation_id"]
        draft = folder / f"{moment}-{operation_id}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        self._descriptor: int | None = _above_streams(os.open(draft, flags, 0o600))
        _open_files.add(self)
        line = _line(begin)
        self._begun = len(line)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            _write(self._descriptor, line)
            with _numbered(folder) as number:
                draft.rename(folder / f"{moment}-{number}{operation_id}{SUFFIX}")
        except OSError:
            self.close()
            draft.unlink(missing_ok=True)
            raise

    def finish(self, end: dict[str, Any]) -> None:
        """Append the end line, see it on the disk, and let go of the lock.

        Raises OSError; where the disk is full, what matters of the end is written into the room that the beginning has.
        """
        if self._descriptor is None:
            return
        try:
            _write(self._descriptor, _line(end))
            os.fdatasync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._begun)
            os.lseek(self._descriptor, self._begun, os.SEEK_SET)
            _write(self._descriptor, _line(_shortened(end, str(error))))
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def _numbered(folder: Path) -> Iterator[str]:
    """What names the spool's next operation, which is counted where the block succeeds.

    Empty where the counter cannot be had at once: a stopped process may hold it, and no tool waits for another.
    """
    try:
        descriptor, spool_id, number = _locked_counter(folder)
    except OSError:
        yield ""
        return
    try:
        yield f"{spool_id}-{number}-"
        with contextlib.suppress(OSError):  # on a full disk the next one has the same number
            os.pwrite(descriptor, f"{spool_id} {number + 1}\n".encode(), 0)
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # by closing alone it would stay locked in a child forked meanwhile
        os.close(descriptor)


def _locked_counter(folder: Path) -> tuple[int, str, int]:
    """The counter's descriptor, the spool's id and the next number. Raises OSError where it cannot be had at once."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(folder / COUNTER_NAME, flags, 0o600)
    try:
        for _ in range(_COUNTER_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor, *_counted(os.pread(descriptor, _LONGEST_COUNTER, 0))
            time.sleep(_COUNTER_PAUSE_SECONDS)
        raise TimeoutError("the counter stays locked")
    except OSError:
        os.close(descriptor)
        raise


def _counted(content: bytes) -> tuple[str, int]:
    """The spool's id and the next number; a new spool where the counter says nothing of the kind."""
    with contextlib.suppress(ValueError):
        spool_id, number = content.partition(b"\n")[0].decode("ascii").split()
        if len(bytes.fromhex(spool_id)) == 8 and 0 < int(number) < _LARGEST_NUMBER:
            return spool_id, int(number)
    return os.urandom(8).hex(), 1


def number_of(path: Path) -> dict[str, Any] | None:
    """Which operation of which spool a file is, as its name says: {"id": …, "number": …}."""
    import re

    found = re.match(r"[0-9]+-([0-9a-f]{16})-([1-9][0-9]{0,17})-", path.name)
    return {"id": found[1], "number": int(found[2])} if found else None


def patches_folder(folder: Path) -> Path:
    """Where patches wait, made where it is missing. Raises OSError."""
    patches = folder / PATCHES
    for needed in (folder, patches):
        needed.mkdir(mode=0o700, parents=True, exist_ok=True)
    return patches


def keep_patch(folder: Path, content: bytes) -> str:
    """Put a patch beside the operations that name it, under its SHA-256, which is returned. Raises OSError.

    The drainer removes it when it is stored, so one that is there need not be written again.
    """
    import hashlib

    digest = hashlib.sha256(content).hexdigest()
    path = patches_folder(folder) / digest
    if path in _kept_patches:
        return digest
    if not path.exists():
        draft = path.with_suffix(f".{os.urandom(8).hex()}.tmp")  # another thread or container may be at the same one
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, content)
        finally:
            os.close(descriptor)
        draft.rename(path)
    _kept_patches.add(path)
    return digest


def _close_inherited() -> None:
    # A lock is shared across fork: a child that lives on would make a dead operation look alive.
    for file in list(_open_files):
        file.close()


os.register_at_fork(after_in_child=_close_inherited)


def waiting(folder: Path) -> list[Path]:
    """The spool's files, oldest first, running operations included. Raises OSError where it may not be read."""
    try:
        with os.scandir(folder) as entries:
            found = [one.path for one in entries if one.name.endswith(SUFFIX) and one.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [Path(path) for path in sorted(found)]


def read_lines(descriptor: int) -> Iterator[dict[str, Any]]:
    """The lines of an open spool file. A torn last line is no error: its process died while writing it.

    Raises SpoolError where a line's checksum or JSON does not fit.
    """
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(0)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            yield _parsed(line)


def has_end(path: Path) -> bool:
    """Whether the operation of this file has ended. Raises OSError."""
    return path.read_bytes().count(b"\n") > 1


def is_locked(path: Path) -> bool:
    """Whether this file is not to be taken: a living process holds its lock, or it belongs to another user.

    False where there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _above_streams(descriptor: int) -> int:
    """The same file under a number above 2: where stderr was closed, it would get the tool's messages."""
    if descriptor > 2:
        return descriptor
    higher = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return higher


def _shortened(end: dict[str, Any], reason: str) -> dict[str, Any]:
    message = end["error_message"]
    kept = {"success": end["success"], "duration_seconds": end["duration_seconds"]}
    kept["error_message"] = message[:_SHORTENED_ERROR] if message else None
    return {**kept, "context": {"incomplete": reason}}


def _write(descriptor: int, line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(descriptor, view) :]


def _line(form: dict[str, Any]) -> bytes:
    text = json.dumps(form, allow_nan=False, separators=(",", ":")).encode()
    return b"%08x %d %s\n" % (zlib.crc32(text), len(text), text)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        checksum, length, text = line.rstrip(b"\n").split(b" ", 2)
        if int(length) != len(text) or int(checksum, 16) != zlib.crc32(text):
            raise SpoolError("a line's checksum does not fit")
        form = json.loads(text)
    except ValueError as error:
        raise SpoolError(f"a line cannot be read: {error}") from error
    if not isinstance(form, dict):
        raise SpoolError("a line is no JSON object")
    return form
