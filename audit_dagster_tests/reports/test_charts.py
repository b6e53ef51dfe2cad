"""The charts: the same bytes for the same rows, well-formed and small for any rows, with their numbers in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

from audit_dagster.reports import charts
from audit_dagster.reports.drawing import label
from audit_dagster_tests.conftest import make_entry

SVG = "{http://www.w3.org/2000/svg}"
PATTERN = {f"{SVG}pattern"}
ZONE = ZoneInfo("UTC")
DAY = date(2023, 6, 15)
MIDNIGHT = datetime(2023, 6, 15, tzinfo=UTC)
WEEK = [date(2023, 6, 12) + timedelta(days=offset) for offset in range(7)]
CALENDAR = [date(2023, 6, 12) + timedelta(days=offset - 175) for offset in range(182)]
HOSTILE = [
    *("$\\frac{a}", "$", "</svg><script>alert(1)</script>", "<!--", "]]>", "&amp;", '" onload="x', "_hidden", ""),
    *("\x1b[31mred", "\u202eevil", "\ufffe\uffff\ud800", "x" * 300, "a\nb", "日本 🙂", "#1a1b1c #fefeff"),
]
EMPTY: dict[str, Callable[[], str]] = {
    "timeline": lambda: charts.day_timeline([], DAY, ZONE),
    "days": lambda: charts.operations_per_day(WEEK, [], ZONE),
    "durations": lambda: charts.durations([], WEEK[0], ZONE),
    "spread": lambda: charts.duration_spread("decode", [], WEEK[0], ZONE),
    "calendar": lambda: charts.calendar(CALENDAR, [], ZONE),
}


def operation(minute: float, **fields: Any) -> Any:
    return make_entry(timestamp=MIDNIGHT + timedelta(minutes=minute), **fields)


def of_tools(names: list[str]) -> dict[str, str]:
    """Every chart that says a tool's name."""
    per_day = [{"day": DAY, "tool_name": name, "operations": 3, "failed": 1} for name in names]
    spread = [{"tool_name": name, "p50": 0.5, "p95": 70.0} for name in names]
    return {
        "timeline": charts.day_timeline([operation(5, tool_name=name, success=False) for name in names], DAY, ZONE),
        "days": charts.operations_per_day(WEEK, per_day, ZONE),
        "durations": charts.durations(spread, WEEK[0], ZONE),
    }


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314 - our own


def words(svg: str) -> str:
    return ElementTree.fromstring(svg).findtext(f"{SVG}desc") or ""  # noqa: S314 - our own


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text(name: str) -> None:
    ordinary = of_tools(["decode"])
    for kind, svg in of_tools([name]).items():
        svg.encode("utf-8")
        root = ElementTree.fromstring(svg)  # noqa: S314 - our own
        same = ElementTree.fromstring(ordinary[kind])  # noqa: S314 - our own
        # A hatch is a `pattern`, and some tools have none.
        assert {element.tag for element in root.iter()} - PATTERN == {element.tag for element in same.iter()} - PATTERN
        assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
        assert len(max(texts(svg), key=len)) <= 90
        assert "<script" not in charts.inline(svg)
        assert texts(charts.inline(svg)) == texts(svg)
    shown = texts(of_tools([name])["days"])
    assert label(name) in shown


@pytest.mark.parametrize("kind", EMPTY)
def test_nothing_is_a_chart_too(kind: str) -> None:
    svg = EMPTY[kind]()
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert svg == EMPTY[kind]()


def test_the_same_rows_make_the_same_bytes() -> None:
    names = ["decode", "plot", *HOSTILE]
    assert of_tools(names) == of_tools(names)


def test_the_words_have_the_numbers() -> None:
    operations = [operation(minute, tool_name="decode", success=minute > 2) for minute in range(1200)]
    said = words(charts.day_timeline([*operations, operation(9, tool_name="plot")], DAY, ZONE))
    assert said.startswith(
        "2023-06-15: 1,201 operations, 3 failed in all. decode: 1,200 operations, 3 failed; plot: 1 "
    )
    per_day = [{"day": WEEK[1], "tool_name": "decode", "operations": 12, "failed": 5}]
    assert "2023-06-13: 12 operations, 5 failed; 2023-06-14: 0 operations" in words(
        charts.operations_per_day(WEEK, per_day, ZONE)
    )
    said = words(charts.durations([{"tool_name": "plot", "p50": 0.5, "p95": 70.0}], WEEK[0], ZONE))
    assert said == "Median and p95 of each tool. plot: median 500 ms, p95 1 min 10 s."
    said = words(charts.calendar(CALENDAR, [{"day": WEEK[0], "operations": 7, "failed": 2}], ZONE))
    assert said.startswith("the 26 weeks: 7 operations, 2 failed. 2022-W51: 0 operations")
    assert said.endswith("2023-W24: 7 operations, 2 failed.")


