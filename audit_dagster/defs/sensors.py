"""What is watched: failures that nobody was told of, runs of the audit itself, and tools that nobody had seen."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from audit_dagster.alert_service import alerts_due, queue_failed_check, queue_run_failure
from audit_dagster.defs.assets import known_tools
from audit_dagster.defs.jobs import failure_alerts_job
from audit_dagster.defs.partitions import tool_partitions
from audit_dagster.defs.resources import AuditResource
from audit_dagster.settings import Settings

_LONGEST_RUN = timedelta(minutes=10)
_MOST_CHECKS = 100  # for each tick: the next one goes on
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


@dg.run_failure_sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def failed_runs_sensor(context: dg.RunFailureSensorContext, audit: AuditResource) -> None:
    """Put a failed run of this project into the queue of messages.

    Where the database is what failed, this raises, and Dagster comes back to the run at its next tick.
    """
    run = context.dagster_run
    settings = audit.settings()
    error = context.failure_event.message or "it failed without a message"
    with audit.audit().database() as connection:
        queue_run_failure(connection, settings, run.run_id, run.job_name, error, _run_url(settings, run.run_id))


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
