"""Made-up rows that fill every template: what `templates check` tries a lab's own ones with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry

if TYPE_CHECKING:
    from datetime import date

_Rows = TypeVar("_Rows")
_ZONE = ZoneInfo("UTC")
_MOMENT = datetime(2023, 6, 15, 14, 30, 22, tzinfo=UTC)
_ENTRY = LogEntry(
    operation_id="00000000-0000-4000-8000-000000000001",
    timestamp=_MOMENT,
    tool_name="sensing-data",
    operation="extract",
    user_name="ada",
    success=False,
    git_branch="main",
    git_commit_hash="a" * 40,
    git_dirty=False,
    parameters={"project": "Winter Turf - v3"},
    results={"records_extracted": 15420},
    duration_seconds=45.7,
    error_message="ConnectionError: the logger did not answer",
    note="a made-up operation",
    command=["python3", "extract.py", "--site", "4"],
    working_directory="/home/ada/lab",
)
# Every column of every query that a document is made of; the second row has no value where there may be none.
_ROW: dict[str, Any] = {
    **{name: getattr(_ENTRY, name) for name in ("operation_id", "timestamp", "tool_name", "operation", "user_name")},
    **{name: getattr(_ENTRY, name) for name in ("success", "duration_seconds", "error_message", "git_commit_hash")},
    **dict.fromkeys(("operations", "users", "bucket", "place"), 3),
    **dict.fromkeys(("failed", "failures", "reproducible", "reproduced", "differing", "broken"), 1),
    **dict.fromkeys(("no_command", "no_commit", "no_exact_patch", "on_no_remote", "input_without_hash"), 1),
    **dict.fromkeys(("shortest", "mean", "p50", "p95", "longest"), 45.7),
    **dict.fromkeys(("first_at", "last_at"), _MOMENT),
    **{"day": _MOMENT.date(), "seen_before": False, "before": 12.5, "version": "1.2"},
    **{"name": "project", "value": "Winter Turf - v3", "verdict": "reproduced"},
}
_ROWS = [_ROW, {**_ROW, "tool_name": "plot", "seen_before": True, "version": None, "git_commit_hash": None}]
_NONE = {"operations": 0, "failed": 0}


def fill_day() -> None:
    """The report of a day, and its page: with operations, and without."""
    from audit_dagster.reports.daily import daily_report
    from audit_dagster.reports.daily_page import Neighbours, daily_pages

    day = _MOMENT.date()
    for entries in ([_ENTRY, _replay()], []):
        daily_report(day, entries, _ZONE, _ROWS)
        daily_pages(Neighbours(day, str(day), day, day), entries, _ZONE, _ROWS)


def fill_week() -> None:
    """The summary of a week, and its page."""
    from audit_dagster.reports.weekly import WeekRows, weekly_summary
    from audit_dagster.reports.weekly_page import weekly_files

    for rows in (_rows(WeekRows, _ROW, _ROWS), _rows(WeekRows, _NONE, [])):
        weekly_summary(_monday(), rows, _ZONE)
        weekly_files(_monday(), rows, _ZONE)


def fill_tool() -> None:
    """The report of a tool, and its page."""
    from audit_dagster.reports.tool_page import tool_files
    from audit_dagster.reports.tools import ToolRows, tool_report

    for rows in (_rows(ToolRows, _ROW, _ROWS), _rows(ToolRows, None, [])):
        tool_report(_monday(), _ENTRY.tool_name, rows, _ZONE)
        tool_files(_monday(), _ENTRY.tool_name, rows, _ZONE)


def fill_site() -> None:
    """The page of all reports."""
    from audit_dagster.reports.site import Pages, SiteRows, site_page

    days, weeks = frozenset({_MOMENT.date()}), frozenset({"2023-W24"})
    site_page(Pages(days, weeks, {_ENTRY.tool_name: weeks}, days), _rows(SiteRows, None, _ROWS), _ZONE)
    site_page(Pages(), SiteRows(), _ZONE)


def fill_script() -> None:
    """A script that runs operations again, and one that lists why it does not."""
    from audit_dagster.reproduction.plan import ScriptConfig, make_plan
    from audit_dagster.reproduction.script import reproduction_script

    for include_failed in (True, False):
        config = ScriptConfig(include_failed=include_failed)
        reproduction_script(make_plan([_ENTRY], config), _MOMENT, config)


def fill_hook() -> None:
    """The function of each shell."""
    from audit_dagster.render import render

    for shell in ("bash", "zsh"):
        render("shell_hook.sh.j2", shell=shell)


def fill_alert() -> None:
    """A message about as many incidents of each kind as it shows in full, names, and only counts."""
    from audit_dagster.alerts.message import Failure, Incident, Links, alert_message

    examples = (Failure(_ENTRY, None), Failure(_ENTRY, _replay()), None)
    kinds = ("first seen", "still failing", "run failed", "check failed", "unusually slow", "silent", "resolved")
    incidents = [
        Incident(kind, kind, "sensing-data", "extract", "broken", 2, _MOMENT, _MOMENT, example, {"Incident": "17"})
        for kind in kinds
        for example in examples
    ]
    for told in (incidents[:1], incidents[-1:], incidents * 6):
        alert_message("key", told, Links("https://example.org/reports", None), _ZONE)


def _replay() -> LogEntry:
    from dataclasses import replace

    return replace(
        _ENTRY,
        success=True,
        error_message=None,
        parameters={"site": 4},
        context={"reproduces": _ENTRY.operation_id, "verdict": "reproduced"},
    )


def _monday() -> date:
    from audit_dagster.reports.windows import monday_of

    return monday_of(_MOMENT.date())


def _rows(kind: Callable[..., _Rows], one: dict[str, Any] | None, several: list[dict[str, Any]]) -> _Rows:
    """What SQL counted: `one` in each place for a single row, `several` in each place for any number."""
    return kind(**{field.name: several if field.type == "Rows" else one for field in fields(kind)})  # type: ignore[arg-type]
