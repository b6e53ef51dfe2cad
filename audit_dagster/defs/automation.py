"""Late data: which documents are made again when rows arrive after they were made. Why so: docs/operations.md."""

import dagster as dg

from audit_dagster.reports.weekly import CALENDAR_WEEKS

_in_progress = dg.AutomationCondition.in_progress()
_changed = dg.AutomationCondition.any_deps_updated()
_made_or_being_made = ~dg.AutomationCondition.missing() | _in_progress


def _until_asked_for(change: dg.AutomationCondition) -> dg.AutomationCondition:  # type: ignore[type-arg]
    """A change waits while its document is being made, since that may have read before it, and is then asked for once.

    Not `since_last_handled`: it forgets at every request and every update what came between reading and writing.
    """
    return change.since(dg.AutomationCondition.newly_requested() & ~change) & ~_in_progress


# What was never made is left to the schedules and to backfills.
remake_when_late = _until_asked_for(_changed & _made_or_being_made)

# Also what was never made: a tool that nobody knew of when its week ended.
make_when_late = _until_asked_for(_changed)

# The site's page, once after all that is being made. Not `any_deps_updated`: it is true before they are made.
remake_after = (
    _until_asked_for(dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated()))
    & ~dg.AutomationCondition.any_deps_in_progress()
)

# A summary shows each day of these weeks in its calendar.
weeks_of_the_calendar = dg.TimeWindowPartitionMapping(
    start_offset=1 - CALENDAR_WEEKS, allow_nonexistent_upstream_partitions=True
)

# Declared, because Dagster's own of this name is stopped until somebody turns it on.
default_automation_condition_sensor = dg.AutomationConditionSensorDefinition(
    "default_automation_condition_sensor",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Make the documents again whose rows arrived late.",
)
