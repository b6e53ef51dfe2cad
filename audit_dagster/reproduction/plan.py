"""Which recorded operations run again, in which order, with which words, and why the others do not.

Pure: entries in, plan out. How a plan is written down is `script`'s business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from audit_dagster.entry import LogEntry
from audit_dagster.errors import InvalidInputError
from audit_dagster.render import visible

# The contract's samples write their flags in this order; a jsonb column does not keep the recorded one.
_FIRST_FLAGS = ("project", "file", "input_file", "parameter", "node_id", "start_date", "end_date")
_COMMAND_WORD = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_FLAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PYTHON = re.compile(r"python[0-9.]*")
# bash drops NUL, and a lone surrogate has no bytes in UTF-8.
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_NOTE_PREFIX = "Reproduction: "
_LONGEST_QUOTE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptConfig:
    """What the caller wants of a script. No tools named: all of them."""

    include_tools: tuple[str, ...] = ()
    exclude_operations: tuple[str, ...] = ()
    add_timing: bool = False
    add_error_handling: bool = True
    include_failed: bool = False

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any] | None) -> ScriptConfig:
        """The documented `config` dictionary: four keys, each optional. Raises InvalidInputError."""
        config = config or {}
        known = ("include_tools", "exclude_operations", "add_timing", "add_error_handling")
        unknown = [repr(key) for key in config if key not in known]
        if unknown:
            raise InvalidInputError(
                f"a script's config has no key {', '.join(unknown)}; the known keys are {', '.join(known)}"
            )
        return cls(
            include_tools=_names(config, "include_tools"),
            exclude_operations=_names(config, "exclude_operations"),
            add_timing=_switch(config, "add_timing", default=False),
            add_error_handling=_switch(config, "add_error_handling", default=True),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation to run again.

    `argv` is the recorded one, or (`rebuilt`) made from the parameters. `directory` is relative to the repository's
    root, "" the root itself, None outside any repository or unknown.
    """

    number: int
    entry: LogEntry
    argv: list[str]
    rebuilt: bool
    directory: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """One operation that does not run again, and why."""

    entry: LogEntry
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in the order in which they started; `start` and `end` span the start times of all entries."""

    steps: list[Step]
    left_out: list[LeftOut]
    start: datetime | None
    end: datetime | None


class _NotRunnableError(Exception):
    """Why an operation has no argv."""


def make_plan(entries: Iterable[LogEntry], config: ScriptConfig) -> Plan:
    """Every entry once, strictly by start time: as a step, or left out with the reason."""
    once = {entry.operation_id: entry for entry in entries}
    ordered = sorted(once.values(), key=lambda entry: (entry.timestamp, entry.operation_id))
    reasons: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    for entry in ordered:
        reason = _unwanted(entry, config)
        try:
            if reason is None:
                commands[entry.operation_id] = _argv(entry)
        except _NotRunnableError as problem:
            reason = str(problem)
        if reason is not None:
            reasons[entry.operation_id] = reason
    steps = _steps([entry for entry in ordered if entry.operation_id in commands], commands, reasons)
    return Plan(
        steps=steps,
        left_out=[
            LeftOut(entry=entry, reason=reasons[entry.operation_id])
            for entry in ordered
            if entry.operation_id in reasons
        ],
        start=ordered[0].timestamp if ordered else None,
        end=ordered[-1].timestamp if ordered else None,
    )


def reproduction_note(note: str | None) -> str | None:
    """The note of a reproduction, marked as one; once, also when a reproduction is reproduced."""
    if not note:
        return None
    return note if note.startswith(_NOTE_PREFIX) else f"{_NOTE_PREFIX}{note}"


def _steps(entries: list[LogEntry], commands: dict[str, list[str]], reasons: dict[str, str]) -> list[Step]:
    """Number what starts a process of its own; what another step runs anyway goes to `reasons`."""
    root_of = _roots(entries)
    first_of_process: dict[tuple[str, ...], str] = {}
    repeats: dict[str, str] = {}
    steps: dict[str, Step] = {}
    for entry in entries:
        identity = entry.operation_id
        if root_of[identity] != identity:
            continue
        process = _process(entry)
        if process is not None and first_of_process.setdefault(process, identity) != identity:
            repeats[identity] = first_of_process[process]
            continue
        steps[identity] = Step(
            number=len(steps) + 1,
            entry=entry,
            argv=commands[identity],
            rebuilt=not entry.command,
            directory=_directory(entry),
        )
    for identity, root in root_of.items():
        if identity in repeats:
            reasons[identity] = f"the same process as step {steps[repeats[identity]].number}"
        elif identity != root:
            reasons[identity] = f"runs inside step {steps[repeats.get(root, root)].number}"
    return list(steps.values())


def _roots(entries: list[LogEntry]) -> dict[str, str]:
    """For each operation the outermost one that it ran inside: itself, where it ran inside none of `entries`."""
    parents = {entry.operation_id: entry.context.get("parent_operation_id") for entry in entries}
    roots: dict[str, str] = {}
    for entry in entries:
        path: dict[str, None] = {}
        current = entry.operation_id
        while current not in roots:
            path[current] = None
            parent = parents[current]
            if not isinstance(parent, str) or parent not in parents or parent in path:
                roots[current] = current
                break
            current = parent
        roots.update(dict.fromkeys(path, roots[current]))
    return roots


def _process(entry: LogEntry) -> tuple[str, ...] | None:
    process = entry.context.get("process_id")
    return (str(process), *entry.command) if process and entry.command else None


def _unwanted(entry: LogEntry, config: ScriptConfig) -> str | None:
    """Why nobody asked for this operation, or None."""
    if not entry.success and not config.include_failed:
        return f"it failed: {_shortened(entry.error_message)}" if entry.error_message else "it failed"
    if config.include_tools and entry.tool_name not in config.include_tools:
        return "its tool is not among include_tools"
    if entry.operation in config.exclude_operations:
        return "its operation is among exclude_operations"
    if entry.tool_name == "audit" or _is_audit_command(entry.command or []):
        return "it belongs to the audit itself"
    return None


def _is_audit_command(argv: list[str]) -> bool:
    """`audit-dagster …` and `rtgs audit …`, also as an interpreter's script; `run -- COMMAND` records another tool."""
    words = argv[:4]
    if words and _PYTHON.fullmatch(PurePosixPath(words[0]).name):
        words = words[2:] if words[1:2] == ["-m"] else words[1:]
    if not words:
        return False
    program = PurePosixPath(words[0]).name
    if program in {"audit-dagster", "audit_dagster", "audit_dagster.cli"}:
        return words[1:2] != ["run"]
    return program in {"rtgs", "audit_dagster.rtgs"} and words[1:2] == ["audit"]


