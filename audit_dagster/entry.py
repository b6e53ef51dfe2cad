"""One recorded operation, and the JSON form that every room shares.

The spool, `audit_append(jsonb)`, the entry inside a daily report and `recent --json` all carry the same form. Its names
are those of the documented log entry (`user`, `git_commit`); the database's columns are `user_name` and
`git_commit_hash`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from audit_dagster.errors import EntryError

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One operation of one tool.

    `timestamp` is the start, timezone-aware. `duration_seconds` comes from a monotonic clock and is None where unknown.
    `command` is the exact argv, None where it was not recorded. `results` never holds `success`: that is a field.
    """

    operation_id: str
    timestamp: datetime
    tool_name: str
    operation: str
    user_name: str
    success: bool
    git_branch: str | None = None
    git_commit_hash: str | None = None
    git_dirty: bool | None = None
    parameters: JsonObject = field(default_factory=dict)
    results: JsonObject = field(default_factory=dict)
    duration_seconds: float | None = None
    error_message: str | None = None
    note: str | None = None
    command: list[str] | None = None
    working_directory: str | None = None
    context: JsonObject = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """The documented log format, with everything else that was recorded. `from_json` gives the same entry back."""
        return {
            "timestamp": utc_text(self.timestamp),
            "operation_id": self.operation_id,
            "tool_name": self.tool_name,
            "operation": self.operation,
            "user": self.user_name,
            "git_branch": self.git_branch,
            "git_commit": self.git_commit_hash,
            "git_dirty": self.git_dirty,
            "parameters": self.parameters,
            "results": {"success": self.success, **self.results},
            "duration_seconds": self.duration_seconds,
            "success": self.success,
            "error_message": self.error_message,
            "note": self.note,
            "command": self.command,
            "working_directory": self.working_directory,
            "context": self.context,
        }

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> LogEntry:
        """Read the JSON form. Raises EntryError that names the field."""
        results = dict(_typed(form, "results", dict, {}))
        success = form.get("success", results.get("success"))
        results.pop("success", None)
        if not isinstance(success, bool):
            raise EntryError("a log entry needs a field 'success' that is true or false")
        command = _typed(form, "command", list, None)
        if command is not None and not all(isinstance(word, str) for word in command):
            raise EntryError("the field 'command' of a log entry is a list of texts")
        duration = _typed(form, "duration_seconds", (int, float), None)
        return cls(
            operation_id=_operation_id(form),
            timestamp=_timestamp(form),
            tool_name=_text(form, "tool_name"),
            operation=_text(form, "operation"),
            user_name=_typed(form, "user", str, None) or "unknown",
            success=success,
            git_branch=_typed(form, "git_branch", str, None),
            git_commit_hash=_typed(form, "git_commit", str, None),
            git_dirty=_typed(form, "git_dirty", bool, None),
            parameters=dict(_typed(form, "parameters", dict, {})),
            results=results,
            duration_seconds=None if duration is None else float(duration),
            error_message=_typed(form, "error_message", str, None),
            note=_typed(form, "note", str, None),
            command=command,
            working_directory=_typed(form, "working_directory", str, None),
            context=dict(_typed(form, "context", dict, {})),
        )


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with `Z`: milliseconds, or microseconds where there are any."""
    moment = moment.astimezone(UTC)
    precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _typed(form: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    value = form.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise EntryError(f"the field '{name}' of a log entry has the wrong type: {type(value).__name__}")
    return value


def _text(form: Mapping[str, Any], name: str) -> str:
    value = _typed(form, name, str, None)
    if value is None:
        raise EntryError(f"a log entry needs a text field '{name}'")
    return str(value)


def _operation_id(form: Mapping[str, Any]) -> str:
    text = _text(form, "operation_id")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise EntryError(f"the field 'operation_id' of a log entry is no UUID: {text[:60]!r}") from None


def _timestamp(form: Mapping[str, Any]) -> datetime:
    text = _text(form, "timestamp")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise EntryError(f"the field 'timestamp' of a log entry is no ISO 8601 time: {text[:60]!r}") from None
    if moment.tzinfo is None:
        raise EntryError(f"the field 'timestamp' of a log entry has no time zone: {text!r}")
    return moment.astimezone(UTC)
