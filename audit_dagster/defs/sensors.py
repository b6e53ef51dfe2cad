"""What is watched: failures that nobody was told of, and tools that nobody had seen."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from audit_dagster.alert_service import alerts_due
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
    """Request one run while any failure is due. The outbox, not this sensor, knows who was told what."""
    with audit.audit().database() as connection:
        if not alerts_due(connection):
            return dg.SkipReason("no failure is waiting")
    # Not older ones: a run that lost its machine says for ever that it is on its way.
    recent = datetime.now(UTC) - _LONGEST_RUN
    runs = dg.RunsFilter(job_name=failure_alerts_job.name, statuses=_IN_PROGRESS, created_after=recent)
    if context.instance.get_runs_count(runs):
        return dg.SkipReason("a run is on its way")
    return dg.RunRequest()


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def new_tools_sensor(context: dg.SensorEvaluationContext, audit: AuditResource) -> dg.SensorResult | dg.SkipReason:
    """Add a partition for each tool that was never seen before."""
    with audit.audit().database() as connection:
        keys = known_tools(connection).keys()
    new = sorted(keys - set(tool_partitions.get_partition_keys(dynamic_partitions_store=context.instance)))
    if not new:
        return dg.SkipReason("no new tool")
    return dg.SensorResult(dynamic_partitions_requests=[tool_partitions.build_add_request(new)])
