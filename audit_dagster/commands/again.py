"""Run it again: `reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from audit_dagster.commands import PATH, plain
from audit_dagster.commands.progress import tracked
from audit_dagster.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_dagster.audit_service import AuditService
    from audit_dagster.entry import LogEntry

_SOURCES = "--recent, --start-date with --end-date, --operation-id, --file"
_SCRIPT_NAME = "reproduce_commands.sh"


@click.command()
@click.argument("output", required=False, type=PATH)
@click.option("--logs-dir", default="logs", show_default=True, help="Folder of reports, or its URL.")
@click.option("--output-file", default=_SCRIPT_NAME, show_default=True, type=PATH, help="The file, instead of OUTPUT.")
@click.option("--recent", is_flag=True, help="From the database rather than from a folder.")
@click.option("--minutes", type=click.IntRange(min=1), help="With --recent: only the last so many minutes.")
@click.option("--start-date", help="From the database: first day, as YYYY-MM-DD.")
@click.option("--end-date", help="Last day, as YYYY-MM-DD; it is included.")
@click.option("--operation-id", "ids", multiple=True, help="This operation; may be given again.")
@click.option("--file", "made", help="The shortest chain of operations that made this file, or this SHA-256.")
@click.option("--include-failed", is_flag=True, help="Failed operations, too; the script expects them to fail again.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["bash", "json", "ro-crate"]),
    default="bash",
    show_default=True,
    help="A script, the plan as JSON, or a Process Run Crate in the folder OUTPUT.",
)
@click.pass_context
def reproduce(
    ctx: click.Context, /, output: Path | None, output_file: Path, form: str, include_failed: bool, **source: Any
) -> None:
    """Write a bash script that runs operations again.

    It takes a folder of reports, from which you may have deleted sections, or what you choose from the database.

    \b
    Examples:
      audit-dagster reproduce --logs-dir ./logs --output-file reproduce_analysis.sh
      audit-dagster reproduce --recent --minutes 30 --output-file recent_work.sh
      audit-dagster reproduce --file results/summary.csv how_it_was_made.sh
      audit-dagster reproduce --recent --format ro-crate ./crate
    """
    from audit_dagster.audit_service import AuditService
    from audit_dagster.reproduction.plan import ScriptConfig

    is_named = ctx.get_parameter_source("output_file") is ParameterSource.COMMANDLINE
    if output is not None and is_named:
        raise InvalidInputError("give OUTPUT or --output-file, not both")
    place = output_file if is_named else output
    service = AuditService()
    entries = _entries(service, **source)
    if form == "ro-crate":
        _write_crate(entries, place, service)
    elif form == "json":
        _write_plan(entries, place, ScriptConfig(include_failed=include_failed), service)
    else:
        _write_script(entries, place or output_file, ScriptConfig(include_failed=include_failed), service)


def _entries(
    service: AuditService,
    logs_dir: str,
    recent: bool,
    minutes: int | None,
    start_date: str | None,
    end_date: str | None,
    ids: tuple[str, ...],
    made: str | None,
) -> Sequence[LogEntry]:
    from audit_dagster.provenance_service import chain_of
    from audit_dagster.report_service import logs_entries

    # An empty value is a variable that nobody set, not an option that was not given.
    has_dates, has_file = start_date is not None or end_date is not None, made is not None
    if sum((recent, has_dates, bool(ids), has_file)) > 1:
        raise InvalidInputError(f"give one of {_SOURCES}")
    if minutes is not None and not recent:
        raise InvalidInputError("--minutes goes with --recent")
    if recent:
        return service.recent_entries(None, None, minutes)
    if has_dates:
        if start_date is None or end_date is None:
            raise InvalidInputError("--start-date and --end-date go together")
        return service.entries_between(start_date, end_date)
    if ids:
        return service.entries_by_id(ids)
    if made is not None:
        return chain_of(made, service.settings).steps
    return logs_entries(logs_dir, service.settings, tracked("reports"))


def _write_script(entries: Sequence[LogEntry], place: Path, config: Any, service: AuditService) -> None:
    from audit_dagster.report_service import script_info, write_script

    document, plan = write_script(entries, place, config, service.settings, track=tracked("steps"))
    info = script_info(document, plan, service.settings)
    span = f", {info['start_date']} to {info['end_date']}" if info["start_date"] else ""
    click.echo(f"{document.path}: {len(plan.steps)} of {document.operations} operations{span}")
    if plan.left_out:
        click.echo(f"{len(plan.left_out)} left out; the script lists them with the reasons.")


def _write_plan(entries: Sequence[LogEntry], place: Path | None, config: Any, service: AuditService) -> None:
    from audit_dagster.report_service import write_plan

    document, text = write_plan(entries, place, config, service.settings)
    click.echo(text if document is None else document.path, nl=document is not None)


def _write_crate(entries: Sequence[LogEntry], place: Path | None, service: AuditService) -> None:
    from audit_dagster.provenance_service import write_crate

    if place is None:
        raise InvalidInputError("name the folder of the crate: audit-dagster reproduce --format ro-crate DIR")
    crate = write_crate(entries, place, service.settings)
    click.echo(
        plain(f"{crate.path}: {crate.operations} operations, ")
        + f"{crate.copied} of their outputs, {crate.referenced} more by reference"
    )
