"""`record_cli` in real processes, with Click and with Typer: they behave the same to the byte."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest
import typer

from audit_dagster import record_cli, set_global_logging
from audit_dagster.settings import Settings
from audit_dagster_tests.recording.stored import entries, only_entry
from audit_dagster_tests.recording.test_click_hook import invoke

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text("utf-8")


pytestmark = pytest.mark.usefixtures("unwarned", "without_drainer")


LAB = """
import os, sys
import click
from audit_dagster import record_cli

@click.group()
def lab(): pass

@lab.command()
@click.option("--project", default="p")
@click.option("--how", default="well")
@click.option("--pin", hide_input=True)
def extract(project, how, pin):
    click.echo(f"extracting {project}")
    if how == "badly": raise ValueError("no rain")
    if how == "slowly":
        import time
        time.sleep(20)
    if how == "endlessly":
        while True: click.echo("y" * 1000)
    return {"records": 3}

if "RECORDED" in os.environ: record_cli(lab)
if __name__ == "__main__": lab()
"""


@pytest.fixture
def lab(tmp_path: Path) -> list[str]:
    (tmp_path / "lab.py").write_text(LAB)
    return [sys.executable, "lab.py"]


def run(
    command: list[str], *, recorded: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"RECORDED": "1"} if recorded else {}), **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def seen(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("extract --project a", 0),
        ("extract --how badly", 1),
        ("extract --x", 2),
        ("extract --help", 0),
        ("", 2),
    ],
)
def test_a_process_behaves_the_same_to_the_byte(settings: Settings, lab: list[str], words: str, code: int) -> None:
    command = [*lab, *words.split()]
    before, after = run(command, recorded=False), run(command)
    assert seen(before) == seen(after)
    assert after.returncode == code
    kept = [entry.command for entry in entries()]
    assert kept == ([] if "--help" in words or not words else [command])
    if code == 1:
        assert "Traceback" in after.stderr
        assert only_entry().context["traceback"].endswith("ValueError: no rain\n")
        assert "recording/click_hook.py" not in after.stderr + only_entry().context["traceback"]


def test_a_process_that_is_interrupted(settings: Settings, lab: list[str]) -> None:
    environment = {**os.environ, "RECORDED": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*lab, "extract", "--how", "slowly"], env=environment, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"extracting p\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10)[1] == b"\nAborted!\n"
    assert process.returncode == 1
    assert (only_entry().error_message, only_entry().results) == ("Aborted", {"exit_code": 1})


def test_a_process_that_is_killed_had_told_its_parameters(settings: Settings, lab: list[str]) -> None:
    environment = {**os.environ, "RECORDED": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*lab, "extract", "--how", "slowly"], env=environment, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert only_entry().error_message == "the process ended before the operation finished"
    assert only_entry().parameters == {"how": "slowly", "project": "p"}


def test_a_process_whose_reader_goes_away(settings: Settings, lab: list[str]) -> None:
    line = 'set -o pipefail; "$@" | head -c 1000 > /dev/null; echo "${PIPESTATUS[0]}"'
    command = ["bash", "-c", line, "bash", *lab, "extract", "--how", "endlessly"]
    before, after = run(command, recorded=False), run(command)
    assert seen(before) == seen(after) == (0, "1\n", "")
    assert (only_entry().success, only_entry().results) == (False, {"exit_code": 1})


@pytest.mark.parametrize("trouble", ["off", "spool", "setting"])
def test_logging_that_is_off_or_fails_changes_nothing(
    settings: Settings, lab: list[str], tmp_path: Path, trouble: str
) -> None:
    before = run([*lab, "extract", "--how", "badly"], recorded=False)
    env = {}
    if trouble == "off":
        set_global_logging(False)
    elif trouble == "spool":
        (tmp_path / "state").mkdir(exist_ok=True)
        (tmp_path / "state" / "spool").write_text("in the way")
    else:
        env["AUDIT_TIMEZONE"] = "nonsense"
    after = run([*lab, "extract", "--how", "badly"], env=env)
    extra = [line for line in after.stderr.splitlines() if line.startswith("audit-dagster: ")]
    assert len(extra) == (0 if trouble == "off" else 1)
    assert (before.returncode, before.stdout) == (after.returncode, after.stdout)
    assert before.stderr.splitlines() == [line for line in after.stderr.splitlines() if line not in extra]


def test_the_guides_examples(settings: Settings, tmp_path: Path) -> None:
    _, _, section = GUIDE.partition("\n### A command line of your own\n")
    blocks = re.findall(r"^  ```python\n(.*?)^  ```$", section.partition("\n### ")[0], re.DOTALL | re.MULTILINE)
    calls = (["lab.py", "extract", "--project", "p", "--note", "May"], ["soil.py", "--depth", "0.5"])
    for block, words in zip(blocks, calls, strict=True):
        (tmp_path / words[0]).write_text(textwrap.dedent(block))
        assert run([sys.executable, *words]).stderr == ""
    extract, dig = entries()
    assert (extract.tool_name, extract.operation, extract.note) == ("lab", "extract", "May")
    assert (extract.parameters, extract.results) == ({"project": "p", "limit": 10}, {"records": 7, "exit_code": 0})
    assert (dig.tool_name, dig.operation, dig.parameters) == ("soil", "run", {"depth": 0.5})


def test_a_hidden_option_is_hidden_in_the_command_too(settings: Settings, lab: list[str]) -> None:
    for words in (["--pin", "7351-2264"], ["--pin=7351-2264", "--x"]):
        run([*lab, "extract", *words])
    assert [(entry.command or [])[3:] for entry in entries()] == [
        ["--pin", "${SECRET:PIN}"],
        ["--pin=${SECRET:PIN}", "--x"],
    ]
    assert entries()[0].parameters["pin"] == "${SECRET:PIN}"


def test_completion_is_no_operation(settings: Settings, lab: list[str]) -> None:
    env = {"_LAB_PY_COMPLETE": "bash_complete", "COMP_WORDS": "lab.py extract --pro", "COMP_CWORD": "2"}
    done = run(lab, env=env)
    assert (done.returncode, done.stdout) == (0, "plain,--project\n")
    assert entries() == []


def test_words_that_are_handed_over_are_no_command_unless_they_are_the_processs(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "lab.py").write_text(LAB)
    for words in ("sys.argv[1:]", "['extract']"):
        code = f"import sys, lab\nlab.lab({words}, standalone_mode=False)"
        (tmp_path / "caller.py").write_text(code)
        assert run([sys.executable, "caller.py", "extract", "--project", "a"]).returncode == 0
    commands = {entry.parameters["project"]: entry.command for entry in entries()}
    assert commands == {"a": [sys.executable, "caller.py", "extract", "--project", "a"], "p": None}


def test_the_recorded_process_does_not_import_click_for_it(settings: Settings) -> None:
    code = "import sys; from audit_dagster import record_cli, recorded; print({'click', 'inspect'} & set(sys.modules))"
    assert run([sys.executable, "-c", code]).stdout == "set()\n"


# ---- Typer ----

TYPER = """
import os
import typer
from audit_dagster import record_cli

