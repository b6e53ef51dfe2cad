"""What is known of an operation when it starts: who, where, with which command, code and machine."""

from __future__ import annotations

import getpass
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audit_dagster.recording.git_state import git_state

PARENT_VARIABLE = "AUDIT_PARENT_OPERATION"
_KEPT_VARIABLES = (
    "CI",
    "GITHUB_ACTIONS",
    "GITHUB_ACTOR",
    "GITHUB_WORKFLOW",
    "GITHUB_RUN_ID",
    "MCP_SESSION",
    "MCP_USER",
)


def new_id() -> str:
    """A random UUID (version 4), without the 4 ms that importing `uuid` costs."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


_process_id = new_id().replace("-", "")


def _new_process_id() -> None:
    global _process_id  # noqa: PLW0603 - a forked child is a process of its own
    _process_id = new_id().replace("-", "")


os.register_at_fork(after_in_child=_new_process_id)


def begin_form(
    tool_name: str,
    operation: str,
    *,
    parent: str | None = None,
    started: datetime | None = None,
) -> dict[str, Any]:
    """The begin line of the spool: the log entry's JSON form, as far as it is known at the start.

    That is now, unless `started` says otherwise.
    """
    directory = _working_directory()
    git = git_state(Path(directory)) if directory else None
    context = _context(parent)
    if git and git.root:
        context["git"] = {name: value for name, value in (("root", git.root), ("error", git.error)) if value}
    return {
        "operation_id": new_id(),
        "timestamp": (started or datetime.now(UTC)).isoformat(),
        "tool_name": tool_name,
        "operation": operation,
        "user": _user(),
        "git_branch": git.branch if git else None,
        "git_commit": git.commit if git else None,
        "git_dirty": git.dirty if git else None,
        "working_directory": directory,
        "context": context,
    }


def process_command() -> list[str] | None:
    """The exact argv of this Python process, None in an interactive one, which no argv repeats."""
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules or not sys.argv or not sys.argv[0]
    return None if interactive else list(sys.orig_argv)


def _context(parent: str | None) -> dict[str, Any]:
    system = os.uname()
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    context: dict[str, Any] = {
        "hostname": system.nodename,
        "platform": f"{system.sysname}-{system.release}-{system.machine}",
        "python_version": sys.version.split()[0],
        "source": _source(),
        "process_id": _process_id,
    }
    if kept:
        context["environment_variables"] = kept
    parent = parent or os.environ.get(PARENT_VARIABLE)
    if parent:
        context["parent_operation_id"] = parent
    return context


def _source() -> str:
    """Who started it, by the rule of the documented program: an assistant, an automatic run, or a person."""
    if os.environ.get("MCP_SESSION", "").lower() == "true":
        return "LLM/MCP"
    if os.environ.get("GITHUB_ACTIONS", "").lower() == "true":
        return "GitHub Actions"
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        return "CI"
    return "Manual/Local"


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed under the process
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return str(os.getuid())
