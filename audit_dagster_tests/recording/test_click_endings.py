"""`record_cli`: every way in which a command can end, what is recorded of it, and that it ends as it does without."""

from __future__ import annotations

import sys
from collections import UserDict
from collections.abc import Callable
from typing import Any

import click
import pytest

from audit_dagster import record_cli
from audit_dagster.settings import Settings
from audit_dagster_tests.recording.stored import entries, only_entry
from audit_dagster_tests.recording.test_click_hook import invoke, make_lab, raising

pytestmark = pytest.mark.usefixtures("unwarned", "without_drainer")


class UnsayableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Unruly(UserDict[str, int]):
    def __iter__(self) -> Any:
        raise RuntimeError("not now")


class OwnFailure(click.ClickException):
    exit_code = 7


class BrokenFailure(click.ClickException):
    def format_message(self) -> str:
        raise RuntimeError


def exiting_after_an_error() -> None:
    try:
        raise ConnectionError("no VPN")
    except ConnectionError:
        click.echo("Connection error", err=True)
        sys.exit(4)


def aborting_after_an_error() -> None:
    try:
        raise ConnectionError("no VPN")
    except ConnectionError as error:
        raise click.Abort from error


def exiting_from_none() -> None:
    try:
        raise ConnectionError("no VPN")
    except ConnectionError:
        raise SystemExit(4) from None


def deep() -> None:
    deep()


def leave(code: Any) -> Callable[[], Any]:
    return lambda: click.get_current_context().exit(code)


def fail(message: str) -> Callable[[], Any]:
    return lambda: click.get_current_context().fail(message)


# What the command does; then the exit code, whether it succeeded, and the error message that are recorded.
ENDINGS: dict[str, tuple[Callable[[], Any], int, bool, str | None]] = {
    "returns nothing": (lambda: None, 0, True, None),
    "returns a mapping": (lambda: {"rows": 3}, 0, True, None),
    "returns success": (lambda: {"success": True}, 0, True, None),
    "returns a failure": (lambda: {"success": False}, 0, False, None),
    "returns a number": (lambda: 5, 0, True, None),
    "ctx.exit()": (leave(0), 0, True, None),
    "ctx.exit(3)": (leave(3), 3, False, "Exit: 3"),
    "SystemExit()": (raising(SystemExit()), 0, True, None),
    "SystemExit(0)": (raising(SystemExit(0)), 0, True, None),
    "SystemExit(3)": (raising(SystemExit(3)), 3, False, "SystemExit: 3"),
    "SystemExit(text)": (raising(SystemExit("no site")), 1, False, "SystemExit: no site"),
    "exit after an error": (exiting_after_an_error, 4, False, "ConnectionError: no VPN"),
    "exit from none": (exiting_from_none, 4, False, "SystemExit: 4"),
    "ClickException": (raising(click.ClickException("no site")), 1, False, "ClickException: no site"),
    "own ClickException": (raising(OwnFailure("no site")), 7, False, "OwnFailure: no site"),
    "broken ClickException": (raising(BrokenFailure("x")), 1, False, "BrokenFailure: x"),
    "FileError": (
        raising(click.FileError("a.csv", "gone")),
        1,
        False,
        "FileError: Could not open file 'a.csv': gone",
    ),
    "UsageError": (raising(click.UsageError("both?")), 2, False, "UsageError: both?"),
    "ctx.fail": (fail("both?"), 2, False, "UsageError: both?"),
    "BadParameter": (
        raising(click.BadParameter("too dry", param_hint="--soil")),
        2,
        False,
        "UsageError: Invalid value for --soil: too dry",
    ),
    "Abort": (raising(click.Abort()), 1, False, "Aborted"),
    "Abort after an error": (aborting_after_an_error, 1, False, "ConnectionError: no VPN"),
    "KeyboardInterrupt": (raising(KeyboardInterrupt()), 1, False, "Aborted"),
    "EOFError": (raising(EOFError()), 1, False, "Aborted"),
    "ValueError": (raising(ValueError("dry")), 1, False, "ValueError: dry"),
    "without a text": (raising(ValueError()), 1, False, "ValueError"),
    "unsayable": (raising(UnsayableError()), 1, False, "UnsayableError: <no text>"),
    "broken pipe": (raising(BrokenPipeError(32, "Broken pipe")), 1, False, "BrokenPipeError: [Errno 32] Broken pipe"),
    "disk full": (raising(OSError(28, "No space left")), 1, False, "OSError: [Errno 28] No space left"),
    "group of errors": (
        raising(ExceptionGroup("two", [ValueError("a"), KeyError("b")])),
        1,
        False,
        "ExceptionGroup: two (2 sub-exceptions)",
    ),
    "recursion": (deep, 1, False, "RecursionError: maximum recursion depth exceeded"),
}


