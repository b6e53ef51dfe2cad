"""When documents are made: at AUDIT_DAILY_AT, and on Monday at AUDIT_WEEKLY_AT, in AUDIT_TIMEZONE.

Of the ticks that a partitioned schedule missed Dagster runs the last five, of any other's only the last one, and a
daemon may be down for longer. So a tick here asks for all that ended since the latest that was made.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from audit_dagster.defs.assets import daily_report, reproduction_script, tool_stats, weekly_summary
from audit_dagster.defs.jobs import (
    daily_documents_job,
    observe_audit_logs_job,
    observe_tool_logs_job,
    tool_stats_job,
    weekly_summary_job,
)
from audit_dagster.defs.partitions import as_date, day_partitions, split_week_tool, tool_partitions, week_partitions
from audit_dagster.defs.resources import AuditResource
from audit_dagster.defs.retention import old_runs_job
from audit_dagster.escaping import file_name
from audit_dagster.reports.windows import week_window
from audit_dagster.settings import Settings
from audit_dagster.store.query import fetch

_settings = Settings.load()
_WEEKLY = f"{_settings.weekly_at.minute} {_settings.weekly_at.hour} * * 1"
_SUNDAYS = f"{_WEEKLY[:-1]}0"
# Between midnight and when the day's documents are made: what is seen of their day is in them, and no news afterwards.
_HOURLY = f"{max(0, _settings.daily_at.minute - 10)} * * * *"


@dg.schedule(
    job=daily_documents_job,
    cron_schedule=f"{_settings.daily_at.minute} {_settings.daily_at.hour} * * *",
    execution_timezone=_settings.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_documents_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """The day that ended, whether or not anything ran on it, and the days before it whose tick was missed."""
    reports, scripts = map(context.instance.get_materialized_partitions, (daily_report.key, reproduction_script.key))
    return _in_one_run(_since(_ended(context, day_partitions), reports & scripts))


@dg.schedule(
    job=weekly_summary_job,
    cron_schedule=_WEEKLY,
    execution_timezone=_settings.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def weekly_summary_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """The week that ended, and the weeks before it whose tick was missed."""
    made = context.instance.get_materialized_partitions(weekly_summary.key)
    return _in_one_run(_since(_ended(context, week_partitions), made))


@dg.schedule(
    job=tool_stats_job,
    cron_schedule=_WEEKLY,
    execution_timezone=_settings.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def tool_stats_schedule(context: dg.ScheduleEvaluationContext, audit: AuditResource) -> Iterator[dg.RunRequest]:
    """The week that ended, once for each tool that ran in it, and the weeks before it whose tick was missed."""
    ended = _ended(context, week_partitions)
    made = context.instance.get_materialized_partitions(tool_stats.key)
    # Late rows may have made one of the newest week's already.
    weeks = _since(ended, {str(split_week_tool(key)[0]) for key in made} - set(ended[-1:]))
    settings = audit.settings()
    with audit.audit().database() as connection:
        for week in weeks:
            start, end = week_window(as_date(week), settings.zone)
            rows = fetch(connection, "operations_per_day", start=start, end=end, zone=settings.timezone, tool_name=None)
            tools = sorted({file_name(row["tool_name"]) for row in rows})
            known = tool_partitions.get_partition_keys(dynamic_partitions_store=context.instance)
            context.instance.add_dynamic_partitions("tools", sorted(set(tools).difference(known)))
            keys = [dg.MultiPartitionKey({"week": week, "tool": tool}) for tool in tools]
            for key in keys:
                if key not in made:
                    yield dg.RunRequest(run_key=f"{key} in {ended[-1]}", partition_key=key)


@dg.schedule(
    job=observe_audit_logs_job,
    cron_schedule=_HOURLY,
    execution_timezone=_settings.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def observe_audit_logs_schedule() -> dg.RunRequest:
    """Every hour, so that a day whose rows arrived late is seen to have changed."""
    return dg.RunRequest()


@dg.schedule(
    job=observe_tool_logs_job,
    cron_schedule=_HOURLY,
    execution_timezone=_settings.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def observe_tool_logs_schedule() -> dg.RunRequest:
    """The same for the weeks of the tools. One job cannot have both: their partitions differ."""
    return dg.RunRequest()


@dg.schedule(
    job=old_runs_job,
    cron_schedule=_SUNDAYS,
    execution_timezone=_settings.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def old_runs_schedule() -> dg.RunRequest:
    """Once a week, on a day that has nothing else."""
    return dg.RunRequest()


def _ended(context: dg.ScheduleEvaluationContext, partitions: dg.TimeWindowPartitionsDefinition) -> Sequence[str]:
    """The partitions that had ended by the time of the tick."""
    return partitions.get_partition_keys(current_time=context.scheduled_execution_time)


def _since(ended: Sequence[str], made: set[str]) -> list[str]:
    """Those after the latest that was made; the newest one where none was: the first fill is a backfill."""
    latest = max(made.intersection(ended), default=None)
    return list(ended[-1:]) if latest is None else [key for key in ended if key > latest]


def _in_one_run(keys: Sequence[str]) -> dg.RunRequest | dg.SkipReason:
    if not keys:
        return dg.SkipReason("it was made already")
    if len(keys) == 1:
        return dg.RunRequest(run_key=keys[0], partition_key=keys[0])
    bounds = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    return dg.RunRequest(run_key=f"{keys[0]} to {keys[-1]}", tags=bounds)
