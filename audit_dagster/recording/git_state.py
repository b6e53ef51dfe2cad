"""The code that an operation ran with: commit, branch, and whether the working tree differed from it.

One `git status` call (4 ms) rather than GitPython, whose import alone costs 60 ms and which calls `git` three times for
the same facts. No process is started outside a repository.
"""

from __future__ import annotations

import os
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

_TIMEOUT_SECONDS = 10


class GitState(NamedTuple):
    """What `git status` says of one repository. Everything is None outside a repository."""

    root: str | None = None
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    error: str | None = None


def git_state(directory: Path) -> GitState:
    """The state of the repository around `directory`. Never raises for git's sake: `error` says what went wrong."""
    root = next((folder for folder in (directory, *directory.parents) if (folder / ".git").exists()), None)
    if root is None:
        return GitState()
    import subprocess  # 4 ms, and outside a repository nobody needs it

    # A repository's own fsmonitor hook must not run, nor may its index be written to.
    command = ["git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch", "-z"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return GitState(root=str(root), error=str(error))
    if answer.returncode:
        return GitState(root=str(root), error=answer.stderr.decode("utf-8", "replace").strip())
    return _parsed(str(root), answer.stdout.decode("utf-8", "replace"))


def _parsed(root: str, status: str) -> GitState:
    records = [record for record in status.split("\0") if record]
    headers_first = takewhile(lambda record: record.startswith("# "), records)
    headers = dict(record[2:].split(" ", 1) for record in headers_first)
    commit = headers.get("branch.oid")
    branch = headers.get("branch.head")
    return GitState(
        root=root,
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        dirty=len(records) > len(headers),
    )
