"""Entries as a Process Run Crate 0.5: what stands in the crate's metadata, and which files belong into it.

Pure: entries in, description out. Copying and writing is `provenance_service`'s business.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from mimetypes import MimeTypes
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from audit_dagster.entry import LogEntry
from audit_dagster.escaping import visible
from audit_dagster.reproduction.ground import FileFacts, recorded_files, repository_root

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
SCRIPT_NAME, ENTRIES_NAME, OUTPUTS_NAME = "reproduce.sh", "entries.json", "outputs"
# RO-Crate 1.1 was made before schema.org had it.
EXTRA_TERMS = {"sha256": "http://schema.org/sha256"}

_NO_LICENSE = "No licence was stated. Ask the people who are named here before you use it."
_STATUS = {True: "http://schema.org/CompletedActionStatus", False: "http://schema.org/FailedActionStatus"}
_LONGEST_TEXT = 10_000
_LONGEST_NAME = 80
_UNPLAIN = re.compile(r"[^A-Za-z0-9._-]+")
# Windows keeps these for devices, whatever comes after a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Payload:
    """An output that may be copied: where it lay, and its name in the crate, relative, safe, and no other's."""

    sha256: str
    paths: list[str]
    name: str


@dataclass(slots=True)
class Description:
    """What the metadata says. Each entity is JSON-LD with `@id` and `@type`; `files` are those that are data."""

    root: Json
    context: dict[str, Json] = field(default_factory=dict)
    files: dict[str, Json] = field(default_factory=dict)


def payload(entries: Iterable[LogEntry]) -> list[Payload]:
    """Every content that an operation left behind, once, by the order of the entries."""
    paths: dict[str, dict[str, None]] = {}
    for entry in entries:
        for file in recorded_files(entry, "outputs"):
            if file.sha256:
                paths.setdefault(file.sha256, {})[file.path] = None
    names = _Names()
    return [
        Payload(digest, list(known), f"{OUTPUTS_NAME}/{names.distinct(PurePosixPath(next(iter(known))).name)}")
        for digest, known in paths.items()
    ]


