"""Look after what is kept: the database, the spool, and the logging switch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from audit_dagster.commands import plain
from audit_dagster.errors import AuditError

if TYPE_CHECKING:
    from datetime import datetime


@click.command("init-db")
def init_db() -> None:
    """Make the schema in the database that POSTGRES_* name, or bring it up to date.

    \b
    Example:
      audit-dagster init-db
    """
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


@click.command()
def sync() -> None:
    """Store what waits in the spool now.

    \b
    Example:
      audit-dagster sync
    """
    from audit_dagster.commands.progress import tracked
    from audit_dagster.settings import Settings
    from audit_dagster.store.drain import drain

    drained = drain(Settings.load(), tracked("operations"))
    click.echo(f"{drained.stored} stored, {drained.duplicates} already there, {drained.quarantined} in quarantine")
    if drained.unreadable:
        raise AuditError(f"{drained.unreadable} files of the spool may not be read: they belong to another user")


@click.command("stop-server")
def stop_server() -> None:
    """Stop the embedded PostgreSQL; the next command that needs it starts it again.

    \b
    Example:
      audit-dagster stop-server
    """
    from audit_dagster.settings import Settings
    from audit_dagster.store import embedded

    stopped = embedded.stop(Settings.load().state_dir)
    click.echo("Stopped the embedded server." if stopped else "The embedded server was not running.")


@click.command("postgres-logging-status")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as a JSON object.")
def postgres_logging_status(as_json: bool) -> None:
    """Show whether operations are logged, what waits, what was lost, and whether the database answers.

    \b
    Examples:
      audit-dagster postgres-logging-status
      audit-dagster postgres-logging-status --json
    """
    from audit_dagster.audit_service import get_logging_status

    status = get_logging_status()
    if as_json:
        click.echo(json.dumps(status, indent=2, default=lambda time: time.isoformat()))
        return
    click.echo(_logging_line(status["enabled"], status["decided_by"]))
    for label, value in _status_rows(status):
        click.echo(f"{f'{label}:':<17} {plain(value)}")


@click.command("enable-postgres-logging")
def enable_postgres_logging() -> None:
    """Log operations, in this and every later session.

    \b
    Example:
      audit-dagster enable-postgres-logging
    """
    _switch(True)


@click.command("disable-postgres-logging")
def disable_postgres_logging() -> None:
    """Stop logging operations; tools work as before.

    \b
    Example:
      audit-dagster disable-postgres-logging
    """
    _switch(False)


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
