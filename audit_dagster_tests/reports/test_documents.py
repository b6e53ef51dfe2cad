"""The documents, letter for letter, and against everything that a hostile note may hold.

`AUDIT_UPDATE_GOLDEN=1 pytest …` writes the golden files anew; the tests that wrote one fail, so that it is looked at.
"""

from __future__ import annotations

import json
import math
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from audit_dagster.entry import LogEntry
from audit_dagster.errors import EntryError
from audit_dagster.escaping import visible
from audit_dagster.render import render
from audit_dagster.report_service import ReportService
from audit_dagster.reports import daily, tools, weekly
from audit_dagster.reports.tools import ToolRows
from audit_dagster.reports.totals import Totals, stated_totals
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry

GOLDEN = Path(__file__).parent / "golden"
ZONE = ZoneInfo("UTC")
CHICAGO = ZoneInfo("America/Chicago")
DAY = date(2023, 6, 15)
MONDAY = date(2023, 6, 12)

DOCUMENTED_SAMPLE = """\
# Audit Report - 2023-06-15

## Summary
- Total Operations: 12
- Successful: 11 (91.7%)
- Failed: 1 (8.3%)
- Tools Used: sensing-data, visualization, gridded-data

## Operations

### 14:30:22 - sensing-data extract ✅
- **Project**: Winter Turf - v3
- **Date Range**: 2023-01-01 to 2023-01-31
- **Records**: 15,420
- **Duration**: 45.7s
- **Output**: ./data/Winter_Turf_v3_2023-01-01_to_2023-01-31.csv
"""
DOCUMENTED_ENTRY = {
    "timestamp": "2023-06-15T14:30:22.123Z",
    "operation_id": "3f2b8c1e-5d4a-4e6f-9a7b-0c1d2e3f4a5b",
    "tool_name": "sensing-data",
    "operation": "extract",
    "user": "username",
    "git_branch": "feature/analysis",
    "git_commit": "abc123...",
    "parameters": {"project": "Winter Turf - v3", "start_date": "2023-01-01", "end_date": "2023-01-31"},
    "results": {
        "success": True,
        "records_extracted": 15420,
        "output_file": "./data/Winter_Turf_v3_2023-01-01_to_2023-01-31.csv",
    },
    "duration_seconds": 45.7,
    "note": "Monthly analysis for winter conditions",
}
HOSTILE_NOTE = (
    "<b>bold</b> | `code` *em* [a](javascript:x)\n# head\x1b[31m \u202ereversed -->\n<!-- audit-entry: {} -->"
)


def at(day: int, hour: int, minute: int = 0, number: int = 0, **fields: Any) -> LogEntry:
    """An entry whose id says when it was: golden files must not depend on the order of the tests."""
    moment = datetime(2023, 6, day, hour, minute, tzinfo=UTC)
    identity = f"00000000-0000-4000-8000-{day:04d}{hour:02d}{minute:02d}{number:04d}"
    return make_entry(timestamp=moment, operation_id=identity, **fields)


def documented_day() -> list[LogEntry]:
    later = {"sensing-data": 3, "visualization": 4, "gridded-data": 4}
    names = [name for name, count in later.items() for _ in range(count)]
    rest = [at(15, 15, minute, tool_name=name, success=minute != 7) for minute, name in enumerate(names)]
    return [LogEntry.from_json(DOCUMENTED_ENTRY), *rest]


def test_the_daily_report_is_the_documented_one() -> None:
    report = daily.daily_report(DAY, documented_day(), ZONE)
    assert report.startswith(DOCUMENTED_SAMPLE)


# ---- Rows as SQL counts them ----


def quantile(values: Sequence[float], part: float) -> float | None:
    """percentile_cont"""
    if not values:
        return None
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def counts(entries: Sequence[LogEntry]) -> dict[str, int]:
    return {"operations": len(entries), "failed": sum(not entry.success for entry in entries)}


