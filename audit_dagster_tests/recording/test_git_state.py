"""What is recorded of the repository around, whatever state it is in and whatever its configuration wants to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry
from audit_dagster.recording import git_state
from audit_dagster.recording.git_state import GitQuestion, GitState, repository_around
from audit_dagster.recording.recorder import Recording
from audit_dagster.settings import Settings

Git = Callable[..., str]
# Root may look everywhere: that power is taken away. An ordinary user has none.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
RECORD = "from audit_dagster import log_custom_operation as l\nwith l('tool', '{}'): pass"


def state_of(folder: Path) -> GitState:
    """What git says now, whatever was remembered."""
    git_state._seen.clear()
    root = repository_around(str(folder))
    assert root is not None
    return GitQuestion(root).answer()


def record(operation: str = "x") -> LogEntry:
    recording = Recording("tool", operation)
    recording.start(None)
    recording.finish(success=True, error_message=None)
    return AuditService().recent_entries()[0]


@pytest.fixture
def repository(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean repository of one commit; it is the working directory."""
    folder = tmp_path / "repository"
    git("init", "--quiet", "--initial-branch=main", folder)
    monkeypatch.chdir(folder)
    Path("a.txt").write_text("one\n")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    return folder


def test_branch_commit_and_whether_anything_differs(repository: Path, git: Git) -> None:
    head = git("rev-parse", "HEAD")
    assert state_of(repository) == GitState(str(repository), head, "main", dirty=False)
    Path("new.txt").write_text("")
    assert state_of(repository)[:4] == (str(repository), head, "main", True), "untracked only"
    Path("new.txt").unlink()
    Path("a.txt").write_text("two\n")
    assert state_of(repository).dirty, "changed"
    git("add", ".")
    assert state_of(repository).dirty, "staged"
    git("commit", "--quiet", "--message=second")
    assert state_of(repository)[:4] == (str(repository), git("rev-parse", "HEAD"), "main", False)
    Path("a.txt").unlink()
    assert state_of(repository).dirty, "deleted"


def test_a_folder_deep_inside_belongs_to_the_repository(repository: Path, git: Git) -> None:
    deep = repository / "d" / "e"
    deep.mkdir(parents=True)
    assert state_of(deep) == state_of(repository)
    assert repository_around("/") is None


def test_a_detached_head_has_a_commit_and_no_branch(repository: Path, git: Git) -> None:
    git("checkout", "--quiet", "--detach")
    assert state_of(repository)[1:4] == (git("rev-parse", "HEAD"), None, False)


def test_without_a_commit_there_is_a_branch(tmp_path: Path, git: Git) -> None:
    git("init", "--quiet", "--initial-branch=later", tmp_path / "r")
    assert state_of(tmp_path / "r")[1:4] == (None, "later", False)
    (tmp_path / "r" / "file").touch()
    assert state_of(tmp_path / "r")[1:4] == (None, "later", True)


@pytest.mark.parametrize("name", ["feature/ä", "名前", "a.b-c_d", "it's", 'a"b', "$(touch${IFS}x)", "#", "x" * 200])
def test_odd_branch_names(settings: Settings, repository: Path, git: Git, name: str) -> None:
    git("checkout", "--quiet", "-b", name)
    assert record().git_branch == name


def test_remotes_without_their_credentials(settings: Settings, repository: Path, git: Git) -> None:
    def remote() -> str | None:
        git_state._seen.clear()
        found = record().context["git"].get("remote")
        assert found is None or isinstance(found, str)
        return found

    assert remote() is None
    git("remote", "add", "lab", "https://ada:pa55word9@git.example.org/lab.git")
    assert remote() == "https://ada:${SECRET:URL_PASSWORD}@git.example.org/lab.git"
    git("remote", "add", "origin", "https://abcdefghij0123456789@git.example.org/own.git")
    assert remote() == "https://${SECRET:URL_TOKEN}@git.example.org/own.git"
    git("remote", "set-url", "origin", "git@example.org:own.git")
    assert remote() == "git@example.org:own.git"


