"""Whether a document that was written is true: its totals are the database's, its script one that bash accepts.

A check looks at the partitions of its run, or, executed by itself, at every partition that was ever materialized.
"""

import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from audit_dagster.defs.assets import daily_report, known_tools, reproduction_script, tool_stats, weekly_summary
from audit_dagster.defs.partitions import as_date, split_week_tool
from audit_dagster.defs.resources import AuditResource
from audit_dagster.documents import Place, local_copies, read_text
from audit_dagster.errors import AuditError
from audit_dagster.report_service import ReportService
from audit_dagster.reports.totals import Totals, stated_totals
from audit_dagster.reports.windows import Window, day_window, week_window
from audit_dagster.store.query import fetch

_MOST_NAMED = 20
_AT_ONCE = 100


@dg.asset_check(asset=daily_report)
def daily_totals_equal_the_database(
    context: dg.AssetCheckExecutionContext, audit: AuditResource
) -> dg.AssetCheckResult:
    """The operations and failures that a daily report states are those in the database."""
    service = audit.service()

    def place(key: str) -> tuple[Place, Window, str | None]:
        return service.daily_path(as_date(key)), day_window(as_date(key), service.settings.zone), None

    return _compare_totals(_keys(context, daily_report), service, place)


@dg.asset_check(asset=weekly_summary)
def weekly_totals_equal_the_database(
    context: dg.AssetCheckExecutionContext, audit: AuditResource
) -> dg.AssetCheckResult:
    """The operations and failures that a weekly summary states are those in the database."""
    service = audit.service()

    def place(key: str) -> tuple[Place, Window, str | None]:
        return service.weekly_path(as_date(key)), week_window(as_date(key), service.settings.zone), None

    return _compare_totals(_keys(context, weekly_summary), service, place)


@dg.asset_check(asset=tool_stats)
def tool_totals_equal_the_database(context: dg.AssetCheckExecutionContext, audit: AuditResource) -> dg.AssetCheckResult:
    """The operations and failures that a tool report states are those in the database."""
    service = audit.service()
    with service.audit.database() as connection:
        names = known_tools(connection)

    def place(key: str) -> tuple[Place, Window, str | None]:
        monday, tool_key = split_week_tool(key)
        tool_name = names.get(tool_key, tool_key)
        return service.tool_path(monday, tool_name), week_window(monday, service.settings.zone), tool_name

    return _compare_totals(_keys(context, tool_stats), service, place)


@dg.asset_check(asset=reproduction_script)
def script_is_sound(context: dg.AssetCheckExecutionContext, audit: AuditResource) -> dg.AssetCheckResult:
    """`bash -n` and shellcheck accept the script."""
    service = audit.service()
    keys = _keys(context, reproduction_script)
    with local_copies(service.script_path(as_date(key)) for key in keys) as paths:
        complaints = [
            complaint
            for first in range(0, len(paths), _AT_ONCE)
            for complaint in _complaints(paths[first : first + _AT_ONCE])
        ]
    return _result(len(keys), complaints)


def _keys(context: dg.AssetCheckExecutionContext, asset: dg.AssetsDefinition) -> list[str]:
    run = context.op_execution_context
    if run.has_partition_key or run.has_partition_key_range:
        return list(run.partition_keys)
    return sorted(context.instance.get_materialized_partitions(asset.key))


def _compare_totals(
    keys: list[str], service: ReportService, place: Callable[[str], tuple[Place, Window, str | None]]
) -> dg.AssetCheckResult:
    differing = []
    with service.audit.database() as connection:
        for key in keys:
            path, window, tool_name = place(key)
            row = fetch(connection, "window_totals", start=window.start, end=window.end, tool_name=tool_name)[0]
            counted = Totals(row["operations"], row["failed"])
            try:
                stated: Any = stated_totals(read_text(path))
            except AuditError as error:
                stated = str(error)
            if stated != counted:
                differing.append(f"{key}: report {_text(stated)}, database {_text(counted)}")
    return _result(len(keys), differing)


def _complaints(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        read = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
        if read.returncode:
            yield f"bash -n: {read.stderr.strip()}"
    checked = subprocess.run(
        [_shellcheck(), "--severity=style", "--format=gcc", "--", *paths], capture_output=True, text=True, check=False
    )
    yield from (checked.stdout + checked.stderr).splitlines()


def _shellcheck() -> str:
    """The one that came with this environment, whether or not the environment is activated."""
    return shutil.which("shellcheck", path=sysconfig.get_path("scripts")) or "shellcheck"


def _text(totals: Totals | str) -> str:
    return totals if isinstance(totals, str) else f"{totals.operations} operations, {totals.failed} failed"


def _result(looked_at: int, complaints: list[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not complaints,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(complaints[:_MOST_NAMED]) or f"{looked_at} looked at",
        metadata={"looked_at": looked_at, "complaints": len(complaints)},
    )
