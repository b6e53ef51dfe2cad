"""The documents made from the audit log."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from audit_dagster.defs.automation import make_when_late, remake_when_late, weeks_of_the_calendar
from audit_dagster.defs.freshness import made_daily, made_weekly
from audit_dagster.defs.observation import audit_logs, tool_logs
from audit_dagster.defs.partitions import (
    as_date,
    day_partitions,
    split_week_tool,
    week_partitions,
    week_tool_partitions,
)
from audit_dagster.defs.resources import AuditResource
from audit_dagster.defs.runs import Made, Metadata, backfill_policy, each_partition, nothing, patient
from audit_dagster.documents import Document, read_text
from audit_dagster.escaping import file_name, markdown_block, markdown_text
from audit_dagster.reports.drawing import words_of
from audit_dagster.store.query import fetch

if TYPE_CHECKING:
    from psycopg import Connection

_LONGEST_SHOWN = 20_000
_LONGEST_SHOWN_IN_ALL = 4_000_000  # of one run, which keeps them to its end
_CHART = re.compile(r"^!\[[^]\n]*\]\(([0-9W-]+-(?:days|durations|calendar)\.svg)\)$", re.MULTILINE)
_LINKS = re.compile(r"^\[HTML\]\(.*\)\n\n", re.MULTILINE)
_ENTRY_COMMENT = re.compile(r"^<!-- audit-entry: .* -->\n", re.MULTILINE)


@dg.asset(
    deps=[audit_logs],
    partitions_def=day_partitions,
    automation_condition=remake_when_late,
    freshness_policy=made_daily,
    backfill_policy=backfill_policy,
    dagster_type=nothing,
    group_name="audit",
    kinds={"markdown"},
    description="All operations of a day, in Markdown; each carries its entry, from which a script can be made.",
)
def daily_report(context: dg.AssetExecutionContext, audit: AuditResource) -> Iterator[Made]:
    """Write the report of each day of the run."""
    service, shown = audit.service(), _shown_in(context)
    with patient(context), service.audit.database() as connection:

        def write(key: str) -> Metadata:
            return shown(service.write_daily_report(connection, as_date(key)))

        yield from each_partition(context, write)


@dg.asset(
    deps=[audit_logs],
    partitions_def=day_partitions,
    automation_condition=remake_when_late,
    backfill_policy=backfill_policy,
    dagster_type=nothing,
    group_name="audit",
    kinds={"bash"},
    description="A script that runs a day's operations again, at the commits they ran with.",
)
def reproduction_script(context: dg.AssetExecutionContext, audit: AuditResource) -> Iterator[Made]:
    """Write the script of each day of the run."""
    service, shown = audit.service(), _shown_in(context)
    with patient(context), service.audit.database() as connection:

        def write(key: str) -> Metadata:
            document, plan = service.write_day_script(connection, as_date(key))
            steps, left_out = dg.MetadataValue.int(len(plan.steps)), dg.MetadataValue.int(len(plan.left_out))
            return {"steps": steps, "left_out": left_out, **shown(document, language="bash")}

        yield from each_partition(context, write)


@dg.asset(
    deps=[dg.AssetDep(audit_logs, partition_mapping=weeks_of_the_calendar)],
    partitions_def=week_partitions,
    automation_condition=remake_when_late,
    freshness_policy=made_weekly,
    backfill_policy=backfill_policy,
    dagster_type=nothing,
    group_name="audit",
    kinds={"markdown"},
    description="A week's totals, tools, people and failures, beside the weeks before.",
)
def weekly_summary(context: dg.AssetExecutionContext, audit: AuditResource) -> Iterator[Made]:
    """Write the summary of each week of the run."""
    service, shown = audit.service(), _shown_in(context)
    with patient(context), service.audit.database() as connection:

        def write(key: str) -> Metadata:
            return shown(service.write_weekly_summary(connection, as_date(key)))

        yield from each_partition(context, write)


@dg.asset(
    deps=[tool_logs],
    partitions_def=week_tool_partitions,
    automation_condition=make_when_late,
    backfill_policy=backfill_policy,
    dagster_type=nothing,
    group_name="audit",
    kinds={"markdown"},
    description="One tool in one week: operations, failures, durations, users and parameters.",
)
def tool_stats(context: dg.AssetExecutionContext, audit: AuditResource) -> Iterator[Made]:
    """Write the report of each week and tool of the run."""
    service, shown = audit.service(), _shown_in(context)
    with patient(context), service.audit.database() as connection:
        names = known_tools(connection)

        def write(key: str) -> Metadata:
            monday, tool_key = split_week_tool(key)
            return shown(service.write_tool_report(connection, monday, names.get(tool_key, tool_key)))

        yield from each_partition(context, write)


def known_tools(connection: "Connection[Any]") -> dict[str, str]:
    """Every tool's name by its partition key."""
    return {file_name(row["tool_name"]): row["tool_name"] for row in fetch(connection, "known_tools")}


def _shown_in(context: dg.AssetExecutionContext) -> Callable[..., Metadata]:
    """As `_shown`, with no more of each document than a run with so many can keep."""
    return partial(_shown, min(_LONGEST_SHOWN, _LONGEST_SHOWN_IN_ALL // len(context.partition_keys)))


def _shown(longest: int, document: Document, language: str | None = None) -> Metadata:
    """What people look at in Dagster's UI."""
    text = document.text if language else _alone(document)
    if len(text) > longest:
        text = f"{text[:longest]}\n…\n"
    succeeded = document.operations - document.failed
    rate = {"success_rate": dg.MetadataValue.float(succeeded / document.operations)} if document.operations else {}
    return {
        "operations": dg.MetadataValue.int(document.operations),
        "failed": dg.MetadataValue.int(document.failed),
        **rate,
        "path": dg.MetadataValue.path(str(document.path.absolute())),
        "document": dg.MetadataValue.md(markdown_block(text, language) if language else text),
    }


def _alone(document: Document) -> str:
    """The Markdown without what leads to files beside it, which the UI does not have: charts say what they show."""

    def in_words(chart: re.Match[str]) -> str:
        return markdown_text(words_of(read_text(document.path.with_name(chart[1]))))

    return _CHART.sub(in_words, _LINKS.sub("", _ENTRY_COMMENT.sub("", document.text)))
