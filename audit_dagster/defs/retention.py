"""Which of Dagster's runs are deleted: old ones of this project that nothing stands on any more.

Dagster keeps what is known of an asset in the events of its runs: that a partition was made, and the data version that
was seen. Whichever run holds the newest such event stays, however old it is.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from audit_dagster.defs.assets import daily_report, reproduction_script, tool_stats, weekly_summary
from audit_dagster.defs.jobs import (
    daily_documents_job,
    failure_alerts_job,
    observe_audit_logs_job,
    observe_tool_logs_job,
    reports_site_job,
    tool_stats_job,
    weekly_summary_job,
)
from audit_dagster.defs.observation import audit_logs, tool_logs
from audit_dagster.defs.resources import AuditResource
from audit_dagster.defs.site import reports_site

_DOCUMENTS = [asset.key for asset in (daily_report, reproduction_script, weekly_summary, tool_stats)]
_LOGS = [asset.key for asset in (audit_logs, tool_logs)]
_ALL = {*_DOCUMENTS, *_LOGS, reports_site.key}
_AT_ONCE = 200


@dg.op(
    description="Delete runs older than AUDIT_KEEP_RUNS_DAYS, but for those that Dagster's memory of an asset is in."
)
def delete_old_runs_op(context: dg.OpExecutionContext, audit: AuditResource) -> None:
    """Say how many were deleted and how many stayed."""
    days = audit.settings().keep_runs_days
    deleted, kept = delete_old_runs(context.instance, datetime.now(UTC) - timedelta(days=days))
    context.log.info(f"{deleted} runs older than {days} days deleted, {kept} kept: the newest of an asset is in them")


@dg.job(description="Delete old runs, with their events and logs.")
def old_runs_job() -> None:
    """Delete what AUDIT_KEEP_RUNS_DAYS says."""
    delete_old_runs_op()


_JOBS = {
    job.name
    for job in (
        daily_documents_job,
        failure_alerts_job,
        observe_audit_logs_job,
        observe_tool_logs_job,
        old_runs_job,
        reports_site_job,
        tool_stats_job,
        weekly_summary_job,
    )
}


def delete_old_runs(instance: dg.DagsterInstance, before: datetime) -> tuple[int, int]:
    """Delete the project's runs that were created before and have ended. Returns how many went, and how many stayed."""
    old = set(_old_runs(instance, before))
    gone = old - _needed(instance)
    for run_id in gone:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(gone), len(old) - len(gone)


def _old_runs(instance: dg.DagsterInstance, before: datetime) -> Iterator[str]:
    ended = dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before)
    runs: Sequence[dg.DagsterRun] = instance.get_runs(ended, limit=_AT_ONCE)
    while runs:
        yield from (run.run_id for run in runs if _is_ours(run))
        runs = instance.get_runs(ended, cursor=runs[-1].run_id, limit=_AT_ONCE)


def _is_ours(run: dg.DagsterRun) -> bool:
    """Not another project's in the same instance; a backfill's run names no job, but its assets, or those it checks."""
    assets = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
    return run.job_name in _JOBS or bool(assets and assets <= _ALL)


def _needed(instance: dg.DagsterInstance) -> set[str]:
    """The runs with the newest event of a partition, or of a log, which is its memory."""
    needed: set[str] = set()
    for key in _DOCUMENTS:
        made = instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
        needed.update(_runs(instance.fetch_materializations, key, list(made.values())))
    needed.update(record.run_id for record in instance.fetch_materializations(reports_site.key, limit=1).records)
    for key in _LOGS:
        seen = instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_OBSERVATION)
        needed.update(_runs(instance.fetch_observations, key, list(seen.values())))
        needed.update(record.run_id for record in instance.fetch_observations(key, limit=1).records)
    return needed


def _runs(fetch: Callable[..., dg.EventRecordsResult], key: dg.AssetKey, storage_ids: Sequence[int]) -> Iterator[str]:
    for first in range(0, len(storage_ids), _AT_ONCE):
        chosen = storage_ids[first : first + _AT_ONCE]
        for record in fetch(dg.AssetRecordsFilter(key, storage_ids=chosen), limit=len(chosen)).records:
            yield record.run_id
