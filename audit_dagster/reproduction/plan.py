"""Which recorded operations run again, in which order, with which words and files, and why the others do not.

Pure: entries in, plan out. How a plan is written down is `script`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from audit_dagster.entry import LogEntry
from audit_dagster.errors import InvalidInputError
from audit_dagster.reproduction import ground
from audit_dagster.reproduction.consequences import beyond_the_tree
from audit_dagster.reproduction.ground import File, Patch
from audit_dagster.reproduction.words import (
    NotRunnableError,
    as_console_script,
    command_of,
    is_audit_command,
    secrets_in,
    shortened,
)


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

    `argv` is the recorded one, or (`rebuilt`) made from the parameters; in it `${SECRET:NAME}` stands for each of
    `secrets`. `directory` is relative to the repository's root, "" the root itself, None outside any repository or
    unknown. `root` is the recorded folder that a reproduction's working tree stands for, `code_file` the tool's Python
    file below it. `commit` and `patch` are the code that it ran with, as far as they are known. `beyond`
    says what it changes that no working tree holds, None where nothing tells so.
    """

    number: int
    entry: LogEntry
    argv: list[str]
    rebuilt: bool
    directory: str | None
    root: str | None
    commit: str | None
    patch: Patch | None
    inputs: list[File]
    outputs: list[File]
    code_file: str | None
    expected_exit_code: int
    secrets: tuple[str, ...]
    beyond: str | None


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


def make_plan(entries: Iterable[LogEntry], config: ScriptConfig, patches: Mapping[str, bytes] | None = None) -> Plan:
    """Every entry once, strictly by start time: as a step, or left out with the reason.

    `patches` are the contents of recorded patches by their SHA-256.
    """
    once = {entry.operation_id: entry for entry in entries}
    ordered = sorted(once.values(), key=lambda entry: (entry.timestamp, entry.operation_id))
    reasons: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    for entry in ordered:
        reason = _unwanted(entry, config)
        try:
            if reason is None:
                commands[entry.operation_id] = command_of(entry)
        except NotRunnableError as problem:
            reason = str(problem)
        if reason is not None:
            reasons[entry.operation_id] = reason
    chosen = _chosen([entry for entry in ordered if entry.operation_id in commands], reasons)
    return Plan(
        steps=_steps(chosen, commands, patches or {}),
        left_out=[
            LeftOut(entry=entry, reason=reasons[entry.operation_id])
            for entry in ordered
            if entry.operation_id in reasons
        ],
        start=ordered[0].timestamp if ordered else None,
        end=ordered[-1].timestamp if ordered else None,
    )


def _steps(entries: list[LogEntry], commands: dict[str, list[str]], patches: Mapping[str, bytes]) -> list[Step]:
    """Number them, and tell each input which step made it."""
    steps: list[Step] = []
    makers: dict[str, int] = {}
    for number, entry in enumerate(entries, start=1):
        root = ground.root_of(entry)
        argv = as_console_script(commands[entry.operation_id], root)
        outputs = ground.files_of(entry, "outputs", root)
        inputs = [
            replace(file, made_by=makers[file.recorded_path]) if file.recorded_path in makers else file
            for file in ground.files_of(entry, "inputs", root)
        ]
        steps.append(
            Step(
                number=number,
                entry=entry,
                argv=argv,
                rebuilt=not entry.command,
                directory=ground.directory_of(entry),
                root=root,
                commit=ground.commit_of(entry),
                patch=ground.patch_of(entry, patches),
                inputs=inputs,
                outputs=outputs,
                code_file=ground.code_file_of(entry, root),
                expected_exit_code=_expected_exit_code(entry),
                secrets=secrets_in(entry),
                beyond=beyond_the_tree(entry, argv, outputs, root),
            )
        )
        makers.update((file.recorded_path, number) for file in outputs)
    return steps


def _expected_exit_code(entry: LogEntry) -> int:
    if entry.success:
        return 0
    code = entry.results.get("exit_code")
    return code if isinstance(code, int) and 0 < code < 256 and not isinstance(code, bool) else 1


def _chosen(entries: list[LogEntry], reasons: dict[str, str]) -> list[LogEntry]:
    """Those that start a process of their own; what another one runs anyway goes to `reasons`."""
    root_of = _roots(entries)
    first_of_process: dict[tuple[str, ...], str] = {}
    repeats: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for entry in entries:
        identity = entry.operation_id
        if root_of[identity] != identity:
            continue
        process = _process(entry)
        if process is not None and first_of_process.setdefault(process, identity) != identity:
            repeats[identity] = first_of_process[process]
        else:
            numbers[identity] = len(numbers) + 1
    for identity, root in root_of.items():
        if identity in repeats:
            reasons[identity] = f"the same process as step {numbers[repeats[identity]]}"
        elif identity != root:
            reasons[identity] = f"runs inside step {numbers[repeats.get(root, root)]}"
    return [entry for entry in entries if entry.operation_id in numbers]


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
        return f"it failed: {shortened(entry.error_message)}" if entry.error_message else "it failed"
    if config.include_tools and entry.tool_name not in config.include_tools:
        return "its tool is not among include_tools"
    if entry.operation in config.exclude_operations:
        return "its operation is among exclude_operations"
    if "reproduces" in entry.context:
        return "it is itself a reproduction"
    if entry.tool_name == "audit" or is_audit_command(entry.command or []):
        return "it belongs to the audit itself"
    return None


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
