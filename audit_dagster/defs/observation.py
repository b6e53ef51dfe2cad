"""The audit log as Dagster sees it: a data version for each day, and for each tool's week, that changes with its rows.

An observation looks only at what arrived since the last one. It remembers how far it saw in Dagster's event log, as an
observation without a partition: who loses the event log loses the versions with it, and starts anew.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from audit_dagster.defs.partitions import (
    as_date,
    day_partitions,
    split_week_tool,
    tool_partitions,
    week_partitions,
    week_tool_partitions,
)
from audit_dagster.defs.resources import AuditResource
from audit_dagster.escaping import file_name
from audit_dagster.reports.weekly import CALENDAR_WEEKS
from audit_dagster.reports.windows import day_window, monday_of, week_window
from audit_dagster.settings import Settings
from audit_dagster.store.query import fetch

if TYPE_CHECKING:
    from psycopg import Connection

_CALENDAR = [timedelta(weeks=number) for number in range(CALENDAR_WEEKS)]
_VERSION_TAG = "dagster/data_version"


class Seen(NamedTuple):
    """How far an observation saw: rows of transactions before this one, and these days of this zone."""

    transaction: int
    zone: str
    first_day: str
    last_day: str


@dg.observable_source_asset(
    partitions_def=day_partitions,
    group_name="audit",
    description="The operations recorded in PostgreSQL. A day's data version changes whenever a row of it arrives.",
)
def audit_logs(context: dg.OpExecutionContext, audit: AuditResource) -> dg.DataVersionsByPartition:
    """The versions of the days that changed, or ended, since the last observation; of all days at the first one."""
    settings = audit.settings()
    days = [as_date(key) for key in day_partitions.get_partition_keys()]
    with audit.audit().database() as connection:
        before, now = last_seen(context), seen_now(connection, settings, days)
        if before and before.transaction <= now.transaction and before[1:3] == now[1:3]:
            changed = {day for day, _ in changed_days(connection, before)}
            days = [day for day in days if day in changed or str(day) > before.last_day]
        versions = day_versions(connection, days, settings)
    context.log.info(f"{len(days)} days looked at, {len(versions)} of them have operations")
    return _record(context, versions, now)


@dg.observable_source_asset(
    partitions_def=week_tool_partitions,
    group_name="audit",
    description="The same operations by week and tool. A data version changes whenever a row of an ended week arrives.",
)
def tool_logs(context: dg.OpExecutionContext, audit: AuditResource) -> dg.DataVersionsByPartition:
    """The versions of the tools' weeks that changed after they ended.

    Not of all at the first observation, nor of a week as it ends: a new version makes the report, and those reports are
    the work of a backfill and of the schedule.
    """
    settings = audit.settings()
    with audit.audit().database() as connection:
        before, now = last_seen(context), seen_now(connection, settings, [])
        versions: dict[str, str] = {}
        if before and before.transaction <= now.transaction and before.zone == now.zone:
            made = context.instance.get_materialized_partitions(dg.AssetKey("tool_stats"))
            versions = tool_versions(connection, changed_days(connection, before), settings, made)
    tools = {split_week_tool(key)[1] for key in versions}
    new = tools.difference(tool_partitions.get_partition_keys(dynamic_partitions_store=context.instance))
    context.instance.add_dynamic_partitions("tools", sorted(new))
    context.log.info(f"{len(versions)} weeks of tools changed")
    return _record(context, versions, now)


def last_seen(context: dg.OpExecutionContext) -> Seen | None:
    """What the last observation of the asset left; None where it left nothing."""
    for record in context.instance.fetch_observations(context.asset_key, limit=1).records:
        observation = record.asset_observation
        if observation and observation.partition is None and set(Seen._fields) <= observation.metadata.keys():
            values = {name: observation.metadata[name].value for name in Seen._fields}
            return Seen(**{**values, "transaction": int(str(values["transaction"]))})  # type: ignore[arg-type]
    return None


def seen_now(connection: "Connection[Any]", settings: Settings, days: Sequence[date]) -> Seen:
    """What an observation that begins now will have seen; asked before it looks, since seeing twice is harmless."""
    (row,) = fetch(connection, "oldest_open")
    first, last = (str(days[0]), str(days[-1])) if days else ("", "")
    return Seen(int(row["transaction"]), settings.timezone, first, last)


def changed_days(connection: "Connection[Any]", since: Seen) -> list[tuple[date, str]]:
    """The days, and on each the tools, of rows that arrived since."""
    rows = fetch(connection, "changed_days", oldest=str(since.transaction), zone=since.zone)
    return [(row["day"], row["tool_name"]) for row in rows]


def day_versions(connection: "Connection[Any]", days: Sequence[date], settings: Settings) -> dict[str, str]:
    """The versions, by partition key, of those of the days that have operations."""
    windows = [day_window(day, settings.zone) for day in days]
    opens, closes = [window.start for window in windows], [window.end for window in windows]
    rows = fetch(connection, "day_versions", days=list(days), opens=opens, closes=closes) if days else []
    return {str(row["day"]): row["version"] for row in rows}


def tool_versions(
    connection: "Connection[Any]",
    changed: Sequence[tuple[date, str]],
    settings: Settings,
    made: Set[str] = frozenset(),
) -> dict[str, str]:
    """The versions of the ended weeks whose reports show these days, in their calendars too.

    Only of weeks in which the tool ran, or whose report was made all the same.
    """
    ended = set(week_partitions.get_partition_keys())
    shown = {(monday_of(day) + later, tool) for day, tool in changed for later in _CALENDAR}
    asked = sorted((week, tool) for week, tool in shown if str(week) in ended)
    found = _weeks_of_tools(connection, {(week - back, tool) for week, tool in asked for back in _CALENDAR}, settings)
    versions: dict[str, str] = {}
    for week, tool in asked:
        key = dg.MultiPartitionKey({"week": str(week), "tool": file_name(tool)})
        if (week, tool) in found or key in made:
            seen = [found[week - back, tool] for back in _CALENDAR if (week - back, tool) in found]
            versions[key] = f"{sum(row['operations'] for row in seen)}-{max(row['latest'] for row in seen)}"
    return versions


def _weeks_of_tools(
    connection: "Connection[Any]", asked: Set[tuple[date, str]], settings: Settings
) -> dict[tuple[date, str], dict[str, Any]]:
    """How many rows those of the weeks have in which the tool ran, and the newest one."""
    pairs = sorted(asked)
    windows = [week_window(week, settings.zone) for week, _ in pairs]
    rows = fetch(
        connection,
        "tool_versions",
        weeks=[week for week, _ in pairs],
        tools=[tool for _, tool in pairs],
        opens=[window.start for window in windows],
        closes=[window.end for window in windows],
    )
    return {(row["week"], row["tool_name"]): row for row in rows}


def _record(context: dg.OpExecutionContext, versions: Mapping[str, str], now: Seen) -> dg.DataVersionsByPartition:
    """Log the versions, and after them how far they go; Dagster would log what is returned too late for that."""
    for key, version in versions.items():
        context.log_event(dg.AssetObservation(context.asset_key, partition=key, tags={_VERSION_TAG: version}))
    values = {**now._asdict(), "transaction": str(now.transaction)}
    context.log_event(dg.AssetObservation(context.asset_key, metadata=values))
    return dg.DataVersionsByPartition({})