def test_an_ending_is_recorded_and_stays_what_it_is(settings: Settings) -> None:
    for ending, (run, *_) in ENDINGS.items():
        plain, watched = (click.Command("dig", callback=run) for _ in range(2))
        before, after = invoke(plain), invoke(record_cli(watched, tool=ending))
        seen = [(d.exit_code, d.stdout, d.stderr, d.return_value, type(d.exception)) for d in (before, after)]
        assert seen[0] == seen[1], ending
    found = {e.tool_name: (e.operation, e.results["exit_code"], e.success, e.error_message) for e in entries()}
    assert found == {ending: ("run", *expected) for ending, (_, *expected) in ENDINGS.items()}


def test_only_what_nobody_foresaw_has_a_traceback(settings: Settings) -> None:
    for ending in ("returns nothing", "returns a failure", "ctx.exit(3)", "UsageError", "Abort", "ValueError"):
        invoke(record_cli(click.Command("dig", callback=ENDINGS[ending][0]), tool=ending))
    invoke(record_cli(click.Command("dig", callback=exiting_after_an_error), tool="exit after an error"))
    traced = {entry.tool_name: entry.context["traceback"] for entry in entries() if "traceback" in entry.context}
    assert set(traced) == {"ValueError", "exit after an error"}
    assert traced["ValueError"].endswith("ValueError: dry\n")
    assert "recording/click_hook.py" not in traced["ValueError"]


def test_a_mapping_that_is_returned_becomes_the_results(settings: Settings) -> None:
    invoke(record_cli(click.Command("dig", callback=lambda: {"rows": 3, "exit_code": "own"})))
    assert only_entry().results == {"rows": 3, "exit_code": 0}


def test_a_mapping_that_cannot_be_read_costs_one_line(settings: Settings) -> None:
    done = invoke(record_cli(click.Command("dig", callback=lambda: Unruly(rows=3))))
    assert done.exit_code == 0
    assert done.stderr == "audit-dagster: the results of this command are not recorded: RuntimeError: not now\n"
    assert (only_entry().success, only_entry().results) == (True, {"exit_code": 0})


def test_without_standalone_mode_values_and_exceptions_pass_through(settings: Settings) -> None:
    def outcome(command: click.Command) -> Any:
        try:
            return command.main([], standalone_mode=False)
        except BaseException as error:
            return repr(error)

    endings = ("returns a number", "ctx.exit(3)", "UsageError", "Abort", "ValueError", "EOFError")
    for ending in endings:
        run = ENDINGS[ending][0]
        recorded = record_cli(click.Command("dig", callback=run), tool=ending)
        assert outcome(click.Command("dig", callback=run)) == outcome(recorded), ending
    found = {entry.tool_name: (entry.success, entry.error_message) for entry in entries()}
    assert found == {ending: ENDINGS[ending][2:] for ending in endings}


EXTRACT = ("sensing-data", "extract")
# The words; then the tool, the operation, the exit code and the error message that are recorded, or nothing.
WORDS: dict[str, tuple[str, str, int, str | None] | None] = {
    "sensing-data extract --project p": (*EXTRACT, 0, None),
    "clean": ("lab", "clean", 0, None),
    "status": ("lab", "status", 0, None),
    "status --short": ("lab", "status", 0, None),
    "status disk": ("status", "disk", 0, None),
    "sensing-data extract": (*EXTRACT, 2, "UsageError: Missing option '--project'."),
    "sensing-data extract --project": (*EXTRACT, 2, "UsageError: Option '--project' requires an argument."),
    "sensing-data extract --project p --x": (*EXTRACT, 2, "UsageError: No such option '--x'."),
    "sensing-data extract --project p more": (*EXTRACT, 2, "UsageError: Got unexpected extra argument (more)"),
    "sensing-data extract --project p --limit x": (
        *EXTRACT,
        2,
        "UsageError: Invalid value for '--limit': 'x' is not a valid integer.",
    ),
    "sensing-data extract --project p --limit 13": (*EXTRACT, 1, "RuntimeError: unlucky"),
    "sensing-data extract --project p --limit 99": (*EXTRACT, 9, "Exit: 9"),
    "sensing-data nothing": ("lab", "sensing-data", 2, "UsageError: No such command 'nothing'."),
    "sensing-data --x extract": ("lab", "sensing-data", 2, "UsageError: No such option '--x'."),
    "nothing": ("lab", "run", 2, "UsageError: No such command 'nothing'."),
    "--x": ("lab", "run", 2, "UsageError: No such option '--x'."),
    "--site nowhere sensing-data extract --project p": ("lab", "run", 1, "ClickException: no such site"),
    "--help": None,
    "--version": None,
    "": None,
    "sensing-data": None,
    "sensing-data --help": None,
    "sensing-data extract --help": None,
    "sensing-data extract --project p --limit 13 --help": None,
}


def test_words_right_and_wrong(settings: Settings) -> None:
    for words, expected in WORDS.items():
        before, after = (invoke(command, *words.split()) for command in (make_lab(), record_cli(make_lab())))
        assert (before.exit_code, before.stdout, before.stderr) == (after.exit_code, after.stdout, after.stderr), words
        assert expected is None or expected[2] == after.exit_code, words
    found = [(e.tool_name, e.operation, e.results["exit_code"], e.error_message) for e in entries()]
    assert found == [expected for expected in WORDS.values() if expected]
    assert all(entry.success == (entry.error_message is None) for entry in entries())
