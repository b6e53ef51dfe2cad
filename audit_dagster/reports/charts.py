"""The charts of reports, as SVG texts: the same rows make the same bytes, and each chart says its numbers in words.

matplotlib draws, through its objects: pyplot keeps figures of its own. A failure is vermilion, which no tool is, and a
cross.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry
from audit_dagster.render import duration, number
from audit_dagster.reports.day import Glance
from audit_dagster.reports.drawing import (
    FAINT,
    INK,
    PAPER,
    as_svg,
    count_axis,
    counted,
    drawing,
    label,
    name_rows,
    rgb,
    sentence,
    time_axis,
)
from audit_dagster.reports.windows import day_window, week_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[dict[str, Any]]

# Okabe and Ito's colours, without yellow, which white hides, and black, which is the ink.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
_FAILED = "#d55e00"
_OTHERS = "#8c8c8c"
_EDGE = "#101213"  # around and over the colours, which are lighter in light and in dark
_HATCHES = ("", "///", "..", "xx", "--")
_WIDTH = 7.5  # inches
_ROW = 0.26
_MOST_TOOLS = 12
_MOST_NAMED = 5
_BINS = 480  # of a day: three minutes, where it has 24 hours
_FAILURE_BINS = 120
_TAG = re.compile(r"<[^<>]*>")


def colour_of(tool_name: str) -> str:
    """The colour of a tool, the same in every chart and on every day: #0072b2."""
    return _COLOURS[_digest(tool_name)[0] % len(_COLOURS)]


