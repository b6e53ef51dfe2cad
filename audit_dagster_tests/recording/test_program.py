"""Which tool a command runs: what it is called, and where its code is."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.recording.program import default_tool_name, program_file
from audit_dagster.settings import Settings

Git = Callable[..., str]
RUN = [sys.executable, "-m", "audit_dagster.cli", "run", "--"]


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/usr/bin/make", "all"], "make"),
        (["python3", "tools/extract.py", "--x"], "extract"),
        (["python3", "-m", "lab.tools", "x"], "lab.tools"),
        (["bash", "-c", "echo x"], "bash"),
        (["python3"], "python3"),
    ],
)
def test_default_tool_name(argv: list[str], name: str) -> None:
    assert default_tool_name(argv) == name


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["python3", "scripts/x.py", "--y"], "scripts/x.py"),
        (["Rscript", "model.R"], "model.R"),
        (["./run.sh"], "./run.sh"),
        (["no-such-program"], None),
        ([""], None),
    ],
)
def test_the_file_that_a_command_runs(argv: list[str], name: str | None) -> None:
    found = program_file(argv)
    assert found == name or (argv == [""] and found is not None and Path(found).is_dir())


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("./sha256sum data.csv", "sha256sum"),
        ("./shuf data.csv", "shuf"),
        ("./python3-config x.py", "python3-config"),
        ("nice", "nice"),
        ("env A=1", "env"),
        ("timeout 5 ./make all", "make"),
        ("env -u HOME A=1 B= ./make C=2", "make"),
    ],
)
def test_a_program_is_no_interpreter_by_how_its_name_begins(command: str, name: str) -> None:
    words = command.split()
    assert default_tool_name(words) == name
    assert program_file(words) == (f"./{name}" if f"./{name}" in words else shutil.which(name))


SCRIPTS = {
    "python3 -u o/t.py": "o/t.py",
    "python3.13t -O -W ignore -Xdev o/t.py -c x": "o/t.py",
    "/opt/bin/python -uW ignore -- o/t.py -m x": "o/t.py",
    "bash -e o/t": "o/t",
    "bash -euo pipefail +o history --norc --rcfile rc o/t -c": "o/t",
    "sh o/t": "o/t",
    "perl -Mstrict -I lib -w o/t.pl": "o/t.pl",
    "Rscript --vanilla o/t.R -e": "o/t.R",
    "julia --project=e -t 4 o/t.jl": "o/t.jl",
    "node --require ./x o/t.js": "o/t.js",
    "env - -u HOME A=b python3 o/t.py": "o/t.py",
    "nice -n 5 nohup /usr/bin/time -f %e python3 -u o/t.py": "o/t.py",
    "timeout -k 1 --signal KILL --foreground 5 sh o/t": "o/t",
    "stdbuf -oL -e 0 setsid -w ionice -c3 taskset -c 0 sh o/t": "o/t",
}


@pytest.mark.parametrize(("command", "script"), SCRIPTS.items())
def test_a_script_behind_options_and_wrappers(command: str, script: str) -> None:
    assert (default_tool_name(command.split()), program_file(command.split())) == ("t", script)


@pytest.mark.parametrize(
    "argv",
    [
        ["python3"],
        ["python3", "-uc", "pass", "x.py"],
        ["python3", "-", "x.py"],
        ["bash", "-exc", "echo x", "x.sh"],
        ["sh", "-s", "x.sh"],
        ["Rscript", "-e", "Sys.setenv(A = 1)"],
        ["perl", "-lane", "print $F[0]", "data.csv"],
        ["julia", "-E", "1 + 1"],
        ["node", "--eval", "1", "x.js"],
        ["nice", "python3", "-W"],
    ],
)
def test_an_interpreter_without_a_script(argv: list[str]) -> None:
    name = "python3" if "python3" in argv else argv[0]
    assert (default_tool_name(argv), program_file(argv)) == (name, None)


def test_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "venv" / "bin" / "python3"
    site = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    files = [site / "lab.py", tmp_path / "path" / "lab.py", tmp_path / "here" / "lab" / "__main__.py"]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    argv = [str(python), "-um", "lab", "x.py"]
    assert (default_tool_name(argv), program_file(argv)) == ("lab", None)
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        found = program_file(argv)
        assert found is not None
        assert Path(found).absolute() == file
    assert program_file([str(python), "-Bmlab.__main__"]) == "lab/__main__.py"


# ---- Recorded ----


def recorded(*command: str | Path, **environment: str) -> dict[str, Any]:
    subprocess.run([*RUN, *command], check=True, env={**os.environ, **environment})
    context: dict[str, Any] = AuditService().recent_entries()[0].context
    return context


@pytest.fixture
def checkout(tmp_path: Path, git: Git) -> Path:
    """A dirty repository with a tool and an interpreter, beside the working directory."""
    folder = tmp_path / "other"
    (folder / "bin").mkdir(parents=True)
    (folder / "tool.py").write_text("")
    (folder / "bin" / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (folder / "bin" / "python3").chmod(0o755)
    git("init", "--quiet", folder)
    git("-C", folder, "add", ".")
    git("-C", folder, "commit", "--quiet", "--message=first")
    (folder / "go").write_text("exit 0\n")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "python3 -u ../other/tool.py",
        "python3 -O -W ignore ../other/tool.py",
        "python3 -m tool",
        "bash -e ../other/go",
        "env A=1 nice timeout 5 sh ../other/go",
    ],
)
def test_the_repository_and_the_patch_are_the_tools(
    settings: Settings, tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    git = recorded(*command.split(), PYTHONPATH=str(checkout))["tool"]["git"]
    assert (git["root"], git["dirty"], git["patch"]["exact"]) == (str(checkout), True, True)


def test_an_interpreters_repository_is_not_the_tools(settings: Settings, tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    assert "tool" not in recorded(checkout / "bin" / "python3", "-W", "ignore", "-c", "pass")
    assert recorded(checkout / "bin" / "python3", "-u", "mine.py")["tool"] == {"file": str(tmp_path / "mine.py")}
