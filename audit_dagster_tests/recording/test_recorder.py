"""`log_custom_operation`: what is recorded, and that it never gets in the way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_dagster import log_custom_operation, recent_logs, set_global_logging
from audit_dagster.audit_service import AuditService
from audit_dagster.recording import recorder
from audit_dagster.recording.spool import waiting
from audit_dagster.settings import Settings
from audit_dagster_tests.recording.stored import only_entry


@pytest.fixture(autouse=True)
def _fresh_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_warned", False)


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


def test_a_closed_stderr_does_not_write_into_the_spool(settings: Settings) -> None:
    code = f"{_RECORD_ONE.replace('pass', 'import os; os.write(2, bytes(5))')}"
    command = ["bash", "-c", '"$@" 2>&- || true', "bash", sys.executable, "-c", code]
    subprocess.run(command, check=True)
    run = [sys.executable, "-m", "audit_dagster.cli", "run", "--", "bash", "-c", "echo stray >&2; exit 3"]
    done = subprocess.run(["bash", "-c", '"$@" 2>&-', "bash", *run], check=False)
    assert done.returncode == 3
    assert {entry.operation for entry in AuditService().recent_entries()} == {"one", "run"}


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


_RECORD_ONE = """
from audit_dagster import log_custom_operation
with log_custom_operation("tool", "one"):
    pass
"""


def test_an_env_file_of_another_program_in_another_encoding(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"# caf\xe9\nSITE=caf\xe9\nAUDIT_TIMEZONE=America/Chicago\n")
    with log_custom_operation("tool", "dig"):
        pass
    assert only_entry().success
    assert Settings.load().timezone == "America/Chicago"
