"""Where a file came from, and crates that tell it: chains are followed back in the log, crates written to the disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError, InvalidInputError
from audit_dagster.escaping import visible
from audit_dagster.report_service import write_script
from audit_dagster.reproduction import crate as crates
from audit_dagster.reproduction.chain import Chain, chain, followed, hashes, made
from audit_dagster.reproduction.ground import SHA256, FileFacts
from audit_dagster.reproduction.plan import ScriptConfig
from audit_dagster.reproduction.words import UNWRITABLE
from audit_dagster.settings import Settings
from audit_dagster.store.query import fetch_entries

if TYPE_CHECKING:
    from psycopg import Connection

MOST_BYTES = 2**30  # of outputs that go into a crate
_PIECE = 2**20
_MOST_NAMED = 5
_FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A content that is looked for: its SHA-256, and the absolute paths of the file that has it, if one was named."""

    sha256: str
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{visible(self.paths[0])} (SHA-256 {self.sha256})" if self.paths else f"SHA-256 {self.sha256}"


@dataclass(frozen=True, slots=True)
class Crate:
    """A crate that was written: how many operations it tells of, and how many of their outputs are in it."""

    path: Path
    operations: int
    copied: int
    referenced: int


def chain_of(target: str | os.PathLike[str], settings: Settings | None = None) -> Chain:
    """The shortest chain of recorded operations that made a file, by its content as it is now, or by a SHA-256.

    Raises InvalidInputError where there is no such file, or where no operation made that content; it then names those
    that made a file of that path with another content.
    """
    wanted = wanted_content(target)
    with AuditService(settings).database() as connection:
        found = chain(candidates(connection, wanted.sha256), wanted.sha256, wanted.paths)
        if not found.steps:
            raise InvalidInputError(_nobody_made(connection, wanted))
        return found


def wanted_content(target: str | os.PathLike[str]) -> Wanted:
    """A file is hashed; where none has that name, 64 hexadecimal digits are a SHA-256. Raises InvalidInputError."""
    name = os.fsdecode(target)
    try:
        with open(name, "rb", opener=_open_now) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInputError(f"{visible(name)} is no file: name a file, or give a SHA-256")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        if SHA256.fullmatch(name.lower()):
            return Wanted(name.lower())
        raise InvalidInputError(f"there is no file {visible(name)}, and it is no SHA-256 of 64 digits") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"cannot read {visible(name)}: {reason}: name a file, or give a SHA-256") from error
    paths = (os.path.abspath(name), os.path.realpath(name))  # noqa: PTH100 - links stay links in what is recorded
    return Wanted(digest, tuple(dict.fromkeys(paths)))


def candidates(connection: Connection[Any], digest: str) -> list[LogEntry]:
    """The operations that may belong to the chain of that content, fetched from the end backwards, a step at a time."""
    found: dict[str, LogEntry] = {}
    asked: set[tuple[str, datetime]] = set()
    wanted = {(digest, _FOREVER)}
    while wanted:
        asked |= wanted
        contents, moments = zip(*wanted, strict=True)
        makers = fetch_entries(connection, "makers_of_content", wanted=list(contents), before=list(moments))
        unknown = [maker for maker in makers if maker.operation_id not in found]
        found |= {maker.operation_id: maker for maker in unknown}
        wanted = {(read, maker.timestamp) for maker in unknown for read in followed(maker)} - asked
    return list(found.values())


def _nobody_made(connection: Connection[Any], wanted: Wanted) -> str:
    """The sentence for who asked after a content that has no chain."""
    same = _with_output(connection, {"sha256": wanted.sha256})
    failed = [entry for entry in same if wanted.sha256 in hashes(entry, "outputs") and not entry.success]
    # A name that is no text is in no record as it is.
    paths = [path for path in wanted.paths if not UNWRITABLE.search(path)]
    others = [entry for path in paths for entry in _with_output(connection, {"path": path}) if made(entry)]
    sentence = f"no recorded operation made the content of {wanted}"
    if failed:
        sentence += f"; it was left by operations that failed: {_named(failed)}"
    if others:
        sentence += f"; that path was made with another content by: {_named(others)}"
    return sentence


def _with_output(connection: Connection[Any], file: dict[str, str]) -> list[LogEntry]:
    return fetch_entries(connection, "operations_with_output", file=json.dumps(file), limit=_MOST_NAMED)


def _open_now(path: str, flags: int) -> int:
    """A pipe that nobody writes to is no reason to wait."""
    return os.open(path, flags | os.O_NONBLOCK)


def _named(entries: Iterable[LogEntry]) -> str:
    return ", ".join(
        f"{visible(entry.tool_name)} {visible(entry.operation)} on {entry.timestamp.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        f" ({entry.operation_id})"
        for entry in entries
    )


