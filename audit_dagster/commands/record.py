"""Record: any command, an entry from any language, what is typed, and an earlier history."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from audit_dagster.commands import PATH, plain
from audit_dagster.commands.progress import tracked
from audit_dagster.errors import InvalidInputError

_PASS_THROUGH = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command("run", context_settings=_PASS_THROUGH)
@click.option("--tool-name", help="Tool to record it under; the program's name if not given.")
@click.option("--operation", help="Operation to record it as; `run` if not given.")
@click.option("--note", help="What it was for, in your words.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(tool_name: str | None, operation: str | None, note: str | None, command: tuple[str, ...]) -> None:
    """Run a command as itself, and record it.

    Exit code, signals, stdin, stdout and stderr are the command's.

    \b
    Example:
      audit-dagster run --tool-name sensing-data --note "May export" -- python3 extract.py --site 4
    """
    if command[0].startswith("-"):
        raise click.NoSuchOption(command[0])
    from audit_dagster.recording.command import end_like, run_command

    end_like(run_command(list(command), tool_name, operation, note))


@click.command("log")
@click.option("--json", "source", metavar="FILE", help="The entry, one JSON object in UTF-8; `-` reads stdin.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema that the entry has to fit.")
def log(source: str | None, schema: bool) -> None:
    """Record an operation that a program in any language describes, and print its operation_id.

    tool_name and operation are required; what else is known is filled in.

    \b
    Example:
      echo '{"tool_name": "soil-model", "operation": "fit", "duration_seconds": 45.7}' | audit-dagster log --json -
    """
    from audit_dagster.recording import handed_in

    if (source is not None) == schema:
        raise InvalidInputError("give --json FILE, or --json - for stdin, or --schema")
    if source is None:
        click.echo(handed_in.schema_text(), nl=False)
        return
    operation_id = handed_in.record(handed_in.read(source))
    if operation_id is None:
        click.echo("Logging is off: nothing was recorded.", err=True)
    else:
        click.echo(operation_id)


@click.command("shell-hook")
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def shell_hook(shell: str) -> None:
    """Print a shell function that records commands as you type them.

    \b
    Example, in ~/.bashrc, with the commands of your choice:
      eval "$(audit-dagster shell-hook bash)"
      audit_record make Rscript
    """
    from audit_dagster.render import render

    click.echo(render("shell_hook.sh.j2", shell=shell), nl=False)


@click.command("import")
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--table", "dsn", help="Read the table tool_call_logs of this database, a libpq connection string.")
@click.option("--timezone", help="Zone of the history's local times; AUDIT_TIMEZONE if not given.")
def import_command(paths: tuple[Path, ...], dsn: str | None, timezone: str | None) -> None:
    """Import an earlier history: Markdown execution logs, or the table tool_call_logs.

    Importing the same twice adds nothing. Whatever is refused is named with the reason.

    \b
    Examples:
      audit-dagster import ./logs --timezone America/Chicago
      audit-dagster import --table "host=db dbname=rtgs user=reader" --timezone America/Chicago
    """
    from audit_dagster.import_service import import_history
    from audit_dagster.importers.markdown_logs import find_logs, read_logs
    from audit_dagster.importers.tool_call_logs import read_table
    from audit_dagster.settings import Settings, zone_named

    if bool(paths) == bool(dsn):
        raise InvalidInputError("give files or folders to import, or --table with a connection string")
    settings = Settings.load()
    zone = zone_named(timezone, "--timezone") if timezone else settings.zone
    track = tracked("operations", None if dsn else sum(1 for _ in find_logs(paths)))
    outcome = import_history(track(read_table(dsn, zone) if dsn else read_logs(paths, zone)), settings)
    for refused in outcome.refused:
        click.echo(plain(f"refused: {refused.source}: {refused.reason}"), err=True)
    click.echo(
        f"{outcome.read} read, {outcome.stored} stored, {outcome.already_there} already there, "
        f"{len(outcome.refused)} refused"
    )
    if outcome.refused:
        sys.exit(1)
