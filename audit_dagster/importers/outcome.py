"""What reading one record of an earlier history gives, and how such a record becomes an entry.

A *record* is a mapping with the columns of the table `tool_call_logs`; a Markdown log is read into the same columns.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from audit_dagster.entry import JsonObject, LogEntry, utc_text
from audit_dagster.errors import EntryError

NO_ERROR_TEXT = "no error text in the log"

_NAMESPACE = uuid.UUID("5b8f1d0c-3f0e-4f57-9d0a-6f5a1c2be9a4")
_DECODER = json.JSONDecoder(strict=False)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOTHING = frozenset({"", "none", "null", "unknown"})
_RESULTS_AMONG_PARAMETERS = ("success", "records_extracted", "output_file", "zip_file")
_CONTEXT_COLUMNS = {
    "hostname": "hostname",
    "platform": "platform",
    "python_version": "python_version",
    "script_path": "script_path",
    "execution_source": "source",
    "triggered_by": "triggered_by",
    "log_file_path": "log_file_path",
    "created_at": "created_at",
    "environment": "environment",
    "unreadable": "unreadable",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is no entry. `source` is a file path, or words such as "tool_call_logs id 17"."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Read:
    """A record that became an entry."""

    source: str
    entry: LogEntry


def record_to_entry(record: Mapping[str, Any], zone: ZoneInfo, imported_from: JsonObject) -> LogEntry:
    """The entry of one record, its naive times read as times of `zone`. Raises EntryError with the reason.

    `context["imported_from"]` is always there: the store knows by it not to alert about old failures.
    """
    try:
        form, sanitised = storable(_form(record, zone, imported_from))
    except RecursionError:
        raise EntryError("its JSON is nested too deeply to be read") from None
    if sanitised:
        form["context"]["sanitised"] = sanitised
    return LogEntry.from_json(form)


def decode_json(text: str) -> Any:
    """The JSON value that `text` begins with; what follows it is not looked at. Raises EntryError."""
    try:
        value, _ = _DECODER.raw_decode(text.lstrip())
    except json.JSONDecodeError as error:
        raise EntryError(f"it breaks off or is damaged at line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise EntryError("it is nested too deeply to be read") from None
    except ValueError:
        raise EntryError("it holds a number that is too long to be read") from None
    return value


def known_text(value: object) -> str | None:
    """`value` where it is a text that says something: the earlier program wrote None and Unknown as words."""
    if not isinstance(value, str) or value.strip().lower() in _NOTHING:
        return None
    return value.strip()


def storable(form: JsonObject) -> tuple[JsonObject, int]:
    """A copy that PostgreSQL's jsonb takes, and how many values were changed.

    NaN and the infinities become null, NUL and lone surrogates the replacement character.
    """
    changed = 0

    def clean(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, dict):
            return {clean(key): clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [clean(item) for item in value]
        if isinstance(value, str) and _UNSTORABLE.search(value):
            changed += 1
            return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
        if isinstance(value, float) and not math.isfinite(value):
            changed += 1
            return None
        return value

    return {key: clean(value) for key, value in form.items()}, changed


def _form(record: Mapping[str, Any], zone: ZoneInfo, imported_from: JsonObject) -> JsonObject:
    parameters, results = dict(record["parameters"]), dict(record["results"])
    logged_at = _time(record.get("timestamp"))
    tool_name, operation = (str(record.get(name) or "").strip() for name in ("tool_name", "operation"))
    if logged_at is None:
        raise EntryError("it has no timestamp in ISO 8601")
    if not (tool_name and operation):
        raise EntryError(f"it names no {'operation' if tool_name else 'tool'}")
    success = _success(record, results)
    context = _context(record, imported_from)
    started_at, duration = _timing(record, logged_at, results, zone, context)
    _move_results(parameters, results)
    return {
        "operation_id": _operation_id(tool_name, logged_at, operation, record),
        "timestamp": utc_text(started_at),
        "tool_name": tool_name,
        "operation": operation,
        "user": known_text(record.get("user")) or _user_of(record.get("triggered_by")),
        "success": success,
        "git_branch": known_text(record.get("git_branch")),
        "git_commit": known_text(record.get("git_commit")),
        "git_dirty": record["git_dirty"] if isinstance(record.get("git_dirty"), bool) else None,
        "note": _take_note(record, parameters, results),
        "error_message": None if success else _take_error(results),
        "parameters": parameters,
        "results": results,
        "duration_seconds": duration,
        "working_directory": known_text(record.get("working_directory")),
        "context": context,
    }


def _operation_id(tool_name: str, logged_at: datetime, operation: str, record: Mapping[str, Any]) -> str:
    """The same for the same run, whatever the file is called and whichever zone was given.

    A wrong zone then shows as a conflict and not as a second copy. The parameters stay out because a Markdown log is
    lossy there: so a row of the table and the log that the earlier program exported from it are one operation. (Where
    that program wrote row and log side by side, it took the time twice: those remain two.)
    """
    identity = [tool_name, logged_at.isoformat(), operation, known_text(record.get("hostname")), record["results"]]
    return str(uuid.uuid5(_NAMESPACE, json.dumps(identity, sort_keys=True, separators=(",", ":"))))


def _success(record: Mapping[str, Any], results: JsonObject) -> bool:
    candidates = (results.pop("success", None), record.get("success"))
    for value in candidates:
        if isinstance(value, bool):
            return value
    raise EntryError("it does not say whether the operation succeeded")


def _context(record: Mapping[str, Any], imported_from: JsonObject) -> JsonObject:
    context = {}
    for column, name in _CONTEXT_COLUMNS.items():
        value = record.get(column)
        if known_text(value) if isinstance(value, str) else value:
            context[name] = value
    variables = {name: value for name, value in record.get("environment_variables", {}).items() if value is not None}
    if variables:
        context["environment_variables"] = variables
    if command := known_text(record.get("command")):
        # The words were joined with spaces and the quoting is lost: this is no argv.
        context["command_text"] = command
    context["imported_from"] = imported_from
    return context


def _timing(
    record: Mapping[str, Any], logged_at: datetime, results: JsonObject, zone: ZoneInfo, context: JsonObject
) -> tuple[datetime, float | None]:
    """Start (in UTC) and duration. What becomes a field leaves `results`."""
    start, end = _time(results.get("start_time")), _time(results.get("end_time"))
    elapsed = None
    if start is not None:
        del results["start_time"]
        elapsed = None if end is None else _elapsed(start, end, zone)
    if elapsed is not None:
        del results["end_time"]
    else:
        elapsed = _seconds(results.get("duration"))
    if elapsed is None:
        elapsed = _seconds(record.get("duration_seconds"))
        if elapsed is not None:
            context["duration_precision"] = record.get("duration_precision", "seconds")
    return _in_zone(start or logged_at, zone), elapsed


def _elapsed(start: datetime, end: datetime, zone: ZoneInfo) -> float | None:
    """Seconds on the clock of `zone`, with the change to and from summer time taken into account.

    An end that seems to lie before its start is read as the second pass through the repeated hour of autumn.
    """
    for fold in (0, 1):
        seconds = (_in_zone(end, zone, fold) - _in_zone(start, zone)).total_seconds()
        if seconds >= 0:
            return seconds
    return None


def _in_zone(moment: datetime, zone: ZoneInfo, fold: int = 0) -> datetime:
    try:
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone, fold=fold)
        return moment.astimezone(UTC)
    except OverflowError:
        raise EntryError(f"its time {moment.isoformat()} is out of range") from None


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        return None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _move_results(parameters: JsonObject, results: JsonObject) -> None:
    """A data extraction logged its whole answer as its parameters: `success` among them gives it away.

    Only these names move. Elsewhere a parameter may well be repeated in the results (`crop`, `system_uid`).
    """
    if not isinstance(parameters.get("success"), bool):
        return
    del parameters["success"]
    for name in _RESULTS_AMONG_PARAMETERS:
        if name in parameters and results.setdefault(name, parameters[name]) == parameters[name]:
            del parameters[name]


def _take_note(record: Mapping[str, Any], parameters: JsonObject, results: JsonObject) -> str | None:
    # Only where no note was asked about at all can the end of the operation be one.
    appended = None if "note" in parameters or "note" in results else record.get("appended_note")
    candidates = (record.get("note"), results.get("note"), parameters.get("note"), appended)
    note = next((text for value in candidates if (text := known_text(value))), None)
    for place in (parameters, results):
        value = place.get("note")
        if "note" in place and (value is None or (isinstance(value, str) and known_text(value) in (None, note))):
            del place["note"]
    return note


def _take_error(results: JsonObject) -> str:
    error = results.pop("error", None)
    if error is None or error == "" or (isinstance(error, str) and not error.strip()):
        return NO_ERROR_TEXT
    return error if isinstance(error, str) else json.dumps(error)


def _user_of(triggered_by: object) -> str | None:
    """The person in "zach@host" and "claude via zach@host"."""
    text = known_text(triggered_by)
    return None if text is None else text.split("@")[0].rsplit(" via ", 1)[-1].strip() or None
