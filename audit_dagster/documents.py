"""Documents as files: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit_dagster.errors import AuditError


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was written, and how many operations it is about."""

    path: Path
    text: str
    operations: int
    failed: int


def write_document(path: Path, text: str, operations: int, failed: int, mode: int = 0o644) -> Document:
    """Write a file so that a reader finds the old one or the new one, never half of it. Raises AuditError.

    A link stays one, and what it names is written; a device or a folder is refused.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise AuditError(f"cannot write {path}: it is no file: choose another folder or file")
    try:
        with _replacing(target, mode) as draft:
            draft.write_text(text, "utf-8", newline="\n")  # a command may hold a CR
    except OSError as error:
        raise AuditError(f"cannot write {path}: {error.strerror}: choose another folder or file") from error
    return Document(path, text, operations, failed)


def read_text(path: Path) -> str:
    """The text of a report that people may have edited. Raises AuditError where it cannot be read."""
    try:
        return path.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise AuditError(f"cannot read {path}: {error.strerror}") from error


@contextlib.contextmanager
def _replacing(path: Path, mode: int) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        draft.chmod(mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
