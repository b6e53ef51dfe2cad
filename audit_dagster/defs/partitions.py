"""Days and ISO weeks of AUDIT_TIMEZONE from AUDIT_START_DATE, and week-tool pairs.

Dagster needs start and zone when it loads the definitions, so this room alone reads the settings at import.
"""

from __future__ import annotations

from datetime import date

import dagster as dg

from audit_dagster.reports.windows import monday_of
from audit_dagster.settings import Settings

_settings = Settings.load()

day_partitions = dg.DailyPartitionsDefinition(start_date=str(_settings.start_date), timezone=_settings.timezone)

# From Monday; the key is the Monday's date.
week_partitions = dg.WeeklyPartitionsDefinition(
    start_date=str(monday_of(_settings.start_date)), timezone=_settings.timezone, day_offset=1
)

# Keys are `file_name` of the tools' names, which come from anywhere.
tool_partitions = dg.DynamicPartitionsDefinition(name="tools")

week_tool_partitions = dg.MultiPartitionsDefinition({"week": week_partitions, "tool": tool_partitions})


def as_date(partition_key: str) -> date:
    """The day, or the week's Monday, of a key."""
    return date.fromisoformat(partition_key)


def split_week_tool(partition_key: str) -> tuple[date, str]:
    """The week's Monday and the tool's key of a week-tool key."""
    parts = week_tool_partitions.get_partition_key_from_str(partition_key).keys_by_dimension
    return as_date(parts["week"]), parts["tool"]
