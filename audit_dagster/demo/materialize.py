"""Materializes what the demo touches, in this process, in Dagster's instance: `audit-dagster dev` then shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import dagster as dg

from audit_dagster.audit_service import AuditService
from audit_dagster.definitions import defs
from audit_dagster.defs.assets import known_tools
from audit_dagster.defs.partitions import day_partitions, tool_partitions
from audit_dagster.reports.windows import monday_of

_QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def materialize(days: Sequence[date]) -> int:
    """Observe the log, and make the documents of all days to yesterday, of the days' weeks, and the site.

    Returns how many. Raises DagsterExecutionStepExecutionError or the like where a run fails.
    """
    mondays = sorted({monday_of(day) for day in days})
    with dg.DagsterInstance.get() as instance:
        with AuditService().database() as connection:
            tools = sorted(known_tools(connection))
        instance.add_dynamic_partitions(tool_partitions.name or "", tools)
        runs: list[tuple[str, str, str]] = [
            ("daily_documents_job", str(days[0]), day_partitions.get_last_partition_key() or str(days[-1])),
            ("weekly_summary_job", str(mondays[0]), str(mondays[-1])),
        ]
        _run(instance, "observe_audit_logs_job")
        made = 0
        for job_name, first, last in runs:
            made += _run(instance, job_name, {_RANGE_START: first, _RANGE_END: last})
        for monday in mondays:
            for tool in tools:
                key = dg.MultiPartitionKey({"week": str(monday), "tool": tool})
                made += _run(instance, "tool_stats_job", partition_key=key)
        made += _run(instance, "reports_site_job")
        return made


def _run(
    instance: dg.DagsterInstance,
    job_name: str,
    tags: dict[str, str] | None = None,
    partition_key: str | None = None,
) -> int:
    job = defs.resolve_job_def(job_name)
    result = job.execute_in_process(run_config=_QUIET, instance=instance, tags=tags, partition_key=partition_key)
    return sum(1 for event in result.all_events if event.is_step_materialization)
