"""What a working tree has beyond its commit, as a binary patch: made through a temporary index and object folder, so
that the user's index, objects and tree stay as they are.

Left out, each by name: files larger than LARGEST_FILE, whatever lies beyond MOST_BYTES in all, files whose names say
that they hold secrets, binary files in which one is found, and what cannot be read.
Secrets in the patch's text are replaced like everywhere; such a patch, and one with files left out, says that it is not
exact.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from audit_dagster.recording.git_state import GIT, GitState, environment, git_folders
from audit_dagster.recording.redact import Redactor, is_secret_file

LARGEST_FILE = 1024 * 1024
MOST_BYTES = 4 * 1024 * 1024
LARGEST_PATCH = 4 * 1024 * 1024
_MOST_FILES = 2000
_MOST_NAMED = 50
_TIMEOUT_SECONDS = 5  # in all
_NONE = "000000"  # the mode of a file that is not there
_BINARY = re.compile(r"(^GIT binary patch\n(?:(?:literal|delta) \d+\n(?:[A-Za-z][^\n]*\n)+\n){2})", re.MULTILINE)
# Of a section's first line, which ends with the path.
_CODE = re.compile(
    r"\.(?:pyi?|[Rr]|jl|m|[ch]|cc|cpp|hpp|f90|java|kt|scala|js|ts|jsx|tsx|go|rs|rb|pl|lua|swift|cs)\"?\n"
)
_PRIVATE_KEY = re.compile(  # in one line, or in several that have each a sign in front
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:[^\n]*?-----END [A-Z ]*-----"
    r"|[^\n]*(?:\n[+ -](?!-----END)[A-Za-z0-9+/=:,. -]*\r?)*(?:\n[+ -]-----END [A-Z ]*-----)?)"
)
# The last of each repository: one operation after the other needs it again.
_latest: dict[str, tuple[GitState, frozenset[str], Patch]] = {}


class Patch(NamedTuple):
    """`content` applies to the commit with `git apply --binary`, and where it is `exact` it makes `tree`."""

    content: bytes
    tree: str
    exact: bool
    left_out: tuple[str, ...]


class PatchError(Exception):
    """Why there is no patch."""


class _Change(NamedTuple):
    """A path that differs from the commit, which has it with that mode and object; _NONE where it has it not."""

    path: str
    mode: str = _NONE
    digest: str = ""
    is_gone: bool = False


def make_patch(state: GitState, redactor: Redactor, folder: Path) -> Patch:
    """The patch of a dirty working tree, made in a folder of its own inside `folder`. Raises PatchError, OSError."""
    known = redactor.known()
    made = _latest.get(state.root)
    if made is None or made[0] is not state or made[1] != known:  # an equal state may stand for another content
        made = _latest[state.root] = (state, known, _made(state, redactor, folder))
    return made[2]


def _made(state: GitState, redactor: Redactor, folder: Path) -> Patch:
    if state.commit is None:
        raise PatchError("there is no commit yet")
    left_out: dict[str, str] = {}
    # Inside the spool, where the drainer sweeps up after a process that was killed meanwhile.
    with tempfile.TemporaryDirectory(suffix=".tmp", dir=folder) as scratch:
        git = _Scratch(state.root, Path(scratch))
        tracked = list(_tracked(state, left_out))
        changes = [*tracked, *_untracked(git, state, tracked)]
        taken = list(_fitting(state.root, changes, left_out))
        git.take(changes, taken)
        tree, patch = git.patch(state.commit)
        hiding = list(_hiding(git, state.commit, tree, changes, redactor)) if _BINARY.search(patch) else []
        if hiding:
            left_out |= {one.path: "a secret in a binary file" for one in hiding}
            git.put_back(hiding)
            tree, patch = git.patch(state.commit)
    shown = _without_secrets(patch, redactor)
    reasons = [f"{path}: {reason}" for path, reason in left_out.items()]
    return Patch(os.fsencode(shown), tree, not reasons and shown == patch, tuple(reasons[:_MOST_NAMED]))


def _tracked(state: GitState, left_out: dict[str, str]) -> Iterator[_Change]:
    """What the index knows, from the records of `git status --porcelain=v2`."""
    for record in state.changes:
        kind = record[0]
        if kind == "?":
            continue
        fields = record.split(" ", 10 if kind == "u" else 8)
        path, states, submodule = fields[-1], fields[1], fields[2]
        if submodule.startswith("S") and submodule[2:] != "..":
            left_out[path] = "a submodule with changes of its own"
        if kind == "u":  # of a merge that was not finished; the commit's is the second of three
            is_gone = not os.path.lexists(f"{state.root}/{path}") and not is_secret_file(_name(path))
            yield _Change(path, fields[4], fields[8], is_gone)
        else:
            # Lines that a file of secrets lost are secrets, too: the patch does not say that it is gone.
            yield _Change(path, fields[3], fields[6], is_gone="D" in states and not is_secret_file(_name(path)))


def _untracked(git: _Scratch, state: GitState, tracked: Iterable[_Change]) -> list[_Change]:
    """The untracked files.

    `git status` names only the folder where all in it is untracked, and not even that where there was a file before.
    """
    paths = [record[2:] for record in state.changes if record.startswith("? ")]
    was_file = any(one.is_gone and os.path.isdir(f"{state.root}/{one.path}") for one in tracked)  # noqa: PTH112
    if was_file or any(path.endswith("/") for path in paths):
        paths = git.paths("ls-files", "--others", "--exclude-standard", "-z")
    return [_Change(path) for path in paths]


def _fitting(root: str, changes: Iterable[_Change], left_out: dict[str, str]) -> Iterator[_Change]:
    """Those that go into the patch; why the others do not is added to `left_out`."""
    left = MOST_BYTES
    for number, one in enumerate(changes):
        if one.is_gone:
            continue
        size, reason = _looked_at(f"{root}/{one.path}")
        if number >= _MOST_FILES:
            reason = f"there are more than {_MOST_FILES:,} files"
        elif size > min(LARGEST_FILE, left):
            reason = f"{size:,} bytes"
        if reason:
            left_out[one.path] = reason
        else:
            left -= size
            yield one


def _looked_at(path: str) -> tuple[int, str | None]:
    """A file's size, and what keeps it out of a patch, if anything. `secret_shapes` knows these sentences for ours."""
    if is_secret_file(_name(path)):
        return 0, "named like a secret"
    try:
        status = os.lstat(path)
    except OSError as error:
        return 0, f"it cannot be read: {error.strerror}"
    if path.endswith("/"):
        return 0, "a repository of its own"
    if stat.S_ISDIR(status.st_mode):  # a submodule, whose commit is all that is kept of it
        return 0, None
    if stat.S_ISLNK(status.st_mode):
        return status.st_size, None
    if not stat.S_ISREG(status.st_mode):
        return 0, "no regular file"
    return status.st_size, None if os.access(path, os.R_OK) else "it cannot be read"


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _hiding(git: _Scratch, commit: str, tree: str, changes: Iterable[_Change], redactor: Redactor) -> Iterator[_Change]:
    """Those that git shows as binary, and in which there is a secret, before or after the change."""
    lines = git.paths("diff-tree", "-r", "--numstat", "--no-renames", "-z", commit, tree)
    binary = {line.removeprefix("-\t-\t") for line in lines if line.startswith("-\t-\t")}
    for one in changes:
        if one.path in binary and any(_has_secret(content, redactor) for content in git.contents(one)):
            yield one