def test_a_picture_says_what_when_and_where() -> None:
    shown = {kind: texts(make()) for kind, make in EMPTY.items()}
    assert "Operations by tool, 2023-06-15, UTC" in shown["timeline"]
    assert {"Operations per day, 2023-W24, UTC", "day"} <= set(shown["days"])
    assert "Durations by tool, 2023-W24, UTC" in shown["durations"]
    assert "Durations of decode, 2023-W24, UTC" in shown["spread"]
    assert "Operations of each day, 2022-W51 to 2023-W24, UTC" in shown["calendar"]


def test_a_failure_has_a_mark_of_its_own() -> None:
    good = charts.day_timeline([operation(5)], DAY, ZONE)
    bad = charts.day_timeline([operation(5, success=False)], DAY, ZONE)
    assert "#d55e00" not in good
    assert "#d55e00" in bad
    assert bad.count("<use") == good.count("<use") + 1


def test_many_tools_share_the_last_row() -> None:
    operations = [operation(minute, tool_name=f"tool-{minute:02d}") for minute in range(30)]
    shown = texts(charts.day_timeline(operations, DAY, ZONE))
    assert [text for text in shown if text.startswith("tool-")] == [
        f"tool-{number:02d}" for number in reversed(range(11))
    ]
    assert "other tools" in shown


@pytest.mark.parametrize(("day", "hours"), [(date(2023, 3, 12), 23), (date(2023, 11, 5), 25), (DAY, 24)])
def test_a_day_has_the_hours_of_its_zone(day: date, hours: int) -> None:
    zone = ZoneInfo("America/Chicago")
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    late = make_entry(timestamp=midnight.astimezone(UTC) + timedelta(hours=hours, minutes=-1), duration_seconds=1e9)
    shown = texts(charts.day_timeline([late], day, zone))
    assert [text for text in shown if text.isdigit()] == ["00", "03", "06", "09", "12", "15", "18", "21", "24"]


@pytest.mark.parametrize("step", [0.864, 360.0])
def test_a_busy_day_is_small_and_quick(step: float) -> None:
    count = 100_000
    entries = [
        make_entry(
            timestamp=MIDNIGHT + timedelta(seconds=number * step % 86_400),
            tool_name=f"tool-{number % 15}",
            success=number % 2 == 0,
            duration_seconds=0.1,
        )
        for number in range(count)
    ]
    start = time.perf_counter()
    svg = charts.day_timeline(entries, DAY, ZONE)
    assert time.perf_counter() - start < 3
    assert len(svg.encode()) < 400_000
    assert "100,000 operations, 50,000 failed in all" in words(svg)


def test_colours_depend_on_the_name_only() -> None:
    names = [f"tool-{number}" for number in range(100)]
    assert [charts.colour_of(name) for name in names] == [charts.colour_of(name) for name in names]
    assert {charts.colour_of(name) for name in names} == {"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"}


def test_tools_of_one_colour_differ_in_their_hatch() -> None:
    names = [f"tool-{number}" for number in range(200)]
    of_one_colour = [name for name in names if charts.colour_of(name) == "#0072b2"][:5]
    filled = charts.fills(reversed(of_one_colour))
    assert {colour for colour, _ in filled.values()} == {"#0072b2"}
    assert len(set(filled.values())) == 5
    assert filled == charts.fills(of_one_colour)
    alone = [charts.fills([name])[name] for name in names]
    assert len(set(alone)) == 25
    assert [colour for colour, _ in alone] == [charts.colour_of(name) for name in names]
    assert len(charts.fills(names)) == 200
    per_day = [{"day": DAY, "tool_name": name, "operations": 3, "failed": 0} for name in of_one_colour]
    svg = charts.operations_per_day(WEEK, per_day, ZONE)
    assert svg.count("<pattern") == 4
    assert label(of_one_colour[0]) in texts(svg)


def test_inside_a_page_the_ink_is_the_pages() -> None:
    svg = of_tools(["decode"])["days"]
    inside = charts.inline(svg)
    assert inside.startswith("<svg ")
    assert "currentColor" in inside
    assert "#fefeff" in svg
    assert not {"#1a1b1c", "#fefeff"} & set(inside.replace(";", " ").replace('"', " ").split())
    ElementTree.fromstring(inside)  # noqa: S314 - our own
