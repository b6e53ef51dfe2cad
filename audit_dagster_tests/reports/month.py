"""A month of a lab, the same each time, with every odd day: nothing, only failures, one operation, a clock change."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry
from audit_dagster_tests.conftest import make_entry

ZONE = ZoneInfo("America/Chicago")
ODD_TOOL = '<b>odd</b> | `tool` *x* _y_ \x1b[31m \u202eeman & "quoted"'
_TOOLS = {"sensing-data": "extract", "visualization": "create", "gridded-data": "download", "decode": "run"}
_PEOPLE = ("ada", "grace", "katherine")
_ERRORS = (
    "ConnectionError: the logger of site {} did not answer within 30 s",
    "Traceback (most recent call last):\n  File \"plot.py\", line {}\nKeyError: 'Temperature'",
    None,
)
_NOTES = (
    "<b>bold</b> <script>alert(1)</script> <!-- x --> &amp; </details>",
    "# head\n\n- item\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[x](javascript:alert(1)) ![x](x.png)",
    "a | b || c \\| d",
    "`code` ``co`de`` ```\nfence\n```",
    "🙂 👩‍👩‍👧 ✅ ❌ 🇩🇪 é 日本語",
    "שלום (abc) עולם \u202eoverride\u202c \u2066isolate\u2069",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b31m \r\n\ttab \x7f",
    "\u2028 \u200b \ufeff $x^2$ {{ 7 * 7 }} ${HOME} $(id)",
    "",
    " ",
)


def month() -> list[LogEntry]:
    """November 2023 in Chicago, where the 5th has 25 hours; by their place in it the operations have their ids."""
    made = [*_first_week(), *_rest()]
    return [
        make_entry(**{"operation_id": str(UUID(int=0x40008000000000000000 + number)), "timestamp": moment, **fields})
        for number, (moment, fields) in enumerate(made)
    ]


def local(day: int, hour: int, minute: int = 0, second: int = 0, microsecond: int = 0, fold: int = 0) -> datetime:
    """A moment of November 2023 by the clock on the wall."""
    return datetime(2023, 11, day, hour, minute, second, microsecond, ZONE, fold=fold).astimezone(UTC)


def _first_week() -> Iterator[tuple[datetime, dict[str, Any]]]:
    yield from _ordinary(1, random.Random(1))  # noqa: S311 - the same each time is what it is for
    # Nothing on the 2nd.
    yield local(3, 9), {"success": False, "error_message": "disk full", "command": ["python3", "a.py", "--site", "4"]}
    yield local(3, 10), {"success": False, "error_message": "disk full", "duration_seconds": None}
    yield local(3, 11), {"success": False, "error_message": None, "tool_name": "decode", "duration_seconds": 4000.0}
    yield local(4, 12), {"note": "the only one", "command": ["true"]}
    yield local(5, 0), {"note": "midnight begins this day of 25 hours"}
    yield local(5, 1, 30), {"note": "the first half past one"}
    yield local(5, 1, 30, fold=1), {"note": "the second half past one"}
    yield local(5, 23, 59, 59, 999_999), {"note": "the last microsecond", "duration_seconds": 0.0001}
    yield local(6, 0), {"note": "midnight belongs to the day that it begins"}
    yield local(6, 23, 59, 59, 999_000), {"note": "runs over midnight", "duration_seconds": 7200.0}
    for number, text in enumerate(_NOTES):
        texts = {"note": text, "operation": text, "error_message": text, "parameters": {text: [text, number]}}
        more = {"results": {text: {text: None}}, "command": ["sh", "-c", text], "git_branch": text}
        fields = {"tool_name": ODD_TOOL, "user_name": text or "unknown", **texts, **more}
        yield local(7, 8, number), {**fields, "success": number % 2 == 0}
    yield local(8, 8), {"note": "1 MB: " + "0123456789abcdef" * 65_536}


def _rest() -> Iterator[tuple[datetime, dict[str, Any]]]:
    rolled = random.Random(2)  # noqa: S311
    for day in range(9, 30):
        if datetime(2023, 11, day).weekday() < 5:
            yield from _ordinary(day, rolled)


def _ordinary(day: int, rolled: random.Random) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """A dozen operations of a working day; some fail, some on a dirty tree, one is a repetition."""
    for hour in range(8, 20):
        tool, site = rolled.choice([*_TOOLS]), rolled.randrange(1, 9)
        fails = rolled.random() < 0.2
        error = rolled.choice(_ERRORS)
        commit = f"{day:040x}"
        fields: dict[str, Any] = {
            "tool_name": tool,
            "operation": _TOOLS[tool],
            "user_name": rolled.choice(_PEOPLE),
            "success": not fails,
            "error_message": error.format(site) if fails and error else None,
            "duration_seconds": round(rolled.lognormvariate(2, 2), 3),
            "parameters": {"project": "Winter Turf - v3", "node_id": site, "format": rolled.choice(["csv", "nc"])},
            "results": {} if fails else {"records_extracted": rolled.randrange(100_000), "output_file": f"{site}.csv"},
            "git_branch": "main",
            "git_commit_hash": commit,
            "git_dirty": rolled.random() < 0.3,
            "command": ["python3", f"{tool}.py", "--node-id", str(site)],
            "working_directory": "/home/ada/lab",
            "context": {"git": {"root": "/home/ada/lab", "ahead": 0}, "tool": {"version": f"1.{day // 10}"}},
        }
        yield local(day, hour, rolled.randrange(60), rolled.randrange(60)), fields
    context = {"reproduces": str(UUID(int=0x40008000000000000000)), "verdict": "reproduced"}
    yield local(day, 20), {"context": context, "note": "once more"}
