"""The documents made from the audit log."""

import re
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from audit_dagster.defs.automation import make_when_late, remake_when_late, this_week_and_the_last
from audit_dagster.defs.observation import audit_logs, tool_logs
from audit_dagster.defs.partitions import (
    as_date,
    day_partitions,
    split_week_tool,
    week_partitions,
    week_tool_partitions,
)
from audit_dagster.defs.resources import AuditResource
from audit_dagster.documents import Document
from audit_dagster.render import file_name, markdown_block
from audit_dagster.store.query import fetch

if TYPE_CHECKING:
    from psycopg import Connection

_LONGEST_SHOWN = 20_000
_ENTRY_COMMENT = re.compile(r"^<!-- audit-entry: .* -->\n", re.MULTILINE)


@dg.asset(
    deps=[audit_logs],
    partitions_def=day_partitions,
    automation_condition=remake_when_late,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="audit",
    kinds={"markdown"},
    description="All operations of a day, in Markdown; each carries its entry, from which a script can be made.",
)
def daily_report(context: dg.AssetExecutionContext, audit: AuditResource) -> None:
    """Write the report of each day of the run."""
    service = audit.service()
    with service.audit.database() as connection:
        _each_date(context, lambda day: _shown(service.write_daily_report(connection, day)))


@dg.asset(
    deps=[audit_logs],
    partitions_def=day_partitions,
    automation_condition=remake_when_late,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="audit",
    kinds={"bash"},
    description="A script that runs a day's operations again, at the commits they ran with.",
)
def reproduction_script(context: dg.AssetExecutionContext, audit: AuditResource) -> None:
    """Write the script of each day of the run."""
    service = audit.service()

    def write(day: date) -> dict[str, dg.MetadataValue]:
        document, plan = service.write_day_script(connection, day)
        counts = {"steps": dg.MetadataValue.int(len(plan.steps)), "left_out": dg.MetadataValue.int(len(plan.left_out))}
        return {**counts, **_shown(document, language="bash")}

    with service.audit.database() as connection:
        _each_date(context, write)


@dg.asset(
    deps=[dg.AssetDep(audit_logs, partition_mapping=this_week_and_the_last)],
    partitions_def=week_partitions,
    automation_condition=remake_when_late,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="audit",
    kinds={"markdown"},
    description="A week's totals, tools, people and failures, beside the week before.",
)
def weekly_summary(context: dg.AssetExecutionContext, audit: AuditResource) -> None:
    """Write the summary of each week of the run."""
    service = audit.service()
    with service.audit.database() as connection:
        _each_date(context, lambda monday: _shown(service.write_weekly_summary(connection, monday)))


@dg.asset(
    deps=[tool_logs],
    partitions_def=week_tool_partitions,
    automation_condition=make_when_late,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="audit",
    kinds={"markdown"},
    description="One tool in one week: operations, failures, durations, users and parameters.",
)
def tool_stats(context: dg.AssetExecutionContext, audit: AuditResource) -> None:
    """Write the report of each week and tool of the run."""
    service = audit.service()
    with service.audit.database() as connection:
        names = known_tools(connection)
        for key in context.partition_keys:
            monday, tool_key = split_week_tool(key)
            document = service.write_tool_report(connection, monday, names.get(tool_key, tool_key))
            context.add_asset_metadata(_shown(document), partition_key=key)


def known_tools(connection: "Connection[Any]") -> dict[str, str]:
    """Every tool's name by its partition key."""
    return {file_name(row["tool_name"]): row["tool_name"] for row in fetch(connection, "known_tools")}


def _each_date(context: dg.AssetExecutionContext, write: Callable[[date], dict[str, dg.MetadataValue]]) -> None:
    """Write the document of every partition of the run, and show each on its partition."""
    for key in context.partition_keys:
        context.add_asset_metadata(write(as_date(key)), partition_key=key)


def _shown(document: Document, language: str | None = None) -> dict[str, dg.MetadataValue]:
    """What people look at in Dagster's UI."""
    text = _ENTRY_COMMENT.sub("", document.text)
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[:_LONGEST_SHOWN]}\n…\n"
    succeeded = document.operations - document.failed
    rate = {"success_rate": dg.MetadataValue.float(succeeded / document.operations)} if document.operations else {}
    return {
        "operations": dg.MetadataValue.int(document.operations),
        "failed": dg.MetadataValue.int(document.failed),
        **rate,
        "path": dg.MetadataValue.path(str(document.path.absolute())),
        "document": dg.MetadataValue.md(markdown_block(text, language) if language else text),
    }
