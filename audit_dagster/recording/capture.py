"""What is known of an operation when it starts: who, where, with which command, code, files and machine."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from audit_dagster.recording import nesting
from audit_dagster.recording.git_state import GitQuestion, GitState, repository_around
from audit_dagster.recording.redact import Redactor
from audit_dagster.recording.storable import Storable

_KEPT_VARIABLES = (
    "CI",
    "GITHUB_ACTIONS",
    "GITHUB_ACTOR",
    "GITHUB_WORKFLOW",
    "GITHUB_RUN_ID",
    "MCP_SESSION",
    "MCP_USER",
)
_LONGEST_COMMAND = 4_000_000  # longer than what a system takes as one command
Json = dict[str, Any]


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


class Questions:
    """git at work on the repositories of the working directory and of the tool's code, since this was made."""

    def __init__(self, code_file: str | None) -> None:
        self.directory = _working_directory()
        root = repository_around(self.directory) if self.directory else None
        self._here = GitQuestion(root) if root else None
        self.tool, source = _tool(code_file)
        tool_root = repository_around(source) if source else None
        self._tools = GitQuestion(tool_root) if tool_root and tool_root != root else None

    def answers(self) -> tuple[GitState | None, GitState | None]:
        """What git said of the one and of the other, where there are such repositories."""
        here, tools = self._here, self._tools
        return here.answer() if here else None, tools.answer() if tools else None


class Begin(NamedTuple):
    """The begin line of the spool, and the repositories that are dirty, each with its part of the line's context."""

    form: Json
    dirty: list[tuple[GitState, Json]]


def begin_form(
    tool_name: str, operation: str, questions: Questions, context: Json, started: datetime | None = None
) -> Begin:
    """The log entry's JSON form, as far as it is known at the start: now, unless `started` says otherwise.

    `context` is what the caller adds to it.
    """
    form: Json = {
        "operation_id": new_id(),
        "timestamp": (started or datetime.now(UTC)).isoformat(),
        "tool_name": tool_name,
        "operation": operation,
        "user": _user(),
        "working_directory": questions.directory,
        "context": {**context, **_machine()},
    }
    here, tools = questions.answers()
    form |= {
        "git_branch": here.branch if here else None,
        "git_commit": here.commit if here else None,
        "git_dirty": here.dirty if here else None,
    }
    dirty = []
    if here:
        form["context"]["git"] = _repository(here)
        dirty += [(here, form["context"]["git"])] if here.dirty else []
    if questions.tool:
        form["context"]["tool"] = dict(questions.tool)
    if tools:
        git = {"commit": tools.commit, "branch": tools.branch, "dirty": tools.dirty, **_repository(tools)}
        form["context"]["tool"]["git"] = git
        dirty += [(tools, git)] if tools.dirty else []
    return Begin(form, dirty)


def kept_words(command: list[str] | None) -> list[str] | None:
    """A command's words as they can be kept."""
    return command and Storable(_LONGEST_COMMAND, _LONGEST_COMMAND).convert(command)


def written_form(form: Json, command: list[str] | None, redactor: Redactor) -> Json:
    """A form that is storable, with its command, as it may be written: without secrets."""
    words = kept_words(command)
    redactor.argv(words or ())  # first, for what it teaches
    written = redactor.form(form)
    written |= {name: form[name] for name in ("operation_id", "timestamp")}  # these have to stay what they are
    written["command"] = words and redactor.argv(words)
    if written["command"] != command:
        written["context"]["command_is_exact"] = False
    return written


def process_command() -> list[str] | None:
    """The exact argv of this Python process, None in an interactive one, which no argv repeats."""
    argv = getattr(sys, "argv", None)  # an embedded Python may have none
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules or not argv or not argv[0]
    return None if interactive else list(sys.orig_argv)


def _tool(code_file: str | None) -> tuple[Json, str | None]:
    if code_file is None or code_file.startswith("<"):  # <stdin>, <string>
        return {}, None
    from audit_dagster.recording.tool_code import describe

    return describe(code_file)


def _repository(state: GitState) -> Json:
    facts = {"root": state.root, "remote": state.remote, "upstream": state.upstream, "ahead": state.ahead}
    return {name: value for name, value in {**facts, "error": state.error}.items() if value is not None}


def _machine() -> Json:
    system = os.uname()
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    context: Json = {
        "hostname": system.nodename,
        "platform": f"{system.sysname}-{system.release}-{system.machine}",
        "python_version": sys.version.split()[0],
        "source": _source(),
        "process_id": _process_id,
    }
    if kept:
        context["environment_variables"] = kept
    parent = nesting.current()
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
    """As getpass has it, but that it asks the system, which may go through a socket and wait, where we read a file."""
    names = (os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME"))
    return next(filter(None, names), None) or _name_of(str(os.getuid()))


def _name_of(user_id: str) -> str:
    try:
        lines = Path("/etc/passwd").read_text("utf-8", "replace").splitlines()
    except OSError:
        return user_id
    return next((fields[0] for line in lines if len(fields := line.split(":")) > 2 and fields[2] == user_id), user_id)
