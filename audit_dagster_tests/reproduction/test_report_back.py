"""`--report`: a reproduction becomes an entry that names its original. And patches come from the database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry
from audit_dagster.recording import git_state
from audit_dagster.recording.command import run_command
from audit_dagster.report_service import create_reproduction_script, generate_report, write_script
from audit_dagster.reproduction.plan import ScriptConfig, make_plan
from audit_dagster.settings import Settings
from audit_dagster.store.query import fetch
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.reproduction.lab import (
    START,
    WRITES,
    Repository,
    commits,
    make_script,
    python,
    reproduce,
    step,
    verdicts,
)

BESIDE_PYTHON = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_each_operation_is_recorded_with_its_verdict(settings: Settings, lab: Repository, folder: Path) -> None:
    a, _ = commits(lab)
    odd = '"\\ \t\n\x1b\x7f é \u202e $(touch canary) `x` & \\u0041'
    fields = [
        step(lab, a, python(WRITES, "out", odd), makes={"out": odd}, note=odd, tool_name=odd, operation="first"),
        step(lab, a, ["cp", "code", "out 2"], makes={"out 2": "other"}, operation="second"),
        step(lab, a, ["false", "--token=${SECRET:TOKEN}"], operation="third", context={"command_is_exact": False}),
        step(lab, a, ["true"], operation="fourth"),
    ]
    environment = {**BESIDE_PYTHON, "SECRET_TOKEN": "hunter22"}
    done = reproduce(make_script(*fields), "--report", f"--repo={lab.path}", cwd=folder, environment=environment)
    assert done.returncode == 1
    assert "could not be recorded" not in done.stderr
    first, second, third = sorted(AuditService(settings).recent_entries(), key=lambda entry: entry.operation)
    facts = [(entry.context["reproduces"][-1], entry.context["verdict"]) for entry in (first, second, third)]
    assert facts == [("1", "reproduced"), ("2", "differing"), ("3", "broken")]
    assert [entry.success for entry in (first, second, third)] == [True, True, False]
    assert second.context["differing"] == ["out 2"]
    assert first.command is not None
    assert first.command[-1] == odd
    assert first.tool_name == '"\\ ␉↵␛␡ é <U+202E> $(touch canary) `x` & \\u0041'
    assert first.note == f"Reproduction: {first.tool_name}"
    assert second.note == "Reproduction: of operation 00000000-0000-4000-8000-000000000002"
    assert (first.git_commit_hash, first.git_dirty) == (a, False)
    assert third.results["exit_code"] == 1
    assert third.error_message == "exit code 1"
    assert "hunter22" not in json.dumps(third.to_json())
    assert {left.reason for left in make_plan([first, second], ScriptConfig()).left_out} == {
        "it is itself a reproduction"
    }


def test_the_score_counts_the_commands_that_no_script_has(
    connection: Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    commands = [["x", "${SECRET:A}"], ["x", "plain"], ["${SECRET:A}", "\\udcff"], ["${SECRET:A}", "a… (50 characters)"]]
    inexact = {"command_is_exact": False, "git": {"ahead": 0}}
    known = {"git_commit_hash": "1" * 40, "timestamp": START}
    entries = [make_entry(command=command, context=inexact, **known) for command in commands]
    entries.append(make_entry(command=["x"], context={"git": {"ahead": 0}}, **known))
    store(*entries)
    left_out = make_plan(entries, ScriptConfig()).left_out
    window = {"start": START, "end": START + timedelta(days=1), "zone": "UTC"}
    [day] = fetch(connection, "reproducibility", **window)
    assert (day["operations"], day["reproducible"], day["no_exact_command"]) == (5, 2, 3)
    assert day["no_exact_command"] == len(left_out)


@pytest.fixture
def recorded(settings: Settings, without_drainer: None, repository: Repository, tmp_path: Path) -> Repository:
    """A repository in which an operation ran with uncommitted changes."""
    repository.commit(code="committed\n")
    (repository.path / "code").write_text("changed\n")
    os.chdir(repository.path)
    git_state._seen.clear()
    assert run_command(["cp", "code", "out"], "lab", "copy", None) == 0
    os.chdir(tmp_path)
    (repository.path / "out").unlink()
    return repository


def test_the_patch_of_a_dirty_operation_comes_from_the_database(
    settings: Settings, recorded: Repository, tmp_path: Path, folder: Path
) -> None:
    [entry] = AuditService(settings).recent_entries()
    day = entry.timestamp.date()
    generate_report(day, day, tmp_path / "logs")
    created = create_reproduction_script(tmp_path / "logs", tmp_path / "again.sh")
    assert created["operation_count"] == 1
    done = reproduce((tmp_path / "again.sh").read_text(), f"--repo={recorded.path}", cwd=folder)
    assert (done.returncode, verdicts()) == (0, ["reproduced"])


def test_without_the_database_the_script_says_what_it_lacks(
    settings: Settings,
    recorded: Repository,
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries: list[Any] = AuditService(settings).recent_entries()
    monkeypatch.setenv("POSTGRES_PORT", "1")
    write_script(entries, tmp_path / "again.sh", ScriptConfig(), Settings.load())
    assert "the script lacks 1 patches of uncommitted changes" in capsys.readouterr().err
    done = reproduce((tmp_path / "again.sh").read_text(), f"--repo={recorded.path}", cwd=folder)
    assert done.returncode == 3
    assert "made without their patch" in done.stderr


def test_the_repository_holds_no_object_more(
    settings: Settings, recorded: Repository, tmp_path: Path, folder: Path
) -> None:
    entries = AuditService(settings).recent_entries()
    write_script(entries, tmp_path / "again.sh", ScriptConfig(), settings)
    before = subprocess.check_output(["find", str(recorded.path)])
    done = reproduce((tmp_path / "again.sh").read_text(), f"--repo={recorded.path}", cwd=folder)
    assert done.returncode == 0
    assert subprocess.check_output(["find", str(recorded.path)]) == before
