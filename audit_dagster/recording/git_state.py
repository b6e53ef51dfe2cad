"""The code that an operation ran with: commit, branch, remote, and whether the working tree differed from it.

One `git status` (10 ms for 5,000 files), which looks through the tree while the recorder goes on, rather than
GitPython, whose import alone costs 60 ms and which calls `git` three times for the same facts. No process is started
outside a repository.
"""

from __future__ import annotations

import os
import subprocess
import time
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

_TIMEOUT_SECONDS = 5
_TOO_SLOW = f"git took longer than {_TIMEOUT_SECONDS} s"
# A process that runs one operation after the other asks git once a second, and whenever the repository itself changed.
_FRESH_SECONDS = 1.0
# A repository's own programs must not run, nor may its index be written to.
GIT = ("git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_STATUS = (*GIT, "status", "--porcelain=v2", "--branch", "-z", "--no-renames")
_ON_NO_REMOTE = (*GIT, "rev-list", "--count", "HEAD", "--not", "--remotes")
# What a hook of git is told about its own repository.
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_COMMON_DIR")
_NOT_OURS = (*_OF_A_HOOK, "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_DIFF_OPTS")
# Nor is anything fetched: a partial clone would ask its remote for what is missing.
_OURS = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
_WATCHED = ("HEAD", "index", "logs/HEAD")
_seen: dict[str, tuple[float, tuple[object, ...], GitState]] = {}


class GitState(NamedTuple):
    """What git says of one repository. `changes` are the paths that differ from the commit, as `git status` gives them.

    `ahead` counts the commits that `upstream`, the branch of a remote that this one follows, lacks; where it follows
    none, those that are on no branch of a remote. `error` says what went wrong; the rest is then None.
    """

    root: str
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    remote: str | None = None
    upstream: str | None = None
    ahead: int | None = None
    changes: tuple[str, ...] = ()
    error: str | None = None


class GitQuestion:
    """git at work on one repository since this was made; `answer` waits for it. Nothing in it raises for git's sake."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folders = git_folders(root)
        self._marks = _marks(self._folders)
        self._known = _remembered(root, self._marks)
        self._error: str | None = None
        self._status: subprocess.Popen[bytes] | None = None
        if self._known is None:
            try:
                self._status = _start(_STATUS, root)
            except OSError as error:
                self._error = f"git: {error.strerror}"
            self._remote = _remote(self._folders[-1])  # while git is at work

    def answer(self) -> GitState:
        """The repository's state, as it was when the question was asked, or up to a second before."""
        if self._known is None:
            status, error = _ended(self._status) if self._status else (None, self._error)
            failed = GitState(self._root, error=error)
            self._known = failed if status is None else _with_ahead(_parsed(self._root, status, self._remote))
            _seen[self._root] = (time.monotonic(), self._marks, self._known)
        return self._known


def repository_around(path: str) -> str | None:
    """The root of the working tree that `path`, a folder, lies in; None outside of any."""
    folder = Path(path)
    return next((str(one) for one in (folder, *folder.parents) if _is_root(f"{one}/.git")), None)


def _is_root(git: str) -> bool:
    """Whether it is a repository's folder, or the file that names one; an empty folder of that name is none."""
    return os.path.isfile(git) or os.path.lexists(f"{git}/HEAD")  # noqa: PTH113 - False where nobody may look


def git_folders(root: str) -> tuple[Path, Path]:
    """The folder with this working tree's HEAD and index, and the one with the repository's configuration.

    They are the same but for linked working trees and submodules, whose `.git` is a file that names them.
    """
    own = Path(root, ".git")
    try:
        if own.is_file():
            own = Path(root, own.read_text("utf-8", "replace").removeprefix("gitdir:").strip())
        common = own / "commondir"
        return own, own / common.read_text("utf-8", "replace").strip() if common.is_file() else own
    except OSError:
        return own, own


def environment() -> dict[str, str]:
    """This process's environment, for a `git` that looks at a repository and leaves it as it is."""
    return {**{name: value for name, value in os.environ.items() if name not in _NOT_OURS}, **_OURS}


def _start(command: tuple[str, ...], root: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _ended(process: subprocess.Popen[bytes]) -> tuple[str | None, str | None]:
    """What it printed, or what it complained about."""
    try:
        output, errors = process.communicate(timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):  # a program that git started may hold their other ends
            if pipe:
                pipe.close()
        return None, _TOO_SLOW
    if process.returncode:
        return None, errors.decode("utf-8", "replace").strip() or f"git: exit code {process.returncode}"
    return os.fsdecode(output), None


def _parsed(root: str, status: str, remote: str | None) -> GitState:
    records = [record for record in status.split("\0") if record]
    headers_first = takewhile(lambda record: record.startswith("# "), records)
    headers = dict(record[2:].split(" ", 1) for record in headers_first)
    commit = headers.get("branch.oid")
    branch = headers.get("branch.head")
    changes = tuple(records[len(headers) :])
    return GitState(
        root=root,
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        dirty=bool(changes),
        remote=remote,
        upstream=headers.get("branch.upstream"),
        ahead=int(headers["branch.ab"].split()[0]) if "branch.ab" in headers else None,
        changes=changes,
    )


def _with_ahead(state: GitState) -> GitState:
    """Of a detached HEAD, as CI checks it out, and of a branch that follows none, git has to be asked once more."""
    if state.ahead is not None or state.remote is None or state.commit is None:
        return state
    try:
        count, _ = _ended(_start(_ON_NO_REMOTE, state.root))
    except OSError:
        return state
    return state._replace(ahead=None if count is None else int(count))


def _remote(folder: Path) -> str | None:
    """The URL of `origin`, or of the first remote there is."""
    try:
        lines = (folder / "config").read_text("utf-8", "replace").splitlines()
    except (OSError, ValueError):  # a path with NUL
        return None
    section = ""
    urls: dict[str, str] = {}
    for line in map(str.strip, lines):
        name, equals, value = line.partition("=")
        if line.startswith("["):
            section = line.split("]")[0]
        elif equals and name.strip().lower() == "url" and section.startswith("[remote "):
            urls.setdefault(section, value.strip().strip('"'))
    return urls.get('[remote "origin"', next(iter(urls.values()), None))


def _remembered(root: str, marks: tuple[object, ...]) -> GitState | None:
    at, known_marks, state = _seen.get(root, (0.0, (), None))
    if state is not None and state.error == _TOO_SLOW:  # a process waits for that once
        return state
    fresh = state is not None and known_marks == marks and time.monotonic() - at < _FRESH_SECONDS
    return state if fresh else None


def _marks(folders: tuple[Path, Path]) -> tuple[object, ...]:
    """Changes with every commit, checkout and `git add`."""
    marks: list[object] = []
    for file in (*(folders[0] / name for name in _WATCHED), folders[1] / "config"):
        try:
            status = os.stat(file)  # noqa: PTH116 - a hot path
        except (OSError, ValueError):
            marks.append(None)
        else:
            marks.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(marks)