def _has_secret(content: bytes, redactor: Redactor) -> bool:
    texts = (content.decode("latin-1"), content.replace(b"\0", b"").decode("latin-1"))  # UTF-16 as well
    return any(redactor.text(text) != text for text in texts)


def _without_secrets(patch: str, redactor: Redactor) -> str:
    """What is binary was looked at, and looks like anything."""
    shown = []
    for section in re.split(r"(?m)(?=^diff --git )", patch):
        is_code = _CODE.search(section.partition("\n")[0] + "\n") is not None
        for number, part in enumerate(_BINARY.split(section)):
            shown.append(part if number % 2 else redactor.text(_PRIVATE_KEY.sub(_key_lines, part), is_code=is_code))
    return "".join(shown)


def _key_lines(match: re.Match[str]) -> str:
    """As many lines as there were, each with what a patch's line begins with, so that the rest still applies."""
    signs = [line[:1] for line in match[0].split("\n")]
    return "\n".join(sign + "${SECRET:PRIVATE_KEY}" for sign in ["", *signs[1:]])


class _Scratch:
    """git on the repository, with an index and an object folder that are thrown away."""

    def __init__(self, root: str, folder: Path) -> None:
        self._root = root
        self._until = time.monotonic() + _TIMEOUT_SECONDS
        own, common = git_folders(root)
        (folder / "objects").mkdir()
        if (own / "index").exists():
            written = (own / "index").stat().st_mtime_ns
            (folder / "index").write_bytes((own / "index").read_bytes())
            # By this git knows which files may have changed in the very moment in which their state was noted.
            os.utime(folder / "index", ns=(written, written))
        users = str(common / "objects").replace("\\", r"\\").replace('"', r"\"")
        self._environment = environment() | {
            "GIT_INDEX_FILE": str(folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{users}"',  # quoted: a colon would separate two
        }

    def take(self, changes: Iterable[_Change], taken: list[_Change]) -> None:
        """Have in the index `taken` as they are in the tree, and the rest as the commit has it."""
        kept = set(taken)
        self.put_back(one._replace(mode=_NONE) if one.is_gone else one for one in changes if one not in kept)
        paths = "".join(f"{one.path}\0" for one in taken)
        self._run("update-index", "--add", "--remove", "--replace", "-z", "--stdin", given=paths)

    def put_back(self, changes: Iterable[_Change]) -> None:
        """Have in the index what the commit has."""
        records = "".join(f"{one.mode} {one.digest or '0' * 40}\t{one.path}\0" for one in changes)
        if records:
            self._run("update-index", "-z", "--index-info", given=records)

    def patch(self, commit: str) -> tuple[str, str]:
        """The tree that the index is, and what it has beyond the commit: by a command that no configuration changes."""
        tree = self._run("write-tree").strip().decode()
        asked = ("-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv")
        patch = self._run("diff-tree", *asked, commit, tree)
        if len(patch) > LARGEST_PATCH:
            raise PatchError(f"it has {len(patch):,} bytes, more than {LARGEST_PATCH:,}")
        return tree, os.fsdecode(patch)

    def paths(self, *words: str) -> list[str]:
        """What `git WORDS` lists, with NUL behind each."""
        return [path for path in os.fsdecode(self._run(*words)).split("\0") if path]

    def contents(self, one: _Change) -> Iterator[bytes]:
        """A file's contents: in the tree, and in the commit, as far as it is there."""
        path = Path(self._root, one.path)
        if path.is_file() and not path.is_symlink():
            yield path.read_bytes()
        if one.mode != _NONE:
            yield self._run("cat-file", "blob", one.digest)

    def _run(self, *words: str, given: str | None = None) -> bytes:
        """What `git WORDS` prints. Raises PatchError."""
        try:
            done = subprocess.run(
                [*GIT, "-c", "core.quotePath=false", "-c", "core.splitIndex=false", *words],
                cwd=self._root,
                env=self._environment,
                input=None if given is None else os.fsencode(given),
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                timeout=max(0.0, self._until - time.monotonic()),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PatchError(f"git took longer than {_TIMEOUT_SECONDS} s, up to {words[0]}") from None
        if done.returncode:
            raise PatchError(f"git {words[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")
        return done.stdout


def patch_facts(patch: Patch, digest: str) -> dict[str, Any]:
    """What an operation's context says of its patch, whose content is stored once, under its SHA-256."""
    facts: dict[str, Any] = {"sha256": digest, "bytes": len(patch.content), "tree": patch.tree, "exact": patch.exact}
    return {**facts, "left_out": list(patch.left_out)} if patch.left_out else facts
