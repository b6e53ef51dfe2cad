"""What alerts say, letter for letter, and with hostile text in every place."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from audit_dagster.alerts.message import Failure, Incident, Links, Message, alert_message
from audit_dagster.escaping import visible
from audit_dagster_tests.alerts.texts import CHICAGO, FIRST, HOSTILE, LAST, LINKS, Page, message_about, spaced
from audit_dagster_tests.conftest import make_entry

GOLDEN = Path(__file__).parent / "golden"
ERROR = "Traceback (most recent call last):\n  …\nConnectionError: cannot reach 10.1.2.3:5432"


def example(**fields: Any) -> Failure:
    success = make_entry(
        operation_id="00000000-0000-4000-8000-000000000001",
        timestamp=FIRST - timedelta(days=1),
        git_commit_hash="abc1234def5678abc1234def5678abc1234def56",
        parameters={"project": "Winter Turf - v3", "start_date": "2023-01-01", "retries": 3, "verbose": True},
    )
    defaults = {
        "operation_id": "00000000-0000-4000-8000-000000000002",
        "timestamp": LAST,
        "success": False,
        "error_message": ERROR,
        "git_commit_hash": "def5678abc1234def5678abc1234def5678abc12",
        "git_dirty": True,
        "command": ["rtgs", "sensing-data", "extract", "--project", "Winter Turf - v3", "--token", "${SECRET:TOKEN}"],
        "context": {"command_is_exact": False},
        "parameters": {"project": "Winter Turf - v4", "start_date": "2023-01-01", "retries": 3, "node_id": "LCCMR_01"},
    }
    return Failure(make_entry(**{**defaults, **fields}), success)


def incident(
    kind: str, error: str | None = ERROR, count: int = 1, shown: Failure | None = None, **facts: str
) -> Incident:
    return Incident(kind, "f", "sensing-data", "extract", error, count, FIRST, LAST, shown, facts)


SLOW_FACTS = {"Took": "412.0s", "Usual": "at most 61.2s (95% of the last 30 runs)"}
GOLDENS: dict[str, Callable[[], list[Incident]]] = {
    "first_seen": lambda: [incident("first seen", count=3, shown=example(), Incident="12")],
    "still_failing": lambda: [incident("still failing", count=1200, shown=example(git_dirty=False), Incident="12")],
    "resolved": lambda: [incident("resolved", count=41, shown=example(success=True, error_message=None))],
    "unusually_slow": lambda: [
        incident("unusually slow", None, shown=example(success=True, error_message=None), **SLOW_FACTS)
    ],
    "silent": lambda: [incident("silent", None, **{"Ran last": "2023-06-14 02:00:00"})],
    "run_failed": lambda: [
        Incident(
            *("run failed", "run:7", "dagster", "daily_reports_job", "DatabaseError: no answer", 1, FIRST, LAST, None),
            {"Run": "7", "Link": "https://dagster.example.org/runs/7"},
        )
    ],
    "many": lambda: [incident("silent", None), *(incident("first seen", f"Error {n}") for n in range(200))],
}


def message(incidents: list[Incident], links: Links = LINKS) -> Message:
    return alert_message("2023-06-15T194001Z-0a1b2c", incidents, links, CHICAGO)


@pytest.mark.parametrize("name", GOLDENS)
def test_golden(name: str) -> None:
    made = message(GOLDENS[name]())
    text = f"{made.subject}\n\n{made.text}"
    path = GOLDEN / f"{name}.md"
    if os.environ.get("AUDIT_UPDATE_GOLDEN") == "1":
        path.write_text(text, "utf-8", newline="\n")
        pytest.fail(f"{path.name} was written anew: look at it, then run without AUDIT_UPDATE_GOLDEN")
    assert text == path.read_text("utf-8")


def test_every_golden_file_is_tested() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(GOLDENS)


# ---- What it says ----


def test_the_subject_is_one_short_line() -> None:
    many = incident("first seen", "x" * 5000)
    long = Incident("first seen", "f", "t" * 500, "o" * 500, "e" * 500, 7, FIRST, LAST, None, {})
    for made in (message([many]), message([long]), message([long] * 5000)):
        assert len(made.subject) <= 150
        assert len(made.subject.splitlines()) == 1
    assert message([long] * 5000).subject.endswith(" and 4,999 more")


def test_failures_come_first_and_the_rest_stays_in_order() -> None:
    kinds = ["resolved", "silent", "unusually slow", "run failed", "still failing", "first seen"]
    made = message([incident(kind) for kind in kinds])
    heads = re.findall("^## .*extract ([a-z ]+)", made.text, re.MULTILINE)
    assert heads == ["failed", "still fails", "run failed", "was unusually slow ", "is silent ", "works again after "]
    assert made.subject == "sensing-data extract failed: ConnectionError: cannot reach 10.1.2.3:5432 and 5 more"


def test_a_burst_is_one_message_of_bounded_length() -> None:
    hostile = "*" * 5000
    entry = make_entry(
        tool_name=hostile,
        error_message=hostile,
        command=[hostile] * 100,
        parameters={hostile + str(n): hostile for n in range(1000)},
    )
    shown = Failure(entry, make_entry())
    one = Incident("first seen", "f", hostile, hostile, hostile, 1, FIRST, LAST, shown, {hostile: hostile})
    made = message([one] * 100_000)
    assert len(made.text) < 100_000
    assert "and 99,890 more: see `audit-dagster alerts list`" in made.text


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    shown = Failure(make_entry(parameters=new), make_entry(parameters=old))
    text = message([incident("first seen", shown=shown)]).text
    return [line.removeprefix("    - ") for line in text.splitlines() if line.startswith("    - ")]


def test_only_parameters_that_differ_are_shown() -> None:
    assert changes({"a": 1, "b": [1, {"c": 2}], "d": "x"}, {"b": [1, {"c": 3}], "d": "x", "e": None}) == [
        '`b`: `[1, {"c": 2}]` became `[1, {"c": 3}]`',
        "`e`: added, `null`",
        "`a`: removed, was `1`",
    ]


def test_equal_in_python_is_not_equal() -> None:
    assert changes({"a": 1, "b": 1, "c": "1"}, {"a": True, "b": 1.0, "c": 1}) == [
        "`a`: `1` became `true`",
        "`b`: `1` became `1.0`",
        "`c`: `1` became `1`",
    ]


def test_the_order_of_keys_is_no_difference() -> None:
    text = message([incident("first seen", shown=Failure(make_entry(), make_entry()))]).text
    assert "- **Parameters**: the same as in the success before" in text
    assert changes({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}) == []


def test_many_and_long_parameters_are_cut_where_they_differ() -> None:
    rows = changes(
        {f"p{n}": "x" * 10_000 + "old" for n in range(50)}, {f"p{n}": "x" * 10_000 + "new" for n in range(50)}
    )
    assert len(rows) == 11
    assert rows[0] == f"`p0`: `…{'x' * 20}old` became `…{'x' * 20}new`"
    assert rows[-1] == "and 40 more"


def test_without_links_and_examples_nothing_is_made_up() -> None:
    text = message([incident("first seen")], Links(None, None)).text
    assert re.findall(r"\*\*(.*?)\*\*", text) == ["Error", "When"]


@pytest.mark.parametrize(
    "base", ["/var/my reports", "https://e/a b", "https://e/[x]", "https://e/~ada", "http://e/<b>"]
)
def test_an_address_that_is_no_plain_link_is_code(base: str) -> None:
    text = message([incident("first seen")], Links(base, None)).text
    assert f"- **Report**: `{base}/daily/2023-06-15.md`" in text


def test_the_day_of_the_report_is_that_of_the_zone() -> None:
    late = make_entry(timestamp=FIRST.replace(day=16, hour=3))
    assert "daily/2023-06-15.md" in message([incident("first seen", shown=Failure(late, None))]).text


# ---- Hostile text ----


def test_there_are_enough_hostile_strings() -> None:
    assert len(HOSTILE) >= 500


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_shown_letter_for_letter_and_makes_nothing(text: str) -> None:
    made = message_about(text)
    assert len(made.subject) <= 150
    for part in (made.subject, *made.text.splitlines()):
        assert not [sign for sign in part if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"}]
    page = Page(MarkdownIt("commonmark").render(made.text))  # with HTML let through
    plain = Page(MarkdownIt("commonmark").render(message_about("x").text))
    assert (page.tags, page.links, page.strange) == (plain.tags, plain.links, [])
    seen = spaced(page.text)
    for line in ("User: ", "Place: "):
        assert spaced(line + visible(text)[:90]) in seen
    assert spaced("Error: " + (visible(text.strip())[:400] or "no error text")) in seen
