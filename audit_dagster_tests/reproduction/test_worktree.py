"""The script in a working tree of its own: what it does to files, programs, secrets and outputs, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit_dagster_tests.reproduction.lab import (
    APPENDS,
    WRITES,
    Repository,
    check_script,
    commits,
    file,
    is_running,
    make_script,
    names,
    python,
    reproduce,
    results,
    run,
    sha256,
    state_of,
    step,
    verdicts,
    wait_until,
    work,
)


class TestTree:
    def test_a_b_a_with_outputs_that_stay_and_a_repository_that_is_as_before(
        self, lab: Repository, folder: Path
    ) -> None:
        a, b = commits(lab)
        before = state_of(lab)
        fields = [
            step(lab, commit, python(APPENDS), makes={"out": content})
            for commit, content in ((a, "A"), (b, "AB"), (a, "ABA"))
        ]
        script = make_script(*fields)
        check_script(script)
        done = reproduce(script, "--repo", str(lab.path), cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert verdicts() == ["reproduced"] * 3
        assert state_of(lab) == before
        assert {"results.tsv", "step-001.log", "step-003.log"} <= set(names(work()))
        assert "tree" not in names(work())
        assert names(folder) == []

    def test_keep(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        done = reproduce(make_script(step(lab, a, python(APPENDS))), "--keep", f"--repo={lab.path}", cwd=folder)
        tree = work() / "tree"
        assert done.returncode == 0
        assert (tree / "out").read_text() == "A"
        assert str(tree) in lab.git("worktree", "list")
        lab.git("worktree", "remove", "--force", str(tree))

    def test_a_tracked_file_that_an_operation_changed_is_as_committed_for_the_next(
        self, lab: Repository, folder: Path
    ) -> None:
        a, _ = commits(lab)
        spoils = step(lab, a, python(WRITES, "code", "spoilt"), makes={"code": "spoilt"})
        done = reproduce(make_script(spoils, step(lab, a, ["grep", "A", "code"])), f"--repo={lab.path}", cwd=folder)
        assert (done.returncode, verdicts()) == (0, ["reproduced"] * 2)

    def test_in_a_clone_and_by_another_path(self, lab: Repository, tmp_path: Path) -> None:
        a, _ = commits(lab)
        clone = tmp_path / "a clone"
        lab.git("clone", "--quiet", str(lab.path), str(clone))
        done = reproduce(make_script(step(lab, a, python(APPENDS), makes={"out": "A"})), cwd=clone)
        assert (done.returncode, verdicts()) == (0, ["reproduced"])
        assert Repository(clone).git("worktree", "list", "--porcelain").count("worktree ") == 1

    def test_paths_below_the_recorded_root_are_paths_of_the_tree(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        root = str(lab.path)
        shows = python("import json, sys; json.dump(sys.argv[1:], open('words.json', 'w'))")
        words = [
            root,
            f"{root}/x y",
            f"--flag={root}/$z",
            f"{root}2/x",
            f"{root}/../x",
            f"a={root}/x",
            f"-{root}",
            "--a=",
            f"-I{root}/include=x",
        ]
        script = make_script(step(lab, a, [*shows, *words]))
        done = reproduce(script, "--keep", "--yes", f"--repo={root}", cwd=folder)
        assert done.returncode == 0, done.stderr
        tree = str(work() / "tree")
        expected = [tree, f"{tree}/x y", f"--flag={tree}/$z", *words[3:5], f"a={tree}/x", *words[6:8]]
        expected.append(f"-I{tree}/include=x")
        assert json.loads(Path(tree, "words.json").read_text()) == expected

    def test_the_trees_code_runs_although_another_is_installed(self, repository: Repository, folder: Path) -> None:
        root = repository.path
        (root / "src" / "lab" / "deep").mkdir(parents=True)
        for package in ("src/lab", "src/lab/deep"):
            (root / package / "__init__.py").touch()
        tool = root / "src" / "lab" / "deep" / "tool.py"
        tool.write_text("print('first version')\n")
        first = repository.commit()
        tool.write_text("print('second version')\n")
        second = repository.commit()
        fields = {"context": {"tool": {"file": str(tool)}}}
        command = [sys.executable, "-m", "lab.deep.tool"]
        script = make_script(*(step(repository, commit, command, **fields) for commit in (first, second, first)))
        done = reproduce(script, f"--repo={root}", cwd=folder, environment={"PYTHONPATH": str(root / "src")})
        assert [line for line in done.stdout.splitlines() if line.endswith("version")] == [
            *("first version", "second version", "first version")
        ]
        assert f"Code: {first} (" in done.stdout

    def test_programs_that_are_elsewhere_here(self, lab: Repository, tmp_path: Path, folder: Path) -> None:
        bin_ = tmp_path / "bin"
        bin_.mkdir()
        (bin_ / "fit").write_text('#!/bin/sh\necho fitted "$@"\n')
        (bin_ / "fit").chmod(0o755)
        gone = "/nowhere/venv/bin"
        commands = [[f"{gone}/fit", "1"], [f"{gone}/python3.9", f"{gone}/fit", "2"], [str(bin_ / "fit"), "3"]]
        commands += [[f"{lab.path}/.venv/bin/fit", "4"], ["./local", "5"], [f"{lab.path}/local", "6"]]
        (lab.path / "local").write_text('#!/bin/sh\necho local "$@"\n')
        (lab.path / "local").chmod(0o755)
        lab.git("stash", "--include-untracked")
        lab.git("stash", "apply")
        commit = lab.commit()
        (lab.path / "local").unlink()
        environment = {"PATH": f"{bin_}:{os.environ['PATH']}"}
        script = make_script(*(step(lab, commit, command) for command in commands))
        done = reproduce(script, f"--repo={lab.path}", cwd=folder, environment=environment)
        assert done.returncode == 0, done.stderr
        said = [line for line in done.stdout.splitlines() if line.startswith(("fitted", "local"))]
        assert said == ["fitted 1", "fitted 2", "fitted 3", "fitted 4", "local 5", "local 6"]

    def test_set_up_runs_for_each_commit(self, lab: Repository, folder: Path) -> None:
        a, b = commits(lab)
        script = make_script(*(step(lab, commit, ["cat", "ready"]) for commit in (a, a, b)))
        done = reproduce(script, "--setup", "cp code ready; echo set up", f"--repo={lab.path}", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("set up\n") == 2
        done = reproduce(script, "--setup", "exit 5", f"--repo={lab.path}", cwd=folder)
        assert done.returncode == 1
        assert "--setup ended with exit code 5" in done.stderr

    def test_what_set_up_installs_in_the_tree_comes_first(self, lab: Repository, tmp_path: Path, folder: Path) -> None:
        a, _ = commits(lab)
        bin_ = tmp_path / "bin"
        bin_.mkdir()
        (bin_ / "fit").write_text("#!/bin/sh\necho of this machine\n")
        (bin_ / "fit").chmod(0o755)
        installs = (
            "mkdir -p .venv/bin; for name in fit new; do printf '#!/bin/sh\necho of the tree\n' >.venv/bin/$name; done"
        )
        script = make_script(*(step(lab, a, [name]) for name in ("fit", "new", "/nowhere/venv/bin/new")))
        environment = {"PATH": f"{bin_}:{os.environ['PATH']}"}
        words = ["--setup", f"{installs}; chmod +x .venv/bin/*", f"--repo={lab.path}"]
        done = reproduce(script, *words, cwd=folder, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\nof the tree\n") == 3

    def test_the_users_own_tree_is_not_written_to(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        copies = ["dd", "if=code", f"of={lab.path}/copied", "status=none"]
        inside = step(lab, a, ["bash", "-c", f"echo new >>'{lab.path}/inner'"])
        before = state_of(lab)
        done = reproduce(make_script(step(lab, a, copies, makes={"copied": "A"})), f"--repo={lab.path}", cwd=folder)
        assert (done.returncode, results()[0]["same"]) == (0, "1"), done.stderr
        (folder / "script").write_text(make_script(inside))
        done = run(["setsid", "bash", str(folder / "script"), f"--repo={lab.path}"], cwd=folder)
        assert done.returncode == 3
        assert "operation 1, lab step, names your own working tree: allow it with --yes" in done.stderr
        assert state_of(lab) == before

    def test_folders_that_git_does_not_keep_are_made(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        fields = [
            step(lab, a, ["cp", "code", "results/deep/x"], makes={"results/deep/x": "A"}),
            step(lab, a, ["cp", "../code", "y"], working_directory=f"{lab.path}/empty", makes={"empty/y": "A"}),
            step(lab, a, ["bash", "-c", "mkdir own && cp code own/z"], makes={"own/z": "A"}),
        ]
        done = reproduce(make_script(*fields), f"--repo={lab.path}", cwd=folder)
        assert (done.returncode, verdicts()) == (0, ["reproduced"] * 3), done.stderr

    def test_a_sparse_clone(self, lab: Repository, tmp_path: Path, folder: Path) -> None:
        (lab.path / "data").mkdir()
        (lab.path / "data" / "raw").write_text("x")
        commit = lab.commit()
        clone = Repository(tmp_path / "sparse")
        lab.git("clone", "--quiet", str(lab.path), str(clone.path))
        clone.git("sparse-checkout", "set", "nothing")
        assert not (clone.path / "data").exists()
        before = state_of(clone)
        done = reproduce(make_script(step(lab, commit, ["cat", "data/raw"])), f"--repo={clone.path}", cwd=folder)
        assert (done.returncode, verdicts()) == (0, ["reproduced"]), done.stderr
        assert state_of(clone) == before
        assert not (clone.path / "data").exists()

    def test_without_a_repository(self, folder: Path) -> None:
        (folder / "in").write_text("x")
        fields = {"working_directory": str(folder), "command": ["cp", "in", str(folder / "out")]}
        found = {"inputs": [file(folder, "in", b"x")], "outputs": [file(folder, "out", b"x")]}
        done = reproduce(make_script({**fields, "context": found}), "--keep", cwd=folder)
        assert (done.returncode, verdicts()) == (0, ["reproduced"])
        assert names(folder) == ["in"]
        assert names(work() / "tree") == ["in", "out"]

    def test_an_output_elsewhere_that_was_there_before_proves_nothing(
        self, lab: Repository, tmp_path: Path, folder: Path
    ) -> None:
        a, _ = commits(lab)
        outside = tmp_path / "outside"
        outside.write_text("x")
        found = {"outputs": [file(tmp_path, "outside", b"x")]}
        lazy = step(lab, a, ["true"])
        lazy["context"] |= found
        done = reproduce(make_script(lazy), "--yes", f"--repo={lab.path}", cwd=folder)
        assert (done.returncode, results()[0]["same"]) == (0, "0")
        shutil.rmtree(work())
        again = step(lab, a, python(WRITES, str(outside), "x"))
        again["context"] |= found
        reproduce(make_script(again), "--yes", f"--repo={lab.path}", cwd=folder)
        assert results()[0]["same"] == "1"


class TestVerdicts:
    def test_outputs_that_differ_and_that_are_missing(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        writes = python("import time; open('time', 'w').write(str(time.time())); open('same', 'w')")
        makes = {"time": "1686", "same": "", "a gone\tfile": "x"}
        done = reproduce(make_script(step(lab, a, writes, makes=makes), {}), f"--repo={lab.path}", cwd=folder)
        assert done.returncode == 4
        found = sha256((work() / "tree" / "time").read_bytes())
        assert done.stderr.splitlines() == [
            f"Operation 1: differs: time (SHA-256 {found[:12]}…, recorded {sha256(b'1686')[:12]}…)",
            "Operation 1: missing: $'a gone\\tfile'",
        ]
        row = results()[0]
        counts = [row[name] for name in ("same", "differ", "missing", "verdict", "names")]
        assert counts == ["1", "1", "1", "differing", "time $'a gone\\tfile'"]
        assert verdicts() == ["differing", "reproduced"]
        assert "completed successfully" not in done.stdout
        assert (work() / "tree" / "time").exists()

    def test_inputs_that_differed_already_are_named(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        first = step(lab, a, ["cp", "code", "a b"], makes={"a b": "other"})
        second = step(lab, a, ["cp", "a b", "copy"], reads={"a b": "other"}, makes={"copy": "other"})
        mends = step(lab, a, ["cp", "code", "a b"], makes={"a b": "A"})
        third = step(lab, a, ["cp", "a b", "copy"], reads={"a b": "A"}, makes={"copy": "other"})
        done = reproduce(make_script(first, second, mends, third), f"--repo={lab.path}", cwd=folder)
        assert done.returncode == 4
        assert [line for line in done.stderr.splitlines() if "inputs" in line] == [
            "Operation 2: its inputs were not as recorded already: a\\ b"
        ]

    def test_a_tool_that_is_named_like_a_verdict(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        names_ = {"tool_name": "reproduced", "operation": "reproduced"}
        writes = step(lab, a, ["cp", "code", "out"], makes={"out": "other"}, **names_)
        assert reproduce(make_script(writes), f"--repo={lab.path}", cwd=folder).returncode == 4
        assert (work() / "tree" / "out").exists()

    def test_a_process_that_is_left_behind_holds_nothing_up(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        leaves = ["bash", "-c", "echo first; { sleep 30; echo late; } & echo $! >../daemon"]
        script = make_script(step(lab, a, leaves), step(lab, a, ["echo", "second"]))
        began = time.monotonic()
        with (folder / "said").open("w") as said:
            command = ["bash", "-s", "--", "--work", str(work()), f"--repo={lab.path}"]
            done = subprocess.run(command, input=script, text=True, stdout=said, stderr=said, cwd=folder, check=False)
        assert time.monotonic() - began < 10
        assert done.returncode == 0
        daemon = int((work() / "daemon").read_text())
        assert is_running(daemon)
        for child in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
        wait_until(lambda: "late" in (work() / "step-001.log").read_text())
        assert (work() / "step-002.log").read_text() == "second\n"

    def test_a_failed_operation_is_reproduced_by_failing_in_the_same_way(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        failed = {"success": False, "results": {"exit_code": 7}}
        fails = step(lab, a, python("import sys; sys.exit(7)"), **failed)
        works = step(lab, a, ["true"], **failed)
        script = make_script(fails, works, step(lab, a, ["true"]), include_failed=True)
        done = reproduce(script, f"--repo={lab.path}", cwd=folder)
        assert (done.returncode, verdicts()) == (1, ["reproduced", "broken", "not tried"])
        assert "Operation 2 failed with exit code 0; it was 7" in done.stderr

    def test_keep_going(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        script = make_script(step(lab, a, ["false"]), step(lab, a, python(APPENDS), makes={"out": "A"}))
        done = reproduce(script, "--keep-going", f"--repo={lab.path}", cwd=folder)
        assert (done.returncode, verdicts()) == (1, ["broken", "reproduced"])
        assert "1 of 2 operations failed" in done.stderr

    def test_times_and_logs(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        command = python("import sys, time; time.sleep(0.2); print('out'); print('err', file=sys.stderr)")
        done = reproduce(make_script(step(lab, a, command, duration_seconds=45.7)), f"--repo={lab.path}", cwd=folder)
        row = results()[0]
        assert 0.2 <= float(row["seconds"]) < 20
        assert row["recorded_seconds"] == "45.700"
        assert sorted((work() / "step-001.log").read_text().splitlines()) == ["err", "out"]
        assert "reproduced  lab step" in done.stdout


class TestOptions:
    def test_a_part_and_then_the_rest(self, lab: Repository, folder: Path) -> None:
        a, b = commits(lab)
        contents = ["A", "AB", "ABA", "ABAB"]
        fields = [step(lab, (a, b)[n % 2], python(APPENDS), makes={"out": text}) for n, text in enumerate(contents)]
        script, repo = make_script(*fields), f"--repo={lab.path}"
        before = state_of(lab)
        done = reproduce(script, "--to", "2", repo, cwd=folder)
        assert (done.returncode, verdicts()) == (0, ["reproduced", "reproduced", "not tried", "not tried"])
        assert state_of(lab) == before
        done = reproduce(script, "--from=3", repo, cwd=folder)
        assert (done.returncode, verdicts()) == (0, ["reproduced"] * 4)
        assert state_of(lab) == before
        done = reproduce(script, "--only", "1,3-4", repo, cwd=folder)
        assert (done.returncode, verdicts()) == (4, ["reproduced", "not tried", "differing", "differing"])

    def test_list_and_dry_run_change_nothing(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        hidden = {"command": ["true", "--password=${SECRET:PASSWORD}"], "context": {"command_is_exact": False}}
        script = make_script(step(lab, a, ["echo", "a b"], operation="first"), hidden)
        before = state_of(lab)
        done = reproduce(script, "--list", "--only", "1", cwd=folder)
        assert (done.returncode, done.stderr, done.stdout) == (
            0,
            "",
            "    1  2023-06-01 14:30:23  lab first\n       echo 'a b'\n",
        )
        done = reproduce(
            script, "--dry-run", f"--repo={lab.path}", cwd=folder, environment={"SECRET_PASSWORD": "hunter22"}
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert a in done.stdout
        assert "hunter22" not in done.stdout
        assert state_of(lab) == before
        assert names(work().parent) == []

    @pytest.mark.parametrize(
        "words",
        [
            ["--from", "0"],
            ["--from", "3"],
            ["--to=x"],
            ["--only", ""],
            ["--only", "1-"],
            ["--only", "2-1"],
            ["--only", "1,9"],
            ["--from=01"],
        ],
    )
    def test_numbers_that_are_none(self, folder: Path, words: list[str]) -> None:
        done = reproduce(make_script({}, {}), *words, cwd=folder)
        assert (done.returncode, names(work().parent)) == (2, [])

    def test_a_destructive_operation_is_asked_about(self, folder: Path) -> None:
        script = make_script({"operation": "upload"}, {"tool_name": "device-configuration", "operation": "update"}, {})
        done = run(["setsid", "bash", "-s"], input=script, cwd=folder)
        assert done.returncode == 3
        assert done.stderr.count("changes more than files here: allow it with --yes") == 2
        assert reproduce(script, "--yes", cwd=folder).returncode == 0
        (folder.parent / "script").write_text(script)
        terminal = python("import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))", "bash")
        command = [*terminal, str(folder.parent / "script"), "--work", str(work())]
        done = run(command, cwd=folder, input="n\ny\n", timeout=20)
        assert verdicts() == ["not tried", "reproduced", "reproduced"]

    def test_secrets_come_from_the_environment(self, lab: Repository, folder: Path) -> None:
        a, _ = commits(lab)
        shows = python("import json, sys; json.dump(sys.argv[1:], open('words.json', 'w'))")
        words = [
            "${SECRET:API_KEY}",
            "--password=${SECRET:DB}",
            "x${SECRET:DB}'${SECRET:API_KEY}$",
            "$SECRET_DB",
        ]
        content = "the same"
        named = "out ${SECRET:DB} ${SECRET:API_KEY}.txt"
        writes = python(f"import sys; open(sys.argv[1], 'w').write({content!r})")
        inexact = {"command_is_exact": False}
        path = step(lab, a, [*writes, named], makes={named: content}, context=inexact)
        secret = step(lab, a, [*shows, *words], context=inexact)
        plain = step(lab, a, ["echo", "${SECRET:OTHER}"])
        script = make_script(secret, plain, path)
        check_script(script)
        values = {"SECRET_API_KEY": "a b$(touch canary)'&", "SECRET_DB": '"*'}
        done = reproduce(script, "--keep", f"--repo={lab.path}", cwd=folder, environment=values)
        assert done.returncode == 0, done.stderr
        key, db = values.values()
        arrived = json.loads((work() / "tree" / "words.json").read_text())
        assert arrived == [key, f"--password={db}", f"x{db}'{key}$", "$SECRET_DB"]
        assert "\n${SECRET:OTHER}\n" in done.stdout
        assert (work() / "tree" / f"out {db} {key}.txt").read_text() == content
        assert [row["same"] for row in results()] == ["0", "0", "1"]
        assert "canary" not in names(work() / "tree")
