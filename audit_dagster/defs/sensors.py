"""What is watched: failures that nobody was told of, runs of the audit itself, and tools that nobody had seen."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from audit_dagster.alert_service import alerts_due, queue_run_failure
from audit_dagster.defs.assets import known_tools
from audit_dagster.defs.jobs import failure_alerts_job
from audit_dagster.defs.partitions import tool_partitions
from audit_dagster.defs.resources import AuditResource

_LONGEST_RUN = timedelta(minutes=10)
_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(job=failure_alerts_job, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def failure_alerts_sensor(context: dg.SensorEvaluationContext, audit: AuditResource) -> dg.RunRequest | dg.SkipReason:
    """Request one run while anything is due. The database, not this sensor, knows who was told what."""
    with audit.audit().database() as connection:
        if not alerts_due(connection):
            return dg.SkipReason("nothing is to be told")
    # Not older ones: a run that lost its machine says for ever that it is on its way.
    recent = datetime.now(UTC) - _LONGEST_RUN
    runs = dg.RunsFilter(job_name=failure_alerts_job.name, statuses=_IN_PROGRESS, created_after=recent)
    if context.instance.get_runs_count(runs):
        return dg.SkipReason("a run is on its way")
    return dg.RunRequest()


@dg.run_failure_sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def failed_runs_sensor(context: dg.RunFailureSensorContext, audit: AuditResource) -> None:
    """Put a failed run of this project into the queue of messages.

    Where the database is what failed, this raises, and Dagster comes back to the run at its next tick.
    """
    run = context.dagster_run
    settings = audit.settings()
    base = settings.given.get("AUDIT_DAGSTER_URL")
    url = f"{base.rstrip('/')}/runs/{run.run_id}" if base else None
    error = context.failure_event.message or "it failed without a message"
    with audit.audit().database() as connection:
        queue_run_failure(connection, settings, run.run_id, run.job_name, error, url)


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def new_tools_sensor(context: dg.SensorEvaluationContext, audit: AuditResource) -> dg.SensorResult | dg.SkipReason:
    """Add a partition for each tool that was never seen before."""
    with audit.audit().database() as connection:
        keys = known_tools(connection).keys()
    new = sorted(keys - set(tool_partitions.get_partition_keys(dynamic_partitions_store=context.instance)))
    if not new:
        return dg.SkipReason("no new tool")
    return dg.SensorResult(dynamic_partitions_requests=[tool_partitions.build_add_request(new)])
