"""What a working tree has beyond its commit, as a binary patch: made through a temporary index and object folder, so
that the user's index, objects and tree stay as they are.

Left out, each by name: files larger than LARGEST_FILE, whatever lies beyond MOST_BYTES in all, untracked files whose
names say that they hold secrets, and binary files in which one is found. Secrets in the patch's text are replaced like
everywhere; such a patch, and one with files left out, says that it is not exact.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from audit_dagster.recording.git_state import GIT, GitState, environment, git_folders
from audit_dagster.recording.redact import Redactor

LARGEST_FILE = 1024 * 1024
MOST_BYTES = 4 * 1024 * 1024
LARGEST_PATCH = 4 * 1024 * 1024
_MOST_FILES = 2000
_MOST_NAMED = 50
_TIMEOUT_SECONDS = 10
_SECRET_FILE = re.compile(
    r"\.env(?:\..+)?|\.netrc|\.pgpass|\.npmrc|\.pypirc|\.htpasswd|id_(?:rsa|dsa|ecdsa|ed25519).*|credentials(?:\..+)?"
    r"|.*\.(?:pem|key|p12|pfx|jks|kdbx|keystore)",
    re.IGNORECASE,
)
_last: tuple[GitState, frozenset[str], Patch] | None = None


class Patch(NamedTuple):
    """`content` applies to the commit with `git apply --binary`, and where it is `exact` it makes `tree`."""

    content: bytes
    tree: str
    exact: bool
    left_out: tuple[str, ...]


class PatchError(Exception):
    """Why there is no patch."""


def make_patch(state: GitState, redactor: Redactor, folder: Path) -> Patch:
    """The patch of a dirty working tree, made in a folder of its own inside `folder`. Raises PatchError, OSError."""
    global _last  # noqa: PLW0603 - one operation after the other in the same tree needs it again
    known = redactor.known()
    if _last is None or _last[0] is not state or _last[1] != known:  # an equal state may stand for another content
        _last = (state, known, _made(state, redactor, folder))
    return _last[2]


def _made(state: GitState, redactor: Redactor, folder: Path) -> Patch:
    if state.commit is None:
        raise PatchError("there is no commit yet")
    # Inside the spool, where the drainer sweeps up after a process that was killed meanwhile.
    with tempfile.TemporaryDirectory(suffix=".tmp", dir=folder) as scratch:
        git = _Scratch(state.root, Path(scratch))
        changed, left_out = _changed(git, state, redactor)
        paths = "".join(f"{path}\0" for path in changed)
        git.run("update-index", "--add", "--remove", "--replace", "-z", "--stdin", given=paths)
        tree = git.run("write-tree").strip().decode()
        patch = git.run("diff", "--binary", "--full-index", "--no-renames", "--no-ext-diff", state.commit, tree)
    if len(patch) > LARGEST_PATCH:
        raise PatchError(f"it has {len(patch):,} bytes, more than {LARGEST_PATCH:,}")
    text = os.fsdecode(patch)
    shown = redactor.text(text)
    return Patch(os.fsencode(shown), tree, not left_out and shown == text, tuple(left_out[:_MOST_NAMED]))


def _changed(git: _Scratch, state: GitState, redactor: Redactor) -> tuple[list[str], list[str]]:
    """The paths that go into the patch, and those left out with the reason."""
    taken: list[str] = []
    left_out: list[str] = []
    left = MOST_BYTES
    untracked = ((path, False) for path in _untracked(git, state))
    for number, (path, tracked) in enumerate([*_tracked(state, left_out), *untracked]):
        file = Path(state.root, path)
        size = file.lstat().st_size if file.is_symlink() or file.is_file() else 0
        if number >= _MOST_FILES:
            left_out.append(f"{path}: there are more than {_MOST_FILES:,} files")
        elif size > min(LARGEST_FILE, left):
            left_out.append(f"{path}: {size:,} bytes")
        elif not tracked and (_SECRET_FILE.fullmatch(file.name) or path.endswith("/")):
            left_out.append(f"{path}: {'a repository of its own' if path.endswith('/') else 'named like a secret'}")
        elif _hides_a_secret(file, redactor):
            left_out.append(f"{path}: a secret in a binary file")
        else:
            left -= size
            taken.append(path)
    return taken, left_out


def _tracked(state: GitState, left_out: list[str]) -> list[tuple[str, bool]]:
    """The changed paths that the index knows, read from the records of `git status --porcelain=v2`."""
    paths = []
    for record in state.changes:
        kind, _, rest = record.partition(" ")
        if kind == "?":
            continue
        path = rest.split(" ", 9 if kind == "u" else 7)[-1]
        submodule = rest.split(" ", 2)[1]
        if submodule.startswith("S") and submodule[2:] != "..":
            left_out.append(f"{path}: a submodule with changes of its own")
        paths.append((path, True))
    return paths


def _untracked(git: _Scratch, state: GitState) -> list[str]:
    """The untracked files; `git status` names only the folder where all in it is untracked."""
    paths = [record[2:] for record in state.changes if record.startswith("? ")]
    if any(path.endswith("/") for path in paths):
        output = os.fsdecode(git.run("ls-files", "--others", "--exclude-standard", "-z"))
        paths = [path for path in output.split("\0") if path]
    return paths


def _hides_a_secret(file: Path, redactor: Redactor) -> bool:
    if file.is_symlink() or not file.is_file():
        return False
    content = file.read_bytes()
    if b"\0" not in content[:8000]:
        return False  # git shows it as text, and the patch's text is looked at
    text = content.decode("latin-1")
    return redactor.text(text) != text


class _Scratch:
    """git on the repository, with an index and an object folder that are thrown away."""

    def __init__(self, root: str, folder: Path) -> None:
        self._root = root
        own, common = git_folders(root)
        (folder / "objects").mkdir()
        if (own / "index").exists():
            (folder / "index").write_bytes((own / "index").read_bytes())
        users = str(common / "objects").replace("\\", r"\\").replace('"', r"\"")
        self._environment = environment() | {
            "GIT_INDEX_FILE": str(folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{users}"',  # quoted: a colon would separate two
        }

    def run(self, *words: str, given: str | None = None) -> bytes:
        """What `git WORDS` prints. Raises PatchError."""
        try:
            done = subprocess.run(
                [*GIT, "-c", "core.quotePath=false", *words],
                cwd=self._root,
                env=self._environment,
                input=None if given is None else os.fsencode(given),
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PatchError(f"git {words[0]} took longer than {_TIMEOUT_SECONDS} s") from None
        if done.returncode:
            raise PatchError(f"git {words[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")
        return done.stdout


def patch_facts(patch: Patch, digest: str) -> dict[str, Any]:
    """What an operation's context says of its patch, whose content is stored once, under its SHA-256."""
    facts: dict[str, Any] = {"sha256": digest, "bytes": len(patch.content), "tree": patch.tree, "exact": patch.exact}
    return {**facts, "left_out": list(patch.left_out)} if patch.left_out else facts
