"""The week and the tool as pages, JSON and charts: written beside the Markdown, whatever texts the rows hold."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_dagster.entry import LogEntry
from audit_dagster.failures import wording
from audit_dagster.report_rows import tool_rows, week_rows
from audit_dagster.report_service import ReportService
from audit_dagster.reports import weekly
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry

MONDAY = date(2023, 6, 12)
START = datetime(2023, 6, 12, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)>\"'</script><b>&amp;\x1b[31m\u202ereversed {{ 7 }}"
FORMS = [".html", ".json", ".md", "-calendar.svg", "-days.svg", "-durations.svg"]


def at(days: float, **fields: Any) -> LogEntry:
    return make_entry(timestamp=START + timedelta(days=days), **fields)


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.names: set[str] = set()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.names |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(settings: Settings, kind: str) -> str:
    return next((settings.reports_dir / kind).rglob("*.html")).read_text("utf-8")


def hostile_week(text: str) -> list[LogEntry]:
    fields: dict[str, Any] = {"tool_name": text, "operation": text, "user_name": text, "parameters": {text: text}}
    fields |= {"context": {"tool": {"version": text}}, "git_commit_hash": text}
    return [at(1, **fields), at(2, success=False, error_message=text, **fields), at(-6, duration_seconds=9.0, **fields)]


@pytest.mark.parametrize("kind", ["weekly", "tools"])
def test_a_hostile_text_is_text(
    kind: str, settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    store(*hostile_week(HOSTILE))
    service = ReportService(settings)
    service.write_weekly_summary(connection, MONDAY)
    service.write_tool_report(connection, MONDAY, HOSTILE)
    hostile = Elements(page(settings, kind))
    assert not hostile.tags.keys() & {"img", "script", "iframe", "b", "object"}
    assert not [name for name in hostile.names if name.startswith("on")]
    assert not [text for text in hostile.texts if "\x1b" in text or "\u202e" in text]
    assert [text for text in hostile.texts if "<img src=x onerror=alert(1)>\"'</script><b>&amp;\u241b[31m" in text]
    assert hostile.addresses
    assert not [address for address in hostile.addresses if not re.fullmatch(r"#?[\w./~#-]+", address)]
    assert hostile.tags["svg"] == 3
    assert hostile.tags["title"] == 4


def test_every_form_lies_beside_the_markdown_and_is_the_same_again(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    store(*hostile_week("decode"), *hostile_week(HOSTILE))
    service = ReportService(settings)
    made = [service.write_weekly_summary(connection, MONDAY), service.write_tool_report(connection, MONDAY, "decode")]
    for document in made:
        folder = document.path.parent
        assert sorted(file.name for file in folder.iterdir()) == sorted(f"2023-W24{form}" for form in FORMS)
        for shown in re.findall(r"!\[[^]]+]\((.+)\)", document.text):
            assert (folder / shown).read_text("utf-8").startswith("<?xml")
    before = {file: file.read_bytes() for document in made for file in document.path.parent.iterdir()}
    service.write_weekly_summary(connection, MONDAY)
    service.write_tool_report(connection, MONDAY, "decode")
    assert {file: file.read_bytes() for file in before} == before


def test_the_json_has_the_numbers(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    store(at(1, success=False, error_message="line 7"), at(2, duration_seconds=8.5), at(-3), at(-50))
    service = ReportService(settings)
    path = service.write_weekly_summary(connection, MONDAY).path
    said = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert (said["week"], said["first"], said["last"], said["timezone"]) == (
        "2023-W24",
        "2023-06-12",
        "2023-06-18",
        "UTC",
    )
    assert (said["totals"], said["previous"]) == ({"operations": 2, "failed": 1}, {"operations": 1, "failed": 0})
    assert said["usual"] == {"operations": 0.25, "failed": 0.0}
    assert said["slowest"][0]["duration_seconds"] == 8.5
    assert said["slowest"][0]["timestamp"].startswith("2023-06-14T00:00:00")
    assert [row["operations"] for row in said["calendar"]] == [1, 1, 1, 1]


def test_the_page_links_to_days_and_tools(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    slow = at(3, tool_name="Plot", duration_seconds=99.0)
    store(slow, at(4, tool_name="Plot", success=False))
    ReportService(settings).write_weekly_summary(connection, MONDAY)
    addresses = Elements(page(settings, "weekly")).addresses
    assert {"2023-W23.html", "2023-W25.html", "2023-W24.md", "2023-W24.json"} <= set(addresses)
    assert {f"../daily/{MONDAY + timedelta(days=day)}.html" for day in range(7)} <= set(addresses)
    assert "../tools/~50lot/2023-W24.html" in addresses
    assert f"../daily/2023-06-15.html#{slow.operation_id}" in addresses


def test_no_link_of_a_folder_of_weeks_leads_nowhere(
    settings: Settings, store: Callable[..., list[LogEntry]], tmp_path: Path
) -> None:
    store(*(at(day, success=day == 1, error_message=None if day == 1 else "full") for day in (-3, 1, 2, 9)))
    made = ReportService(settings).generate_weekly_reports("2023-06-09", "2023-06-20", tmp_path)
    for path in map(Path, made.values()):
        markdown = re.findall(r"\]\(([^)]*)\)", path.read_text("utf-8"))
        page = Elements(path.with_suffix(".html").read_text("utf-8"))
        links = json.loads(path.with_suffix(".json").read_text("utf-8"))["links"]
        addresses = {*markdown, *page.addresses, *links.values()}
        assert {address for address in addresses if not address.startswith("#")} <= {
            file.name for file in tmp_path.iterdir()
        }
    assert list(links) == ["HTML", "Week before", "Markdown", "JSON"]


@pytest.mark.parametrize("kind", ["weekly", "tools"])
def test_a_cause_leads_to_its_operations_and_every_form_to_the_others(
    kind: str, settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    first, last = (at(1 + number / 10, success=False, error_message=f"line {number}") for number in (1, 2))
    store(*(at(1 + number / 1e5) for number in range(1000)), first, last, at(-1))
    service = ReportService(settings)
    service.write_daily_report(connection, MONDAY + timedelta(days=1))
    service.write_weekly_summary(connection, MONDAY)
    service.write_tool_report(connection, MONDAY, "sensing-data")
    addresses = Elements(page(settings, kind)).addresses
    found = [address for address in addresses if "-2.html#" in address]
    assert [address.partition("#")[2] for address in found[:2]] == [first.operation_id, last.operation_id]
    (path,) = (settings.reports_dir / kind).rglob("*.json")
    assert (path.parent / found[0].partition("#")[0]).is_file()
    assert f'id="{first.operation_id}"' in (path.parent / found[0].partition("#")[0]).read_text("utf-8")
    links = json.loads(path.read_text("utf-8"))["links"]
    assert {"HTML", "All reports", "Week before", "Markdown", "JSON"} <= links.keys()
    markdown = path.with_suffix(".md").read_text("utf-8")
    assert all(f"[{name}]({address})" in markdown for name, address in links.items() if name != "Markdown")
    assert set(links.values()) - set(addresses) == {"2023-W24.html"}


def test_thousands_have_a_comma_everywhere(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    store(*(at(1 + number / 1e5) for number in range(1500)))
    text = ReportService(settings).write_weekly_summary(connection, MONDAY).text
    assert "| sensing-data 1,500 |" in text
    assert "no command: 1,500" in text


def test_the_operations_that_changed_most(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    def ran(operation: str, now: float | None, before: float | None) -> None:
        store(*(at(day, operation=operation, duration_seconds=took) for day, took in ((1, now), (-1, before))))

    ran("slower", 4000.0, 40.0)
    ran("faster", 1.0, 1000.0)
    ran("same", 5.0, 5.0)
    ran("unknown", None, 5.0)
    ran("never-measured", 0.0, 5.0)
    store(at(1, operation="new", duration_seconds=9.0), at(-8, operation="slower", duration_seconds=1e6))
    text = ReportService(settings).write_weekly_summary(connection, MONDAY).text
    assert re.findall(r"^\| sensing-data \| (\w+) \| 1 \| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE) == [
        ("faster", "1.0 s", "16 min 40 s", "-99.9%"),
        ("slower", "1 h 7 min", "40.0 s", "+9,900.0%"),
    ]


def test_the_score_is_of_the_whole_week(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    whole: dict[str, Any] = {"command": ["true"], "git_commit_hash": "a" * 40, "context": {"git": {"ahead": 0}}}
    store(at(1, **whole), at(2, **whole), at(2), at(3, **(whole | {"command": None})), at(4, success=False))
    document = ReportService(settings).write_weekly_summary(connection, MONDAY)
    assert "| Could be run again | 50.0% |" in document.text
    assert "\n| Week | 2 of 4 (50.0%) | 0 | 0 | 0 | 4 | no command: 2, no commit: 1 |\n" in document.text
    assert json.loads(document.path.with_suffix(".json").read_text("utf-8"))["score"]["reproducible"] == 2


# ---- Causes ----


def test_a_cause_is_new_where_eight_weeks_had_none_of_it(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    def failed(days: float, error: str) -> LogEntry:
        return at(days, success=False, error_message=error)

    store(
        *(failed(1, "no file /data/1.csv"), failed(2, "no file /data/22.csv"), failed(-55, "no file /data/old.csv")),
        *(failed(1, "timeout after 3 s"), failed(3, "timeout after 44 s"), failed(-57, "timeout after 5 s")),
        failed(-1, "last week only"),
    )
    found = weekly.causes(week_rows(connection, MONDAY, settings).kinds)
    assert [(row["error_message"], row["failures"], row["is_new"]) for row in found] == [
        ("no file /data/1.csv", 2, False),
        ("timeout after 3 s", 2, True),
    ]
    assert [row["last_at"] - START for row in found] == [timedelta(days=2), timedelta(days=3)]


@pytest.mark.parametrize("seed", range(3))
def test_random_causes_are_counted_as_in_python(
    seed: int, settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    rnd = random.Random(seed)  # noqa: S311
    errors = ["exit {}", "no file /d/{}.csv", "'{}' is no number", "disk full", None, "took {}.5 s"]
    entries = [
        at(
            rnd.uniform(-70, 7),
            tool_name=rnd.choice(["decode", "plot"]),
            success=rnd.random() < 0.3,
            error_message=(rnd.choice(errors) or "").format(rnd.randrange(1000)) or None,
        )
        for _ in range(300)
    ]
    store(*entries)
    failed = [entry for entry in entries if not entry.success and entry.timestamp >= START - timedelta(weeks=8)]
    now = Counter((e.tool_name, wording(e.error_message)) for e in failed if e.timestamp >= START)
    known = {(e.tool_name, wording(e.error_message)) for e in failed if e.timestamp < START}
    found = weekly.causes(week_rows(connection, MONDAY, settings).kinds)
    asked = {row["tool_name"]: row["error_message"].replace("no error text", "") for row in found}
    assert asked.keys() <= {"decode", "plot"}
    keys = [(row["tool_name"], wording(row["error_message"].replace("no error text", ""))) for row in found]
    assert dict(zip(keys, [row["failures"] for row in found], strict=True)) == now
    assert {key for key, row in zip(keys, found, strict=True) if row["is_new"]} == now.keys() - known
    of_tool = weekly.causes(tool_rows(connection, MONDAY, "plot", settings).kinds)
    assert of_tool == [row for row in found if row["tool_name"] == "plot"]
