"""What the script asks about first, what it looks for beside the clone, and what it says of commands and outcomes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from audit_dagster.entry import LogEntry
from audit_dagster.reproduction.plan import Plan, ScriptConfig, make_plan
from audit_dagster.reproduction.plan_json import plan_json
from audit_dagster_tests.reproduction.lab import (
    Repository,
    bash,
    check_script,
    commits,
    file,
    make_script,
    python,
    reproduce,
    results,
    run,
    step,
    verdicts,
)

GIT = "changes the repository"
OWN = "names your own working tree"
OUTSIDE = "changes files outside the working tree"


def plan_of(command: list[str] | None, **fields: Any) -> Plan:
    known: dict[str, Any] = {
        "operation_id": "00000000-0000-4000-8000-000000000001",
        "timestamp": datetime(2023, 6, 1, tzinfo=UTC),
        "tool_name": "lab",
        "operation": "step",
        "user_name": "ada",
        "success": True,
        "command": command,
        "working_directory": "/lab/repo/sub",
        "context": {"git": {"root": "/lab/repo"}},
    }
    return make_plan([LogEntry(**{**known, **fields})], ScriptConfig())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("git commit -m x", GIT),
        ("/usr/bin/git -C /lab/repo -c a=b --no-pager push", GIT),
        ("git --git-dir log gc", GIT),
        ("git --git-dir=log tag v1", GIT),
        ("git log push", None),
        ("git -C push --no-pager log", None),
        ("git --version", None),
        ("python git commit", GIT),
        ("grep push git", None),
        ("rclone copy a b:", "may change what is elsewhere with rclone"),
        ("python3 -m esptool erase_flash", "may change what is elsewhere with esptool"),
        ("/usr/bin/python3 /venv/bin/esptool.py x", "may change what is elsewhere with esptool.py"),
        ("rsync -a out/ ada@host:out/", "may change what is elsewhere with rsync"),
        ("rsync -a rsync://host/x .", "may change what is elsewhere with rsync"),
        ("rsync -a out/ copy/a:b --exclude=x:y", None),
        ("docker push image", "may change what is elsewhere with docker"),
        ("docker build .", None),
        ("rm -rf /data/raw", OUTSIDE),
        ("rm -rf /lab/repo/out", None),
        ("rm -rf /lab/repo", None),
        ("rm -rf /lab/repo/../other", OUTSIDE),
        ("rm ../out", None),
        ("rm ../../other", OUTSIDE),
        ("rm ../../repo/out", None),
        ("mv --target-directory=/data x", OUTSIDE),
        ("dd if=/dev/zero of=out", None),
        ("dd if=/dev/zero of=/dev/sdz", OUTSIDE),
        ("dd if=x of=/lab/repo/out", None),
        ("mv -t/data x", OUTSIDE),
        ("cat /data/raw", None),
        ("cat /lab/repo2/x a=/lab/repo/x -I/lab/repo/x /lab/repo/../raw", None),
        ("cat /lab/repo/../repo/x", OWN),
        ("bash -c cat>/lab/repo/x", OWN),
        ("python -c open('/lab/repo')", OWN),
        ("tool --files=a,/lab/repo/b", OWN),
    ],
)
def test_commands_that_change_more_than_a_working_tree(command: str, said: str | None) -> None:
    plan = plan_of(command.split())
    assert plan.steps[0].beyond == said
    assert json.loads(plan_json(plan))["steps"][0]["destructive"] is (said is not None)


def test_an_output_elsewhere_is_asked_about(lab: Repository, tmp_path: Path, folder: Path) -> None:
    a, _ = commits(lab)
    target = tmp_path / "elsewhere"
    writes = step(lab, a, python("import sys; open(sys.argv[1], 'w').write('x')", str(target)))
    writes["context"]["outputs"] = [file(tmp_path, "elsewhere", b"x")]
    script = make_script(writes, step(lab, a, ["git", "tag", "made"]))
    check_script(script)
    (folder / "script").write_text(script)
    done = run(["setsid", "bash", str(folder / "script"), f"--repo={lab.path}"], cwd=folder)
    assert done.returncode == 3
    assert "operation 1, lab step, writes outside the working tree: allow it with --yes" in done.stderr
    assert "operation 2, lab step, changes the repository: allow it with --yes" in done.stderr
    assert not target.exists()
    assert reproduce(script, "--yes", f"--repo={lab.path}", cwd=folder).returncode == 0
    assert target.read_text() == "x"
    assert lab.git("tag") == "made"


def test_a_path_that_leads_out_of_the_root_is_sought_beside_the_clone(tmp_path: Path, lab: Repository) -> None:
    a, _ = commits(lab)
    clone = tmp_path / "elsewhere" / "clone"
    clone.parent.mkdir()
    lab.git("clone", "--quiet", str(lab.path), str(clone))
    (clone.parent / "raw.csv").write_text("beside the clone")
    (lab.path.parent / "raw.csv").write_text("where it was")
    back = f"../{lab.path.name}/code"
    reads = python(
        "import sys; print(*(open(word.partition('=')[2] or word).read() for word in sys.argv[1:]), sep='|')"
    )
    script = make_script(step(lab, a, [*reads, "../raw.csv", "--in=./../raw.csv", back, "code"]))
    check_script(script)
    for words in ([], ["--in-place"]):
        done = reproduce(script, *words, cwd=clone)
        assert done.returncode == 0, done.stderr
        assert "\nbeside the clone|beside the clone|A|A\n" in done.stdout


def test_files_beside_the_root_are_read_and_made_beside_the_clone(tmp_path: Path, lab: Repository) -> None:
    a, _ = commits(lab)
    clone = tmp_path / "elsewhere" / "clone"
    clone.parent.mkdir()
    lab.git("clone", "--quiet", str(lab.path), str(clone))
    copies = step(lab, a, ["cp", "../raw.csv", "../shared/out"])
    copies["context"] |= {"inputs": [file(tmp_path, "raw.csv", b"x")], "outputs": [file(tmp_path, "shared/out", b"x")]}
    counts = step(lab, a, ["wc", "-c", "../shared/out"])
    counts["context"]["inputs"] = copies["context"]["outputs"]
    script = make_script(copies, counts)
    check_script(script)
    refused = reproduce(script, "--yes", cwd=clone)
    assert refused.stderr.splitlines()[1:] == ["- there is no file ../raw.csv, which operation 1 reads"]
    (clone.parent / "raw.csv").write_text("x")
    (clone.parent / "shared").mkdir()
    done = reproduce(script, "--yes", cwd=clone)
    assert (done.returncode, verdicts()) == (0, ["reproduced"] * 2), done.stderr
    assert results()[0]["same"] == "1"
    assert not (tmp_path / "shared").exists()


def test_that_nothing_was_compared_is_said(lab: Repository, folder: Path) -> None:
    a, _ = commits(lab)
    compared = step(lab, a, python("open('out', 'w').write('x')"), makes={"out": "x"})
    done = reproduce(make_script(step(lab, a, ["true"]), compared), f"--repo={lab.path}", cwd=folder)
    assert (done.returncode, verdicts()) == (0, ["reproduced"] * 2)
    said = "1 of 2 had no recorded files to compare: their exit codes are the same, nothing more is known\n"
    assert said in done.stdout
    rows = [line for line in done.stdout.splitlines() if " reproduced  lab step" in line]
    assert ["exit code only" in row for row in rows] == [True, False]
    only = reproduce(make_script(compared), f"--repo={lab.path}", cwd=folder)
    assert "to compare" not in only.stdout


def test_the_list_shows_commands_and_notes(folder: Path) -> None:
    hostile = "\u202e\x1b[31m$(touch canary)`"
    script = make_script({"command": ["echo", hostile], "note": "May\nexport"}, {"command": ["echo", "x" * 100]})
    check_script(script)
    done = bash(script, "--list", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "    1  2023-06-01 14:30:23  lab step",
        "       echo '<U+202E>␛[31m$(touch canary)`'",
        "       May↵export",
        "    2  2023-06-01 14:30:24  lab step",
        f"       echo {'x' * 74}…",
    ]


@pytest.mark.parametrize(
    ("context", "is_rebuilt"),
    [
        ({}, True),
        ({"python_version": "3.11.2", "process_id": 7}, True),
        ({"python_version": "3.11.2", "imported_from": {"file": "x.md"}}, True),
        ({"python_version": "3.11.2", "hostname": "station"}, False),
    ],
)
def test_what_was_handed_in_without_a_command_is_left_out(context: dict[str, Any], is_rebuilt: bool) -> None:
    plan = plan_of(None, context=context)
    assert [step.argv for step in plan.steps] == ([["rtgs", "lab", "step"]] if is_rebuilt else [])
    assert [left.reason for left in plan.left_out] == ([] if is_rebuilt else ["no command was recorded"])


def test_where_a_failure_ended_it_is_named(folder: Path) -> None:
    done = reproduce(make_script({}, {"command": ["false"]}, {}), cwd=folder)
    assert done.returncode == 1
    assert [row["verdict"] for row in results()] == ["reproduced", "broken", "not tried"]
    assert "--from N (it was at 2)\n" in done.stdout
    done = reproduce(make_script({}, {"command": ["false"]}, {}), "--keep-going", cwd=folder)
    assert done.returncode == 1
    assert "--from N\n" in done.stdout