def test_a_branch_that_is_ahead_of_its_remote(settings: Settings, repository: Path, git: Git, tmp_path: Path) -> None:
    git("clone", "--quiet", "--bare", ".", tmp_path / "bare")
    git("remote", "add", "origin", tmp_path / "bare")
    git("fetch", "--quiet", "origin")
    git("branch", "--set-upstream-to=origin/main")
    git("commit", "--quiet", "--allow-empty", "--message=mine")
    facts = record().context["git"]
    assert (facts["upstream"], facts["ahead"]) == ("origin/main", 1)


def test_a_commit_that_no_branch_follows_may_be_on_a_remote(repository: Path, git: Git, tmp_path: Path) -> None:
    git("commit", "--quiet", "--allow-empty", "--message=second")
    git("clone", "--quiet", "--bare", ".", tmp_path / "bare")
    git("remote", "add", "origin", tmp_path / "bare")
    assert state_of(repository).ahead == 2, "nothing was fetched yet"
    git("fetch", "--quiet", "origin")
    git("checkout", "--quiet", "HEAD~1")
    assert state_of(repository)[2:8] == (None, False, str(tmp_path / "bare"), None, 0, ())
    git("checkout", "--quiet", "-b", "mine")
    git("commit", "--quiet", "--allow-empty", "--message=mine")
    assert state_of(repository).ahead == 1
    git("remote", "remove", "origin")
    assert state_of(repository).ahead is None


