"""Markdown execution logs become entries. The two JSON blocks of a log are lossless, so they are asked first."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any
from zoneinfo import ZoneInfo

from audit_dagster.entry import JsonObject, LogEntry
from audit_dagster.errors import EntryError, InvalidInputError
from audit_dagster.importers.outcome import Read, Refused, decode_json, known_text, record_to_entry

MAX_BYTES = 16 * 2**20

_TITLE = re.compile(r"^\ufeff?# (.+) Execution Log[ \t\r]*$", re.MULTILINE)
_BULLET = re.compile(r"- \*\*(.+?)\*\*:(.*)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?([smh]?)")
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}

# Each section, and what the earlier program writes right below its heading.
_SECTIONS: dict[str, tuple[str, ...]] = {
    "execution context": ("- **",),
    "git information": ("- **",),
    "command": ("```",),
    "parameters": ("- **",),
    "results summary": ("- **status",),
    "detailed results": ("<details>", "```"),
    "execution environment": ("<details>", "```"),
}
_ANYBODYS_TEXT = ("parameters", "results summary")
_COLUMNS = (
    *("timestamp", "user", "hostname", "platform", "python_version", "working_directory", "script_path", "tool_name"),
    *("execution_source", "triggered_by", "environment_variables"),
    *("command", "git", "git_commit", "git_branch", "git_dirty"),
)


def find_logs(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as given, folders searched to the bottom for *.md in sorted order, each file once.

    What is named *.md and is no file, and a folder that cannot be listed, come along: `read_logs` says what is wrong.
    """
    given = [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise InvalidInputError(f"There is no file or folder {_shown(path)}.")
    found = (log for path in given for log in (_in_folder(path) if path.is_dir() else [path]))
    return iter(dict.fromkeys(found))


def is_execution_log(text: str) -> bool:
    """Whether this is a log of the earlier program, and not a README or a letter."""
    return _TITLE.search(text) is not None and any(_section_name(line) == "execution context" for line in _lines(text))


def read_logs(paths: Iterable[Path], zone: ZoneInfo) -> Iterator[Read | Refused]:
    """One outcome for every file: nothing is dropped in silence."""
    for path in find_logs(paths):
        yield _read(path, zone)


def parse_log(text: str, zone: ZoneInfo, source_name: str) -> LogEntry:
    """The entry of one log. Raises EntryError with the reason.

    Of `source_name` only the file name is kept; neither it nor the zone has a part in the operation_id.
    """
    if not text.strip():
        raise EntryError("the file is empty")
    title = _TITLE.search(text)
    if title is None or not is_execution_log(text):
        raise EntryError("this is no execution log: '# … Execution Log' or '## Execution Context' is missing")
    sections = _sections(text)
    results = _json_block(sections, "detailed results")
    environment = _json_block(sections, "execution environment")
    summary = _bullets(sections.get("results summary", ""))
    record = {
        # "Data-Extraction" was made with str.title() from the tool's name.
        "tool_name": title.group(1).lower(),
        **_column_bullets(sections["execution context"]),
        **{name: value for name, value in environment.items() if name in _COLUMNS and value is not None},
        **_git(environment, _column_bullets(sections.get("git information", ""))),
        "environment": {name: value for name, value in environment.items() if name not in _COLUMNS},
        "environment_variables": _object(environment.get("environment_variables")),
        "parameters": {name: _json_value(value) for name, value in _bullets(sections.get("parameters", "")).items()},
        "results": results,
        "success": _status(summary.get("Status", "")),
        "duration_seconds": _duration(summary.get("Duration", "")),
        "duration_precision": "rounded",
        "command": _command(environment.get("command"), sections.get("command", "")),
    }
    record["appended_note"] = _appended_note(record.get("operation", ""))
    return record_to_entry(record, zone, {"kind": "markdown-log", "file": PurePath(source_name).name})


def _read(path: Path, zone: ZoneInfo) -> Read | Refused:
    source = _shown(path)
    try:
        return Read(source, parse_log(_file_text(path), zone, _shown(Path(path.name))))
    except EntryError as error:
        return Refused(source, str(error))
    except OSError as error:
        return Refused(source, f"it cannot be read: {error.strerror or error}")


def _file_text(path: Path) -> str:
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        list(path.iterdir())  # says so where the reason is rather that it cannot be listed
        raise EntryError("this is a folder, not a file")
    if not stat.S_ISREG(state.st_mode):
        raise EntryError("this is not a regular file")
    if state.st_size > MAX_BYTES:
        raise EntryError(f"{state.st_size / 2**20:.0f} MiB is too large for an execution log (at most 16 MiB)")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EntryError(f"this is not UTF-8 text (byte {error.start + 1})") from None


def _in_folder(folder: Path) -> list[Path]:
    found: list[Path] = []

    def unlistable(error: OSError) -> None:
        found.append(Path(error.filename))

    for parent, folders, files in os.walk(folder, onerror=unlistable):
        found += [Path(parent, name) for name in (*folders, *files) if name.lower().endswith(".md")]
    return sorted(found)


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")


def _section_name(line: str) -> str | None:
    name = line[3:].strip().lower() if line.startswith("## ") else ""
    return name if name in _SECTIONS else None


def _sections(text: str) -> dict[str, str]:
    """The text under each known heading. The first of a name counts.

    Parameters and errors are anybody's text and may hold lines that look like headings: there, a heading counts only
    with what the program writes below it.
    """
    bodies: dict[str, list[str]] = {}
    current = ""
    lines = _lines(text)
    for number, line in enumerate(lines):
        name = _section_name(line)
        if name and name not in bodies and (current not in _ANYBODYS_TEXT or _opens(name, lines, number + 1)):
            current = name
            bodies[name] = []
        elif current:
            bodies[current].append(line)
    return {name: "\n".join(body) for name, body in bodies.items()}


def _opens(name: str, lines: list[str], below: int) -> bool:
    following = next((line for line in lines[below : below + 5] if line.strip()), "")
    return following.lower().startswith(_SECTIONS[name])


def _json_block(sections: dict[str, str], name: str) -> JsonObject:
    body = sections.get(name)
    if body is None:
        raise EntryError(f"it has no section '{name.title()}': it may have been cut off")
    _, fence, block = body.partition("```json")
    try:
        # The decoder knows where the JSON ends; the next fence may well stand inside of it.
        value = decode_json(block if fence else body[max(body.find("{"), 0) :])
    except EntryError as error:
        raise EntryError(f"the JSON under '{name.title()}' cannot be read: {error}") from None
    if value is not None and not isinstance(value, dict):
        raise EntryError(f"the JSON under '{name.title()}' is not an object")
    return value or {}


def _bullets(body: str) -> dict[str, str]:
    """`- **key**: value`, where a value may go on over lines. A key seen before is part of such a value."""
    values: dict[str, list[str]] = {}
    current: list[str] = []
    for line in body.split("\n"):
        bullet = _BULLET.fullmatch(line)
        if bullet and bullet.group(1) not in values:
            current = values[bullet.group(1)] = [bullet.group(2)]
        else:
            current.append(line)
    return {key: "\n".join(lines).strip() for key, lines in values.items()}


def _column_bullets(body: str) -> dict[str, Any]:
    return {key.strip().lower().replace(" ", "_"): value for key, value in _bullets(body).items()}


def _json_value(text: str) -> Any:
    """What the program had before it wrote a parameter with str() or, in backticks, as JSON.

    A number only where it was surely one: the text of that very number, and short enough for every reader of JSON;
    so ids with leading zeros, of hexadecimal digits or of 24 decimal ones stay texts.
    """
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    if len(text) > 2 and text[0] == text[-1] == "`" and text[1] in "[{":
        try:
            return decode_json(text[1:-1])
        except EntryError:
            return text
    for kind, longest in ((int, 15), (float, 24)):
        try:
            if len(text) <= longest and str(kind(text)) == text and text not in ("nan", "inf", "-inf"):
                return kind(text)
        except ValueError:
            pass
    return text


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _status(text: str) -> bool | None:
    if "❌" in text or "fail" in text.lower():
        return False
    return True if "✅" in text or "success" in text.lower() else None


def _duration(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    return float(match.group(1)) * _UNIT_SECONDS[match.group(2)] if match else None


def _appended_note(operation: str) -> str | None:
    """The end of "Extract data - for the weekly report"; the kind in "Operation failed - KIND error" is no note."""
    return None if operation.startswith("Operation failed - ") else operation.partition(" - ")[2] or None


def _git(environment: JsonObject, bullets: dict[str, str]) -> JsonObject:
    nested = _object(environment.get("git"))
    recorded = {name: environment.get(f"git_{name}", nested.get(name)) for name in ("commit", "branch", "dirty")}
    dirty = recorded["dirty"]
    if "git_dirty" not in environment and "dirty" not in nested:
        # Only then: an unknown state was printed as "Clean".
        dirty = _dirty(bullets)
    return {
        "git_commit": known_text(recorded["commit"]) or known_text(bullets.get("commit", "").strip("`.… ")),
        "git_branch": known_text(recorded["branch"]) or known_text(bullets.get("branch", "").strip("`")),
        "git_dirty": dirty,
    }


def _dirty(bullets: dict[str, str]) -> bool | None:
    answer = bullets.get("dirty", "").lower()
    if answer:
        return {"yes": True, "true": True, "no": False, "false": False}.get(answer)
    state = (bullets.get("status") or bullets.get("working_tree") or "").lower()
    if "dirty" in state or "uncommitted" in state:
        return True
    return False if "clean" in state else None


def _command(recorded: object, body: str) -> str | None:
    """The words as they were joined: from the environment, else from a fenced block, a code span or a plain line."""
    if isinstance(recorded, str) and recorded.strip():
        return recorded
    text = body.strip()
    if text.startswith("```"):
        return "\n".join(takewhile(lambda line: line.strip() != "```", text.split("\n")[1:])).strip()
    return text.strip("`")
