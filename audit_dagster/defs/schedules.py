"""When documents are made: at AUDIT_DAILY_AT, and on Monday at AUDIT_WEEKLY_AT, in AUDIT_TIMEZONE.

Of the ticks that a partitioned schedule missed Dagster runs the last five, of any other's only the last one, and a
daemon may be down for longer. So a tick here asks for all that ended since the first that was made, is missing, and was
not tried. What was tried and failed is asked for again only until a later one is made: it would fail each night.
"""

from collections.abc import Iterator, Sequence, Set
from itertools import groupby
from typing import TYPE_CHECKING, Any

import dagster as dg

from audit_dagster.defs.assets import daily_report, known_tools, reproduction_script, tool_stats, weekly_summary
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
from audit_dagster.reports.windows import week_window
from audit_dagster.settings import Settings
from audit_dagster.store.query import fetch

if TYPE_CHECKING:
    from psycopg import Connection

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
def daily_documents_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """The day that ended, whether or not anything ran on it, and the days before it whose tick was missed."""
    return _missing_of(_ended(context, day_partitions), context.instance, daily_report, reproduction_script)


@dg.schedule(
    job=weekly_summary_job,
    cron_schedule=_WEEKLY,
    execution_timezone=_settings.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def weekly_summary_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """The week that ended, and the weeks before it whose tick was missed."""
    return _missing_of(_ended(context, week_partitions), context.instance, weekly_summary)


@dg.schedule(
    job=tool_stats_job,
    cron_schedule=_WEEKLY,
    execution_timezone=_settings.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def tool_stats_schedule(context: dg.ScheduleEvaluationContext, audit: AuditResource) -> Iterator[dg.RunRequest]:
    """The week that ended, once for each tool that ran in it, and the weeks before it whose tick was missed."""
    ended = _ended(context, week_partitions)
    made = _by_tool(context.instance.get_materialized_partitions(tool_stats.key))
    tried = _by_tool(_tried(context.instance, tool_stats))
    weeks = _since_first(ended, set().union(*made.values()))
    with audit.audit().database() as connection:
        tools = known_tools(connection)
        asked = {tool: _missing(weeks, made.get(tool, set()), tried.get(tool, set())) for tool in tools}
        ran = _weeks_that_ran(connection, audit.settings(), [(tools[tool], asked[tool]) for tool in tools])
    known = tool_partitions.get_partition_keys(dynamic_partitions_store=context.instance)
    context.instance.add_dynamic_partitions("tools", sorted(tools.keys() - set(known)))
    for tool, name in sorted(tools.items()):
        for stretch in _stretches(asked[tool] & ran.get(name, set()), ended):
            yield _request([dg.MultiPartitionKey({"week": week, "tool": tool}) for week in stretch], ended)


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


def _missing_of(
    ended: Sequence[str], instance: dg.DagsterInstance, *assets: dg.AssetsDefinition
) -> list[dg.RunRequest] | dg.SkipReason:
    """A request for each stretch of partitions in which one of the assets, made in one run, is missing."""
    made = set.intersection(*(instance.get_materialized_partitions(asset.key) for asset in assets))
    tried = set.intersection(*(_tried(instance, asset) for asset in assets))
    missing = _missing(_since_first(ended, made), made, tried)
    requests = [_request(stretch, ended) for stretch in _stretches(missing, ended)]
    return requests or dg.SkipReason("it was made already")


def _tried(instance: dg.DagsterInstance, asset: dg.AssetsDefinition) -> set[str]:
    """The partitions that a run was to make, whatever came of it."""
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    return set(instance.get_latest_storage_id_by_partition(asset.key, planned))


def _since_first(ended: Sequence[str], made: set[str]) -> Sequence[str]:
    """Those from the first that was made on; the newest one where none was: the first fill is a backfill."""
    first = min(made.intersection(ended), default=None)
    return ended[-1:] if first is None else ended[ended.index(first) :]


def _missing(keys: Sequence[str], made: set[str], tried: set[str]) -> set[str]:
    """Those that were not made, but for what was tried before a later one was made."""
    latest = max(made.intersection(keys), default="")
    return {key for key in keys if key not in made and (key not in tried or key > latest)}


def _by_tool(keys: Set[str]) -> dict[str, set[str]]:
    """The weeks of each tool among keys of weeks and tools."""
    weeks: dict[str, set[str]] = {}
    for week, tool in map(split_week_tool, keys):
        weeks.setdefault(tool, set()).add(str(week))
    return weeks


def _weeks_that_ran(
    connection: "Connection[Any]", settings: Settings, asked: Sequence[tuple[str, Set[str]]]
) -> dict[str, set[str]]:
    """Those of the weeks asked for, by the tool's name, in which the tool ran."""
    pairs = [(name, as_date(week)) for name, weeks in asked for week in weeks]
    windows = [week_window(week, settings.zone) for _, week in pairs]
    rows = fetch(
        connection,
        "tool_versions",
        tools=[name for name, _ in pairs],
        weeks=[week for _, week in pairs],
        opens=[window.start for window in windows],
        closes=[window.end for window in windows],
    )
    ran: dict[str, set[str]] = {}
    for row in rows:
        ran.setdefault(row["tool_name"], set()).add(str(row["week"]))
    return ran


def _stretches(keys: Set[str], ended: Sequence[str]) -> Iterator[list[str]]:
    """The keys by neighbours, as many in one as in a backfill's run: a range is one run."""
    most = _settings.backfill_days_per_run or len(ended)
    for is_asked, group in groupby(ended, keys.__contains__):
        stretch = list(group)
        if is_asked:
            yield from (stretch[first : first + most] for first in range(0, len(stretch), most))


def _request(keys: Sequence[str], ended: Sequence[str]) -> dg.RunRequest:
    """One run for neighbours, which are asked for once by each tick."""
    if len(keys) == 1:
        return dg.RunRequest(run_key=f"{keys[0]} in {ended[-1]}", partition_key=keys[0])
    bounds = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    return dg.RunRequest(run_key=f"{keys[0]} to {keys[-1]} in {ended[-1]}", tags=bounds)
