"""Whether the log itself can be trusted, no operation was lost on its way, and whether people hear of what is in it.

They run with each observation of the log, and look at the operations of the last 30 days.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._time import get_current_datetime

from audit_dagster.defs.assets import daily_report, weekly_summary
from audit_dagster.defs.freshness import last_due, made_daily, made_weekly
from audit_dagster.defs.observation import audit_logs
from audit_dagster.defs.partitions import day_partitions, week_partitions
from audit_dagster.defs.resources import AuditResource
from audit_dagster.defs.runs import patient
from audit_dagster.escaping import markdown_text
from audit_dagster.store.query import Row, fetch

_LOOKED_BACK = timedelta(days=30)
# An operation has its number when it begins and is stored when it ended; others overtake it.
_LONGEST_OPERATION = timedelta(days=1)
_MOST_NAMED = 20
_DOCUMENTS = ((daily_report, day_partitions, made_daily), (weekly_summary, week_partitions, made_weekly))


@dg.asset_check(asset=audit_logs)
def outbox_agrees_with_failures(context: dg.AssetCheckExecutionContext, audit: AuditResource) -> dg.AssetCheckResult:
    """Every failure is in the alerts' outbox, but for imported ones, and nothing else is."""
    with patient(context), audit.audit().database() as connection:
        since = datetime.now(UTC) - _LOOKED_BACK
        rows = fetch(connection, "outbox_disagreement", since=since, limit=_MOST_NAMED + 1)
    return _result([_disagreement(row) for row in rows], dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=audit_logs)
def no_gap_in_any_spool(context: dg.AssetCheckExecutionContext, audit: AuditResource) -> dg.AssetCheckResult:
    """No operation of a spool is missing among those that were stored."""
    now = datetime.now(UTC)
    with patient(context), audit.audit().database() as connection:
        rows = fetch(
            connection,
            "spool_gaps",
            since=now - _LOOKED_BACK,
            stored_before=now - _LONGEST_OPERATION,
            limit=_MOST_NAMED + 1,
        )
    return _result([_gap(row) for row in rows], dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=audit_logs)
def documents_are_made(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """The newest report and summary are there half a day after their schedules, whether these run or not."""
    now, instance = get_current_datetime(), context.instance  # Dagster's clock, by which it made them
    observed = instance.fetch_observations(audit_logs.key, limit=1, ascending=True).records
    late = []
    for asset, partitions, policy in _DOCUMENTS:
        due = last_due(policy, now)
        ended = partitions.get_partition_keys(current_time=due)
        if not ended or not observed or due.timestamp() < observed[0].timestamp:  # before anybody was there
            continue
        made = max(instance.get_materialized_partitions(asset.key), default="")
        if made < ended[-1]:
            newest = f"the newest is {made}" if made else "nor any other"
            late.append(f"{asset.key.to_user_string()} of {ended[-1]} was not made, {newest}: is its schedule running?")
    return _result(late, dg.AssetCheckSeverity.ERROR, "all are made")


def _disagreement(row: Row) -> str:
    if row["is_queued"]:
        return f"{row['operation_id']} is in the outbox and is no failure to tell of"
    return f"{row['operation_id']} failed and is not in the outbox"


def _gap(row: Row) -> str:
    first, last = row["first_missing"], row["last_missing"]
    numbers = f"{first}" if first == last else f"{first} to {last}"
    spool, host = row["spool_id"] or "without an id", row["hostname"] or "an unknown host"
    return f"spool {markdown_text(spool)} on {markdown_text(host)}: {numbers} missing"


def _result(
    complaints: list[str], severity: dg.AssetCheckSeverity, sound: str = f"nothing in {_LOOKED_BACK.days} days"
) -> dg.AssetCheckResult:
    more = ["and more"] if len(complaints) > _MOST_NAMED else []
    return dg.AssetCheckResult(
        passed=not complaints,
        severity=severity,
        description="; ".join(complaints[:_MOST_NAMED] + more) or sound,
    )
