"""`log_custom_operation`: what is recorded, and that it never gets in the way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit_dagster import log_custom_operation, recent_logs, set_global_logging
from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry
from audit_dagster.recording import recorder
from audit_dagster.recording.spool import waiting
from audit_dagster.settings import Settings


@pytest.fixture(autouse=True)
def _fresh_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_warned", False)


def only_entry() -> LogEntry:
    (entry,) = AuditService().recent_entries()
    return entry


def test_the_documented_block(settings: Settings) -> None:
    with log_custom_operation("custom_analysis", "statistical_summary") as logger:
        logger.add_parameter("table", Path("data/turf.csv"))
        logger.add_result("mean_temperature", 21.5)
        logger.add_note("Statistical summary")
        logger.add_note("of 20 °C")
    entry = only_entry()
    assert (entry.tool_name, entry.operation, entry.success) == ("custom_analysis", "statistical_summary", True)
    assert entry.parameters == {"table": "data/turf.csv"}
    assert entry.results == {"mean_temperature": 21.5}
    assert entry.note == "Statistical summary\nof 20 °C"
    assert entry.command == sys.orig_argv
    assert entry.working_directory == str(Path.cwd())
    assert entry.duration_seconds is not None
    assert 0 <= entry.duration_seconds < 5
    assert entry.context["hostname"] == os.uname().nodename


def test_an_exception_is_recorded_and_goes_on_its_way(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), log_custom_operation("tool", "divide"):
        _ = 1 / 0
    assert only_entry().error_message == "ZeroDivisionError: division by zero"
    assert not only_entry().success


@pytest.mark.parametrize(
    ("raised", "success", "message"),
    [
        (SystemExit(0), True, None),
        (SystemExit(3), False, "SystemExit: 3"),
        (KeyboardInterrupt(), False, "KeyboardInterrupt"),
    ],
)
def test_exits_and_interrupts_pass_through(
    settings: Settings, raised: BaseException, success: bool, message: str | None
) -> None:
    with pytest.raises(type(raised)), log_custom_operation("tool", "leave"):
        raise raised
    assert (only_entry().success, only_entry().error_message) == (success, message)


def test_a_result_can_say_that_it_failed(settings: Settings) -> None:
    with log_custom_operation("tool", "check") as logger:
        logger.add_result("success", False)
    assert not only_entry().success


def test_as_a_decorator_each_call_is_an_operation(settings: Settings) -> None:
    @log_custom_operation("tool", "call")
    def call() -> int:
        return 7

    assert [call(), call()] == [7, 7]
    assert len({log["operation_id"] for log in recent_logs()}) == 2


def test_a_coroutine_and_a_generator_are_recorded_to_their_end(settings: Settings) -> None:
    @log_custom_operation("tool", "coroutine")
    async def wait() -> None:
        await asyncio.sleep(0.1)
        raise ValueError("in the end")

    @log_custom_operation("tool", "generator")
    def count() -> Iterator[int]:
        yield 1
        time.sleep(0.1)
        yield 2

    with pytest.raises(ValueError, match="in the end"):
        asyncio.run(wait())
    assert list(count()) == [1, 2]
    entries = {entry.operation: entry for entry in AuditService().recent_entries()}
    assert entries["coroutine"].error_message == "ValueError: in the end"
    assert all((entry.duration_seconds or 0) >= 0.1 for entry in entries.values())


def test_one_logger_may_be_entered_again_and_inside_itself(settings: Settings) -> None:
    logger = log_custom_operation("tool", "again")
    with logger:
        logger.add_result("which", "outer")
        with logger:
            logger.add_result("which", "inner")
    with logger:
        pass
    results = [entry.results for entry in AuditService().recent_entries()]
    assert sorted(map(str, results)) == ["{'which': 'inner'}", "{'which': 'outer'}", "{}"]


def test_names_notes_and_keys_that_cannot_be_looked_at(settings: Settings) -> None:
    class Angry:
        def __str__(self) -> str:
            raise RuntimeError

        __hash__ = object.__hash__

    with log_custom_operation(Angry(), "odd") as logger:  # type: ignore[arg-type]
        logger.add_parameter(Angry(), 2)  # type: ignore[arg-type]
        logger.add_parameter("kept", 1)
        logger.add_note(Angry())  # type: ignore[arg-type]
    assert only_entry().tool_name == "<Angry: RuntimeError>"
    assert only_entry().parameters["kept"] == 1


def test_a_closed_stderr_does_not_write_into_the_spool(settings: Settings) -> None:
    code = f"{_RECORD_ONE.replace('pass', 'import os; os.write(2, bytes(5))')}"
    command = ["bash", "-c", '"$@" 2>&- || true', "bash", sys.executable, "-c", code]
    subprocess.run(command, check=True)
    run = [sys.executable, "-m", "audit_dagster.cli", "run", "--", "bash", "-c", "echo stray >&2; exit 3"]
    done = subprocess.run(["bash", "-c", '"$@" 2>&-', "bash", *run], check=False)
    assert done.returncode == 3
    assert {entry.operation for entry in AuditService().recent_entries()} == {"one", "run"}


def test_a_nested_operation_knows_its_parent(settings: Settings) -> None:
    with log_custom_operation("tool", "outer"), log_custom_operation("tool", "inner"):
        pass
    entries = {entry.operation: entry for entry in AuditService().recent_entries()}
    assert entries["inner"].context["parent_operation_id"] == entries["outer"].operation_id
    assert "parent_operation_id" not in entries["outer"].context


def test_tasks_do_not_take_each_other_for_parents(settings: Settings) -> None:
    async def work(name: str) -> None:
        with log_custom_operation("tool", name):
            await asyncio.sleep(0.01)

    async def both() -> None:
        await asyncio.gather(work("a"), work("b"))

    asyncio.run(both())
    assert all("parent_operation_id" not in entry.context for entry in AuditService().recent_entries())


@pytest.mark.parametrize(
    "value",
    [
        "nul \0, lone \ud800",
        float("nan"),
        float("-inf"),
        b"\xff\x00",
        10**5000,
        {1: "a", "1": "b"},
        object(),
        [[[]]] * 3,
        Path("x"),
        {"deep": None},
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_stored(settings: Settings, value: object) -> None:
    with log_custom_operation("tool", "odd") as logger:
        logger.add_result("value", value)
    assert "value" in only_entry().results


def test_cycles_depth_and_angry_objects_are_stored_and_counted(settings: Settings) -> None:
    class Angry:
        def __str__(self) -> str:
            raise RuntimeError("leave me alone")

    cycle: list[object] = []
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(3000):
        deep = [deep]
    with log_custom_operation("tool", "odd") as logger:
        logger.add_result("cycle", cycle)
        logger.add_result("deep", deep)
        logger.add_result("angry", Angry())
    assert only_entry().results["angry"] == "<Angry: RuntimeError>"
    assert only_entry().context["sanitised"] == 3


def test_numpy_and_pandas_values_become_json(settings: Settings) -> None:
    import numpy as np
    import pandas as pd

    with log_custom_operation("tool", "numbers") as logger:
        logger.add_result("scalar", np.float64(1.5))
        logger.add_result("array", np.arange(3))
        logger.add_result("series", pd.Series([1, 2]))
        logger.add_result("time", pd.Timestamp("2023-06-15"))
    results = only_entry().results
    assert (results["scalar"], results["array"], results["time"]) == (1.5, [0, 1, 2], "2023-06-15T00:00:00")
    assert results["series"] == [1, 2]


def test_the_switch_stops_logging_for_later_processes_too(settings: Settings) -> None:
    set_global_logging(False)
    with log_custom_operation("tool", "unseen") as logger:
        logger.add_result("works", True)
    subprocess.run([sys.executable, "-c", _RECORD_ONE], check=True)
    assert recent_logs() == []
    set_global_logging(True)
    subprocess.run([sys.executable, "-c", _RECORD_ONE], check=True)
    assert [log["operation"] for log in recent_logs()] == ["one"]


def test_the_recorded_process_imports_nothing_heavy(settings: Settings) -> None:
    heavy = ["dagster", "pandas", "sqlalchemy", "psycopg", "pydantic", "jinja2", "git", "click", "rich"]
    code = f"{_RECORD_ONE}\nimport sys\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
    assert only_entry().operation == "one"


def test_an_unwritable_spool_costs_one_line_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    """A file stands where the spool's folder should be: that stops root as well."""
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "state" / "spool").write_text("in the way")
    code = f"{_RECORD_ONE}\n{_RECORD_ONE}\nprint('done')\nraise SystemExit(5)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (5, "done\n")
    assert len(done.stderr.splitlines()) == 1
    assert "not recorded" in done.stderr


