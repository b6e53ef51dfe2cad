"""Look after the alerts: what is open, who knows of it, and what nobody wants to hear."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from audit_dagster.commands import plain
from audit_dagster.commands.tables import Column, Row, show, warn, with_forms
from audit_dagster.errors import AuditError, InvalidInputError
from audit_dagster.failures import cause

if TYPE_CHECKING:
    from audit_dagster.settings import Settings

_MOST_SHOWN = 200
_LONGEST_ERROR = 200
_LARGEST_ID = 2**63 - 1


@click.group()
def alerts() -> None:
    """See what the alerts told, and say what they need not tell.

    \b
    Examples:
      audit-dagster alerts list
      audit-dagster alerts mute 'sandbox-*' --for 2d
    """


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="Resolved incidents too.")
@with_forms
def list_alerts(everything: bool, form: str | None) -> None:
    """Show the open incidents, the latest first; on stderr, what is muted, and the targets that get no messages.

    \b
    Examples:
      audit-dagster alerts list
      audit-dagster alerts list --all --json
    """
    rows, settings = _fetch("alert_incidents", everything=everything, limit=_MOST_SHOWN)
    down, _ = _fetch("targets_down")
    muted, _ = _fetch("alert_mutes")
    if form == "json":
        click.echo(json.dumps(rows, indent=2, default=lambda time: time.isoformat()))
    else:
        nothing = "No incidents." if everything else "No open incidents."
        show(_columns(settings), [_incident(row) for row in rows], form, nothing)
    for row in muted:
        if row["until"] > datetime.now(UTC):
            what = _meant_by(row["what"], rows)
            warn(f"Muted until {_moment(row['until'], settings)} ({settings.timezone}): {what}")
    for target in down:
        warn(_down(target, settings))


@alerts.command()
@click.argument("incident", metavar="ID", type=click.IntRange(1, _LARGEST_ID))
def ack(incident: int) -> None:
    """Say that you know: this incident is not told again until it is resolved.

    \b
    Example:
      audit-dagster alerts ack 17
    """
    rows, _ = _fetch("acknowledge_incident", id=incident)
    if not rows:
        raise InvalidInputError(f"there is no open incident {incident}: see `audit-dagster alerts list`")
    click.echo(f"Acknowledged {incident}: {_named(rows[0])}.")


@alerts.command()
@click.argument("what", metavar="PATTERN|ID")
@click.option("--for", "length", default="1 d", show_default=True, help="How long, such as 4h or 2d.")
def mute(what: str, length: str) -> None:
    """Count, but do not tell, what fails in tools of a pattern, or the cause of one incident.

    \b
    Examples:
      audit-dagster alerts mute 'sandbox-*' --for 2d
      audit-dagster alerts mute 17 --for 4h
    """
    from audit_dagster.alerts.config import parse_duration

    until = datetime.now(UTC) + parse_duration(length)
    muted, label = _meant(what)
    _, settings = _fetch("mute", what=muted, until=until)
    click.echo(f"Muted {label} until {until.astimezone(settings.zone):%Y-%m-%d %H:%M:%S} ({settings.timezone}).")


@alerts.command()
@click.argument("what", metavar="PATTERN|ID")
def unmute(what: str) -> None:
    """End a mute before its time.

    \b
    Example:
      audit-dagster alerts unmute 'sandbox-*'
    """
    muted, label = _meant(what)
    rows, _ = _fetch("unmute", what=muted)
    if not rows:
        raise InvalidInputError(f"{label} is not muted")
    click.echo(f"No longer muted: {label}.")


@alerts.command()
def test() -> None:
    """Send a test message to each target now, and say which got it.

    \b
    Example:
      audit-dagster alerts test
    """
    from audit_dagster.alert_settings import send_test_message
    from audit_dagster.settings import Settings

    has_failed = False
    for target, error in send_test_message(Settings.load()):
        has_failed = has_failed or error is not None
        words = ("FAILED" if error else "ok", target, *([error] if error else ()))
        click.echo("\t".join(plain(word) for word in words))
    if has_failed:
        advice = "correct AUDIT_ALERT_URLS, AUDIT_ALERTS_FILE or AUDIT_REPORTS_DIR"
        raise AuditError(f"not every target got the message: {advice}")


def _fetch(query: str, **parameters: Any) -> tuple[list[dict[str, Any]], Settings]:
    from audit_dagster.settings import Settings
    from audit_dagster.store.connect import connect
    from audit_dagster.store.query import fetch

    settings = Settings.load()
    with connect(settings) as connection:
        return fetch(connection, query, **parameters), settings


def _meant(what: str) -> tuple[str, str]:
    """What is muted, for the database and for people: a number is an incident's, anything else a pattern."""
    if not (what.isascii() and what.isdecimal()):
        if not what or what.startswith("="):
            raise InvalidInputError(f"{what!r} is no pattern of tool names: give one such as 'sandbox-*'")
        return what, plain(f"'{what}'")
    rows = _fetch("incident_fingerprint", id=int(what))[0] if int(what) <= _LARGEST_ID else []
    if not rows:
        raise InvalidInputError(f"there is no incident {what}: see `audit-dagster alerts list --all`")
    return f"={rows[0]['fingerprint']}", f"{what} ({_named(rows[0])})"


def _meant_by(muted: str, incidents: list[dict[str, Any]]) -> str:
    """A mute as a person has to write it to end it: the pattern, or the number of the incident whose cause it is."""
    if not muted.startswith("="):
        return f"'{muted}'"
    named = [f"{row['id']} ({_named(row)})" for row in incidents if row["fingerprint"] == muted[1:]]
    return named[0] if named else "an incident that is not shown: see --all"


def _named(row: dict[str, Any]) -> str:
    return plain(f"{row['tool_name']} {row['operation']}".rstrip())


def _columns(settings: Settings) -> list[Column]:
    return [
        Column("id", "Id", narrow="keep"),
        Column("state", "State", narrow="keep"),
        Column("last_seen", f"Last ({settings.timezone})", lambda moment: _moment(moment, settings), "keep"),
        Column("happened", "Times", lambda times: f"{times}x", "keep"),
        Column("tool_name", "Tool"),
        Column("operation", "Operation"),
        Column("error_message", "Error", lambda error: (cause(error) or "")[:_LONGEST_ERROR], "below"),
    ]


def _incident(row: dict[str, Any]) -> Row:
    state = "resolved" if row["resolved_at"] else "acknowledged" if row["acknowledged_at"] else row["kind"]
    return row["id"], state, *(row[n] for n in ("last_seen", "happened", "tool_name", "operation", "error_message"))


def _down(row: dict[str, Any], settings: Settings) -> str:
    since, again = (_moment(row[name], settings) for name in ("waiting_since", "next_attempt"))
    is_due = row["next_attempt"] <= datetime.now(UTC)
    return (
        f"Target '{row['name']}' is down: {row['waiting']} of its messages waiting since {since} "
        f"({settings.timezone}), {row['failed_in_a_row']} failed attempts, the next "
        f"{'is due' if is_due else f'at {again}'}. Last error: {row['last_error']}"
    )


def _moment(moment: datetime, settings: Settings) -> str:
    return moment.astimezone(settings.zone).strftime("%Y-%m-%d %H:%M:%S")
