"""`make bench` works: its figures are for people to read, so nothing here says how fast anything is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

LINES = (
    "recent, the query: 2,000 rows against 200",
    "recent, the process: 2,000 rows against 200",
    "recent, the process: against bare click and psycopg",
    "recent, the process: embedded server, against bare",
    "recent, the process: against the public original's with 1,000,000 rows, 2026-11-24",
    "recent, memory: against the public original's with 1,000,000 rows, 2026-11-24",
    "daily report of 100 operations: against COPY to a file",
    "recording, import: against python -c pass",
    "recording, import, CPU",
    "recording, import and one operation in a clean repository of 20 files",
    "recording, import and one operation in a clean repository of 20 files, CPU",
    "the first operation of a process, in a clean repository of 20 files: against git status and a file",
    "the first operation of a process: against the public original with its connection, 2026-11-24",
    "the first operation of a process, in a dirty repository of 20 files: against git status and a file",
    "one operation of many, outside a repository: against its file alone",
    "one operation of many, in a clean repository: against its file and git status",
    "one operation of many: against the public original in a loop, 2026-11-24",
    "one operation of many, in a dirty repository: against its file and git status",
    "a script of 100 steps, the process: against bare click and psycopg with 20 rows",
    "a script of 100 steps, the process: against the public original's rate, 2026-11-24",
    "a script of 100 steps, memory: against that process",
    "a script of 100 steps, memory: against the public original's 1,000 steps",
    "a script of 100 steps, read by bash -n: against writing it",
    "one of a script's 5 steps: against its command and log",
    "a day of 100 operations as Markdown, HTML and JSON: against COPY to a file",
    "a day of 100 operations as Markdown, HTML and JSON: against the public original's rate, 2026-11-24",
    "a day of 100 operations as Markdown, HTML and JSON: against pgBadger's rate of log lines, 2026-11-24",
    "a day of 100 operations as Markdown, HTML and JSON, memory: against a day of none",
    "a day of 100 operations as Markdown, HTML and JSON, memory: against the public original's, 2026-11-24",
    "a day of 100 operations as Markdown, HTML and JSON, memory: against pgBadger's, 2026-11-24",
    "a day of 100 operations as Markdown, HTML and JSON, first paint of its page: against a day of none",
    "the summary of a week of 700 operations: against its SQL",
    "observation of a year's data versions at 5,000 rows, the first: against count(*)",
    "observation of a year's data versions at 5,000 rows, after 30 late rows: against count(*)",
    "sensor tick with nothing due: 5,000 rows against 500",
    "sensor tick with nothing due, its question alone: 5,000 rows against 500",
    "a year of daily reports of 500 operations in one backfill: against its SQL and its files",
    "a year of daily reports of 500 operations in one backfill: against its SQL alone",
    "a year of daily reports of 500 operations in one backfill: against its files alone",
)


@pytest.fixture(scope="module")
def printed() -> str:
    command = [sys.executable, "-m", "audit_dagster_tests.bench", "--quick", "--markdown"]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_every_line_has_a_ratio_and_no_other_is_there(printed: str) -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    assert rows[0] == ["what", "ours", "floor", "added", "ratio", "target", "met"]
    assert [row[0] for row in rows[2:]] == list(LINES)
    assert all(re.fullmatch(r"\d+\.\d\d", row[4]) for row in rows[2:]), rows


def test_a_line_with_a_target_says_whether_it_is_met(printed: str) -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "<= " in line]
    assert len(rows) == 20
    for _, ours, _, added, ratio, target, met in rows:
        name, _, limit = target.rpartition("<= ")
        found = {"": ratio, "ours ": ours, "added ": added}[name]
        assert (met == "yes") == (_number(found) <= _number(limit)), target


def _number(cell: str) -> float:
    return float(cell.split()[0].replace(",", ""))