@pytest.mark.parametrize("variable", ["POSTGRES_PORT", "AUDIT_TIMEZONE", "POSTGRES_LOGGING_STATUS"])
def test_a_wrong_setting_costs_one_line_and_nothing_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "nonsense")
    done = subprocess.run([sys.executable, "-c", _RECORD_ONE], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert variable in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_killed_process_leaves_a_failed_operation(settings: Settings) -> None:
    code = _RECORD_ONE.replace("pass", "import os; os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code], check=False)
    assert only_entry().error_message == "the process ended before the operation finished"
    assert not only_entry().success


def test_a_forked_child_does_not_keep_its_parents_operation_alive(settings: Settings) -> None:
    code = textwrap.dedent("""
        import os, signal, time
        from audit_dagster import log_custom_operation
        with log_custom_operation("tool", "parent"):
            if os.fork() == 0:
                os.close(1)
                time.sleep(3)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    subprocess.run([sys.executable, "-c", code], check=False)
    assert only_entry().operation == "parent"


def test_the_spool_is_private_and_empty_afterwards(settings: Settings) -> None:
    with log_custom_operation("tool", "x"):
        (running,) = waiting(settings.spool_dir)
        assert running.stat().st_mode & 0o777 == 0o600
        assert settings.spool_dir.stat().st_mode & 0o777 == 0o700
        assert recent_logs() == []  # it runs still
    assert len(recent_logs()) == 1
    assert waiting(settings.spool_dir) == []


def test_git_state_of_the_working_directory(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git: Callable[..., str]
) -> None:
    folder = tmp_path / "a repository"
    folder.mkdir()
    git("init", "--quiet", "--initial-branch=feature/analysis", folder)
    (folder / "# odd").write_text("1")
    monkeypatch.chdir(folder)
    for message in ("unborn", "clean", "dirty"):
        if message == "clean":
            git("add", ".")
            git("commit", "--quiet", "--message=first")
        if message == "dirty":
            (folder / "# odd").rename(folder / "renamed")
            git("add", "--all")
        with log_custom_operation("tool", message):
            pass
    head = git("rev-parse", "HEAD")
    states = {
        entry.operation: (entry.git_branch, entry.git_commit_hash, entry.git_dirty)
        for entry in AuditService().recent_entries()
    }
    assert states == {
        "unborn": ("feature/analysis", None, True),
        "clean": ("feature/analysis", head, False),
        "dirty": ("feature/analysis", head, True),
    }


_RECORD_ONE = """
from audit_dagster import log_custom_operation
with log_custom_operation("tool", "one"):
    pass
"""
