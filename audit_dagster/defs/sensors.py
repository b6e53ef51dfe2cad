"""What is watched: failures that nobody was told of, runs of the audit itself, and tools that nobody had seen."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from audit_dagster.alert_service import (
    alerts_due,
    failing_jobs,
    note_job_successes,
    queue_failed_check,
    queue_run_failure,
)
from audit_dagster.defs.assets import known_tools
from audit_dagster.defs.jobs import failure_alerts_job
from audit_dagster.defs.partitions import tool_partitions
from audit_dagster.defs.resources import AuditResource
from audit_dagster.settings import Settings

_LONGEST_RUN = timedelta(minutes=10)
_MOST_CHECKS = _MOST_RUNS = 100  # for each tick: the next one goes on
_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(job=failure_alerts_job, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def failure_alerts_sensor(context: dg.SensorEvaluationContext, audit: AuditResource) -> dg.RunRequest | dg.SkipReason:
    """Request one run while anything is due. The database, not this sensor, knows who was told what.

    Its cursor is only how far it looked for checks that failed.
    """
    failed, cursor = _failed_checks(context)
    with audit.audit().database() as connection:
        for run_id, check in failed:
            asset, said = check.asset_key.to_user_string(), check.description or "it failed without a word"
            url = _run_url(audit.settings(), run_id)
            queue_failed_check(connection, audit.settings(), check.check_name, asset, said, run_id, url)
        context.update_cursor(cursor)
        if not alerts_due(connection):
            return dg.SkipReason("nothing is to be told")
    # Not older ones: a run that lost its machine says for ever that it is on its way.
    recent = datetime.now(UTC) - _LONGEST_RUN
    runs = dg.RunsFilter(job_name=failure_alerts_job.name, statuses=_IN_PROGRESS, created_after=recent)
    if context.instance.get_runs_count(runs):
        return dg.SkipReason("a run is on its way")
    # So that a dead one ends as failed, and leaves its place among the few that run at once.
    return dg.RunRequest(tags={"dagster/max_runtime": str(int(_LONGEST_RUN.total_seconds()))})


def _failed_checks(context: dg.SensorEvaluationContext) -> tuple[list[tuple[str, dg.AssetCheckEvaluation]], str]:
    """This project's checks that failed with severity ERROR since the cursor, by run, and the next cursor.

    Without a cursor: none, and the newest evaluation. What failed before somebody turned this on is history.
    """
    begun = context.cursor is not None
    wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=int(context.cursor or 0))
    records = context.instance.event_log_storage.get_event_records(
        wanted, limit=_MOST_CHECKS if begun else 1, ascending=begun
    )
    cursor = str(max((record.storage_id for record in records), default=int(context.cursor or 0)))
    ours = context.repository_def.asset_graph.asset_check_keys if begun and context.repository_def else set()
    failed = []
    for record in records:
        event = record.event_log_entry.dagster_event
        check = event.asset_check_evaluation_data if event else None
        if check is None or check.passed or check.asset_check_key not in ours:
            continue
        if check.severity == dg.AssetCheckSeverity.ERROR:
            failed.append((record.run_id, check))
    return failed, cursor


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def failed_runs_sensor(context: dg.SensorEvaluationContext, audit: AuditResource) -> dg.SkipReason:
    """Count failed runs of this code location in the incidents, which end with the next success of their job.

    Dagster's own run-failure sensor would go on to the next run where counting one failed, as while the database is
    away. The cursor of this one moves only when all are counted, and the database knows which it has.
    """
    records, cursor = _failures_since(context)
    settings = audit.settings()
    with audit.audit().database() as connection:
        failed = _of_this_location(context, records)
        for event, run in failed:
            error, url = _root_error(event.event_log_entry.get_dagster_event()), _run_url(settings, run.run_id)
            moment = datetime.fromtimestamp(event.timestamp, UTC)
            queue_run_failure(connection, settings, run.run_id, run.job_name, error, url, moment)
        note_job_successes(connection, _last_successes(context.instance, failing_jobs(connection)))
    context.update_cursor(cursor)
    return dg.SkipReason(f"{len(failed)} failed runs were counted" if failed else "no other run failed")


def _failures_since(context: dg.SensorEvaluationContext) -> tuple[Sequence[dg.EventLogRecord], str]:
    """The events of runs that failed since the cursor, and the next cursor.

    Without a cursor: none, and the newest event. What failed before somebody turned this on is history.
    """
    begun = (context.cursor or "").isdecimal()
    seen = int(context.cursor or 0) if begun else 0
    wanted = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=seen)
    found = context.instance.fetch_run_status_changes(wanted, limit=_MOST_RUNS if begun else 1, ascending=begun)
    cursor = max((record.storage_id for record in found.records), default=seen)
    return found.records if begun else (), str(cursor)


def _of_this_location(
    context: dg.SensorEvaluationContext, records: Sequence[dg.EventLogRecord]
) -> list[tuple[dg.EventLogRecord, dg.DagsterRun]]:
    ids = [record.run_id for record in records]
    found = context.instance.get_runs(dg.RunsFilter(run_ids=ids)) if ids else []
    here = context.code_location_origin.location_name if context.code_location_origin else None
    runs = {run.run_id: run for run in found if _location(run) == here}
    return [(record, runs[record.run_id]) for record in records if record.run_id in runs]


def _location(run: dg.DagsterRun) -> str | None:
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin else None


def _root_error(event: dg.DagsterEvent) -> str:
    """What the first step that failed said at its root; where no step did, what Dagster says of the run."""
    # Who ends a run from outside gives no data.
    step = event.job_failure_data.first_step_failure_event if event.event_specific_data else None
    error = step.step_failure_data.error if step else None
    while error and error.cause:
        error = error.cause
    return (error.message.strip() if error else event.message) or "it failed without a message"


def _last_successes(instance: dg.DagsterInstance, jobs: Iterable[str]) -> dict[str, datetime]:
    """When the newest successful run of each of these jobs started."""
    successes = {}
    for job in jobs:
        wanted = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS])
        for record in instance.get_run_records(wanted, limit=1):
            if record.start_time is not None:
                successes[job] = datetime.fromtimestamp(record.start_time, UTC)
    return successes


def _run_url(settings: Settings, run_id: str) -> str | None:
    base = settings.given.get("AUDIT_DAGSTER_URL")
    return f"{base.rstrip('/')}/runs/{run_id}" if base else None


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def new_tools_sensor(context: dg.SensorEvaluationContext, audit: AuditResource) -> dg.SensorResult | dg.SkipReason:
    """Add a partition for each tool that was never seen before."""
    with audit.audit().database() as connection:
        keys = known_tools(connection).keys()
    new = sorted(keys - set(tool_partitions.get_partition_keys(dynamic_partitions_store=context.instance)))
    if not new:
        return dg.SkipReason("no new tool")
    return dg.SensorResult(dynamic_partitions_requests=[tool_partitions.build_add_request(new)])
