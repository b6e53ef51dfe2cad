"""Ask about one operation, two operations, or a day's report: `show`, `diff` and `open`; and `completion`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from audit_dagster.commands import plain
from audit_dagster.commands.tables import (
    Column,
    duration_text,
    on_terminal,
    show,
    show_json,
    show_paths,
    show_sections,
    with_forms,
)
from audit_dagster.errors import AuditError, InvalidInputError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from audit_dagster.audit_service import Afterwards, Replay
    from audit_dagster.documents import Place
    from audit_dagster.entry import LogEntry

Fact = tuple[str, str, Any]
_REPORT_NAME = re.compile(r"\d{4}-\d\d-\d\d\.(html|md)")
_FILES = ("inputs", "outputs")
_OF_A_REPLAY = ("reproduces", "verdict", "differing")
_SHOWN_ELSEWHERE = (*_FILES, *_OF_A_REPLAY, "git", "tool", "traceback")


@click.command("show")
@click.argument("operation_id")
@with_forms
def show_operation(operation_id: str, form: str | None) -> None:
    """Show everything that is known of one operation, and what came out when it was run again.

    OPERATION_ID may be cut to its first digits, at least four, where no other operation begins with them.

    \b
    Examples:
      audit-dagster show 4f3c21d8
      audit-dagster show 4f3c21d8-9f6b-4f0e-8a54-3d1f6a1f2b7c --json
    """
    from audit_dagster.audit_service import AuditService

    service = AuditService()
    entry = service.find_operation(operation_id)
    afterwards = service.afterwards(entry.operation_id)
    if form == "json":
        replays = [replay._asdict() for replay in afterwards.replays]
        show_json([{**entry.to_json(), "recorded_at": afterwards.recorded_at, "replays": replays}])
        return
    facts = [fact for fact in _facts(entry, afterwards, service.settings.zone) if fact[2] is not None]
    if form is None and on_terminal():
        show_sections(facts)
    else:
        show([Column(name, name) for name in ("section", "name", "value")], facts, form, "")


@click.command()
@click.argument("first")
@click.argument("second")
@with_forms
def diff(first: str, second: str, form: str | None) -> None:
    """Show what differs between two operations: one line for each difference.

    Compared are who and what ran, the code and its versions, parameters, results, and each file's SHA-256 and size.
    FIRST and SECOND are ids of operations, or their first digits.

    \b
    Example:
      audit-dagster diff 4f3c21d8 b7e09a15
    """
    from audit_dagster.audit_service import AuditService
    from audit_dagster.commands.differences import absent_or_text, differences

    service = AuditService()
    one, other = (service.find_operation(prefix) for prefix in (first, second))
    columns = [Column("name", "What", narrow="fold")]
    columns += [Column(name, name.title(), absent_or_text, "fold") for name in ("first", "second")]
    show(columns, differences(one, other), form, "Nothing differs.")


@click.command("open")
@click.argument("day", metavar="[DATE]", required=False)
@click.option("--print", "only_print", is_flag=True, help="Only print the report's path.")
@with_forms
def open_report(day: str | None, only_print: bool, form: str | None) -> None:
    """Open the report of a day, or the page of all reports, and print its path.

    They are looked for in AUDIT_REPORTS_DIR; without the page of all, the newest report is opened.
    With --json or --csv it is not opened.

    \b
    Examples:
      audit-dagster open
      audit-dagster open 2023-06-15 --print
    """
    from pathlib import Path

    from audit_dagster.documents import names_in
    from audit_dagster.settings import Settings

    folder = Settings.load().reports_dir
    path = folder / "index.html"
    if day or path.name not in names_in(folder):
        path = _report(folder / "daily", day)
    if form:
        show_paths([str(path)], form)
        return
    click.echo(plain(str(path)))
    if only_print:
        return
    if not isinstance(path, Path):
        raise AuditError(f"{path} is not on this machine: copy it here, or open it where it is")
    if click.launch(str(path)):
        raise AuditError(f"no program opened {path}: xdg-open is missing, or knows none")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    Examples:
      eval "$(audit-dagster completion bash)"
      audit-dagster completion fish > ~/.config/fish/completions/audit-dagster.fish
    """
    from click.shell_completion import get_completion_class

    root = ctx.find_root()
    name = root.info_name or "audit-dagster"
    variable = f"_{re.sub('[-.]', '_', name)}_COMPLETE".upper()
    kind = get_completion_class(shell)
    if kind is None:
        raise AuditError(f"the installed click knows no completion for {shell}")
    click.echo(kind(root.command, {}, name, variable).source())


# ---- show ----