def _argv(entry: LogEntry) -> list[str]:
    """The words to run. Raises _NotRunnableError."""
    if entry.command and entry.context.get("command_is_exact") is False:
        raise _NotRunnableError("its command could not be kept as it was: it held a secret, or bytes that are no text")
    argv = entry.command or _rebuilt(entry)
    if any(_UNWRITABLE.search(word) for word in argv):
        raise _NotRunnableError("its command has a character that no script can carry (NUL or half a surrogate pair)")
    return list(argv)


def _rebuilt(entry: LogEntry) -> list[str]:
    """The contract's form: `rtgs TOOL OPERATION --flag value … --note "Reproduction: NOTE"`."""
    if not (_COMMAND_WORD.fullmatch(entry.tool_name) and _COMMAND_WORD.fullmatch(entry.operation)):
        shown = entry.context.get("command_text")
        raise _NotRunnableError(
            f"no command was recorded (it was shown as: {_shortened(shown)})"
            if isinstance(shown, str) and shown
            else "no command was recorded"
        )
    parameters = dict(entry.parameters)
    note = entry.note
    if isinstance(parameters.get("note"), str):
        note = note or parameters["note"]
        del parameters["note"]
    argv = ["rtgs", entry.tool_name, entry.operation]
    for key in sorted(parameters, key=lambda key: (*_FIRST_FLAGS, key).index(key)):
        argv += _flag(key, parameters[key])
    marked = reproduction_note(note)
    if marked is not None:
        argv += ["--note", visible(marked) if _UNWRITABLE.search(marked) else marked]
    return argv


def _flag(key: str, value: Any) -> list[str]:
    if not _FLAG_NAME.fullmatch(key):
        raise _NotRunnableError(f"no command was recorded, and its parameter {_shortened(key)} is no name of a flag")
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


def _directory(entry: LogEntry) -> str | None:
    git = entry.context.get("git")
    root = git.get("root") if isinstance(git, dict) else None
    if not isinstance(root, str) or not root.startswith("/") or not entry.working_directory:
        return None
    try:
        below = PurePosixPath(entry.working_directory).relative_to(root)
    except ValueError:
        return None
    text = "" if below == PurePosixPath() else str(below)
    return None if ".." in below.parts or _UNWRITABLE.search(text) else text


def _shortened(text: str) -> str:
    text = visible(text)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def _names(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key, ())
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in value):
        raise InvalidInputError(f"'{key}' in a script's config is a list of texts, not {value!r}")
    return tuple(value)


def _switch(config: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise InvalidInputError(f"'{key}' in a script's config is True or False, not {value!r}")
    return value
