"""What an operation stood on, as far as it was recorded: its repository, its uncommitted changes, and its files."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from audit_dagster.entry import LogEntry
from audit_dagster.reproduction.words import UNWRITABLE

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_UNNAMEABLE = re.compile("[\n\x00\ud800-\udfff]")
_HEADER = b"diff --git "
_BEFORE_VALUE = re.compile(r"-[A-Za-z](?=\.{0,2}/)|-[^=]*=|[A-Za-z_][\w.-]*=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What a working tree had beyond its commit.

    `content` is None where the patch was recorded and is not at hand. `tree` is git's hash of the whole tree that
    commit and patch make; without `exact`, the patch lacks the files `left_out`, or a secret in it was replaced.
    """

    sha256: str
    tree: str
    exact: bool
    left_out: tuple[str, ...]
    content: bytes | None


class FileFacts(NamedTuple):
    """A file as an operation found it; `sha256` is None where its content was not read."""

    path: str
    sha256: str | None
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that an operation read or made.

    `path` is relative to the step's root where the file lay below it, else absolute. `made_by` is the number of the
    last step before that made it, 0 where none did.
    """

    path: str
    recorded_path: str
    sha256: str | None
    size: int
    made_by: int = 0


def commit_of(entry: LogEntry) -> str | None:
    """The commit, None where none was recorded or what was recorded is no commit's hash."""
    commit = entry.git_commit_hash
    return commit if commit is not None and _COMMIT.fullmatch(commit) else None


def repository_root(entry: LogEntry) -> str | None:
    """The root of the repository around it, as recorded."""
    git = entry.context.get("git")
    root = git.get("root") if isinstance(git, dict) else None
    return root if isinstance(root, str) and root.startswith("/") else None


def root_of(entry: LogEntry) -> str | None:
    """The folder that a reproduction's tree stands for: the repository's root, else where it ran. None for `/`."""
    root = (repository_root(entry) if directory_of(entry) is not None else entry.working_directory) or ""
    root = root.rstrip("/")
    return root if root.startswith("/") and not UNWRITABLE.search(root) else None


def directory_of(entry: LogEntry) -> str | None:
    """Where it ran, relative to the repository's root; None outside of any, or where that is unknown."""
    root = repository_root(entry)
    return _relative(entry.working_directory, root) if root is not None and entry.working_directory else None


@lru_cache(maxsize=1000)
def _relative(directory: str, root: str) -> str | None:
    try:
        path = PurePosixPath(directory).relative_to(root)
    except ValueError:
        return None
    text = "" if path == PurePosixPath() else str(path)
    return None if ".." in path.parts or UNWRITABLE.search(text) else text


def code_file_of(entry: LogEntry, root: str | None) -> str | None:
    """The Python file with the tool's own code, relative to the root, where it lies below it."""
    tool = entry.context.get("tool")
    file = tool.get("file") if isinstance(tool, dict) else None
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    path = below(file, root)
    return path if path and not path.startswith("/") and _is_writable(path) else None


def before_and_value(word: str) -> tuple[str, str]:
    """The two parts of `--flag=VALUE`, `name=VALUE` and `-oPATH`; the first is empty in others."""
    found = _BEFORE_VALUE.match(word)
    end = found.end() if found else 0
    return word[:end], word[end:]


def below(path: str, root: str | None) -> str:
    """`path` relative to `root` where it lies below it, else as it is."""
    if root is None or not path.startswith(f"{root}/") or "/../" in f"{path}/":
        return path
    return path[len(root) + 1 :].lstrip("/")


def from_root(path: str, directory: str | None, root: str | None) -> str | None:
    """Where a relative `path` leads from `directory`, as seen from `root`: `../shared/raw.csv`, `out`, `.`.

    None where that is unknown, or the path is absolute.
    """
    if root is None or directory is None or path.startswith("/"):
        return None
    target = posixpath.relpath(posixpath.join(directory, path), root)
    return f"{target}/" if path.endswith("/") or target == ".." else target


def patch_of(entry: LogEntry, patches: Mapping[str, bytes]) -> Patch | None:
    """The patch that was recorded, with its content where `patches` has it."""
    facts = _patch_facts(entry.context.get("git"))
    if facts is None or not entry.git_dirty or commit_of(entry) is None:
        return None
    digest, left_out = facts["sha256"], facts.get("left_out")
    content = patches.get(digest)
    return Patch(
        sha256=digest,
        tree=str(facts.get("tree") or ""),
        exact=facts.get("exact") is True,
        left_out=_named(left_out),
        content=content if content is not None and hashlib.sha256(content).hexdigest() == digest else None,
    )


def patch_name(entry: LogEntry) -> str | None:
    """The SHA-256 under which the patch of an operation's repository is stored."""
    facts = _patch_facts(entry.context.get("git"))
    return str(facts["sha256"]) if facts else None


def patched_paths(patch: bytes) -> set[str]:
    """The paths that a patch of git changes."""
    headers = [line[len(_HEADER) :] for line in patch.split(b"\n") if line.startswith(_HEADER)]
    return {_path(header).decode("utf-8", "surrogateescape") for header in headers}


def recorded_files(entry: LogEntry, kind: str) -> list[FileFacts]:
    """The recorded `inputs` or `outputs` that have an absolute path; each path once."""
    recorded = entry.context.get(kind)
    found: dict[str, FileFacts] = {}
    for facts in recorded if isinstance(recorded, list) else ():
        path = facts.get("path") if isinstance(facts, dict) else None
        if not isinstance(path, str) or not path.startswith("/"):
            continue
        digest, size = facts.get("sha256"), facts.get("size")
        found[path] = FileFacts(
            path,
            digest if isinstance(digest, str) and SHA256.fullmatch(digest) else None,
            size if isinstance(size, int) and size >= 0 else None,
        )
    return list(found.values())


def files_of(entry: LogEntry, kind: str, root: str | None) -> list[File]:
    """The recorded `inputs` or `outputs` that a script can name."""
    return [
        File(path=below(facts.path, root), recorded_path=facts.path, sha256=facts.sha256, size=facts.size or 0)
        for facts in recorded_files(entry, kind)
        if _is_writable(facts.path)
    ]


def _patch_facts(git: Any) -> dict[str, Any] | None:
    facts = git.get("patch") if isinstance(git, dict) else None
    digest = facts.get("sha256") if isinstance(facts, dict) else None
    return facts if isinstance(digest, str) and SHA256.fullmatch(digest) else None


def _named(left_out: Any) -> tuple[str, ...]:
    """The files that a patch lacks, with the reasons."""
    if isinstance(left_out, dict):
        return tuple(f"{path}: {reason}" for path, reason in left_out.items())
    return tuple(map(str, left_out)) if isinstance(left_out, list) else ()


def _path(header: bytes) -> bytes:
    """X of `a/X b/X`; git writes a name with odd characters in quotes, as C does."""
    half = header[: (len(header) - 1) // 2]
    if not half.startswith(b'"'):
        return half[2:]
    return half[3:-1].decode("unicode_escape").encode("latin-1")


def _is_writable(path: str) -> bool:
    return _UNNAMEABLE.search(path) is None
