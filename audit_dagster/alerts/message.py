"""What an alert says: a pure function of incidents."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry
from audit_dagster.escaping import markdown_text, visible
from audit_dagster.failures import NO_ERROR_TEXT, cause
from audit_dagster.render import number, render
from audit_dagster.reproduction.words import secrets_in

# Failures first: the order of the kinds in a message.
_KINDS = ("first seen", "still failing", "run failed", "check failed", "unusually slow", "silent", "resolved")
_FAILURES, _QUIET = _KINDS[:4], _KINDS[5:]
_MOST_IN_FULL, _MOST_NAMED, _MOST_PARAMETERS = 10, 100, 10
_LONGEST_SUBJECT, _LONGEST_NAME, _LONGEST_VALUE, _LONGEST_TEXT = 150, 40, 100, 500


class Failure(NamedTuple):
    """An operation, and the last success of the same tool and operation before it."""

    entry: LogEntry
    previous_success: LogEntry | None


@dataclass(frozen=True, slots=True)
class Incident:
    """What happened `count` times from `first_seen` to `last_seen`; `facts` are further lines: name, value."""

    kind: str
    fingerprint: str
    tool_name: str
    operation: str
    error: str | None
    count: int
    first_seen: datetime
    last_seen: datetime
    example: Failure | None
    facts: Mapping[str, str]


class Links(NamedTuple):
    """Where the reports are (a URL or a folder), and the URL of Dagster's UI."""

    reports: str | None
    dagster: str | None


class _Fact(NamedTuple):
    """A line of a message; `form` is text, code or link."""

    name: str
    text: str
    form: str = "text"


class Message(NamedTuple):
    """`text` is Markdown, `subject` one plain line; who gets the same `key` again may leave it out."""

    key: str
    subject: str
    text: str


def alert_message(key: str, incidents: Sequence[Incident], links: Links, zone: ZoneInfo) -> Message:
    """One message about `incidents`, of which there is at least one: failures first, then in the given order."""
    ordered = sorted(incidents, key=lambda incident: _KINDS.index(incident.kind))
    others = ordered[_MOST_IN_FULL:]
    text = render(
        "alert_message.md.j2",
        sections=[
            {
                "headline": headline(one),
                "kind": one.kind,
                "facts": list(_facts(one, links, zone)),
                "changes": _changes(one.example),
            }
            for one in ordered[:_MOST_IN_FULL]
        ],
        others=[(one.kind, headline(one)) for one in others[:_MOST_NAMED]],
        unnamed=max(0, len(others) - _MOST_NAMED),
        zone_name=zone.key,
        key=key,
    )
    return Message(key, _subject(ordered), text)


def headline(incident: Incident) -> str:
    """One plain line: `sensing-data extract failed: ConnectionError: … (3 times)`."""
    names = (incident.tool_name, incident.operation)
    who = " ".join(filter(None, (_cut(visible(name).strip(), _LONGEST_NAME) for name in names)))
    said = {
        "first seen": "failed",
        "still failing": "still fails",
        "run failed": "run failed",
        "check failed": "check failed",
        "unusually slow": "was unusually slow",
        "silent": "is silent",
        "resolved": "works again",
    }[incident.kind]
    what = f": {_error(incident, _LONGEST_VALUE)}" if incident.kind in _FAILURES else ""
    times = f" ({number(incident.count)} times)" if incident.count > 1 and incident.kind not in _QUIET else ""
    if incident.kind == "resolved":
        times = f" after {number(incident.count)} failure{'' if incident.count == 1 else 's'}"
    return f"{who} {said}{what}{times}".strip()


def _subject(incidents: Sequence[Incident]) -> str:
    more = f" and {number(len(incidents) - 1)} more" if len(incidents) > 1 else ""
    return _cut(headline(incidents[0]), _LONGEST_SUBJECT - len(more)) + more


def _error(incident: Incident, longest: int) -> str:
    return _cut(visible((cause(incident.error) or "").strip() or NO_ERROR_TEXT), longest)


