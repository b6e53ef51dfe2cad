"""Whether a document that was written is true: its totals are the database's, its script one that bash accepts.

A check looks at the partitions of its run, or, executed by itself, at every partition that was ever materialized.
"""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg

from audit_dagster.defs.assets import daily_report, known_tools, reproduction_script, tool_stats, weekly_summary
from audit_dagster.defs.partitions import as_date, split_week_tool
from audit_dagster.defs.resources import AuditResource
from audit_dagster.defs.runs import patient
from audit_dagster.documents import Place, local_copies, read_text
from audit_dagster.errors import AuditError
from audit_dagster.report_service import ReportService
from audit_dagster.reports.totals import Totals, stated_totals
from audit_dagster.reports.windows import Window, day_window, week_window
from audit_dagster.store.query import fetch

_MOST_NAMED = 20
_AT_ONCE = 10
_CORES = os.cpu_count() or 1  # shellcheck takes a second for each script
_DAYS_BY_ITSELF = 7


@dg.asset_check(asset=daily_report)
def daily_totals_equal_the_database(
    context: dg.AssetCheckExecutionContext, audit: AuditResource
) -> dg.AssetCheckResult:
    """The operations and failures that a daily report states are those in the database."""
    service = audit.service()

    def place(key: str) -> tuple[Place, Window, str | None]:
        return service.daily_path(as_date(key)), day_window(as_date(key), service.settings.zone), None

    return _compare_totals(_keys(context, daily_report), service, place)


@dg.asset_check(asset=daily_report)
def enough_operations_succeed(context: dg.AssetCheckExecutionContext, audit: AuditResource) -> dg.AssetCheckResult:
    """Of each day's operations at least AUDIT_MIN_SUCCESS_RATE succeeded; by itself it looks at the newest week."""
    settings = audit.settings()
    keys = _keys(context, daily_report)
    if not _has_partitions(context):
        keys = keys[-_DAYS_BY_ITSELF:]
    poor = []
    with patient(context), audit.audit().database() as connection:
        for key in keys:
            window = day_window(as_date(key), settings.zone)
            row = fetch(connection, "window_totals", start=window.start, end=window.end, tool_name=None)[0]
            succeeded = row["operations"] - row["failed"]
            if succeeded < settings.min_success_rate * row["operations"]:
                poor.append(f"{key}: {succeeded} of {row['operations']} succeeded")
    return _result(len(keys), poor, dg.AssetCheckSeverity.WARN)


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
    with local_copies(service.script_path(as_date(key)) for key in keys) as paths, ThreadPoolExecutor(_CORES) as pool:
        parts = [paths[first : first + _AT_ONCE] for first in range(0, len(paths), _AT_ONCE)]
        complaints = [complaint for found in pool.map(_complaints, parts) for complaint in found]
    return _result(len(keys), complaints)


def _keys(context: dg.AssetCheckExecutionContext, asset: dg.AssetsDefinition) -> list[str]:
    if _has_partitions(context):
        return list(context.op_execution_context.partition_keys)
    return sorted(context.instance.get_materialized_partitions(asset.key))


def _has_partitions(context: dg.AssetCheckExecutionContext) -> bool:
    run = context.op_execution_context
    return run.has_partition_key or run.has_partition_key_range


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


def _complaints(paths: list[Path]) -> list[str]:
    read = [subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False) for path in paths]
    refused = [f"bash -n: {one.stderr.strip()}" for one in read if one.returncode]
    checked = subprocess.run(
        [_shellcheck(), "--severity=style", "--format=gcc", "--", *paths], capture_output=True, text=True, check=False
    )
    return refused + (checked.stdout + checked.stderr).splitlines()


def _shellcheck() -> str:
    """The one that came with this environment, whether or not the environment is activated."""
    return shutil.which("shellcheck", path=sysconfig.get_path("scripts")) or "shellcheck"


def _text(totals: Totals | str) -> str:
    return totals if isinstance(totals, str) else f"{totals.operations} operations, {totals.failed} failed"


def _result(
    looked_at: int, complaints: list[str], severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not complaints,
        severity=severity,
        description="; ".join(complaints[:_MOST_NAMED]) or f"{looked_at} looked at",
        metadata={"looked_at": looked_at, "complaints": len(complaints)},
    )
