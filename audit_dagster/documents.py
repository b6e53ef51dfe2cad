"""Documents as files, in a folder or an object store: written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TextIO, TypeAlias
from urllib.parse import unquote, urlsplit

from audit_dagster.errors import AuditError, ConfigurationError

if TYPE_CHECKING:
    from upath import UPath

Place: TypeAlias = "Path | UPath"

_AT_ONCE = 1_000_000  # characters that wait for being written
_LONGEST_BEGINNING = 200_000
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was written, and how many operations it is about. Of a long one `text` is the beginning."""

    path: Place
    text: str
    operations: int
    failed: int


def place(text: str | os.PathLike[str]) -> Place:
    """A local path, or with "://" a URL that fsspec knows, such as `s3://bucket/prefix`. Raises ConfigurationError."""
    scheme, is_url, rest = os.fspath(text).partition("://")
    if not isinstance(text, str) or not is_url:
        return Path(text)
    if scheme == "file":
        return Path(unquote(urlsplit(text).path))
    from fsspec import get_filesystem_class
    from upath import UPath

    try:
        get_filesystem_class(scheme)
        if scheme in _EXTRAS and not rest.partition("/")[0]:
            raise ValueError("no bucket")
        return UPath(text)
    except ImportError as error:
        advice = f"pip install 'audit-dagster[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else _one_line(error)
        raise ConfigurationError(f"{text} needs a package that is not installed: {advice}") from error
    except ValueError as error:
        raise ConfigurationError(f"{text} cannot be used: give a folder, s3://BUCKET/… or gs://BUCKET/…") from error


def write_document(path: Place, text: str, operations: int, failed: int, mode: int = 0o644) -> Document:
    """Write a file so that a reader finds the old one or the new one, never half of it. Raises AuditError.

    A link stays one, and what it names is written; a device or a folder is refused. An object store knows no `mode`.
    """
    with draft(path, mode) as made:
        made.write(text)
    return Document(path, text, operations, failed)


class Draft:
    """A document in the making."""

    def __init__(self, path: Place, file: TextIO) -> None:
        """What is written to `file` will be found at `path`."""
        self._path, self._file = path, file
        self._waiting: list[str] = []
        self._length = 0
        self._beginning = ""

    def write(self, text: str) -> None:
        """Go on with a text. Raises AuditError."""
        self._waiting.append(text)
        self._length += len(text)
        if self._length > _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Raises AuditError."""
        text = "".join(self._waiting)
        self._waiting, self._length = [], 0
        if len(self._beginning) <= _LONGEST_BEGINNING:
            self._beginning += text[: _LONGEST_BEGINNING + 1]
        with _told_of_writing(self._path):
            self._file.write(text)
            self._file.flush()

    def beginning(self) -> str:
        """All that was written, or of a long text whole lines and an ellipsis."""
        if len(self._beginning) <= _LONGEST_BEGINNING:
            return self._beginning
        return f"{self._beginning[: self._beginning.rfind(chr(10), 0, _LONGEST_BEGINNING) + 1]}…\n"


@contextlib.contextmanager
def draft(path: Place, mode: int = 0o644) -> Iterator[Draft]:
    """A document to be written in pieces: it is at its place, whole, when the block has ended without an error.

    Raises AuditError, as `write_document` does.
    """
    with contextlib.ExitStack() as stack:
        with _told_of_writing(path):
            target, name = _target(path, stack)
            file = name.open("w", encoding="utf-8", newline="\n")  # a command may hold a CR
        stack.callback(_closed, file)
        made = Draft(path, file)
        yield made
        made.flush()
        with _told_of_writing(path):
            file.close()
            if isinstance(target, Path):
                name.chmod(mode)
                name.replace(target)
            else:
                _put(target, name)


def _target(path: Place, stack: contextlib.ExitStack) -> tuple[Place, Path]:
    """What to write in the end, and a file for the meantime, which `stack` removes."""
    if not isinstance(path, Path):
        folder = stack.enter_context(TemporaryDirectory(prefix="audit-dagster-"))
        return path, Path(folder) / (path.name or "draft")
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise AuditError(f"cannot write {path}: it is no file: choose another folder or file")
    target.parent.mkdir(parents=True, exist_ok=True)
    name = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    stack.callback(name.unlink, missing_ok=True)
    return target, name


def remove_series(paths: Iterable[Place]) -> None:
    """Remove what there is of a series of files, from its first name to the last before one that is absent.

    The last goes first, so that what a killed process leaves is found the next time. Raises AuditError.
    """
    found: list[Place] = []
    for path in paths:
        with _told(path, "remove"):
            if not path.is_file():
                break
        found.append(path)
    for path in reversed(found):
        with _told(path, "remove"):
            path.unlink()


def read_text(path: Place) -> str:
    """The text of a report that people may have edited. Raises AuditError where it cannot be read."""
    with _told(path, "read"):
        return path.read_text("utf-8-sig", errors="replace")


def names_in(folder: Place) -> list[str]:
    """The names of what is in a folder, in any order; none where there is no folder. Raises AuditError."""
    with _told(folder, "read"), contextlib.suppress(FileNotFoundError):
        if isinstance(folder, Path):
            return os.listdir(folder)  # noqa: PTH208 - only names, of a hundred thousand files
        folder.fs.invalidate_cache()  # other processes write there, too
        return [name.rstrip("/").rpartition("/")[2] for name in folder.fs.ls(folder.path, detail=False)]
    return []


@contextlib.contextmanager
def local_copies(paths: Iterable[Place]) -> Iterator[list[Path]]:
    """The same files for programs that know local ones only: copies where need be, none of what does not exist.

    The copies are gone afterwards. Raises AuditError where a file cannot be fetched.
    """
    with TemporaryDirectory(prefix="audit-dagster-") as folder:
        yield [path if isinstance(path, Path) else _fetched(path, Path(folder)) for path in paths]


def _fetched(path: UPath, folder: Path) -> Path:
    copy = folder / path.name
    with _told(path, "read"), contextlib.suppress(FileNotFoundError):
        copy.write_bytes(path.read_bytes())
    return copy


def _closed(file: TextIO) -> None:
    with contextlib.suppress(OSError):  # of a full disk, which has been told
        file.close()


def _put(path: UPath, name: Path) -> None:
    from upath.implementations.cloud import CloudPath

    if not isinstance(path, CloudPath):  # which has no folders: making one would make a bucket
        path.parent.mkdir(parents=True, exist_ok=True)
    path.fs.put_file(str(name), path.path)


def _told_of_writing(path: Place) -> contextlib.AbstractContextManager[None]:
    local = "choose another folder or file"
    remote = "correct the address, or the store's endpoint and credentials in the environment"
    return _told(path, "write", local if isinstance(path, Path) else remote)


@contextlib.contextmanager
def _told(path: Place, verb: str, advice: str = "") -> Iterator[None]:
    """What goes wrong becomes one sentence. The errors of object stores' libraries have no parent in common."""
    expected: type[Exception] = OSError if isinstance(path, Path) else Exception
    try:
        yield
    except expected as error:
        absent = verb == "read" and isinstance(error, FileNotFoundError)  # stores say the key and no more
        reason = os.strerror(errno.ENOENT) if absent else _one_line(error)
        raise AuditError(f"cannot {verb} {path}: {reason}{advice and f': {advice}'}") from error


def _one_line(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:200].rstrip(".") or type(error).__name__
