"""When documents are made: shortly after midnight and on Monday, in AUDIT_TIMEZONE."""

from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from audit_dagster.defs.jobs import daily_documents_job, observe_audit_logs_job, tool_stats_job, weekly_summary_job
from audit_dagster.defs.partitions import day_partitions, tool_partitions
from audit_dagster.reports.windows import monday_of

daily_documents_schedule = dg.build_schedule_from_partitioned_job(
    daily_documents_job,
    name="daily_documents_schedule",
    hour_of_day=0,
    minute_of_hour=15,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

weekly_summary_schedule = dg.build_schedule_from_partitioned_job(
    weekly_summary_job,
    name="weekly_summary_schedule",
    hour_of_day=0,
    minute_of_hour=30,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.schedule(
    job=tool_stats_job,
    cron_schedule="45 0 * * 1",
    execution_timezone=day_partitions.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def tool_stats_schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    """The week that ended, once for each tool."""
    before = context.scheduled_execution_time - timedelta(weeks=1)
    week = monday_of(before.astimezone(ZoneInfo(day_partitions.timezone)).date())
    for tool in tool_partitions.get_partition_keys(dynamic_partitions_store=context.instance):
        key = dg.MultiPartitionKey({"week": str(week), "tool": tool})
        yield dg.RunRequest(run_key=f"{week}|{tool}", partition_key=key)


@dg.schedule(
    job=observe_audit_logs_job,
    cron_schedule="5 * * * *",
    execution_timezone=day_partitions.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def observe_audit_logs_schedule() -> dg.RunRequest:
    """Every hour, so that days whose rows arrived late show as changed."""
    return dg.RunRequest()