def describe(
    entries: Sequence[LogEntry], copied: Mapping[str, str], script: FileFacts, log: FileFacts, generated: datetime
) -> Description:
    """The crate of these entries: an action for each, and what it used, read and made.

    `copied` gives the names in the crate of the contents that it holds, by their SHA-256. `script` and `log` are the
    crate's own files. `generated` is aware of its zone.
    """
    made = _Maker(copied)
    actions = [made.action(entry) for entry in entries]
    days = sorted({entry.timestamp.astimezone(UTC).date() for entry in entries})
    tools = len({entry.tool_name for entry in entries})
    root: Json = {
        "name": f"Recorded operations, {days[0]} to {days[-1]}" if days else "Recorded operations",
        "description": f"{len(entries)} operations of {tools} tools: what ran, what each read and made, and a script "
        "that runs it again. Recorded by audit_dagster.",
        "license": _NO_LICENSE,
        "datePublished": _moment(generated),
        "conformsTo": {"@id": PROFILE},
    }
    if actions:
        root["mentions"] = _one_or_all(actions)
    made.context[PROFILE] = {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    texts = {
        script: ("application/x-sh", "Runs the operations again: `bash reproduce.sh --help` says how."),
        log: ("application/json", "The log entries, each as it was recorded."),
    }
    own = {
        facts.path: {**_file(facts), "name": facts.path, "encodingFormat": kind, "description": text}
        for facts, (kind, text) in texts.items()
    }
    return Description(root, made.context, {**own, **made.files})


class _Maker:
    """Collects the entities that the actions refer to, each once."""

    def __init__(self, copied: Mapping[str, str]) -> None:
        self.context: dict[str, Json] = {}
        self.files: dict[str, Json] = {}
        self._copied = copied
        self._numbers: dict[tuple[str, str], str] = {}

    def action(self, entry: LogEntry) -> Json:
        """Describe the operation; a reference to it."""
        files = {
            kind: [self._data(entry, file) for file in recorded_files(entry, kind)] for kind in ("inputs", "outputs")
        }
        objects = [*files["inputs"], *self._parameters(entry)]
        action: Json = {
            "@type": "CreateAction",
            "name": _text(f"{entry.tool_name} {entry.operation}"),
            "description": _what_for(entry),
            "startTime": _moment(entry.timestamp),
            "endTime": _end(entry),
            "actionStatus": _STATUS[entry.success],
            "error": None if entry.success else _text(entry.error_message or "it failed"),
            "instrument": self._application(entry),
            "agent": self._numbered("person", {"@type": "Person", "name": _text(entry.user_name)}),
            "object": _one_or_all(objects),
            "result": _one_or_all(files["outputs"]),
        }
        identity = f"#operation-{quote(visible(entry.operation_id), safe='')}"
        self.context[identity] = {key: value for key, value in action.items() if value is not None}
        return {"@id": identity}

    def _application(self, entry: LogEntry) -> Json:
        facts = _tool(entry)
        application = {"@type": "SoftwareApplication", "name": _text(entry.tool_name)}
        version = _version(facts)
        if version:
            application["softwareVersion"] = version
        remote = facts.get("remote")
        if isinstance(remote, str) and remote.startswith(("https://", "http://")):
            application["url"] = _text(remote)
        return self._numbered("application", application)

    def _parameters(self, entry: LogEntry) -> list[Json]:
        found = []
        for number, (name, value) in enumerate(entry.parameters.items(), start=1):
            identity = f"#parameter-{quote(visible(entry.operation_id), safe='')}-{number}"
            self.context[identity] = {"@type": "PropertyValue", "name": _text(str(name)), "value": _value(value)}
            found.append({"@id": identity})
        return found

    def _data(self, entry: LogEntry, file: FileFacts) -> Json:
        """The crate's file of that content, else where it lay, with its hash: a path may have had several contents."""
        name = self._copied.get(file.sha256 or "")
        identity = name or _uri(entry, file)
        self.files.setdefault(identity, {**_file(file), "name": _text(file.path), "encodingFormat": _kind(file.path)})
        return {"@id": identity}

    def _numbered(self, kind: str, entity: Json) -> Json:
        """Of the same entity always the same; numbers, since names may be anything."""
        key = (kind, json.dumps(entity))
        identity = self._numbers.setdefault(key, f"#{kind}-{len(self._numbers) + 1}")
        self.context[identity] = entity
        return {"@id": identity}


class _Names:
    """File names that every system takes, and of which no two are the same, in whatever case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def distinct(self, name: str) -> str:
        plain = _UNPLAIN.sub("_", name).strip(".-")[-_LONGEST_NAME:].lstrip(".-") or "file"
        plain = f"_{plain}" if _DEVICE.match(plain) else plain
        stem, suffix = PurePosixPath(plain).stem, PurePosixPath(plain).suffix
        candidate, number = plain, self._last.get(plain.lower(), 1)
        while candidate.lower() in self._taken:
            number += 1
            candidate = f"{stem}-{number}{suffix}"
        self._last[plain.lower()] = number
        self._taken.add(candidate.lower())
        return candidate


def _file(facts: FileFacts) -> Json:
    known = {"sha256": facts.sha256, "contentSize": None if facts.size is None else str(facts.size)}
    return {"@type": "File", **{key: value for key, value in known.items() if value is not None}}


@cache
def _kinds() -> dict[str, str]:
    # Those that Python brings along: what the machine adds would make another crate of the same entries.
    return MimeTypes().types_map[True]


def _kind(path: str) -> str:
    return _kinds().get(PurePosixPath(path).suffix.lower(), "application/octet-stream")


def _uri(entry: LogEntry, file: FileFacts) -> str:
    host = entry.context.get("hostname")
    place = quote(visible(host), safe="") if isinstance(host, str) else ""
    path = quote(file.path, errors="surrogatepass").rstrip("/")
    return f"file://{place}{path}" + (f"#sha256={file.sha256}" if file.sha256 else "")


def _tool(entry: LogEntry) -> Json:
    """What is known of the tool's code; where it lies in the repository that it ran in, that one's facts too."""
    recorded = entry.context.get("tool")
    facts: Json = dict(recorded) if isinstance(recorded, dict) else {}
    git, root, file = facts.get("git"), repository_root(entry), facts.get("file")
    if isinstance(git, dict):
        return {**facts, **git}
    if root and isinstance(file, str) and file.startswith(f"{root.rstrip('/')}/"):
        here = {"commit": entry.git_commit_hash, "dirty": entry.git_dirty, "remote": entry.context["git"].get("remote")}
        return {**facts, **here}
    return facts


def _version(facts: Json) -> str | None:
    version, commit = facts.get("version"), facts.get("commit")
    parts = [version] if isinstance(version, str) and version else []
    if isinstance(commit, str) and commit:
        parts.append(f"commit {commit}" + (" with uncommitted changes" if facts.get("dirty") is True else ""))
    return _text(", ".join(parts)) or None


def _what_for(entry: LogEntry) -> str:
    note = [_text(entry.note)] if entry.note else []
    command = [f"Command: {_text(shlex.join(entry.command))}"] if entry.command else []
    return "\n".join([*note, *command]) or f"An operation of {_text(entry.tool_name)}; no command was recorded."


def _end(entry: LogEntry) -> str | None:
    seconds = entry.duration_seconds
    if seconds is None or not math.isfinite(seconds):
        return None
    try:
        return _moment(entry.timestamp + timedelta(seconds=seconds))
    except OverflowError:
        return None


def _moment(moment: datetime) -> str:
    """The one form of ISO 8601 that roc-validator takes: an offset, and three decimals."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _value(value: Any) -> Any:
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _text(value if isinstance(value, str) else json.dumps(value, default=str))


def _text(text: str) -> str:
    shown = visible(text[:_LONGEST_TEXT])
    return shown if len(text) <= _LONGEST_TEXT else f"{shown}…"


def _one_or_all(references: list[Json]) -> Json | list[Json] | None:
    """RO-Crate 1.1 wants one value to stand alone."""
    distinct = list({reference["@id"]: reference for reference in references}.values())
    return distinct[0] if len(distinct) == 1 else distinct or None
