"""The command line: parse, call, show. `audit-dagster` and `rtgs audit` are this one group."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_dagster.errors import AuditError, InvalidInputError

if TYPE_CHECKING:
    from datetime import datetime

    from audit_dagster.entry import LogEntry
    from audit_dagster.settings import Settings

_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_PATH: click.Path = click.Path(path_type=Path)
_PASS_THROUGH = {"ignore_unknown_options": True, "allow_interspersed_args": False}


class AuditGroup(click.Group):
    """Turns an AuditError into one line on stderr and the error's exit code."""

    audit_dagster_unrecorded = True  # for record_cli: to look at the audit is no operation

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AuditError as error:
            _tell(str(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:  # end as the signal ends any program: a shell's loop around us ends with us
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`: click knows
                raise
            _tell(str(error))
            _forget_output()
            ctx.exit(1)


@click.group(cls=AuditGroup, context_settings=_CONTEXT, epilog="Exit codes: 0 done, 1 it failed, 2 the words are off.")
@click.version_option(package_name="audit-dagster")
def cli() -> None:
    """A flight recorder for research command-line tools."""


@cli.command()
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many operations.")
@click.option("--tool-name", help="Only this tool.")
@click.option("--minutes", type=click.IntRange(min=1), help="Only the last so many minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of log entries.")
def recent(limit: int, tool_name: str | None, minutes: int | None, as_json: bool) -> None:
    """Show the newest operations, newest first.

    \b
    Examples:
      audit-dagster recent --limit 20
      audit-dagster recent --minutes 60 --tool-name sensing-data
    """
    from audit_dagster.audit_service import AuditService

    service = AuditService()
    entries = service.recent_entries(limit, tool_name, minutes)
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in entries], indent=2))
    elif entries:
        _show_entries(entries, service.settings)
    else:
        click.echo(f"No operations{_of_tool(tool_name)}{f' in the last {minutes} minutes' if minutes else ''}.")


@cli.command()
@click.option("--start-date", required=True, help="First day, as YYYY-MM-DD.")
@click.option("--end-date", required=True, help="Last day, as YYYY-MM-DD; it is included.")
@click.option("--tool-name", help="Only this tool.")
@click.option(
    "--output-dir", default="logs", show_default=True, type=click.Path(path_type=Path), help="Folder to fill."
)
def report(start_date: str, end_date: str, tool_name: str | None, output_dir: Path) -> None:
    """Write a daily report, in Markdown, of each day on which anything ran.

    \b
    Example:
      audit-dagster report --start-date 2023-06-01 --end-date 2023-06-30 --output-dir ./audit_reports
    """
    from audit_dagster.report_service import ReportService

    paths = ReportService().generate_report(start_date, end_date, output_dir, tool_name)
    if not paths:
        click.echo(f"No operations{_of_tool(tool_name)} from {start_date} to {end_date}: nothing was written.")
        return
    for path in paths:
        click.echo(path)
    click.echo(f"Wrote {len(paths)} daily report{'s' if len(paths) > 1 else ''} to {output_dir}.")


@cli.command()
@click.option(
    "--logs-dir", default="logs", show_default=True, type=click.Path(path_type=Path), help="Folder of reports."
)
@click.option(
    "--output-file",
    default="reproduce_commands.sh",
    show_default=True,
    type=_PATH,
    help="The script to write.",
)
@click.option("--recent", "from_recent", is_flag=True, help="From the database rather than from a folder.")
@click.option("--minutes", type=click.IntRange(min=1), help="With --recent: only the last so many minutes.")
def reproduce(logs_dir: Path, output_file: Path, from_recent: bool, minutes: int | None) -> None:
    """Write a bash script that runs operations again.

    It takes a folder of reports, from which you may have deleted sections, or recent activity.

    \b
    Examples:
      audit-dagster reproduce --logs-dir ./logs --output-file reproduce_analysis.sh
      audit-dagster reproduce --recent --minutes 30 --output-file recent_work.sh
    """
    from audit_dagster.audit_service import AuditService
    from audit_dagster.report_service import logs_entries, script_info, write_script
    from audit_dagster.reproduction.plan import ScriptConfig

    if minutes is not None and not from_recent:
        raise InvalidInputError("--minutes goes with --recent: a folder of reports is taken whole")
    service = AuditService()
    settings = service.settings
    entries = service.recent_entries(None, None, minutes) if from_recent else logs_entries(logs_dir, settings)
    document, plan = write_script(entries, output_file, ScriptConfig(), settings)
    info = script_info(document, plan, settings)
    span = f", {info['start_date']} to {info['end_date']}" if info["start_date"] else ""
    click.echo(f"{document.path}: {len(plan.steps)} of {document.operations} operations{span}")
    if plan.left_out:
        click.echo(f"{len(plan.left_out)} left out; the script lists them with the reasons.")


@cli.command("run", context_settings=_PASS_THROUGH)
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
    from audit_dagster.recording.command import end_like, run_command

    end_like(run_command(list(command), tool_name, operation, note))


@cli.command("log")
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


@cli.command("shell-hook")
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def shell_hook(shell: str) -> None:
    """Print a shell function that records commands as you type them.

    \b
    In ~/.bashrc, with the commands of your choice:
      eval "$(audit-dagster shell-hook bash)"
      audit_record make Rscript
    """
    from audit_dagster.render import render

    click.echo(render("shell_hook.sh.j2", shell=shell), nl=False)


@cli.command("import")
@click.argument("paths", nargs=-1, type=_PATH)
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
    from audit_dagster.importers.markdown_logs import read_logs
    from audit_dagster.importers.tool_call_logs import read_table
    from audit_dagster.settings import Settings, zone_named

    if bool(paths) == bool(dsn):
        raise InvalidInputError("give files or folders to import, or --table with a connection string")
    settings = Settings.load()
    zone = zone_named(timezone, "--timezone") if timezone else settings.zone
    outcome = import_history(read_table(dsn, zone) if dsn else read_logs(paths, zone), settings)
    for refused in outcome.refused:
        click.echo(_plain(f"refused: {refused.source}: {refused.reason}"), err=True)
    click.echo(
        f"{outcome.read} read, {outcome.stored} stored, {outcome.already_there} already there, "
        f"{len(outcome.refused)} refused"
    )
    if outcome.refused:
        sys.exit(1)


@cli.command("init-db")
def init_db() -> None:
    """Make the schema in the database that POSTGRES_* name, or bring it up to date."""
    from audit_dagster.settings import Settings
    from audit_dagster.store.connect import open_connection, server
    from audit_dagster.store.migrate import migrate, migrations

    settings = Settings.load()
    place = server(settings)
    with open_connection(place) as connection:
        applied = migrate(connection)
    kind = "" if settings.postgres else f"embedded server in {settings.state_dir}, "
    click.echo(f"{kind}database '{place.db}' at {place.host}:{place.port}:")
    for name in applied:
        click.echo(f"  applied {name}")
    click.echo(f"  {'up to date' if applied else 'was up to date'}, {len(migrations())} migrations")


@cli.command()
def sync() -> None:
    """Store what waits in the spool now."""
    from audit_dagster.settings import Settings
    from audit_dagster.store.drain import drain

    drained = drain(Settings.load())
    click.echo(f"{drained.stored} stored, {drained.duplicates} already there, {drained.quarantined} in quarantine")
    if drained.unreadable:
        raise AuditError(f"{drained.unreadable} files of the spool may not be read: they belong to another user")


@cli.command("postgres-logging-status")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as a JSON object.")
def postgres_logging_status(as_json: bool) -> None:
    """Show whether operations are logged, what waits, what was lost, and whether the database answers."""
    from audit_dagster.audit_service import get_logging_status

    status = get_logging_status()
    if as_json:
        click.echo(json.dumps(status, indent=2, default=lambda time: time.isoformat()))
        return
    click.echo(_logging_line(status["enabled"], status["decided_by"]))
    for label, value in _status_rows(status):
        click.echo(f"{f'{label}:':<17} {_plain(value)}")


@cli.command("enable-postgres-logging")
def enable_postgres_logging() -> None:
    """Log operations, in this and every later session."""
    _switch(True)


@cli.command("disable-postgres-logging")
def disable_postgres_logging() -> None:
    """Stop logging operations; tools work as before."""
    _switch(False)


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of Dagster's UI.")
def dev(port: int) -> None:
    """Open Dagster on 127.0.0.1 over the same database, until Ctrl-C."""
    from audit_dagster.dev import run_dagster

    sys.exit(run_dagster(port))


@cli.command()
@click.option("--directory", default=".demo", show_default=True, type=_PATH, help="Folder for all that it makes.")
def demo(directory: Path) -> None:
    """Record a small real analysis, report on it, and run it again from its script."""
    from audit_dagster.demo.show import run_demo

    sys.exit(run_demo(directory.absolute()))


@cli.command("stop-server")
def stop_server() -> None:
    """Stop the embedded PostgreSQL; the next command that needs it starts it again."""
    from audit_dagster.settings import Settings
    from audit_dagster.store import embedded

    stopped = embedded.stop(Settings.load().state_dir)
    click.echo("Stopped the embedded server." if stopped else "The embedded server was not running.")


def main() -> None:
    """The console script `audit-dagster`."""
    run_group(cli, "audit-dagster")


def run_group(group: click.Group, name: str) -> None:
    """Run a console script; where its last words cannot be written, say so, rather than let Python do it."""
    try:
        group(prog_name=name)
    except SystemExit as end:
        try:
            sys.stdout.flush()
        except OSError as error:
            _tell(f"cannot write the answer: {error.strerror}")
            _forget_output()
            sys.exit(1)
        except AttributeError:  # stdout was closed before we began
            sys.exit(end.code)
        raise
    except OSError as error:
        _tell(f"cannot write the answer: {error.strerror}")
        _forget_output()
        sys.exit(1)


def _forget_output() -> None:
    """What could not be written must not be tried again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _tell(message: str) -> None:
    from audit_dagster.render import visible

    click.echo(f"Error: {visible(message)}", err=True)


def _switch(enabled: bool) -> None:
    from audit_dagster.audit_service import decided_where, set_global_logging
    from audit_dagster.recording.switch import read_switch
    from audit_dagster.settings import Settings

    set_global_logging(enabled)
    settings = Settings.load()
    switch = read_switch(settings)
    click.echo(_logging_line(switch.enabled, switch.decided_by))
    if switch.enabled != enabled:
        raise AuditError(f"{decided_where(settings, switch)} decides otherwise: unset it")


def _logging_line(enabled: bool, decided_by: str) -> str:
    return f"Postgres logging: {'enabled' if enabled else 'disabled'} ({decided_by})"


def _status_rows(status: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("Decided by", status["decided_where"])] if status["decided_where"] else []
    rows += [("Problem", problem) for problem in status["problems"]]
    if status["spool_dir"]:
        rows.append(("Spool", status["spool_dir"]))
    if status["waiting"] is not None:
        running = f", {status['running']} of them running" if status["running"] else ""
        rows += [("Waiting", f"{status['waiting']}{running}"), ("In quarantine", str(status["quarantined"]))]
        rows += [("Refused", f"{refused['name']}: {refused['reason']}") for refused in status["quarantine_reasons"]]
        delivered = status["last_delivered"]
        rows.append(("Last delivered", _moment(delivered) if delivered else "never"))
    last_lost = f", the last at {_moment(status['last_lost'])}" if status["lost"] else ""
    rows.append(("Lost", f"{status['lost']}{last_lost}"))
    if status["database"]:
        answers = {True: "yes", False: "no", None: "not asked"}[status["database_answers"]]
        problem = f": {status['database_problem']}" if status["database_problem"] else ""
        rows += [("Database", status["database"]), ("Database answers", f"{answers}{problem}")]
    return rows


def _moment(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def _of_tool(tool_name: str | None) -> str:
    return _plain(f" of the tool '{tool_name}'") if tool_name else ""


def _plain(text: str) -> str:
    from audit_dagster.render import visible

    return visible(text)


def _show_entries(entries: Sequence[LogEntry], settings: Settings) -> None:
    from audit_dagster.render import seconds, visible
    from audit_dagster.reports.daily import cause

    rows = [
        (
            entry.timestamp.astimezone(settings.zone).strftime("%Y-%m-%d %H:%M:%S"),
            "ok" if entry.success else "FAILED",
            visible(entry.tool_name),
            visible(entry.operation),
            seconds(entry.duration_seconds),
            visible((entry.note if entry.success else cause(entry.error_message)) or ""),
        )
        for entry in entries
    ]
    if sys.stdout is None or not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    _show_table(rows, settings.timezone)


def _show_table(rows: Sequence[Sequence[str]], zone_name: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (f"Start ({zone_name})", "Status", "Tool", "Operation", "Duration", "Note or error"):
        table.add_column(name)
    for row in rows:
        style = "red" if row[1] == "FAILED" else ""
        table.add_row(*(Text(cell, style=style, no_wrap=True, overflow="ellipsis") for cell in row))
    Console().print(table)


if __name__ == "__main__":
    main()