def _facts(incident: Incident, links: Links, zone: ZoneInfo) -> Iterator[_Fact]:
    """In the order of what a person asks."""
    if incident.error or incident.kind in _FAILURES:
        yield _Fact("Last error" if incident.kind == "resolved" else "Error", _error(incident, _LONGEST_TEXT))
    yield _Fact("Last seen" if incident.kind == "silent" else "When", _when(incident, zone))
    for name, value in incident.facts.items():
        yield _linked(_cut(visible(name), _LONGEST_NAME), _cut(visible(value), _LONGEST_TEXT))
    if incident.example:
        yield from _about(incident.example, zone)
    if incident.kind in ("run failed", "check failed") or "Run" in incident.facts:
        return  # a run of Dagster's is in no report
    day = (incident.example.entry.timestamp if incident.example else incident.last_seen).astimezone(zone).date()
    if links.reports:
        yield _linked("Report", f"{links.reports.rstrip('/')}/daily/{day}.md")
    if links.dagster:
        yield _linked("Dagster", f"{links.dagster.rstrip('/')}/assets/daily_report?partition={day}")


def _when(incident: Incident, zone: ZoneInfo) -> str:
    last = _moment(incident.last_seen, zone)
    if incident.count <= 1 or incident.kind == "silent":
        return f"{last} ({zone.key})"
    what = "failures" if incident.kind == "resolved" else "times"
    return f"{number(incident.count)} {what} from {_moment(incident.first_seen, zone)} to {last} ({zone.key})"


def _about(example: Failure, zone: ZoneInfo) -> Iterator[_Fact]:
    entry, success = example
    yield _Fact("User", _cut(visible(entry.user_name), _LONGEST_VALUE))
    yield _Fact("Commit", _commit(entry, success))
    last = f"{_moment(success.timestamp, zone)}, operation {success.operation_id}" if success else "none is known"
    yield _Fact("Success before", last)
    if entry.command:
        yield _Fact("Command", _cut(visible(shlex.join(entry.command)), _LONGEST_TEXT), "code")
    failed = "" if entry.success else " --include-failed"
    again = f"audit-dagster reproduce --operation-id {shlex.quote(entry.operation_id)}{failed} rerun.sh"
    yield _Fact("Run it again", f"{again} && bash rerun.sh", "code")
    if secrets := secrets_in(entry):
        variables = ", ".join(f"SECRET_{name}" for name in secrets)
        yield _Fact("It asks for", _cut(f"{variables}, in place of the secrets that were not recorded", _LONGEST_TEXT))


def _commit(entry: LogEntry, success: LogEntry | None) -> str:
    commit = _cut(visible(entry.git_commit_hash or "unknown"), _LONGEST_NAME)
    dirty = ", with uncommitted changes" if entry.git_dirty else ""
    if success is None or success.git_commit_hash == entry.git_commit_hash:
        return commit + dirty
    return (
        f"{commit}{dirty}; the success before had {_cut(visible(success.git_commit_hash or 'unknown'), _LONGEST_NAME)}"
    )


def _changes(example: Failure | None) -> dict[str, Any] | None:
    """The parameters that differ from those of the last success; None where there is nothing to compare."""
    if example is None or example.previous_success is None:
        return None
    old, new = example.previous_success.parameters, example.entry.parameters
    names = [name for name in dict.fromkeys([*new, *old]) if _canonical(name, new) != _canonical(name, old)]
    rows = [(_cut(visible(name), _LONGEST_NAME), *_values(name, old, new)) for name in names[:_MOST_PARAMETERS]]
    return {"rows": rows, "more": len(names) - len(rows)}


def _canonical(name: str, parameters: Mapping[str, Any]) -> str | None:
    """Equal only for equal JSON: in Python, 1 is True."""
    return json.dumps(parameters[name], sort_keys=True) if name in parameters else None


def _values(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Both values as text, cut so that the first difference is seen; None for what is not there."""
    texts = [visible(_text(parameters[name])) if name in parameters else None for parameters in (old, new)]
    before, after = (text or "" for text in texts)
    same = next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), 0)
    start = same - 20 if same > _LONGEST_VALUE // 2 else 0
    old_text, new_text = (text and _cut(("…" if start else "") + text[start:], _LONGEST_VALUE) for text in texts)
    return old_text, new_text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _moment(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _linked(name: str, text: str) -> _Fact:
    """A link where `text` is an address that Markdown leaves as it is; a path is code, and the rest is text."""
    if text.startswith(("http://", "https://")) and markdown_text(text) == text and " " not in text:
        return _Fact(name, text, "link")
    return _Fact(name, text, "code" if text.startswith(("/", "http://", "https://")) else "text")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