app = typer.Typer(name="field")
soil = typer.Typer()
app.add_typer(soil, name="soil")

@soil.command()
def sample(depth: int = 10, note: str = None):
    print("sampling", depth)
    if depth == 3: raise typer.Exit(3)
    if depth == 4: raise ValueError("stone")
    if depth == 5: raise KeyboardInterrupt
    if depth == 6: raise typer.Abort()
    return {"samples": 2}

@app.command()
def clean(): pass

if "RECORDED" in os.environ: record_cli(app)
if __name__ == "__main__": app()
"""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("soil sample --note wet", 0, None),
        ("soil sample --depth 3", 3, "Exit: 3"),
        ("soil sample --depth 4", 1, "ValueError: stone"),
        ("soil sample --depth 5", 130, "Aborted"),
        ("soil sample --depth 6", 1, "Aborted"),
        ("soil sample --depth x", 2, "UsageError: Invalid value for '--depth': 'x' is not a valid integer."),
    ],
)
def test_a_typer_application(settings: Settings, tmp_path: Path, words: str, code: int, message: str | None) -> None:
    (tmp_path / "field.py").write_text(TYPER)
    command = [sys.executable, "field.py", *words.split()]
    before, after = run(command, recorded=False), run(command)
    assert seen(before) == seen(after)
    entry = only_entry()
    assert (after.returncode, entry.results["exit_code"]) == (code, code)
    assert (entry.tool_name, entry.operation, entry.error_message) == ("soil", "sample", message)
    assert entry.command == command
    if code == 0:
        assert (entry.note, entry.parameters, entry.results["samples"]) == ("wet", {"depth": 10}, 2)
        assert entry.context["default_parameters"] == ["depth"]
        assert entry.context["tool"]["file"] == str(tmp_path / "field.py")


def test_the_command_made_of_a_typer_application(settings: Settings) -> None:
    app = typer.Typer()

    @app.command()
    def dig(deep: int = 1) -> None:
        typer.echo("dug")

    command = record_cli(app)
    assert record_cli(app, tool="spade").name == command.name == "dig"
    assert invoke(command, "--deep", "2").output == "dug\n"
    app(["--deep", "3"], standalone_mode=False)
    assert [(e.tool_name, e.operation, e.parameters) for e in entries()] == [
        ("dig", "run", {"deep": 2}),
        ("spade", "run", {"deep": 3}),
    ]


def test_a_typer_application_with_classes_and_a_callback_of_its_own(settings: Settings) -> None:
    class Ordered(typer.core.TyperGroup):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return sorted(super().list_commands(ctx), reverse=True)

    app = typer.Typer()

    @app.callback(cls=Ordered, invoke_without_command=True)
    def main(verbose: bool = False) -> None:
        pass

    app.command("a")(lambda: None)
    app.command("b")(lambda: None)
    command = record_cli(app, tool="lab")
    assert isinstance(command, Ordered)
    for words in ([], ["a"], ["--verbose", "b"]):
        app(words, standalone_mode=False)
    found = [(e.tool_name, e.operation, e.parameters) for e in entries()]
    assert found == [("lab", "run", {"verbose": False}), ("lab", "a", {}), ("lab", "b", {"verbose": True})]
