"""Before the first operation all that is missing is listed, and nothing was run or changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audit_dagster_tests.reproduction.lab import (
    Repository,
    commits,
    make_script,
    names,
    python,
    reproduce,
    run,
    state_of,
    step,
    work,
)


def lacking(lab: Repository, operations: str, commits: str, clone: Path, more: str = "", remote: str = "") -> str:
    """What is said of operations whose commits the clone does not have."""
    return (
        f"{operations} ran in {lab.path}{remote} at commit {commits}, which {clone} lacks: git fetch --all{more} there,"
        " or give a clone that has it with --repo DIR and choose its operations with --only"
    )


def complaints(script: str, *words: str, cwd: Path) -> list[str]:
    done = reproduce(script, *words, cwd=cwd)
    assert (done.returncode, done.stdout) == (3, "")
    first, *rest = done.stderr.splitlines()
    assert first == "Nothing was run. What is missing:"
    assert names(work().parent) == []
    return [line.removeprefix("- ") for line in rest]


def test_all_at_once(lab: Repository, folder: Path) -> None:
    a, _ = commits(lab)
    (lab.path / "changed").write_text("now")
    reads = {"raw": "x", "changed": "then", "code": "A", "made": "y"}
    fields = [
        step(lab, a, ["touch", "made"], makes={"made": "y"}),
        step(lab, a, ["touch", "ran"], reads=reads),
        step(lab, "1" * 40, ["no-such-program"]),
        step(lab, a, ["/nowhere/bin/also-not-here", "--token=${SECRET:TOKEN}"], context={"command_is_exact": False}),
        step(lab, a, ["true"], operation="upload"),
    ]
    script = make_script(*fields)
    before = state_of(lab)
    (folder / "script").write_text(script)
    done = run(["setsid", "bash", str(folder / "script"), f"--repo={lab.path}", "--report"], cwd=folder)
    assert done.returncode == 3
    listed = [line for line in done.stderr.splitlines() if "--report needs audit-dagster" not in line]
    assert sorted(listed[1:]) == [
        f"- {lacking(lab, 'operation 3', '1' * 40, lab.path)}",
        "- operation 5, lab upload, changes more than files here: allow it with --yes, or leave it out with --only",
        f"- the file {str(lab.path).replace(' ', chr(92) + ' ')}/changed is not as it was when operation 2 read it",
        "- the variable SECRET_TOKEN is not set, and operation 4 needs its value",
        "- there is no file raw, which operation 2 reads",
        "- there is no program /nowhere/bin/also-not-here, nor one of that name on PATH",
        "- there is no program no-such-program on PATH, for operation 3",
    ]
    assert state_of(lab) == before


def test_a_shallow_clone(lab: Repository, folder: Path) -> None:
    a, _ = commits(lab)
    lab.git("clone", "--quiet", "--depth", "1", f"file://{lab.path}", str(folder / "clone"))
    told = complaints(make_script(step(lab, a, ["true"])), "--repo", str(folder / "clone"), cwd=folder)
    assert told == [
        lacking(lab, "operation 1", a, folder / "clone", more=" and git fetch --unshallow"),
    ]


def test_operations_of_several_repositories(lab: Repository, folder: Path) -> None:
    a, _ = commits(lab)
    other, unknown = Repository(folder / "B"), step(lab, "4" * 40, ["true"], context={"git": {}})
    clone = "git@host:B"
    fields = [
        step(lab, a, ["true"]),
        step(other, "1" * 40, ["true"], context={"git": {"root": str(other.path), "remote": clone}}),
        *(step(lab, "2" * 40, ["true"]) for _ in range(11)),
        step(other, "3" * 40, ["true"], context={"git": {"root": str(other.path), "remote": clone}}),
        unknown,
    ]
    told = complaints(make_script(*fields), f"--repo={lab.path}", cwd=folder)
    assert told == [
        lacking(other, "operations 2, 14", f"{'1' * 40}, {'3' * 40}", lab.path, remote=f" (a clone of {clone})"),
        lacking(lab, f"operations {', '.join(map(str, range(3, 13)))} and 1 more", "2" * 40, lab.path),
        lacking(lab, "operation 15", "4" * 40, lab.path).replace(f" in {lab.path} at", " at"),
    ]


def test_inputs_that_git_does_not_have_come_from_the_clone_or_from_where_they_were(
    lab: Repository, tmp_path: Path, folder: Path
) -> None:
    a, _ = commits(lab)
    clone = tmp_path / "clone"
    lab.git("clone", "--quiet", str(lab.path), str(clone))
    (clone / "raw 1").write_text("one")
    (lab.path / "raw 2").write_text("two")
    reads = {"raw 1": "one", "raw 2": "two"}
    script = make_script(step(lab, a, ["cat", *reads], reads=reads))
    done = reproduce(script, cwd=clone)
    assert done.returncode == 0, done.stderr
    assert "onetwo" in done.stdout
    (lab.path / "raw 2").write_text("three")
    assert len(complaints_of(script, clone)) == 1
    (lab.path / "raw 2").unlink()
    assert complaints_of(script, clone) == ["there is no file raw\\ 2, which operation 1 reads"]


def complaints_of(script: str, cwd: Path) -> list[str]:
    done = reproduce(script, cwd=cwd)
    assert done.returncode == 3
    return [line.removeprefix("- ") for line in done.stderr.splitlines()[1:]]


@pytest.mark.parametrize("place", ["/proc/work", "/dev/null", "full", "link", "file/below"])
def test_a_work_folder_that_is_none(lab: Repository, folder: Path, place: str) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "mine").touch()
    (folder / "link").symlink_to("full")
    (folder / "file").touch()
    a, _ = commits(lab)
    before = state_of(lab)
    done = reproduce(make_script(step(lab, a, ["true"])), "--work", place, f"--repo={lab.path}", cwd=folder)
    assert done.returncode == 3
    assert "name another with --work DIR" in done.stderr
    assert done.stdout == ""
    assert (state_of(lab), names(folder / "full")) == (before, ["mine"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_repository_that_may_not_be_written(lab: Repository, tmp_path: Path, folder: Path) -> None:
    a, _ = commits(lab)
    for path in (tmp_path, *tmp_path.parents[:-1]):
        if path.stat().st_uid == 0 and path.parent != path and str(path).startswith("/tmp/"):  # noqa: S108
            path.chmod(path.stat().st_mode | 0o055)
    script = tmp_path / "script"
    script.write_text(make_script(step(lab, a, ["true"])))
    done = run(
        ["runuser", "-u", "nobody", "--", "bash", str(script), f"--repo={lab.path}"],
        cwd=folder,
        env={**os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"},
    )
    assert done.returncode == 3
    assert "name another with --work DIR" in done.stderr


def test_outputs_that_do_not_fit_on_the_disk(lab: Repository, folder: Path) -> None:
    large = step(lab, commits(lab)[0], ["true"], makes={"large": "x"})
    large["context"]["outputs"][0]["size"] = 10**15
    [told] = complaints(make_script(large), f"--repo={lab.path}", cwd=folder)
    assert "MB left, and the outputs take 953674366 MB" in told


def test_two_runs_at_once(lab: Repository, folder: Path) -> None:
    a, _ = commits(lab)
    script = make_script(step(lab, a, python("pass")))
    assert reproduce(script, "--keep", f"--repo={lab.path}", cwd=folder).returncode == 0
    (work() / "running").write_text(f"{os.getpid()}\n")
    done = reproduce(script, f"--repo={lab.path}", cwd=folder)
    assert done.returncode == 3
    assert "another run of this script is at work" in done.stderr


def test_a_program_whose_name_has_a_newline(lab: Repository, folder: Path) -> None:
    a, _ = commits(lab)
    odd = f"{lab.path}/no\nprogram"
    fields = [step(lab, a, [odd]), step(lab, a, ["./nor\nthis"]), step(lab, "1" * 40, ["true"])]
    done = reproduce(make_script(*fields), f"--repo={lab.path}", cwd=folder)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("there is no program $'") == 2
    assert lacking(lab, "operation 3", "1" * 40, lab.path) in done.stderr
