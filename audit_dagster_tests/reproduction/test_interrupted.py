"""Interrupted at every operation, in every way: the repository is as before, and `--from` goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from audit_dagster_tests.reproduction.lab import (
    Repository,
    commits,
    is_running,
    make_script,
    names,
    python,
    reproduce,
    run,
    state_of,
    step,
    verdicts,
    wait_until,
    work,
)

# Appends the commit's code; the first time that the file `hold` names it, it waits for the signal.
WORKS = """
import os, sys, time
number, hold = sys.argv[1:]
if os.path.exists(hold) and open(hold).read() == number:
    os.remove(hold)
    open(hold + '.pid', 'w').write(str(os.getpid()))
    time.sleep(60)
open('out', 'a').write(open('code').read())
"""
CONTENTS = ["A", "AB", "ABA"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_goes_on(lab: Repository, tmp_path: Path, folder: Path, sent: signal.Signals, number: int) -> None:
    hold = tmp_path / "hold"
    script = make_script(
        *(
            step(lab, commits(lab)[n % 2], python(WORKS, str(n + 1), str(hold)), makes={"out": text})
            for n, text in enumerate(CONTENTS)
        )
    )
    (tmp_path / "script").write_text(script)
    before = state_of(lab)
    hold.write_text(str(number))
    command = ["bash", str(tmp_path / "script"), "--work", str(work()), f"--repo={lab.path}"]
    pid_file = tmp_path / "hold.pid"
    said = tmp_path / "said"
    with (
        said.open("w") as stdout,
        subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=subprocess.DEVNULL) as process,
    ):
        wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
        process.send_signal(sent)
        assert process.wait(timeout=20) == (-9 if sent is signal.SIGKILL else 128 + sent)
    held = int(pid_file.read_text())
    if sent is signal.SIGKILL:
        assert state_of(lab)[:4] == before[:4]
        os.kill(held, signal.SIGKILL)
    else:
        assert state_of(lab) == before
        assert verdicts() == ["reproduced"] * (number - 1) + ["not tried"] * (4 - number)
        assert f"--from N (it was at {number})\n" in said.read_text()
    wait_until(lambda: not is_running(held))
    done = reproduce(script, "--from", str(number), f"--repo={lab.path}", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert verdicts() == ["reproduced"] * 3
    assert state_of(lab) == before
    assert "tree" not in names(work())


def left_over() -> list[str]:
    """The processes that speak of the work folder."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if is_running(int(path.parent.name))]
    return [line.decode() for line in lines if os.fsencode(work()) in line]


def test_at_any_time(lab: Repository, tmp_path: Path, folder: Path) -> None:
    script = tmp_path / "script"
    script.write_text(make_script(*(step(lab, commits(lab)[n % 2], ["true"]) for n in range(3))))
    before = state_of(lab)
    command = ["bash", str(script), "--work", str(work()), f"--repo={lab.path}"]
    chance = random.Random(4)  # noqa: S311 - times, not secrets  # noqa: S311
    for _ in range(12):
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0.02, 0.25))
            process.terminate()
            process.wait(timeout=20)
        assert state_of(lab) == before
        wait_until(lambda: left_over() == [])


@pytest.mark.parametrize("program", ["git", "mv"])
def test_while_the_working_tree_is_attached(lab: Repository, tmp_path: Path, folder: Path, program: str) -> None:
    stub = tmp_path / "bin" / program
    stub.parent.mkdir()
    real = shutil.which(program)
    stub.write_text(
        f"""#!/bin/sh\n{real} "$@"; case "$*" in *"worktree add"*|*/tree/.git) kill -TERM "$PPID";; esac\n"""
    )
    stub.chmod(0o755)
    before = state_of(lab)
    environment = {"PATH": f"{stub.parent}:{os.environ['PATH']}"}
    script = make_script(step(lab, commits(lab)[0], ["true"]))
    done = reproduce(script, f"--repo={lab.path}", cwd=folder, environment=environment)
    assert done.returncode == 143
    assert state_of(lab) == before


def test_a_command_that_dies_before_it_begins(lab: Repository, tmp_path: Path, folder: Path) -> None:
    script = tmp_path / "script"
    script.write_text(make_script(step(lab, commits(lab)[0], ["true"])))
    text = script.read_text()
    assert text.count("    ) >&5 2>&1 5>&-") == 1
    script.write_text(text.replace("    ) >&5 2>&1 5>&-", "    ) >&77 2>&1 5>&-"))
    command = ["bash", str(script), "--work", str(work()), f"--repo={lab.path}"]
    done = run(command, cwd=folder, timeout=20)
    assert done.returncode == 1
    wait_until(lambda: left_over() == [])


def test_after_a_kill_removing_the_folder_and_pruning_is_enough(lab: Repository, tmp_path: Path, folder: Path) -> None:
    ready = tmp_path / "ready"
    waits = python("import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)", str(ready))
    (tmp_path / "script").write_text(make_script(step(lab, commits(lab)[0], waits)))
    before = state_of(lab)
    command = ["bash", str(tmp_path / "script"), "--work", str(work()), f"--repo={lab.path}"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: ready.exists() and ready.read_text() != "")
        process.kill()
    os.kill(int(ready.read_text()), signal.SIGKILL)
    subprocess.run(["rm", "-rf", str(work())], check=True)
    lab.git("worktree", "prune")
    assert state_of(lab) == before


def test_an_operation_may_end_in_its_own_way(lab: Repository, tmp_path: Path, folder: Path) -> None:
    ready = tmp_path / "ready"
    tidy = "import signal, sys, time\n"
    tidy += "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), print('tidied up'), sys.exit(5)))\n"
    tidy += f"open({str(ready)!r}, 'w'); time.sleep(60)"
    (tmp_path / "script").write_text(make_script(step(lab, commits(lab)[0], python(tidy))))
    command = ["bash", str(tmp_path / "script"), "--work", str(work()), f"--repo={lab.path}"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(ready.exists)
        process.terminate()
        assert process.wait(timeout=20) == 143
    wait_until(lambda: (work() / "step-001.log").read_text() == "tidied up\n")