def test_a_linked_worktree_and_a_submodule_are_repositories_of_their_own(
    repository: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("remote", "add", "origin", "https://example.org/main.git")
    git("worktree", "add", "--quiet", "-b", "linked", tmp_path / "linked")
    (tmp_path / "linked" / "new").touch()
    linked = state_of(tmp_path / "linked")
    assert (linked.branch, linked.dirty, linked.remote) == ("linked", True, "https://example.org/main.git")
    assert not state_of(repository).dirty

    git("init", "--quiet", "--initial-branch=sub", tmp_path / "library")
    git("-C", tmp_path / "library", "commit", "--quiet", "--allow-empty", "--message=library")
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", tmp_path / "library", "lib")
    inside = state_of(repository / "lib")
    assert (inside.root, inside.branch) == (str(repository / "lib"), "sub")
    assert inside.commit == git("-C", tmp_path / "library", "rev-parse", "HEAD")
    assert inside.remote == str(tmp_path / "library")


def test_an_empty_git_folder_is_no_repository(repository: Path) -> None:
    (repository / "sub" / ".git").mkdir(parents=True)
    assert repository_around(str(repository / "sub")) == str(repository)


def test_a_folder_that_may_not_be_looked_into_has_no_repository(tmp_path: Path) -> None:
    code = """
import os
from audit_dagster.recording.git_state import repository_around
os.chdir("closed/inner")
os.chmod("..", 0)
print(repository_around(os.getcwd()))
os.chmod(os.path.dirname(os.getcwd()), 0o700)
"""
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    done = subprocess.run([*POWERLESS, sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert done.stdout == b"None\n"


# ---- What fails ----


def test_a_repository_that_git_refuses_is_recorded_with_the_reason(
    settings: Settings, repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".git/index").write_bytes(b"not an index")
    entry = record("corrupt")
    assert (entry.operation, entry.git_commit_hash, entry.git_dirty) == ("corrupt", None, None)
    assert "index" in entry.context["git"]["error"]
    assert "patch" not in entry.context["git"]

    Path(".git/index").unlink()
    git("reset", "--quiet")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    entry = record("owner")
    assert (entry.operation, entry.git_commit_hash) == ("owner", None)
    assert "dubious ownership" in entry.context["git"]["error"]


@pytest.mark.parametrize("content", ["", "garbage", "gitdir: /nowhere/at/all", "gitdir: .", "\0"])
def test_a_broken_git_file(settings: Settings, tmp_path: Path, content: str) -> None:
    Path(".git").write_text(content)
    entry = record()
    assert entry.git_commit_hash is None
    assert entry.context["git"]["root"] == str(tmp_path)
    assert entry.context["git"]["error"]


def test_without_git_the_operation_is_recorded(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    entry = record()
    assert entry.context["git"] == {"root": str(repository), "error": "git: No such file or directory"}


def test_a_git_that_hangs_is_waited_for_once(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What it started may hold the pipe open for longer."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nsleep 60 & echo $! >>"{tmp_path}/sleepers"; wait\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(git_state, "_TIMEOUT_SECONDS", 0.5)
    git_state._seen.clear()
    began = time.monotonic()
    for _ in range(3):
        entry = record()
    assert time.monotonic() - began < 30
    sleepers = (tmp_path / "sleepers").read_text().split()
    for sleeper in sleepers:
        os.kill(int(sleeper), 9)
    assert len(sleepers) == 1
    assert entry.context["git"] == {"root": str(repository), "error": "git took longer than 5 s"}


# ---- Inside git ----


def test_inside_a_hook_of_git(settings: Settings, repository: Path, git: Git, tmp_path: Path) -> None:
    """It is told about its own repository by variables, and may look at another one."""
    other = tmp_path / "other"
    git("init", "--quiet", "--initial-branch=other", other)
    git("-C", other, "commit", "--quiet", "--allow-empty", "--message=other")
    before = git("rev-parse", "HEAD")
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    script = "\n".join(
        [
            "#!/bin/sh",
            f'env | grep ^GIT_INDEX_FILE= >"{tmp_path}/told"',
            f'"{sys.executable}" -c "{RECORD.format("here")}"',
            f'cd "{other}" && "{sys.executable}" -c "{RECORD.format("there")}"',
        ]
    )
    hook.write_text(script)
    hook.chmod(0o755)
    Path("a.txt").write_text("changed\n")
    Path("new").touch()
    git("commit", "--quiet", "--message=by a hook", "--only", "a.txt")
    assert "GIT_INDEX_FILE=" in (tmp_path / "told").read_text()
    entries = {entry.operation: entry for entry in AuditService().recent_entries()}
    assert (entries["here"].git_commit_hash, entries["here"].git_dirty) == (before, True)
    assert entries["here"].context["git"]["patch"]["exact"]
    assert (entries["there"].git_branch, entries["there"].git_dirty) == ("other", False)
    assert git("show", "HEAD:a.txt") == "changed"
    assert git("status", "--porcelain") == "?? new"


CANARIES = {
    "core.fsmonitor": "fsmonitor",
    "core.hooksPath": "hooks",
    "core.pager": "pager",
    "pager.status": "pager",
    "pager.diff-tree": "pager",
    "core.editor": "editor",
    "core.sshCommand": "ssh",
    "core.askPass": "askpass",
    "credential.helper": "credentials",
    "gpg.program": "gpg",
    "alias.status": "!alias",
    "alias.diff-tree": "!alias",
    "alias.update-index": "!alias",
    "diff.external": "external",
    "diff.evil.command": "command",
    "diff.evil.textconv": "textconv",
    "merge.evil.driver": "merge",
    "interactive.diffFilter": "interactive",
    "sequence.editor": "editor",
    "uploadpack.packObjectsHook": "pack",
    "remote.origin.uploadpack": "uploadpack",
    "remote.origin.vcs": "evil",
    "log.showSignature": "true",
}


def test_nothing_that_a_repository_names_runs(settings: Settings, repository: Path, git: Git, tmp_path: Path) -> None:
    """But the filters that turn a file into what is committed: without them nothing could be compared."""
    evil = tmp_path / "evil"
    evil.mkdir()
    hooks = ("post-index-change", "pre-auto-gc", "reference-transaction", "post-checkout", "fsmonitor-watchman")
    for name in {*(value.lstrip("!") for value in CANARIES.values()), *hooks}:
        if name not in {"hooks", "true"}:
            (evil / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-{name}\ncat\n")
            (evil / name).chmod(0o755)
    for folder in (evil / "hooks", repository / ".git" / "hooks"):
        shutil.copytree(evil, folder, ignore=lambda path, _: ["hooks"] if path == str(evil) else [], dirs_exist_ok=True)
    for key, value in CANARIES.items():
        git("config", key, value if value == "true" else f"!{evil}/alias" if value[0] == "!" else str(evil / value))
    (evil / "clean").write_text(f"#!/bin/sh\ntouch {tmp_path}/filtered\ncat\n")
    (evil / "clean").chmod(0o755)
    git("config", "filter.own.clean", evil / "clean")
    Path(".gitattributes").write_text("*.txt diff=evil merge=evil filter=own\n*.bin diff=evil\n")
    Path("a.txt").write_text("changed\n")
    Path("x.bin").write_bytes(b"\0\1\2")
    git_state._seen.clear()
    entry = record()
    assert entry.git_dirty
    assert entry.context["git"]["patch"]["exact"]
    assert sorted(path.name for path in tmp_path.glob("ran-*")) == []
    assert (tmp_path / "filtered").exists()


def test_nothing_is_fetched(settings: Settings, repository: Path, git: Git, tmp_path: Path) -> None:
    """A partial clone would ask its remote, and start what its configuration says, for an object that it lacks."""
    (tmp_path / "evil").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "evil").chmod(0o755)
    git("remote", "add", "origin", tmp_path / "evil")
    for key, value in {"promisor": "true", "partialCloneFilter": "blob:none", "uploadpack": tmp_path / "evil"}.items():
        git("config", f"remote.origin.{key}", value)
    git("config", "core.repositoryFormatVersion", "1")
    git("config", "extensions.partialClone", "origin")
    digest = git("rev-parse", "HEAD:a.txt")
    (repository / ".git" / "objects" / digest[:2] / digest[2:]).unlink()
    Path("a.txt").write_text("changed\n")
    subprocess.run(["git", "diff"], check=False, capture_output=True)
    assert (tmp_path / "ran").exists(), "the trap works"
    (tmp_path / "ran").unlink()
    git_state._seen.clear()
    entry = record()
    assert entry.git_dirty
    assert "no patch" in entry.context["git"]["patch"]["error"]
    assert not (tmp_path / "ran").exists()


# ---- One operation after the other ----


def test_a_process_asks_git_again_when_something_changed(
    settings: Settings, repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = shutil.which("git")
    counting = tmp_path / "bin" / "git"
    counting.parent.mkdir()
    counting.write_text(f'#!/bin/sh\ncase "$*" in *status*) echo >>"{tmp_path}/asked";; esac\nexec {real} "$@"\n')
    counting.chmod(0o755)
    monkeypatch.setenv("PATH", f"{counting.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("audit_dagster.recording.drainer.wake", lambda _settings: None)
    git_state._seen.clear()

    def operations(number: int) -> None:
        for _ in range(number):
            recording = Recording("tool", "x")
            recording.start(None)
            recording.finish(success=True, error_message=None)

    began = time.monotonic()
    operations(20)
    asked = len((tmp_path / "asked").read_text())
    assert 1 <= asked <= 2 + time.monotonic() - began
    git("commit", "--quiet", "--allow-empty", "--message=second")
    second = git("rev-parse", "HEAD")
    assert record().git_commit_hash == second
    git("checkout", "--quiet", "-b", "other")
    assert record().git_branch == "other"
    (repository / "a.txt").write_text("changed\n")
    began = time.monotonic()
    while not record().git_dirty:
        assert time.monotonic() - began < 20 * git_state._FRESH_SECONDS
    assert git_state._FRESH_SECONDS <= 1