def write_crate(
    entries: Sequence[LogEntry],
    directory: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    most_bytes: int = MOST_BYTES,
) -> Crate:
    """Write a Process Run Crate of these entries into a folder: new, or empty.

    Outputs are copied where they still have the recorded content, up to `most_bytes` in all; the others are referenced.
    Raises InvalidInputError where there are no entries or the folder holds anything, AuditError where rocrate is not
    installed or the folder cannot be written; then nothing is left behind.
    """
    _check_rocrate()
    settings = settings or Settings.load()
    once = {entry.operation_id: entry for entry in entries}
    ordered = sorted(once.values(), key=lambda entry: (entry.timestamp, entry.operation_id))
    if not ordered:
        raise InvalidInputError("there are no operations to make a crate of")
    target = Path(os.path.realpath(directory))
    try:
        with _filling(target) as draft:
            wanted = crates.payload(ordered)
            copied = _copy(wanted, draft, most_bytes)
            write_script(ordered, draft / crates.SCRIPT_NAME, ScriptConfig(), settings)
            _write_entries(ordered, draft / crates.ENTRIES_NAME)
            script, log = (_own_facts(draft, name) for name in (crates.SCRIPT_NAME, crates.ENTRIES_NAME))
            _write_metadata(crates.describe(ordered, copied, script, log, datetime.now(UTC)), draft)
    except OSError as error:
        raise AuditError(f"cannot write {visible(str(target))}: {error.strerror}: choose another folder") from error
    return Crate(target, len(ordered), len(copied), len(wanted) - len(copied))


def _check_rocrate() -> None:
    from importlib.util import find_spec

    if find_spec("rocrate") is None:
        raise AuditError("a crate needs the library rocrate: pip install 'audit-dagster[crates]'")


@contextmanager
def _filling(target: Path) -> Iterator[Path]:
    """A folder inside the target whose content becomes the target's; at an error all is as it was before."""
    is_new = not target.exists()
    if not is_new and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInputError(f"{visible(str(target))} is there and not an empty folder: name a new one")
    draft = target / f".{os.getpid()}.tmp"
    draft.mkdir(parents=True)
    try:
        yield draft
        # The metadata last: a folder that has them is a whole crate.
        for child in sorted(draft.iterdir(), key=lambda one: one.name == "ro-crate-metadata.json"):
            child.rename(target / child.name)
        draft.rmdir()
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                target.rmdir()
        raise


def _copy(wanted: Iterable[crates.Payload], draft: Path, most_bytes: int) -> dict[str, str]:
    """Copy what still has the recorded content; the names of the copies by their SHA-256."""
    copied: dict[str, str] = {}
    for one in wanted:
        place = draft / one.name
        place.parent.mkdir(exist_ok=True)
        for path in one.paths:
            size = _copy_exactly(path, place, one.sha256, most_bytes)
            if size is not None:
                most_bytes -= size
                copied[one.sha256] = one.name
                break
    with suppress(OSError):  # where nothing came into it
        (draft / crates.OUTPUTS_NAME).rmdir()
    return copied


def _copy_exactly(path: str, place: Path, digest: str, most_bytes: int) -> int | None:
    """Copy a file of that content and at most that size; its size, or None where it is not that file any more."""
    source = _open_if_small(path, most_bytes)
    if source is None:
        return None
    found, size = hashlib.sha256(), 0
    with source, place.open("wb") as copy:
        while size <= most_bytes and (piece := source.read(_PIECE)):
            found.update(piece)
            size += copy.write(piece)
    if found.hexdigest() == digest and size <= most_bytes:
        return size
    place.unlink()
    return None


def _open_if_small(path: str, most_bytes: int) -> FileIO | None:
    """The regular file of that name, open, where it is readable and no larger."""
    try:
        # Asked first, since to open a device may do something.
        if Path(path).is_file() and Path(path).stat().st_size <= most_bytes:
            return open(path, "rb", buffering=0, opener=_open_now)
    except (OSError, ValueError):
        pass
    return None


def _write_entries(entries: Sequence[LogEntry], path: Path) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write("[\n")
        file.write(",\n".join(json.dumps(entry.to_json()) for entry in entries))
        file.write("\n]\n")


def _own_facts(folder: Path, name: str) -> FileFacts:
    content = (folder / name).read_bytes()
    return FileFacts(name, hashlib.sha256(content).hexdigest(), len(content))


def _write_metadata(description: crates.Description, folder: Path) -> None:
    from rocrate.model import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms = dict(crates.EXTRA_TERMS)
    for name, value in description.root.items():
        crate.root_dataset[name] = value
    for identity, properties in description.context.items():
        crate.add(ContextEntity(crate, identity, properties=properties))
    for identity, properties in description.files.items():
        if identity.startswith("file:"):
            crate.add_file(identity, properties=properties)
        else:
            crate.add_file(folder / identity, identity, properties=properties)
    crate.metadata.write(folder)
