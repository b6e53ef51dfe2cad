"""What `diff` compares: all that is known of two operations that could make their results differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit_dagster.entry import LogEntry

_ABSENT = "(not there)"
Difference = tuple[str, Any, Any]


def differences(first: LogEntry, second: LogEntry) -> list[Difference]:
    """(name, value of the first, value of the second); None for what is not there.

    Where they ran in different folders, the files below each go by their names there.
    """
    is_moved = first.working_directory != second.working_directory
    one, other = (_facts(entry, is_moved) for entry in (first, second))
    names = [name for name in {**one, **other} if _exact(one.get(name)) != _exact(other.get(name))]
    return [(name, one.get(name), other.get(name)) for name in names]


def absent_or_text(value: Any) -> str:
    """A value as people see it: a command as in a shell."""
    from audit_dagster.escaping import shell_line

    if value is None:
        return _ABSENT
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return shell_line(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _facts(entry: LogEntry, is_moved: bool) -> dict[str, Any]:
    context, tool = entry.context, _object(entry.context.get("tool"))
    tool_git = _object(tool.get("git"))
    facts = {
        "tool": entry.tool_name,
        "operation": entry.operation,
        "user": entry.user_name,
        "success": entry.success,
        "error": entry.error_message,
        "note": entry.note,
        "duration_seconds": entry.duration_seconds,
        "git_branch": entry.git_branch,
        "git_commit": entry.git_commit_hash,
        "git_dirty": entry.git_dirty,
        "git.patch": _patch(context.get("git")),
        "python_version": context.get("python_version"),
        **{f"tool.{name}": tool.get(name) for name in ("distribution", "version")},
        **{f"tool.git.{name}": tool_git.get(name) for name in ("branch", "commit", "dirty")},
        "tool.git.patch": _patch(tool_git),
        "command": entry.command,
        "working_directory": entry.working_directory,
    }
    facts |= {f"parameters.{name}": value for name, value in entry.parameters.items()}
    facts |= {f"results.{name}": value for name, value in entry.results.items()}
    folder = f"{entry.working_directory}/" if is_moved else ""
    return facts | {name: value for kind in ("input", "output") for name, value in _files(kind, entry, folder)}


def _patch(git: Any) -> Any:
    """The SHA-256 of the changes that were not committed."""
    return _object(_object(git).get("patch")).get("sha256")


def _files(kind: str, entry: LogEntry, folder: str) -> Iterator[tuple[str, Any]]:
    """A fact for each file; an entry that was handed in may hold anything in its place."""
    files = entry.context.get(f"{kind}s")
    for file in files if isinstance(files, list) else [files]:
        if isinstance(file, dict) and isinstance(path := file.get("path"), str):
            yield f"{kind} {path.removeprefix(folder)}", _content(file)
        elif file is not None:
            yield f"{kind} {_exact(file)}", file


def _content(file: dict[str, Any]) -> str:
    """SHA-256 (size)"""
    from audit_dagster.render import number

    size = file.get("size")
    return f"{file.get('sha256') or 'not read'} ({f'{number(size)} B' if type(size) is int else 'size unknown'})"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _exact(value: Any) -> str:
    """As JSON 1, 1.0 and true differ, which Python takes for equal."""
    return json.dumps(value, sort_keys=True)
