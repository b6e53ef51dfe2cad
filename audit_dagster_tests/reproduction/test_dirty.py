"""Uncommitted changes: the patch that the recorder made is applied, checked, and taken back again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.recording import git_state
from audit_dagster.recording.command import run_command
from audit_dagster.settings import Settings
from audit_dagster.store.query import fetch_patches
from audit_dagster_tests.reproduction.lab import (
    Repository,
    check_script,
    make_script,
    names,
    python,
    reproduce,
    results,
    state_of,
    step,
    verdicts,
    work,
)

LISTS = """
import json, os
found = {}
for folder, folders, files in os.walk('.'):
    for name in [*files, *(one for one in folders if os.path.islink(os.path.join(folder, one)))]:
        path = os.path.join(folder, name)
        if not path.startswith('./.git') and not name.startswith('list'):
            content = os.readlink(path) if os.path.islink(path) else open(path, 'rb').read().hex()
            found[path] = [content, not os.path.islink(path) and os.access(path, os.X_OK)]
number = len([name for name in os.listdir('.') if name.startswith('list')])
json.dump(found, open(f'list{number}', 'w'), sort_keys=True)
"""


def binary(root: Path) -> None:
    (root / "picture").write_bytes(bytes(range(256)) * 40)
    (root / "data").write_bytes(b"\0\xff" * 100)


def untracked(root: Path) -> None:
    (root / "new folder" / "deep").mkdir(parents=True)
    (root / "new folder" / "deep" / "é 'x\t\" \\y").write_text("new\r\nlines")
    (root / ":(glob)*").write_text("odd")
    (root / "empty").touch()


def renamed(root: Path) -> None:
    (root / "code").rename(root / "moved")


def deleted(root: Path) -> None:
    (root / "sub" / "only").unlink()
    (root / "data").unlink()


def mode_changed(root: Path) -> None:
    (root / "code").chmod(0o755)


def symlinked(root: Path) -> None:
    (root / "code").unlink()
    (root / "code").symlink_to("sub/only")
    (root / "dangling").symlink_to("nowhere")
    (root / "folder").symlink_to("sub")


def file_to_folder(root: Path) -> None:
    (root / "data").unlink()
    (root / "data").mkdir()
    (root / "data" / "inner").write_text("inner")


def everything(root: Path) -> None:
    untracked(root)
    symlinked(root)
    deleted(root)


STATES: list[Callable[[Path], None]] = [
    *(binary, untracked, renamed, deleted, mode_changed, symlinked, file_to_folder, everything)
]


@pytest.fixture
def station(settings: Settings, without_drainer: None, repository: Repository) -> Repository:
    (repository.path / "sub").mkdir()
    (repository.path / "sub" / "only").write_text("only\n")
    (repository.path / "picture").write_bytes(bytes(256))
    repository.commit(code="first\n", data="1\n2\n3\n")
    return repository


def patch_of(repository: Repository) -> tuple[dict[str, Any], bytes]:
    """What the recorder says of the tree as it is now, and its patch as it is stored."""
    before = Path.cwd()
    os.chdir(repository.path)
    git_state._seen.clear()  # this process has asked git less than a second ago
    assert run_command(["true"], "lab", "look", None) == 0
    os.chdir(before)
    service = AuditService()
    facts = service.recent_entries(limit=1)[0].context["git"]["patch"]
    with service.database() as connection:
        return facts, fetch_patches(connection, [facts["sha256"]])[facts["sha256"]]


def dirty(repository: Repository, facts: dict[str, Any], command: list[str], **fields: Any) -> dict[str, Any]:
    git = {"git": {"root": str(repository.path), "patch": facts}}
    head = repository.git("rev-parse", "HEAD")
    return step(repository, head, command, git_dirty=True, context=git, **fields)


def listing(root: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((root / name).read_text()))


@pytest.mark.parametrize("change", STATES)
def test_a_dirty_tree_comes_back_exactly_between_two_clean_ones(
    station: Repository, folder: Path, change: Callable[[Path], None]
) -> None:
    commit = station.git("rev-parse", "HEAD")
    lists = python(LISTS)
    os.chdir(station.path)
    exec(LISTS, {})  # noqa: S102 - what the command does, on the real tree
    change(station.path)
    exec(LISTS, {})  # noqa: S102
    expected = [listing(station.path, name) for name in ("list0", "list1")]
    for name in ("list0", "list1"):
        (station.path / name).unlink()
    facts, content = patch_of(station)
    assert facts["exact"]
    before = state_of(station)
    clean = step(station, commit, lists)
    script = make_script(clean, dirty(station, facts, lists), clean, patches={facts["sha256"]: content})
    check_script(script)
    done = reproduce(script, "--keep", f"--repo={station.path}", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    tree = work() / "tree"
    assert [listing(tree, f"list{number}") for number in range(3)] == [*expected, expected[0]]
    station.git("worktree", "remove", "--force", str(tree))
    assert state_of(station) == before


def test_outputs_stay_and_what_only_the_patch_brought_goes(station: Repository, folder: Path) -> None:
    commit = station.git("rev-parse", "HEAD")
    for name in ("made before", "brought", "changed by it"):
        (station.path / name).write_text("x")
    facts, content = patch_of(station)
    writes = python("open('changed by it', 'a').write('y'); open('made', 'w').write('z')")
    outputs = {"changed by it": "xy", "made": "z"}
    fields = [
        step(station, commit, python("open('made before', 'w').write('x')"), makes={"made before": "x"}),
        dirty(station, facts, writes, makes=outputs),
        step(station, commit, python("import os; print(sorted(os.listdir()))")),
    ]
    script = make_script(*fields, patches={facts["sha256"]: content})
    done = reproduce(script, f"--repo={station.path}", cwd=folder)
    assert (done.returncode, verdicts()) == (0, ["reproduced"] * 3)
    assert "'changed by it', 'code', 'data', 'made', 'made before', 'picture', 'sub']" in done.stdout


def test_an_output_that_only_the_patch_brought_was_not_made(station: Repository, folder: Path) -> None:
    (station.path / "table").write_text("x")
    facts, content = patch_of(station)
    makes = {"makes": {"table": "x"}}
    fields = [
        dirty(station, facts, ["true"], **makes),
        dirty(station, facts, ["true"], reads={"table": "x"}, **makes),
        dirty(station, facts, python("import time; time.sleep(0.1); open('table', 'w').write('x')"), **makes),
    ]
    script = make_script(*fields, patches={facts["sha256"]: content})
    check_script(script)
    done = reproduce(script, f"--repo={station.path}", cwd=folder)
    assert (done.returncode, verdicts()) == (4, ["differing", "reproduced", "reproduced"])
    assert done.stderr == "Operation 1: not made: table\n"
    assert [row["missing"] for row in results()] == ["1", "0", "0"]


def test_a_patch_that_makes_another_tree_or_is_damaged_runs_nothing(station: Repository, folder: Path) -> None:
    (station.path / "code").write_text("second\n")
    facts, content = patch_of(station)
    touches = ["touch", "ran"]
    wrong = make_script(dirty(station, {**facts, "tree": "1" * 40}, touches), patches={facts["sha256"]: content})
    done = reproduce(wrong, f"--repo={station.path}", cwd=folder)
    assert done.returncode == 1
    assert f"make the tree {facts['tree']}, and {'1' * 40} was recorded" in done.stderr
    script = make_script(dirty(station, facts, touches), patches={facts["sha256"]: content})
    first = script.split("<<'PATCH'\n")[1][:8]
    done = reproduce(script.replace(first, "A" * 8), f"--repo={station.path}", cwd=folder)
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "ran" not in names(work() / "tree")


def test_an_incomplete_patch_is_said_to_be_one(station: Repository, folder: Path) -> None:
    (station.path / "code").write_text("second\n")
    (station.path / ".env").write_text("TOKEN=x")
    facts, content = patch_of(station)
    assert not facts["exact"]
    script = make_script(dirty(station, facts, ["cat", "code"]), patches={facts["sha256"]: content})
    done = reproduce(script, f"--repo={station.path}", cwd=folder)
    assert done.returncode == 0
    assert "\nsecond\n" in done.stdout
    assert "not all uncommitted changes of operation 1 are in this script: .env: named like a secret" in done.stderr


def test_a_patch_that_is_not_at_hand_or_not_for_in_place(station: Repository, folder: Path) -> None:
    (station.path / "code").write_text("second\n")
    facts, content = patch_of(station)
    station.git("checkout", "--quiet", "code")
    fields = dirty(station, facts, ["true"])
    done = reproduce(make_script(fields, {}), f"--repo={station.path}", cwd=folder)
    assert done.returncode == 3
    assert f"made without their patch ({facts['sha256']})" in done.stderr
    with_patch = make_script(fields, patches={facts["sha256"]: content})
    done = reproduce(with_patch, "--in-place", f"--repo={station.path}", cwd=folder)
    assert done.returncode == 3
    assert "which --in-place does not make" in done.stderr


def test_a_changed_input_that_is_in_no_patch(station: Repository, tmp_path: Path, folder: Path) -> None:
    large = "x" * 2**21
    commit = station.commit(big="before")
    clone = tmp_path / "clone"
    station.git("clone", "--quiet", str(station.path), str(clone))
    (station.path / "big").write_text(large)
    (station.path / "code").write_text("second\n")
    facts, content = patch_of(station)
    assert not facts["exact"]
    copies = ["cp", "big", "out"]
    files = {"reads": {"big": large, "data": "1\n2\n3\n"}, "makes": {"out": large}}
    unsure = [dirty(station, facts, copies, **files), step(station, commit, copies, **(files | {"git_dirty": None}))]
    for fields in unsure:
        shutil.rmtree(work(), ignore_errors=True)
        script = make_script(fields, patches={facts["sha256"]: content})
        done = reproduce(script, f"--repo={station.path}", cwd=folder)  # the file is still there as it was read
        assert (done.returncode, verdicts()) == (0, ["reproduced"]), done.stderr
        (station.path / "big").rename(tmp_path / "big")
        done = reproduce(script, f"--repo={clone}", cwd=folder)
        assert done.returncode == 3
        assert f"the file {clone}/big is not as it was when operation 1 read it" in done.stderr
        (tmp_path / "big").rename(station.path / "big")


def test_nothing_but_what_a_patch_leaves_out(station: Repository, folder: Path) -> None:
    (station.path / "big").write_text("x" * 2**21)
    facts, content = patch_of(station)
    assert (facts["exact"], content) == (False, b"")
    script = make_script(dirty(station, facts, ["true"]), patches={facts["sha256"]: content})
    check_script(script)
    done = reproduce(script, f"--repo={station.path}", cwd=folder)
    assert (done.returncode, verdicts()) == (0, ["reproduced"]), done.stderr