def fills(tool_names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The colour and the hatch of each tool, no two alike among twenty-five.

    A colour is shared by a fifth of all tools, and a hatch tells those apart. It is the tool's own too, but where
    another in the chart has the same colour and hatch: then the later one of the alphabet takes the next that is free.
    """
    made: dict[str, tuple[str, str]] = {}
    for name in sorted(tool_names):
        start = _digest(name)[1]
        own = [(colour_of(name), _HATCHES[(start + step) % len(_HATCHES)]) for step in range(len(_HATCHES))]
        made[name] = next((fill for fill in own if fill not in made.values()), own[0])
    return made


def _digest(tool_name: str) -> bytes:
    return hashlib.sha256(tool_name.encode("utf-8", "surrogatepass")).digest()


def inline(svg: str) -> str:
    """The chart for inside a page: no paper of its own, and the page's ink, so that it is seen in light and in dark."""
    body = svg[svg.index("<svg") :]
    return _TAG.sub(lambda tag: tag[0].replace(PAPER, "none").replace(INK, "currentColor"), body)


def day_timeline(operations: Sequence[LogEntry | Glance], day: date, zone: ZoneInfo) -> str:
    """A row per tool, with a bar from the start to the end of each operation, and a cross where one failed.

    What is closer together than three minutes is one bar. The tools after the twelfth share a row.
    """
    window = day_window(day, zone)
    start = window.start.timestamp()
    length = window.end.timestamp() - start  # 23, 24 or 25 hours
    rows = _rows_of_tools(operations)
    with drawing(_WIDTH, 0.9 + _ROW * max(len(rows), 1), "timeline") as (figure, axes):
        for height, (name, group) in enumerate(reversed(rows)):
            _draw_bars(axes, height, group, start, length, _OTHERS if name is None else colour_of(name))
        names = ["other tools" if name is None else label(name) for name, _ in reversed(rows)]
        name_rows(axes, names)
        axes.set_xlim(0, length)
        hours = [datetime(day.year, day.month, day.day, hour, tzinfo=zone) for hour in range(0, 24, 3)]
        ticks = [hour.timestamp() - start for hour in hours]
        axes.set_xticks([*ticks, length], [*(f"{hour:%H}" for hour in hours), "24"])
        axes.set_xlabel(f"hour of {day}, {zone.key}", parse_math=False)
        axes.grid(axis="x", color=INK, alpha=FAINT, linewidth=0.5)
        return as_svg(figure, f"Operations by tool, {day}, {zone.key}", _timeline_in_words(rows, day, operations))


def _rows_of_tools(operations: Sequence[LogEntry | Glance]) -> list[tuple[str | None, list[LogEntry | Glance]]]:
    """The busiest tools first; all after the twelfth under None."""
    groups: dict[str, list[LogEntry | Glance]] = {}
    for operation in operations:
        groups.setdefault(operation.tool_name, []).append(operation)
    names = sorted(groups, key=lambda name: (-len(groups[name]), name))
    kept = names if len(names) <= _MOST_TOOLS else names[: _MOST_TOOLS - 1]
    rows: list[tuple[str | None, list[LogEntry | Glance]]] = [(name, groups[name]) for name in kept]
    rest = [operation for name in names[len(kept) :] for operation in groups[name]]
    return [*rows, (None, rest)] if rest else rows


def _draw_bars(
    axes: Axes, height: int, group: Sequence[LogEntry | Glance], start: float, length: float, colour: str
) -> None:
    import numpy as np

    begun = np.array([operation.timestamp.timestamp() - start for operation in group])
    took = np.array([operation.duration_seconds or 0.0 for operation in group])
    first = np.clip(begun / length * _BINS, 0, _BINS - 1).astype(int)
    last = np.clip((begun + np.clip(took, 0, length)) / length * _BINS, first, _BINS - 1).astype(int)
    edges = np.zeros(_BINS + 2, dtype=int)
    np.add.at(edges, first + 1, 1)
    np.add.at(edges, last + 2, -1)
    turns = np.flatnonzero(np.diff((np.cumsum(edges) > 0).astype(int)))
    bars = (turns * length / _BINS).reshape(-1, 2)
    xs = np.column_stack((bars, np.full(len(bars), np.nan))).ravel()
    axes.plot(xs, np.full(len(xs), height), color=colour, linewidth=9, solid_capstyle="butt")
    failed = begun[np.array([not operation.success for operation in group])]
    marks = np.unique(np.clip(failed / length * _FAILURE_BINS, 0, _FAILURE_BINS - 1).astype(int)) + 0.5
    places = marks * length / _FAILURE_BINS
    heights = np.full(len(marks), height)
    axes.plot(places, heights, "x", markersize=6, markeredgewidth=1.6, color=_FAILED)


def _timeline_in_words(
    rows: Sequence[tuple[str | None, list[LogEntry | Glance]]], day: date, operations: Sequence[LogEntry | Glance]
) -> str:
    parts = [
        counted("other tools" if name is None else label(name), len(group), sum(not one.success for one in group))
        for name, group in rows
    ]
    failed = sum(not operation.success for operation in operations)
    return sentence(f"{counted(str(day), len(operations), failed)} in all", parts)


def operations_per_day(days: Sequence[date], per_day: Rows, zone: ZoneInfo) -> str:
    """A bar per day of a week, stacked by tool. `per_day` has `day`, `tool_name`, `operations` and `failed`."""
    totals: dict[str, int] = {}
    for row in per_day:
        totals[row["tool_name"]] = totals.get(row["tool_name"], 0) + row["operations"]
    names = sorted(totals, key=lambda name: (-totals[name], name))[:_MOST_NAMED]
    filled: dict[str | None, tuple[str, str]] = {None: (_OTHERS, "")}
    filled.update(fills(names))
    with drawing(_WIDTH, 2.8, "days") as (figure, axes):
        base = [0] * len(days)
        for name in (*names, None):
            counts = [
                sum(row["operations"] for row in per_day if row["day"] == day and _stack_of(row, names) == name)
                for day in days
            ]
            if any(counts):
                axes.bar(range(len(days)), counts, 0.7, base, **_painted(*filled[name]))
                base = [below + count for below, count in zip(base, counts, strict=True)]
        failed = [sum(row["failed"] for row in per_day if row["day"] == day) for day in days]
        _mark_failed(axes, base, failed)
        axes.set_xticks(range(len(days)), [f"{day:%a}\n{day:%m-%d}" for day in days])
        axes.set_xlabel("day")
        count_axis(axes, max(base, default=0))
        others = [("others", filled[None])] if len(totals) > len(names) else []
        _legend(axes, [*((label(name), filled[name]) for name in names), *others], bool(sum(failed)))
        parts = [counted(str(day), count, bad) for day, count, bad in zip(days, base, failed, strict=True)]
        title = f"Operations per day, {week_name(days[0])}, {zone.key}"
        return as_svg(figure, title, sentence(counted("the days", sum(base), sum(failed)), parts))


def _stack_of(row: dict[str, Any], names: Sequence[str]) -> str | None:
    return row["tool_name"] if row["tool_name"] in names else None


def _mark_failed(axes: Axes, tops: Sequence[int], failed: Sequence[int]) -> None:
    space = max(tops, default=0) * 0.03 + 0.05
    for place, (top, count) in enumerate(zip(tops, failed, strict=True)):
        if count:
            axes.text(place, top + space, f"\u00d7 {number(count)}", color=_FAILED, ha="center", weight="bold")


def _painted(colour: str, hatch: str) -> dict[str, Any]:
    return {"facecolor": colour, "hatch": hatch, "edgecolor": _EDGE, "linewidth": 0.6}


def _legend(axes: Axes, named: Sequence[tuple[str, tuple[str, str]]], any_failed: bool) -> None:
    """Beside the chart. The texts are set afterwards: matplotlib leaves out a label that begins with `_`."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Patch | Line2D] = [Patch(**_painted(*fill)) for _, fill in named]
    texts = [shown for shown, _ in named]
    if any_failed:
        handles.append(Line2D([], [], marker="x", color=_FAILED, linestyle="none", markeredgewidth=1.6))
        texts.append("failed")
    if handles:
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "frameon": False}
        made = axes.legend(handles, ["."] * len(handles), **place, handlelength=2.4, handleheight=1.3)
        for text, shown in zip(made.get_texts(), texts, strict=True):
            text.set_parse_math(False)
            text.set_text(shown)


def durations(tools: Rows, monday: date, zone: ZoneInfo) -> str:
    """Median and p95 of each tool in a week, on a logarithmic axis. `tools` has `tool_name`, `p50` and `p95`."""
    known = [row for row in tools if row["p50"] is not None][:_MOST_TOOLS]
    with drawing(_WIDTH, 0.95 + _ROW * max(len(known), 1), "durations") as (figure, axes):
        for height, row in enumerate(reversed(known)):
            low, high = (max(row[name], 0.001) for name in ("p50", "p95"))
            colour = colour_of(row["tool_name"])
            axes.plot([low, high], [height, height], color=INK, alpha=0.5, linewidth=1)
            axes.plot([low], [height], marker="o", markersize=7, color=colour, markeredgecolor=INK)
            axes.plot([high], [height], marker="|", markersize=11, markeredgewidth=2, color=INK)
        name_rows(axes, [label(row["tool_name"]) for row in reversed(known)])
        axes.set_xscale("log")
        values = [max(row[name], 0.001) for row in known for name in ("p50", "p95")] or [1]
        time_axis(axes, min(values), max(values))
        axes.set_xlabel("duration: \u25cf median, | p95")
        parts = [
            f"{label(row['tool_name'])}: median {duration(row['p50'])}, p95 {duration(row['p95'])}" for row in known
        ]
        title = f"Durations by tool, {week_name(monday)}, {zone.key}"
        return as_svg(figure, title, sentence("Median and p95 of each tool", parts))


def duration_spread(tool_name: str, buckets: Rows, monday: date, zone: ZoneInfo) -> str:
    """How many operations of a tool took how long in a week.

    `buckets` has `label`, `operations` and `failed`, the shortest first.
    """
    with drawing(_WIDTH, 2.4, "spread") as (figure, axes):
        counts = [row["operations"] for row in buckets]
        axes.bar(range(len(counts)), counts, 0.9, **_painted(colour_of(tool_name), ""))
        _mark_failed(axes, counts, [row["failed"] for row in buckets])
        axes.set_xticks(range(len(counts)), [row["label"] for row in buckets])
        axes.set_xlabel("duration")
        count_axis(axes, max(counts, default=0))
        parts = [counted(row["label"], row["operations"], row["failed"]) for row in buckets]
        title = f"Durations of {label(tool_name)}, {week_name(monday)}, {zone.key}"
        return as_svg(figure, title, sentence("Operations by duration", parts))


def calendar(days: Sequence[date], counts: Rows, zone: ZoneInfo) -> str:
    """A square per day, a column per week, the stronger the more operations; a cross where any failed.

    `days` are whole weeks from a Monday, `counts` has `day`, `operations` and `failed`.
    """
    found = {row["day"]: (row["operations"], row["failed"]) for row in counts}
    weeks = len(days) // 7
    most = max((operations for operations, _ in found.values()), default=0)
    with drawing(_WIDTH, 2.05, "calendar") as (figure, axes):
        _draw_days(axes, [found.get(day, (0, 0)) for day in days])
        mondays = list(days[::7])
        names = [week for week in range(weeks) if week % 4 == (weeks - 1) % 4]
        axes.set_xticks([week + 0.5 for week in names], [week_name(mondays[week]) for week in names])
        axes.set_yticks([6.5, 4.5, 2.5, 0.5], ["Mon", "Wed", "Fri", "Sun"])
        axes.set_xlim(0, weeks)
        axes.set_ylim(0, 7)
        axes.set_aspect("equal")
        axes.tick_params(length=0)
        axes.set_frame_on(False)
        axes.set_xlabel(f"the stronger, the more operations (up to {number(most)} a day); \u00d7 some failed")
        parts = [_week_in_words(monday, found) for monday in mondays]
        total, failed = (sum(pair[part] for pair in found.values()) for part in (0, 1))
        title = f"Operations of each day, {week_name(mondays[0])} to {week_name(mondays[-1])}, {zone.key}"
        return as_svg(figure, title, sentence(counted(f"the {weeks} weeks", total, failed), parts))


def _draw_days(axes: Axes, counts: Sequence[tuple[int, int]]) -> None:
    """(operations, failed) of each day from a Monday on."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    most = max((operations for operations, _ in counts), default=0)
    places = [(place // 7, 6 - place % 7) for place in range(len(counts))]
    squares = [Rectangle((left + 0.08, bottom + 0.08), 0.84, 0.84) for left, bottom in places]
    depths = [0.2 + 0.8 * (operations / most) ** 0.5 if operations else 0.0 for operations, _ in counts]
    colours = [(*rgb(_COLOURS[0]), depth) for depth in depths]
    made = PatchCollection(squares, facecolors=colours, edgecolors=[(*rgb(INK), FAINT)], linewidths=0.4)
    axes.add_collection(made, autolim=False)
    marked = [(left + 0.5, bottom + 0.5) for (left, bottom), (_, failed) in zip(places, counts, strict=True) if failed]
    for size, width, colour in ((6.5, 3, PAPER), (6, 1.6, _FAILED)) if marked else ():
        axes.plot(*zip(*marked, strict=True), "x", markersize=size, markeredgewidth=width, color=colour)


def _week_in_words(monday: date, found: dict[date, tuple[int, int]]) -> str:
    pairs = [found.get(monday + timedelta(days=offset), (0, 0)) for offset in range(7)]
    return counted(week_name(monday), sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs))
