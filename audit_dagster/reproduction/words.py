"""The words of an operation's command: the recorded ones, or those made of tool, operation and parameters."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

from audit_dagster.entry import LogEntry
from audit_dagster.escaping import visible

# The contract's samples write their flags in this order; a jsonb column does not keep the recorded one.
_FIRST_FLAGS = ("project", "file", "input_file", "parameter", "node_id", "start_date", "end_date")
_COMMAND_WORD = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_FLAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PYTHON = re.compile(r"python[0-9.]*")
# bash drops NUL, and a lone surrogate has no bytes in UTF-8.
UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
SECRET = re.compile(r"\$\{SECRET:([A-Z0-9_]+)\}")
# What recording wrote in place of half a surrogate pair, of NUL, and of what was too long.
_NOT_KEPT = re.compile(r"\\u(?:0000|d[89a-f][0-9a-f]{2})|… \(\d+ (?:characters|items)\)$")
_NOTE_PREFIX = "Reproduction: "
_LONGEST_QUOTE = 200


class NotRunnableError(Exception):
    """Why an operation has no command to run."""


def command_of(entry: LogEntry) -> list[str]:
    """The words to run. Raises NotRunnableError."""
    if entry.command and entry.context.get("command_is_exact") is False and not _lacks_only_secrets(entry.command):
        raise NotRunnableError(
            "its command could not be kept as it was: it was too long, or had bytes that are no text"
        )
    words = entry.command or _rebuilt(entry)
    if UNWRITABLE.search("".join(words)):
        raise NotRunnableError("its command has a character that no script can carry (NUL or half a surrogate pair)")
    return list(words)


def secrets_in(entry: LogEntry) -> tuple[str, ...]:
    """The names of the secrets that were taken out of the recorded command, in their order."""
    if entry.context.get("command_is_exact") is not False:
        return ()
    return tuple(dict.fromkeys(name for word in entry.command or () for name in SECRET.findall(word)))


def as_console_script(words: list[str], root: str | None) -> list[str]:
    """Without the interpreter that the system put before a console script: `python /venv/bin/NAME …` is `NAME …`."""
    if len(words) < 2 or not (words[0].startswith("/") and words[1].startswith("/")):
        return words
    python, script = PurePosixPath(words[0]), PurePosixPath(words[1])
    if not _PYTHON.fullmatch(python.name) or script.parent.name != "bin" or script.suffix == ".py":
        return words
    is_of_the_tree = root is not None and script.is_relative_to(root) and script.parent != python.parent
    return words if is_of_the_tree else words[1:]


def is_audit_command(words: list[str]) -> bool:
    """`audit-dagster …` and `rtgs audit …`, also as an interpreter's script; `run -- COMMAND` records another tool."""
    words = without_interpreter(words[:4])
    if not words:
        return False
    program = _name(words[0])
    if program in {"audit-dagster", "audit_dagster", "audit_dagster.cli"}:
        return words[1:2] != ["run"]
    return program in {"rtgs", "audit_dagster.rtgs"} and words[1:2] == ["audit"]


def without_interpreter(words: list[str]) -> list[str]:
    """`python FILE …` and `python -m MODULE …` without what comes before FILE and MODULE."""
    if words and _PYTHON.fullmatch(_name(words[0])):
        return words[2:] if words[1:2] == ["-m"] else words[1:]
    return words


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def reproduction_note(note: str | None) -> str | None:
    """The note of a reproduction, marked as one; once, also when a reproduction is reproduced."""
    if not note:
        return None
    return note if note.startswith(_NOTE_PREFIX) else f"{_NOTE_PREFIX}{note}"


def shortened(text: str) -> str:
    """One line of a text that may be long."""
    text = visible(text)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def _lacks_only_secrets(words: list[str]) -> bool:
    return any(SECRET.search(word) for word in words) and not any(_NOT_KEPT.search(word) for word in words)


def _rebuilt(entry: LogEntry) -> list[str]:
    """The contract's form: `rtgs TOOL OPERATION --flag value … --note "Reproduction: NOTE"`."""
    names_fit = _COMMAND_WORD.fullmatch(entry.tool_name) and _COMMAND_WORD.fullmatch(entry.operation)
    if not names_fit or _is_handed_in(entry):
        shown = entry.context.get("command_text")
        raise NotRunnableError(
            f"no command was recorded (it was shown as: {shortened(shown)})"
            if isinstance(shown, str) and shown
            else "no command was recorded"
        )
    parameters = dict(entry.parameters)
    note = entry.note
    if isinstance(parameters.get("note"), str):
        note = note or parameters["note"]
        del parameters["note"]
    words = ["rtgs", entry.tool_name, entry.operation]
    for key in sorted(parameters, key=lambda key: (*_FIRST_FLAGS, key).index(key)):
        words += _flag(key, parameters[key])
    marked = reproduction_note(note)
    if marked is not None:
        words += ["--note", visible(marked) if UNWRITABLE.search(marked) else marked]
    return words


def _is_handed_in(entry: LogEntry) -> bool:
    """Whether another program described it with `audit-dagster log`: what that ran is no `rtgs` command.

    Such an entry has the facts of a machine and no process, unlike one recorded here; an imported one has neither.
    """
    context = entry.context
    return "python_version" in context and "process_id" not in context and "imported_from" not in context


def _flag(key: str, value: Any) -> list[str]:
    if not _FLAG_NAME.fullmatch(key):
        raise NotRunnableError(f"no command was recorded, and its parameter {shortened(key)} is no name of a flag")
    flag = f"--{key.replace('_', '-')}"
    if value is True:
        return [flag]
    words: list[str] = []
    for item in value if isinstance(value, list | tuple) else [value]:
        if item is None or item is False:
            continue
        text = _text(item)
        # A value with a dash in front would be read as the next flag.
        words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return words


def _text(value: Any) -> str:
    if isinstance(value, bool | dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