def _facts(entry: LogEntry, afterwards: Afterwards, zone: ZoneInfo) -> Iterator[Fact]:
    """(section, name, value); a value of None is not known."""
    context = entry.context
    yield from _facts_of_run(entry, zone)
    yield ("Who and when", "recorded_at", afterwards.recorded_at.astimezone(zone).isoformat(" "))
    others = {name: value for name, value in context.items() if name not in _SHOWN_ELSEWHERE}
    yield from (("Where", name, leaf) for key, value in others.items() for name, leaf in _flat(key, value))
    code = {"git_branch": entry.git_branch, "git_commit": entry.git_commit_hash, "git_dirty": entry.git_dirty}
    yield from (("Code", name, value) for name, value in code.items())
    yield from (("Code", name, value) for name, value in _flat("git", context.get("git")))
    yield from (("Code", name, value) for name, value in _flat("tool", context.get("tool")))
    yield from (("Parameters", name, value) for name, value in entry.parameters.items())
    yield from (("Results", name, value) for name, value in entry.results.items())
    yield from (("Inputs and outputs", *file) for kind in _FILES for file in _files(kind, context.get(kind)))
    yield ("Error", "message", entry.error_message)
    yield ("Error", "traceback", context.get("traceback"))
    yield ("Note", "note", entry.note)
    yield from (("Reproduction", name, context.get(name) or None) for name in _OF_A_REPLAY)
    yield from (("Reproduction", "run again", _outcome(replay, zone)) for replay in afterwards.replays)
    yield from (("Run again", name, value) for name, value in _how_to_run_again(entry))


def _facts_of_run(entry: LogEntry, zone: ZoneInfo) -> Iterator[Fact]:
    what = {
        "tool": entry.tool_name,
        "operation": entry.operation,
        "operation_id": entry.operation_id,
        "status": "success" if entry.success else "FAILED",
        "duration": duration_text()(entry.duration_seconds),
    }
    yield from (("What", name, value) for name, value in what.items())
    start = entry.timestamp.astimezone(zone)
    yield ("Who and when", "user", entry.user_name)
    yield ("Who and when", "start", start.isoformat(" "))
    if entry.duration_seconds is not None:
        try:
            end = (entry.timestamp + timedelta(seconds=entry.duration_seconds)).astimezone(zone)
        except OverflowError:  # whoever handed it in may have said anything
            return
        yield ("Who and when", "end", end.isoformat(" "))


def _outcome(replay: Replay, zone: ZoneInfo) -> str:
    when = replay.timestamp.astimezone(zone).isoformat(" ", "seconds")
    return f"{replay.verdict or 'no verdict'} at {when} by {replay.user_name}, operation {replay.operation_id}"


def _files(kind: str, files: Any) -> Iterator[tuple[str, Any]]:
    """One line for each file; what an entry that was handed in holds instead stays as it is."""
    for file in files if isinstance(files, list) else [files]:
        if isinstance(file, dict) and isinstance(file.get("path"), str):
            facts = [f"{name} {value}" for name in ("size", "sha256") if (value := file.get(name)) is not None]
            yield kind.removesuffix("s"), f"{file['path']} ({', '.join(facts) or 'not read'})"
        else:
            yield kind.removesuffix("s"), file


def _how_to_run_again(entry: LogEntry) -> Iterator[tuple[str, str]]:
    from audit_dagster.escaping import shell_line, shell_word
    from audit_dagster.reproduction.words import NotRunnableError, command_of

    yield "directory", entry.working_directory or "unknown"
    try:
        yield "command", shell_line(command_of(entry))
        first = entry.context.get("reproduces") or entry.operation_id  # a script leaves replays out
        yield "script", f"audit-dagster reproduce --include-failed --operation-id {shell_word(str(first))}"
    except NotRunnableError as error:
        yield "not possible", str(error)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of nested objects, with the names on the way to them: `tool.git.commit`."""
    if not isinstance(value, Mapping) or not value:
        yield prefix, value
        return
    for name, inner in value.items():
        yield from _flat(f"{prefix}.{name}", inner)


# ---- open ----


def _report(folder: Place, day: str | None) -> Place:
    """The report of a day, as HTML where there is one, else as Markdown; without a day, the newest."""
    from fnmatch import fnmatch

    from audit_dagster.documents import names_in
    from audit_dagster.reports.windows import as_day

    there = names_in(folder)
    wanted = "*" if day is None else str(as_day(day, "DATE"))
    for ending in ("html", "md"):
        names = [name for name in there if _REPORT_NAME.fullmatch(name) and fnmatch(name, f"{wanted}.{ending}")]
        if names:
            return folder / max(names)
    dates = "--start-date DATE --end-date DATE" if day is None else f"--start-date {wanted} --end-date {wanted}"
    raise InvalidInputError(
        f"there is no {f'report of {wanted}' if day else 'daily report'} in {folder}: "
        f"make it and its pages with `audit-dagster site {dates}`"
    )
