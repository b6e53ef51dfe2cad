"""Random histories on real git, through the real recorder, and again from the script, in another clone."""

from __future__ import annotations

import os
import shlex
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from audit_dagster.audit_service import AuditService
from audit_dagster.recording import capture, git_state
from audit_dagster.recording.command import run_command
from audit_dagster.report_service import write_script
from audit_dagster.reproduction.plan import ScriptConfig
from audit_dagster.settings import Settings
from audit_dagster_tests.reproduction.lab import Repository, results, run, state_of, work

HISTORIES = 200 if os.environ.get("AUDIT_TEST_PROFILE") == "nightly" else 20
# Reads what its words name and what is committed, in that order, and writes it down.
TOOL = """{ cat -- $up/code "$@"; if [ -x $up/code ]; then echo executable; fi; cat $up/more/*; } >"$up/made/$name\""""
NAMES = ["one", "two words", "thr'ee", "$(four)", "-five", "ünf"]
EDITS = ["none", "change", "binary", "untracked", "rename", "delete", "mode", "symlink", "stage"]


@dataclass
class Move:
    """What happens before an operation, and the operation."""

    commit: int  # which of the commits so far is checked out
    new_commit: bool
    on_a_branch: bool
    edit: str
    content: str
    reads: int
    with_the_time: bool
    in_a_folder: bool  # that git does not keep


MOVES = st.builds(
    Move,
    commit=st.integers(0, 3),
    new_commit=st.booleans(),
    on_a_branch=st.booleans(),
    edit=st.sampled_from(EDITS),
    content=st.text(st.sampled_from("ab \n'$\r\t\0é"), max_size=12),
    reads=st.integers(0, 3),
    with_the_time=st.integers(0, 9).map(lambda number: number == 0),
    in_a_folder=st.booleans(),
)


@dataclass
class Station:
    """A repository with a history that grows."""

    repository: Repository
    tool_name: str
    commits: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    with_the_time: list[int] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.repository.path

    def begin(self) -> None:
        self.root.mkdir()
        self.repository.git("init", "--quiet", "--initial-branch", "main")
        (self.root / "more").mkdir()
        (self.root / "made").mkdir()
        (self.root / "more" / "first").write_text("first\n")
        (self.root / ".gitignore").write_text("made/\n")
        self.commits.append(self.repository.commit(code="code\n"))

    def move(self, move: Move) -> None:
        git = self.repository.git
        git("reset", "--quiet", "--hard")
        git("clean", "--quiet", "-fd")
        git("checkout", "--quiet", "--detach", self.commits[move.commit % len(self.commits)])
        if move.on_a_branch:
            git("checkout", "--quiet", "-b", f"branch-{len(self.commits)}-{len(self.outputs)}")
        if move.new_commit:
            self.edit("change", move.content)
            self.commits.append(self.repository.commit())
        self.edit(move.edit, move.content)
        self.operate(move)

    def edit(self, edit: str, content: str) -> None:
        code, more = self.root / "code", self.root / "more"
        number = len(self.outputs)
        if edit == "change":
            code.write_bytes(content.encode() + code.read_bytes())
        elif edit == "binary":
            (more / "first").write_bytes(bytes(range(256)) + content.encode())
        elif edit == "untracked":
            (more / f"new {number}").write_bytes(content.encode())
        elif edit == "rename":
            (more / "first").rename(more / f"renamed {number}")
            (more / "kept").write_text("kept\n")
        elif edit == "delete":
            (more / "first").unlink()
            (more / "kept").write_text("kept\n")
        elif edit == "mode":
            code.chmod(0o755)
        elif edit == "symlink":
            (more / "link").symlink_to("first")
        elif edit == "stage":
            (more / "staged").write_bytes(content.encode())
            self.repository.git("add", "more/staged")

    def operate(self, move: Move) -> None:
        """One recorded operation; each in a process of its own, as far as the recorder can tell."""
        number = len(self.outputs)
        name = NAMES[number % len(NAMES)] + str(number)
        up = ".." if move.in_a_folder else "."
        inputs = [f"{up}/made/{one}" for one in self.outputs[-move.reads :]] if move.reads else []
        code = f"up={up} name={shlex.quote(name)}; {TOOL}"
        if move.with_the_time:
            code += '; date +%s%N >>"$up/made/$name"'
            self.with_the_time.append(number)
        git_state._seen.clear()
        capture._new_process_id()
        os.chdir(self.root / "made" if move.in_a_folder else self.root)
        command = [
            "bash",
            "-c",
            code,
            f"--output={up}/made/{name}",
            *inputs,
        ]  # bash takes the fourth word as its own name
        assert run_command(command, self.tool_name, f"step {number}", "a note") == 0
        self.outputs.append(name)


@pytest.fixture
def stations(settings: Settings, without_drainer: None, tmp_path: Path) -> Iterator[Settings]:
    yield settings
    os.chdir(tmp_path)


@hypothesis.settings(
    max_examples=HISTORIES,
    deadline=None,
    phases=[hypothesis.Phase.reuse, hypothesis.Phase.generate],  # to shrink one would take minutes
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(moves=st.lists(MOVES, min_size=2, max_size=5))
def test_every_output_is_the_same_or_named(stations: Settings, tmp_path: Path, moves: list[Move]) -> None:
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    station = Station(Repository(folder / "the station"), folder.name)
    station.begin()
    for move in moves:
        station.move(move)
    made = {name: (station.root / "made" / name).read_bytes() for name in station.outputs}
    entries = AuditService(stations).recent_entries(limit=None, tool_name=station.tool_name)
    document, plan = write_script(entries, folder / "again.sh", ScriptConfig(), stations)
    assert [left.reason for left in plan.left_out] == []
    clone = folder / "clone"
    station.repository.git("checkout", "--quiet", "--force", "main")
    station.repository.git("clone", "--quiet", str(station.root), str(clone))
    Repository(clone).git("fetch", "--quiet", str(station.root), *station.commits)
    station.root.rename(folder / "elsewhere")
    shutil.rmtree(work(), ignore_errors=True)
    before = state_of(Repository(clone))
    done = run(["bash", str(document.path), "--keep", "--work", str(work()), "--repo", str(clone)], cwd=tmp_path)
    tree = work() / "tree"
    differing = [name for name, content in made.items() if (tree / "made" / name).read_bytes() != content]
    said = [row["step"] for row in results() if row["verdict"] != "reproduced"]
    assert done.returncode == (4 if differing else 0), done.stderr
    assert len(said) == len(differing)
    assert sum(int(row["same"]) for row in results()) == len(made) - len(differing)
    assert {NAMES[number % len(NAMES)] + str(number) for number in station.with_the_time} <= set(differing)
    if not station.with_the_time:
        assert differing == []
    if tree.joinpath(".git").exists():
        Repository(clone).git("worktree", "remove", "--force", str(tree))
    assert state_of(Repository(clone)) == before
    shutil.rmtree(folder)
