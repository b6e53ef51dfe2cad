"""Rows of the table `tool_call_logs`: one by one, and out of a real PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from audit_dagster.entry import LogEntry
from audit_dagster.errors import DatabaseError, EntryError
from audit_dagster.importers.markdown_logs import parse_log
from audit_dagster.importers.outcome import NO_ERROR_TEXT, Read, Refused
from audit_dagster.importers.tool_call_logs import read_table, row_to_entry

CHICAGO = ZoneInfo("America/Chicago")
ROW: dict[str, Any] = {
    "id": 17,
    "timestamp": datetime(2025, 9, 1, 8, 30, 5, 120000),
    "tool_name": "soil-probe",
    "operation": "Read the probe in bed 4",
    "execution_source": "LLM/MCP",
    "triggered_by": "claude via mia@bench",
    "hostname": "bench",
    "platform": "Linux-6.1",
    "python_version": "3.12.1",
    "working_directory": "/home/mia/lab",
    "script_path": None,
    "success": True,
    "duration_seconds": 0,
    "parameters": '{"bed": 4, "uid": "0012", "note": "wet"}',
    "results": '{"success": true, "mean": NaN, "rows": 3, "note": "wet"}',
    "environment_variables": '{"CI": "false", "MCP_USER": "claude", "GITHUB_ACTOR": null}',
    "note": "wet",
    "log_file_path": "logs/a.md",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_branch": "main",
    "git_dirty": False,
    "command": 'rtgs soil --note it\'s "wet"',
    "created_at": datetime(2025, 9, 1, 13, 30, 5, 125000),
}


def entry_of(**changes: Any) -> LogEntry:
    return row_to_entry({**ROW, **changes}, CHICAGO)


def test_a_row_becomes_an_entry() -> None:
    entry = entry_of()
    assert entry.timestamp == datetime(2025, 9, 1, 13, 30, 5, 120000, UTC)
    assert (entry.user_name, entry.note, entry.command) == ("mia", "wet", None)
    assert (entry.git_commit_hash, entry.git_branch, entry.git_dirty) == (ROW["git_commit"], "main", False)
    assert entry.parameters == {"bed": 4, "uid": "0012"}
    assert entry.results == {"mean": None, "rows": 3}
    assert entry.duration_seconds == 0.0
    assert entry.context == {
        "hostname": "bench",
        "platform": "Linux-6.1",
        "python_version": "3.12.1",
        "source": "LLM/MCP",
        "triggered_by": "claude via mia@bench",
        "log_file_path": "logs/a.md",
        "created_at": "2025-09-01T13:30:05.125Z",
        "environment_variables": {"CI": "false", "MCP_USER": "claude"},
        "command_text": 'rtgs soil --note it\'s "wet"',
        "duration_precision": "seconds",
        "imported_from": {"kind": "tool_call_logs", "id": 17},
        "sanitised": 1,
    }
    assert LogEntry.from_json(json.loads(json.dumps(entry.to_json(), allow_nan=False))) == entry


def test_times_in_the_results_are_finer_than_the_column() -> None:
    times = '{"start_time": "2025-09-01T08:30:04.500000", "end_time": "2025-09-01T08:30:05.100000", "rows": 3}'
    entry = entry_of(results=times)
    assert entry.timestamp == datetime(2025, 9, 1, 13, 30, 4, 500000, UTC)
    assert entry.duration_seconds == pytest.approx(0.6)
    assert entry.results == {"rows": 3}
    assert "duration_precision" not in entry.context
    assert entry_of(duration_seconds=None).duration_seconds is None


def test_a_failed_row_without_an_error_text() -> None:
    entry = entry_of(success=False, results='{"success": false, "error": ""}')
    assert (entry.success, entry.error_message) == (False, NO_ERROR_TEXT)
    assert entry_of(success=False, results=None).error_message == NO_ERROR_TEXT


@pytest.mark.parametrize("text", ["{broken", '["a"]', "NaN", '{"a": ' * 100_000])
def test_json_that_is_no_object_is_kept_as_text_with_a_mark(text: str) -> None:
    entry = entry_of(parameters=text)
    assert entry.parameters == {"raw": text}
    assert entry.context["unreadable"] == ["parameters"]


@pytest.mark.parametrize("empty", [None, "", "null", "{}"])
def test_no_json_is_an_empty_object(empty: str | None) -> None:
    entry = entry_of(parameters=empty, results=empty, environment_variables=empty)
    assert (entry.parameters, entry.results) == ({}, {})
    assert "unreadable" not in entry.context


def test_the_row_of_the_programs_first_months_and_bytes() -> None:
    early = {name: value for name, value in ROW.items() if not name.startswith("git_") and name != "command"}
    early |= {"operation": "Lies Beet 4, naß".encode(), "parameters": b'{"bed": "\xc3\xa4"}'}
    entry = row_to_entry(early, CHICAGO)
    assert (entry.operation, entry.parameters) == ("Lies Beet 4, naß", {"bed": "ä"})
    assert (entry.git_commit_hash, entry.git_dirty) == (None, None)


def test_a_row_that_lacks_what_an_entry_needs() -> None:
    for change in ({"timestamp": None}, {"operation": ""}, {"tool_name": None}, {"success": None, "results": None}):
        with pytest.raises(EntryError):
            entry_of(**change)


def test_a_row_and_the_log_exported_from_it_are_one_operation() -> None:
    environment = {"timestamp": "2025-09-01T08:30:05.120000", "tool_name": "soil-probe", "hostname": "bench"}
    log = (
        "# Soil-Probe Execution Log\n\n## Execution Context\n- **Operation**: Read the probe in bed 4\n\n"
        f"## Detailed Results\n```json\n{ROW['results']}\n```\n"
        f"## Execution Environment\n```json\n{json.dumps(environment)}\n```\n"
    )
    assert parse_log(log, CHICAGO, "a.md").operation_id == entry_of().operation_id


# Out of a database


def fill(dsn: str, rows: list[dict[str, Any]], *, without: tuple[str, ...] = ()) -> None:
    columns = [name for name in ROW if name not in without]
    types = {
        **dict.fromkeys(("timestamp", "created_at"), "timestamp"),
        **dict.fromkeys(("success", "git_dirty"), "boolean"),
        "duration_seconds": "integer",
        "id": "integer PRIMARY KEY",
    }
    definition = ", ".join(f'"{name}" {types.get(name, "text")}' for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(f"%({name})s" for name in columns)
    with psycopg.connect(dsn) as connection:
        connection.execute(f"CREATE TABLE tool_call_logs ({definition})".encode())
        statement = f"INSERT INTO tool_call_logs ({names}) VALUES ({values})".encode()  # noqa: S608
        connection.cursor().executemany(statement, [{**ROW, **row} for row in rows])


def test_a_table_is_read_in_order_and_every_row_counts(postgres_dsn: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 3, "success": False, "results": '{"success": false, "error": "no probe"}'},
        {"id": 1},
        {"id": 2},  # the same in all but its id: the program logged one command twice
        {"id": 9, "operation": ""},
        {"id": 10, "parameters": "{broken"},
    ]
    fill(postgres_dsn, rows)
    outcomes = list(read_table(postgres_dsn, CHICAGO))
    assert [outcome.source for outcome in outcomes] == [f"tool_call_logs id {n}" for n in (1, 2, 3, 9, 10)]
    assert [type(outcome) for outcome in outcomes] == [Read, Read, Read, Refused, Read]
    entries = [outcome.entry for outcome in outcomes if isinstance(outcome, Read)]
    assert entries[0] == entry_of(id=1)
    assert entries[2].error_message == "no probe"
    assert len({entry.operation_id for entry in entries}) == 4
    assert list(read_table(postgres_dsn, CHICAGO)) == outcomes


def test_many_rows_and_the_older_table(postgres_dsn: str) -> None:
    rows: list[dict[str, Any]] = [{"id": number, "operation": f"Read bed {number}"} for number in range(1, 2501)]
    fill(postgres_dsn, rows, without=("git_commit", "git_branch", "git_dirty", "command"))
    operations = [outcome.entry.operation for outcome in read_table(postgres_dsn, CHICAGO) if isinstance(outcome, Read)]
    assert operations == [row["operation"] for row in rows]
    assert next(read_table(postgres_dsn, CHICAGO)).source == "tool_call_logs id 1"


def test_a_database_without_the_table(postgres_dsn: str) -> None:
    with pytest.raises(DatabaseError, match="no table tool_call_logs"):
        list(read_table(postgres_dsn, CHICAGO))


def test_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot be reached") as caught:
        list(read_table(f"host={tmp_path} user=x password=hush dbname=y", CHICAGO))
    assert "hush" not in str(caught.value)
    with pytest.raises(DatabaseError, match="address") as caught:
        list(read_table("host=x password=my hush", CHICAGO))
    assert "hush" not in str(caught.value)