def grouped(entries: Sequence[LogEntry], key: Callable[[LogEntry], Any]) -> dict[Any, list[LogEntry]]:
    groups: dict[Any, list[LogEntry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return groups


def usage(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    made = []
    for name, group in grouped(entries, lambda entry: entry.tool_name).items():
        known = [entry.duration_seconds for entry in group if entry.duration_seconds is not None]
        spread = {"shortest": min(known), "mean": sum(known) / len(known), "longest": max(known)} if known else {}
        quantiles = {"p50": quantile(known, 0.5), "p95": quantile(known, 0.95)}
        unknown = {"shortest": None, "mean": None, "longest": None}
        users = len({entry.user_name for entry in group})
        made.append({"tool_name": name, **counts(group), **unknown, **spread, **quantiles, "users": users})
    return sorted(made, key=lambda row: (-row["operations"], row["tool_name"]))


def per_day(entries: Sequence[LogEntry], zone: ZoneInfo) -> list[dict[str, Any]]:
    groups = grouped(entries, lambda entry: (entry.timestamp.astimezone(zone).date(), entry.tool_name))
    return [{"day": key[0], "tool_name": key[1], **counts(groups[key])} for key in sorted(groups)]


def users(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    made = [{"user_name": name, **counts(group)} for name, group in grouped(entries, lambda e: e.user_name).items()]
    return sorted(made, key=lambda row: (-row["operations"], row["user_name"]))


def changes(entries: Sequence[LogEntry], before: Sequence[LogEntry]) -> list[dict[str, Any]]:
    medians = {name: usage_of_operations(group) for name, group in (("now", entries), ("before", before))}
    both = medians["now"].keys() & medians["before"].keys()
    found = [(key, *medians["now"][key], medians["before"][key][1]) for key in both]
    changed = [row for row in found if row[2] and row[3] and row[2] != row[3]]
    changed.sort(key=lambda row: (-abs(math.log(row[2]) - math.log(row[3])), row[0]))
    return [
        {"tool_name": key[0], "operation": key[1], "operations": count, "p50": now, "before": old}
        for key, count, now, old in changed[:5]
    ]


def usage_of_operations(entries: Sequence[LogEntry]) -> dict[tuple[str, str], tuple[int, float | None]]:
    """How often each operation ran, and its median duration."""
    made = {}
    for key, group in grouped(entries, lambda entry: (entry.tool_name, entry.operation)).items():
        known = [entry.duration_seconds for entry in group if entry.duration_seconds is not None]
        made[key] = len(group), quantile(known, 0.5)
    return made


def parameters(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    """Of entries whose parameters are texts."""
    groups: dict[tuple[str, str], list[LogEntry]] = {}
    for entry in entries:
        for name, value in entry.parameters.items():
            groups.setdefault((name, value[:200]), []).append(entry)
    made = [{"name": name, "value": value, **counts(group)} for (name, value), group in groups.items()]
    return sorted(made, key=lambda row: (-row["operations"], row["name"], row["value"]))


def reproducibility(entries: Sequence[LogEntry], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Of entries of which none was run again."""
    first = [entry for entry in entries if entry.success and "reproduces" not in entry.context]
    made = []
    for day, group in sorted(grouped(first, lambda entry: entry.timestamp.astimezone(zone).date()).items()):
        lacking = {
            "no_command": [entry.command is None for entry in group],
            "no_exact_command": [entry.context.get("command_is_exact") is False for entry in group],
            "no_commit": [entry.git_commit_hash is None for entry in group],
            "no_exact_patch": [bool(entry.git_dirty) and not _patch_is_exact(entry) for entry in group],
            "on_no_remote": [bool(entry.git_commit_hash) and _git(entry).get("ahead") != 0 for entry in group],
            "input_without_hash": [_has_input_without_hash(entry) for entry in group],
        }
        row = {name: sum(lacks) for name, lacks in lacking.items()}
        whole = sum(not any(lacks) for lacks in zip(*lacking.values(), strict=True))
        tried = dict.fromkeys(("reproduced", "differing", "broken"), 0)
        made.append({"day": day, "operations": len(group), "reproducible": whole, **row, **tried})
    return made


def day_counts(entries: Sequence[LogEntry], zone: ZoneInfo) -> list[dict[str, Any]]:
    groups = grouped(entries, lambda entry: entry.timestamp.astimezone(zone).date())
    return [{"day": day, **counts(groups[day])} for day in sorted(groups)]


def failure_kinds(entries: Sequence[LogEntry], before: Sequence[LogEntry]) -> list[dict[str, Any]]:
    """Of failures before and in the week, by tool, operation and error without its numbers."""
    made = []
    failed = [entry for entry in (*before, *entries) if not entry.success]
    for key, group in grouped(failed, _kind).items():
        now = [entry.timestamp for entry in group if entry in entries]
        made.append(
            {
                "tool_name": key[0],
                "operation": key[1],
                "error_message": min(entry.error_message or "" for entry in group),
                "failures": len(now),
                "first_at": min(now, default=None),
                "last_at": max(now, default=None),
                "seen_before": len(now) < len(group),
            }
        )
    return sorted(made, key=lambda row: (-row["failures"], row["tool_name"], row["operation"], row["error_message"]))


def _kind(entry: LogEntry) -> tuple[str, str, str]:
    return entry.tool_name, entry.operation, re.sub("[0-9]+", "0", (entry.error_message or "")[:2000])


def slowest(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    known = [entry for entry in entries if entry.duration_seconds is not None]
    known.sort(key=lambda entry: (-(entry.duration_seconds or 0), entry.timestamp, entry.operation_id))
    names = ("tool_name", "operation", "user_name", "timestamp", "duration_seconds", "success", "operation_id")
    return [{name: getattr(entry, name) for name in names} for entry in known[:5]]


def user_tools(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    groups = grouped(entries, lambda entry: (entry.user_name, entry.tool_name))
    made = [{"user_name": key[0], "tool_name": key[1], **counts(group)} for key, group in groups.items()]
    return sorted(made, key=lambda row: (-row["operations"], row["user_name"], row["tool_name"]))


def failing_parameters(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    made = [row for row in parameters(entries) if row["failed"]]
    return sorted(made, key=lambda row: (-row["failed"], row["operations"], row["name"], row["value"]))


def buckets(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    known = [entry for entry in entries if entry.duration_seconds is not None]
    groups = grouped(known, lambda entry: bisect_right(tools.BOUNDS, entry.duration_seconds))
    return [{"bucket": bucket, **counts(groups[bucket])} for bucket in sorted(groups)]


def code(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    groups = grouped(entries, lambda entry: (entry.context.get("tool", {}).get("version"), entry.git_commit_hash))
    made = [{"version": key[0], "git_commit_hash": key[1], **counts(group)} for key, group in groups.items()]
    return sorted(made, key=lambda row: (-row["operations"], row["version"] or "~", row["git_commit_hash"] or "~"))


def _git(entry: LogEntry) -> dict[str, Any]:
    return dict(entry.context.get("git", {}))


def _patch_is_exact(entry: LogEntry) -> bool:
    return bool(_git(entry).get("patch", {}).get("exact"))


def _has_input_without_hash(entry: LogEntry) -> bool:
    return any(file.get("sha256", 0) is None for file in entry.context.get("inputs", []))


def week_rows(entries: Sequence[LogEntry], before: Sequence[LogEntry], zone: ZoneInfo) -> weekly.WeekRows:
    """`before` are entries of the week before."""
    return weekly.WeekRows(
        totals=counts(entries),
        previous_totals=counts(before),
        tools=usage(entries),
        previous_tools=usage(before),
        per_day=per_day(entries, zone),
        users=users(entries),
        reproducibility=reproducibility(entries, zone),
        calendar=day_counts([*before, *entries], zone),
        kinds=failure_kinds(entries, before),
        slowest=slowest(entries),
        changes=changes(entries, before),
        user_tools=user_tools(entries),
    )


def weekly_document(entries: Sequence[LogEntry], before: Sequence[LogEntry], zone: ZoneInfo) -> str:
    beside = weekly.Beside(MONDAY - timedelta(weeks=1), MONDAY + timedelta(weeks=1))
    return weekly.weekly_summary(MONDAY, week_rows(entries, before, zone), zone, beside)


def tool_rows(tool_name: str, entries: Sequence[LogEntry], before: Sequence[LogEntry], zone: ZoneInfo) -> ToolRows:
    entries = [entry for entry in entries if entry.tool_name == tool_name]
    before = [entry for entry in before if entry.tool_name == tool_name]
    return ToolRows(
        usage=next(iter(usage(entries)), None),
        previous_usage=next(iter(usage(before)), None),
        per_day=per_day(entries, zone),
        users=users(entries),
        parameters=parameters(entries),
        calendar=day_counts([*before, *entries], zone),
        kinds=failure_kinds(entries, before),
        failing_parameters=failing_parameters(entries),
        buckets=buckets(entries),
        code=code(entries),
    )


def tool_document(tool_name: str, entries: Sequence[LogEntry], before: Sequence[LogEntry], zone: ZoneInfo) -> str:
    return tools.tool_report(MONDAY, tool_name, tool_rows(tool_name, entries, before, zone), zone)


# ---- Golden files ----


@dataclass(frozen=True)
class Case:
    """A week: its entries, those of the week before, the tool that the tool report is about."""

    entries: tuple[LogEntry, ...]
    before: tuple[LogEntry, ...]
    tool_name: str
    zone: ZoneInfo = ZONE


def weeks() -> dict[str, Case]:
    turf: dict[str, Any] = {"parameters": {"project": "Winter Turf - v3"}}
    trace = "Traceback (most recent call last):\n  File \"plot.py\", line 1\nKeyError: 'Temperature'"
    ordinary = (
        at(12, 8, 5, **turf, duration_seconds=12.25, note="Monday's first"),
        at(13, 9, tool_name="visualization", operation="create", user_name="grace", duration_seconds=0.25),
        at(15, 4, 30, **turf, duration_seconds=1200.5, results={"records_extracted": 1234567}),
        at(15, 14, 30, **turf, duration_seconds=45.5, command=["python3", "extract.py", "--site", "a b"]),
        at(15, 14, 31, tool_name="visualization", operation="create", success=False, error_message=trace),
        at(15, 14, 32, tool_name="visualization", operation="create", success=False, error_message=trace),
        at(18, 23, 59, tool_name="gridded-data", operation="download", duration_seconds=None),
    )
    before = (
        at(5, 10),
        at(6, 10, tool_name="visualization", operation="create"),
        at(7, 10, tool_name="decode", success=False, error_message="no such file"),
    )
    hostile = HOSTILE_NOTE
    odd = (
        at(15, 10, tool_name=hostile, operation=hostile, user_name=hostile, note=hostile, command=["sh", hostile]),
        at(15, 11, tool_name=hostile, operation=hostile, success=False, error_message=hostile, note=hostile),
        at(15, 12, tool_name=hostile, operation="x", parameters={hostile: hostile}, results={hostile: [hostile]}),
    )
    only_failures = (
        at(15, 1, success=False, error_message="disk full"),
        at(15, 2, success=False, error_message="disk full"),
        at(16, 3, success=False, error_message=None, duration_seconds=None),
    )
    return {
        "ordinary": Case(ordinary, before, "visualization"),
        "ordinary_chicago": Case(ordinary, before, "sensing-data", CHICAGO),
        "nothing": Case((), before, "decode"),
        "nothing_ever": Case((), (), "decode"),
        "only_failures": Case(only_failures, (), "sensing-data"),
        "hostile": Case(odd, (), hostile),
    }


WEEKS = weeks()


def daily_document(case: Case) -> str:
    of_day = [entry for entry in case.entries if entry.timestamp.astimezone(case.zone).date() == DAY]
    return daily.daily_report(DAY, of_day, case.zone)


DOCUMENTS: dict[str, Callable[[Case], str]] = {
    "daily": daily_document,
    "weekly": lambda case: weekly_document(case.entries, case.before, case.zone),
    "tool": lambda case: tool_document(case.tool_name, case.entries, case.before, case.zone),
}


@pytest.mark.parametrize("week", WEEKS)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_golden(kind: str, week: str) -> None:
    path = GOLDEN / f"{kind}_{week}.md"
    text = DOCUMENTS[kind](WEEKS[week])
    if os.environ.get("AUDIT_UPDATE_GOLDEN") == "1":
        path.write_text(text, "utf-8", newline="\n")
        pytest.fail(f"{path.name} was written anew: look at it, then run without AUDIT_UPDATE_GOLDEN")
    with path.open(encoding="utf-8", newline="") as file:
        assert text == file.read()


def test_every_golden_file_is_tested() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {f"{kind}_{week}" for kind in DOCUMENTS for week in WEEKS}


@pytest.mark.parametrize("week", WEEKS)
def test_the_service_writes_the_same_from_the_database(
    week: str, settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    case = WEEKS[week]
    if case.entries or case.before:
        store(*case.entries, *case.before)
    service = ReportService(settings._replace(timezone=case.zone.key))
    made = {
        "daily": service.write_daily_report(connection, DAY),
        "weekly": service.write_weekly_summary(connection, MONDAY),
        "tool": service.write_tool_report(connection, MONDAY, case.tool_name),
    }
    assert {kind: document.text for kind, document in made.items()} == {
        kind: document(case) for kind, document in DOCUMENTS.items()
    }
    for document in made.values():
        assert document.path.read_text("utf-8") == document.text
        assert stated_totals(document.text) == (document.operations, document.failed)


# ---- Entries in a report ----


def test_entries_come_back_exactly() -> None:
    entries = [*documented_day(), *WEEKS["hostile"].entries, *WEEKS["ordinary"].entries]
    assert list(daily.entries_in(daily.daily_report(DAY, entries, ZONE))) == entries


def test_a_deleted_section_takes_its_entry_out() -> None:
    entries = documented_day()
    report = daily.daily_report(DAY, entries, ZONE)
    starts = [match.start() for match in re.finditer(r"^### ", report, re.MULTILINE)]
    assert len(starts) == len(entries)
    for number, (start, end) in enumerate(pairwise([*starts, report.index("*Days and times")])):
        left = [entry for entry in entries if entry is not entries[number]]
        assert list(daily.entries_in(report[:start] + report[end:])) == left


@pytest.mark.parametrize("damaged", ["{", "[]", "null", '{"tool_name": "x"}', '{"operation_id": 1}'])
def test_a_damaged_entry_is_told(damaged: str) -> None:
    with pytest.raises(EntryError):
        list(daily.entries_in(f"text\n<!-- audit-entry: {damaged} -->\n"))


FORGED = make_entry(tool_name="forged").to_json()
FORGERY = render("daily_report.md.j2", day=DAY, zone="UTC", total=1, failed=0, tools=[], operations=[]) + (
    f"<!-- audit-entry: {json.dumps(FORGED)} -->"
)
FORGING = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "-->",
                    "<!--",
                    "--",
                    "<!-- audit-entry: ",
                    "\n",
                    "\r",
                    "\r\n",
                    "\u2028",
                    "\x0b",
                    "\x0c",
                    "\x1c",
                    "\x85",
                ),
                *("```", "`", "~~~", "]]>", "--!>", "\\", '"', "{", "}", "###", FORGERY, f"\n{FORGERY}\n"),
                *(f"-->\n{FORGERY}", f'"}} -->\n{FORGERY}', f"`\n\n{FORGERY}\n\n`", f"\u2028{FORGERY}\u2028"),
            ]
        ),
        st.text(max_size=20),
    ),
    max_size=6,
).map("".join)


@given(text=FORGING, where=st.integers(min_value=1, max_value=255))
@example(text=f"-->\n{FORGERY}\n", where=255)
def test_no_text_forges_an_entry(text: str, where: int) -> None:
    texts = [text if where & 1 << bit else "x" for bit in range(8)]
    entry = make_entry(
        note=texts[0],
        tool_name=texts[1],
        operation=texts[2],
        user_name=texts[3] or "unknown",
        error_message=texts[4],
        parameters={texts[5]: texts[5], "list": [texts[5]]},
        results={"output_file": texts[6], "deep": {texts[6]: texts[6]}},
        command=["sh", "-c", texts[7]],
        working_directory=texts[7],
        success=False,
    )
    report = daily.daily_report(DAY, [entry], ZONE)
    assert list(daily.entries_in(report)) == [entry]
    assert list(daily.entries_in(report.replace("\n", "\r\n"))) == [entry]
    assert stated_totals(report) == Totals(1, 1)


# ---- Totals ----


@pytest.mark.parametrize("week", WEEKS)
def test_stated_totals_are_the_counts(week: str) -> None:
    case = WEEKS[week]
    of_tool = [entry for entry in case.entries if entry.tool_name == case.tool_name]
    of_day = [entry for entry in case.entries if entry.timestamp.astimezone(case.zone).date() == DAY]
    expected = {"daily": of_day, "weekly": case.entries, "tool": of_tool}
    for kind, entries in expected.items():
        assert stated_totals(DOCUMENTS[kind](case)) == tuple(counts(entries).values()), kind


def test_totals_of_thousands() -> None:
    entries = [at(15, 1, number=number, success=number % 2 == 0) for number in range(2001)]
    assert stated_totals(weekly_document(entries, [], ZONE)) == (2001, 1000)
    assert stated_totals(tool_document("sensing-data", entries, [], ZONE)) == (2001, 1000)
    assert stated_totals(daily.daily_report(DAY, entries, ZONE)) == (2001, 1000)


def test_a_text_without_totals_is_told() -> None:
    with pytest.raises(EntryError):
        stated_totals("# Audit Report - 2023-06-15\n")


# ---- What a viewer makes of a hostile text ----

PIECES = [
    *("<script>alert(1)</script>", "<b>bold</b>", "<img src=x onerror=alert(1)>", "</li></ul><h1>", "<!-- x", "-->"),
    *(
        "<?php x ?>",
        "<![CDATA[x]]>",
        "<!DOCTYPE html>",
        "<a href='x'>y</a>",
        "<x y",
        "a < b > c",
        "<https://x.example>",
    ),
    *("<me@x.example>", "&lt;b&gt;", "&#60;b&#62;", "&amp;", "&", "&copy", "&copy;", "&#x3c;script&#x3e;", "AT&T;"),
    *("[a](http://x.example)", "[a][b]", "[a]: http://x.example", "![i](x.png)", "[^1]", "[x] task", "[ ] task"),
    *("[a](javascript:alert(1))", "](x)", "[", "]", "![", "()", "[a\\](b)", "\\[a](b)", "[a]\\(b)"),
    *(
        "*em*",
        "**strong**",
        "***both***",
        "_em_",
        "__strong__",
        "a_b_c",
        "a _b_ c",
        "_",
        "__init__",
        "*",
        "**",
        "~~s~~",
    ),
    *("~s~", "`code`", "``co`de``", "`", "```", "```js\nx\n```", "~~~", "\\", "\\\\", "\\`", "\\*a\\*", "a\\", "a\\|b"),
    *("|", "a|b", "| a | b |", "|---|---|", "||", "\\|", "`a|b`", "|\n|---|\n| x |", "a | b\n--|--\n1 | 2"),
    *("# head", "## head", "#", "- item", "* item", "+ item", "1. item", "> quote", "---", "***", "===", "    code"),
    *(
        "a\nb",
        "a\n\nb",
        "a\r\nb",
        "a  \nb",
        "a\\\nb",
        "\n# head",
        "\n\n<b>x</b>\n\n",
        "\n---",
        "\n===",
        "\ttab",
        "a\tb",
    ),
    *("\x1b[31mred\x1b[0m", "\x1b]8;;http://x\x07y\x1b]8;;\x07", "\x00", "\x07", "\x7f", "\x85", "\x9b31m", "\b\b"),
    *(
        "\u202eabc",
        "\u2066x\u2069",
        "\u200bx",
        "\u2028x",
        "\u2029x",
        "\ufeffx",
        "\ud800",
        "e\u0301",
        "日本語",
        "🙂",
        "°",
    ),
    *("$x$", "$$x$$", "$(id)", "`id`", "${x}", "%s", "{{ x }}", "{% x %}", "{# x #}", "{{ config }}", "{% raw %}"),
    *(":smile:", "@user", "#123", "javascript:alert(1)", "=1+1", "'", '"', "\"'`", "<", ">", "<<", ">>", "a" * 90),
    *(HOSTILE_NOTE[:80], "<details><summary>x</summary>", "<svg/onload=alert(1)>", "<style>*{}</style>", "x</td><td>y"),
]
CORPUS = list(dict.fromkeys([*PIECES, *(f"a {piece} b" for piece in PIECES), *(f"{piece}{piece}" for piece in PIECES)]))


def shown(text: str) -> str:
    """What a reader sees of a value; Markdown drops blanks at both ends of a line."""
    return visible(text).strip()


def parsed(document: str) -> list[Token]:
    viewer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return viewer.parse(document.encode("utf-8", "replace").decode("utf-8"))


CHARTS_AND_LINKS = Counter(image=3, link_open=5, link_close=5)


def plain(token: Token) -> str:
    return "".join(child.content for child in token.children or []).strip()


def kinds(tokens: Sequence[Token]) -> Counter[str]:
    """How many of everything that a document could contain beside text, lists, headings and tables."""
    flat = [*tokens, *(child for token in tokens for child in token.children or [])]
    ordinary = r"(text|inline|paragraph|list_item|bullet_list|heading|table|thead|tbody|tr|th|td).*"
    return Counter(token.type for token in flat if not re.fullmatch(ordinary, token.type))


def tables(tokens: Sequence[Token]) -> list[list[list[str]]]:
    """Tables of rows of cells as a viewer shows them."""
    found: list[list[list[str]]] = []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open") and following is not None:
            found[-1][-1].append(plain(following))
    return found


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) > 300


def test_a_daily_report_shows_every_text_and_makes_nothing_of_it() -> None:
    entries = [
        make_entry(
            tool_name=text,
            operation=text,
            note=text,
            parameters={text: text},
            results={"output_file": text},
            error_message=text,
            command=["echo", text],
        )
        for text in CORPUS
    ]
    tokens = parsed(daily.daily_report(DAY, entries, ZONE))
    comments = [token.content for token in tokens if token.type == "html_block"]
    assert len(comments) == len(entries)
    assert all(re.fullmatch(r"<!-- audit-entry: \{[^<>\n]*\} -->\n", comment) for comment in comments)
    found = kinds(tokens)
    facts = sum(len(daily.facts(entry)) + 1 for entry in entries)  # and the command
    assert found.pop("html_block") == len(entries)
    assert found.pop("code_inline") == len(entries)
    assert found.pop("strong_open") == found.pop("strong_close") == facts
    assert found.pop("em_open") == found.pop("em_close") == 1
    assert not found
    assert sum(token.type == "heading_open" for token in tokens) == len(entries) + 3
    lines = [plain(token) for token in tokens if token.type == "inline"]
    for text, entry in zip(CORPUS, entries, strict=True):
        time = entry.timestamp.strftime("%H:%M:%S")
        assert f"{time} - {visible(text)} {visible(text)} ✅" in lines
        assert {f"Note: {visible(text)}".strip(), f"Error: {visible(daily.shown(text))}".strip()} <= set(lines)


def test_a_weekly_summary_shows_every_text_in_its_cell() -> None:
    entries = [
        make_entry(tool_name=text, operation=text, user_name=text, success=False, error_message=text) for text in CORPUS
    ]
    document = weekly_document(entries, [replace(entry, tool_name=f"{entry.tool_name}?") for entry in entries], ZONE)
    tokens = parsed(document)
    assert kinds(tokens) == CHARTS_AND_LINKS
    totals, causes, days, of_tools, slow, people, of_users = tables(tokens)
    assert [len(table) for table in (totals, days)] == [6, 8]
    everything = Counter(shown(text) for text in CORPUS)
    for table, column in ((of_tools, 0), (people, 0)):
        assert Counter(row[column] for row in table[1:]) == everything
    assert [len(causes), len(slow), len(of_users)] == [51, 6, len(CORPUS) + 1]  # the service asks for fewer
    assert any(plain(token).endswith("rarer causes are left out.") for token in tokens if token.type == "inline")
    some = Counter(row[column] for row in causes[1:] for column in (2, 3, 4))
    some += Counter(row[column] for row in slow[1:] for column in (0, 1, 2))
    assert some.keys() <= everything.keys()
    assert Counter(row[1] for row in of_users[1:]) == everything
    assert_cells(document)


def test_a_tool_report_shows_every_text_in_its_cell() -> None:
    for text in CORPUS:
        entries = [
            make_entry(tool_name=text, operation=text, user_name=text, parameters={text: text}),
            make_entry(tool_name=text, operation=text, user_name=text, success=False, error_message=text),
        ]
        document = tool_document(text, entries, [], ZONE)
        tokens = parsed(document)
        assert kinds(tokens) == CHARTS_AND_LINKS, text
        assert sum(token.type == "heading_open" for token in tokens) == 10
        title = next(plain(token) for token in tokens if token.type == "inline")
        assert title == f"Tool Report - {visible(text)} - 2023-W24"
        totals, causes, _, _, _, given_values, people, _ = tables(tokens)
        assert totals[1][1] == "2"
        assert people[1] == [shown(text), "2", "1"]
        assert given_values[1] == [shown(text), shown(text), "1", "0"]
        assert causes[1][:4] == ["1", "new", shown(text), shown(text)]
        assert_cells(document)


def assert_cells(document: str) -> None:
    """Every row of a table has the cells of its head. A viewer fills up and cuts off, so this counts in the source."""
    cells = 0
    for line in document.split("\n"):
        # An escaped pipe is text, for GitHub and for CommonMark alike.
        count = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert count == len(re.findall(r"\|", re.sub(r"\\.", "", line))) if count else True
        assert cells in (0, count) or count == 0, line
        cells = count


@given(text=st.text(alphabet=st.characters() | st.sampled_from("\\`*_[]()<>&|~$!#\n\t -+.'\"{}"), max_size=30))
def test_inline_markdown_shows_any_text(text: str) -> None:
    tokens = parsed(tool_document(text, [make_entry(tool_name=text, parameters={"name": text})], [], ZONE))
    assert kinds(tokens) == CHARTS_AND_LINKS
    assert tables(tokens)[4][1] == ["name", shown(text), "1", "0"]


def test_reports_say_what_was_run_again_and_what_cannot_be(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    clean = {"git": {"root": "/r", "ahead": 0}, "inputs": [{"path": "/r/a", "sha256": "0" * 64}]}
    whole: dict[str, Any] = {"command": ["true"], "git_commit_hash": "a" * 40, "git_dirty": False, "context": clean}
    dirty = {**clean, "git": {"ahead": 0, "patch": {"exact": False}}}
    first, second, *_ = store(
        make_entry(**whole),
        make_entry(**whole),
        make_entry(**{**whole, "git_dirty": True, "context": dirty}),
        make_entry(**{**whole, "git_dirty": True, "context": {"git": {"ahead": 0, "patch": {"exact": True}}}}),
        make_entry(**{**whole, "context": {"git": {"ahead": "three"}}}),
        make_entry(**{**whole, "context": {**clean, "inputs": [{"path": "/r/b", "sha256": None}]}}),
        make_entry(),
    )
    later = first.timestamp + timedelta(days=30)
    for original, verdict, days in ((first, "broken", 0), (first, "reproduced", 1), (second, "differing", 0)):
        again = {"reproduces": original.operation_id, "verdict": verdict}
        store(make_entry(**{**whole, "context": again}, timestamp=later + timedelta(days=days)))
    service = ReportService(settings)
    week = service.write_weekly_summary(connection, date(2023, 6, 12)).path.read_text("utf-8")
    reasons = "no command: 1, no commit: 1, uncommitted changes without an exact patch: 1, "
    reasons += "commit on no remote: 1, input without hash: 1"
    assert f"| Thu 2023-06-15 | 3 of 7 (42.9%) | 1 | 1 | 0 | 5 | {reasons} |" in week
    day = service.write_daily_report(connection, date(2023, 6, 15)).path.read_text("utf-8")
    assert day.count("- **Reproduction**: ") == 2
    assert f"- **Reproduction**: reproduced on {later.date() + timedelta(days=1)}\n" in day
    replayed = service.write_daily_report(connection, later.date()).path.read_text("utf-8")
    assert f"- **Reproduces**: {first.operation_id}\n" in replayed
