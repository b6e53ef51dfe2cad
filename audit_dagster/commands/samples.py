"""Made-up rows that fill every template: what `templates check` tries a lab's own ones with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
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
    **dict.fromkeys(("no_command", "no_exact_command", "no_commit", "no_exact_patch"), 1),
    **dict.fromkeys(("on_no_remote", "input_without_hash"), 1),
    **dict.fromkeys(("shortest", "mean", "p50", "p95", "longest"), 45.7),
    **dict.fromkeys(("first_at", "last_at"), _MOMENT),
    **{"day": _MOMENT.date(), "seen_before": False, "before": 12.5, "version": "1.2"},
    **{"name": "project", "value": "Winter Turf - v3", "verdict": "reproduced"},
}
_EARLIER = _MOMENT - timedelta(days=2)
_ROWS = [
    _ROW,
    {
        **{**_ROW, "tool_name": "plot", "success": True, "seen_before": True, "operations": 1, "failed": 0},
        **{"version": None, "git_commit_hash": None, "first_at": _EARLIER, "last_at": _EARLIER, "day": _EARLIER.date()},
    },
]
_NONE = {"operations": 0, "failed": 0}
_UNTIMED = {**_ROW, **dict.fromkeys(("shortest", "mean", "p50", "p95", "longest"))}
_MANY = 60  # causes, more than a document has room for


def fill_day() -> None:
    """The report of a day, and its pages: of a long day with more failures than its list holds, a short one, none."""
    from audit_dagster.reports.daily import daily_report
    from audit_dagster.reports.daily_page import MOST_ON_A_PAGE, Neighbours, daily_pages
    from audit_dagster.reports.day import MOST_FAILURES

    day = _MOMENT.date()
    long = [_numbered(number, success=number > MOST_FAILURES) for number in range(MOST_ON_A_PAGE + 1)]
    for entries in ([_ENTRY, _replay()], long, []):
        daily_report(day, entries, _ZONE, _ROWS)
        for where in (Neighbours(day, str(day), day, day), Neighbours(day, str(day), among_others=False)):
            daily_pages(where, entries, _ZONE, _ROWS)


def fill_week() -> None:
    """The summary of a week, and its page: of a busy week, of one in which nothing failed, and of one without any."""
    from audit_dagster.reports.weekly import Beside, WeekRows, weekly_summary
    from audit_dagster.reports.weekly_page import weekly_files

    some, none = _rows(WeekRows, _ROW, _ROWS), _rows(WeekRows, _NONE, [])
    idle = {**_UNTIMED, "tool_name": "calibrate"}
    many = replace(some, kinds=_causes(), tools=[*_ROWS, idle], previous_tools=[{**_ROW, "tool_name": "fit"}])
    among_others, alone = Beside(_monday(), _monday()), Beside(first_day=_MOMENT.date(), among_others=False)
    filled = ((some, among_others), (many, alone), (replace(some, kinds=[]), among_others), (none, among_others))
    for rows, beside in filled:
        weekly_summary(_monday(), rows, _ZONE, beside)
        weekly_files(_monday(), rows, _ZONE, beside)


def fill_tool() -> None:
    """The report of a tool, and its page: busy, without failures or durations, idle in this week, or in both."""
    from audit_dagster.reports.tool_page import tool_files
    from audit_dagster.reports.tools import ToolRows, tool_report

    some, none = _rows(ToolRows, _ROW, _ROWS), _rows(ToolRows, None, [])
    before = [{**_ROW, "day": _monday() - timedelta(days=1)}]
    many = replace(some, kinds=_causes(), calendar=before)
    idle = replace(none, previous_usage=_ROW, calendar=before)
    for rows in (some, many, _rows(ToolRows, _UNTIMED, []), idle, none):
        tool_report(_monday(), _ENTRY.tool_name, rows, _ZONE)
        tool_files(_monday(), _ENTRY.tool_name, rows, _ZONE)


def fill_site() -> None:
    """The page of all reports: of two years, of one day, of a week in which nothing succeeded, and of none."""
    from audit_dagster.reports.site import Pages, SiteRows, site_page
    from audit_dagster.reports.windows import monday_of, week_name

    some, today = _rows(SiteRows, None, _ROWS), _MOMENT.date()
    years = frozenset(today - timedelta(days=7 * number) for number in range(60))
    weeks = frozenset({"2021-W05", *(week_name(monday_of(day)) for day in years)})
    tools = {_ENTRY.tool_name: weeks, "fit": weeks}
    site_page(Pages(years, weeks, tools, years), replace(some, kinds=_causes()), _ZONE)
    site_page(Pages(frozenset({today}), frozenset({"2022-W01"})), some, _ZONE)
    for pages in (Pages(frozenset({today}), weeks), Pages()):
        site_page(pages, SiteRows(), _ZONE)


def fill_script() -> None:
    """A script that runs operations again, with all that one may need; one that lists why it does not; an empty one."""
    from audit_dagster.reproduction.plan import ScriptConfig, make_plan
    from audit_dagster.reproduction.script import reproduction_script

    patch = b"diff --git a/x b/x\n"
    entries = [_ENTRY, *_hard_to_repeat(sha256(patch).hexdigest())]
    everything = ScriptConfig(include_failed=True, add_timing=True, add_error_handling=False)
    for chosen, config in ((entries, everything), ([_ENTRY], ScriptConfig()), ([], ScriptConfig())):
        plan = make_plan(chosen, config, {sha256(patch).hexdigest(): patch})
        reproduction_script(plan, _MOMENT, config)


def fill_hook() -> None:
    """The function of each shell."""
    from audit_dagster.render import render

    for shell in ("bash", "zsh"):
        render("shell_hook.sh.j2", shell=shell)


def fill_alert() -> None:
    """A message about as many incidents of each kind as it shows in full, names, and only counts."""
    from audit_dagster.alerts.message import Failure, Incident, Links, alert_message

    changed = replace(_replay(), parameters={"project": "Soil", **{f"depth_{number}": number for number in range(12)}})
    examples = (Failure(_ENTRY, None), Failure(_ENTRY, _ENTRY), Failure(_ENTRY, _replay()), Failure(changed, _ENTRY))
    kinds = ("first seen", "still failing", "run failed", "check failed", "unusually slow", "silent", "resolved")
    incidents = {
        kind: [
            Incident(kind, kind, "sensing-data", "extract", "broken", 2, _MOMENT, _MOMENT, example, {"Incident": "17"})
            for example in (*examples, None)
        ]
        for kind in kinds
    }
    everything = [one for of_kind in incidents.values() for one in of_kind]
    for told in (*incidents.values(), everything[:1], everything * 4):
        alert_message("key", told, Links("https://example.org/reports", None), _ZONE)


def _replay() -> LogEntry:
    return replace(
        _ENTRY,
        success=True,
        error_message=None,
        parameters={"site": 4},
        context={"reproduces": _ENTRY.operation_id, "verdict": "reproduced"},
    )


def _numbered(number: int, **fields: Any) -> LogEntry:
    return replace(_ENTRY, operation_id=f"00000000-0000-4000-8000-{number:012x}", **fields)


def _hard_to_repeat(patch: str) -> list[LogEntry]:
    """Operations with uncommitted changes and a secret, in words that bash or shellcheck could take for others."""
    root = "/home/ada/lab"
    git = {"root": root, "patch": {"sha256": patch, "exact": False, "left_out": {"$x": "too large"}}}
    code = {"git_dirty": True, "command": ["python3", f"{root}/fit.py", "--in", "../raw.csv", f"--out={root}/a b"]}
    secret = ["fetch", "`", "--token", "${SECRET:TOKEN}", "x"]
    return [
        _numbered(2, **code, context={"git": git}, operation="fit $x", note="Reproduction: with $x", success=True),
        _numbered(3, command=secret, context={"command_is_exact": False}, git_commit_hash=None),
    ]


def _causes() -> list[dict[str, Any]]:
    return [{**_ROW, "operation": f"step {number}"} for number in range(_MANY)]


def _monday() -> date:
    from audit_dagster.reports.windows import monday_of

    return monday_of(_MOMENT.date())


def _rows(kind: Callable[..., _Rows], one: dict[str, Any] | None, several: list[dict[str, Any]]) -> _Rows:
    """What SQL counted: `one` in each place for a single row, `several` in each place for any number."""
    return kind(**{field.name: several if field.type == "Rows" else one for field in fields(kind)})  # type: ignore[arg-type]
