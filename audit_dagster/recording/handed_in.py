"""`audit-dagster log`: one operation that another program describes as a JSON object becomes an entry of the spool.

What it may say is in `log-entry.schema.json`, beside this package. Unlike everywhere else in recording, a failure
reaches the caller: whoever hands in an entry wants nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_dagster.errors import AuditError, InvalidInputError
from audit_dagster.recording import capture, drainer, files, losses
from audit_dagster.recording.recorder import harmless
from audit_dagster.recording.redact import Redactor
from audit_dagster.recording.spool import SpoolFile
from audit_dagster.recording.storable import Storable
from audit_dagster.recording.switch import read_switch
from audit_dagster.settings import Settings

if TYPE_CHECKING:
    from jsonschema import ValidationError

LARGEST = 16 * 1024 * 1024  # bytes
_SCHEMA = Path(__file__).parents[1] / "log-entry.schema.json"
_LONGEST_STEP = 60
_CLOCKS_DIFFER = timedelta(days=1)  # at most, those of two machines
_MOST_ERRORS = 100
_GIT = ("git_branch", "git_commit", "git_dirty")
_AT_THE_END = ("success", "duration_seconds", "error_message", "results")
_KINDS = {"string": "a text", "object": "an object", "array": "an array", "number": "a number", "null": "null"}
_KINDS |= {"boolean": "true or false"}
_EXPECTED = {
    "minLength": "a text that is not empty",
    "maxLength": "a text of at most {} characters",
    "minItems": "at least {} item",
    "maxItems": "at most {} items",
    "minimum": "a number that is not below {}",
    "maximum": "a number that is not above {}",
}
Json = dict[str, Any]


def schema_text() -> str:
    """The published JSON Schema of what may be handed in."""
    return _SCHEMA.read_text("utf-8")


def read(source: str) -> bytes:
    """The content of a file, of stdin where `source` is `-`; not much beyond LARGEST. Raises InvalidInputError."""
    name = "stdin" if source == "-" else source
    try:
        with open(0 if source == "-" else source, "rb", closefd=source != "-") as stream:
            return stream.read(LARGEST + 1)
    except OSError as error:
        raise InvalidInputError(f"cannot read {name}: {error.strerror}") from None


def record(raw: bytes) -> str | None:
    """Put an entry into the spool and wake the drainer. Returns its operation id, None where logging is off.

    Raises InvalidInputError where it is no entry, AuditError where the spool cannot be written.
    """
    entry, replaced = parse(raw)
    check(entry)
    settings = Settings.load()
    if not read_switch(settings).enabled:
        return None
    form = _form(entry, replaced, settings)
    end = {name: form.pop(name) for name in _AT_THE_END}
    try:
        SpoolFile(settings.spool_dir, form).finish(end)
    except OSError as error:
        losses.count(settings)
        raise AuditError(f"the entry is not recorded: cannot write the spool {settings.spool_dir}: {error}") from error
    with harmless("the entry waits in the spool, and nobody could be started to store it"):
        drainer.wake(settings)
    return str(form["operation_id"])


def parse(raw: bytes) -> tuple[Json, int]:
    """The JSON object in `raw`, and how many NaN and Infinity in it became texts. Raises InvalidInputError."""
    if len(raw) > LARGEST:
        most = f"{LARGEST // 1024 // 1024} MB"
        raise InvalidInputError(f"an entry has at most {most}: write the data to a file and name it in 'outputs'")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"expected UTF-8: byte {error.start + 1} is 0x{raw[error.start]:02x}") from None
    if not text.strip():
        raise InvalidInputError("expected a JSON object: there is nothing")
    constants: list[str] = []
    twice: dict[int, tuple[Json, str]] = {}

    def as_text(constant: str) -> str:
        constants.append(constant)
        return constant

    try:
        entry = json.loads(text, parse_constant=as_text, object_pairs_hook=lambda pairs: _unrepeated(pairs, twice))
    except json.JSONDecodeError as error:
        message = f"broken JSON at line {error.lineno} column {error.colno}: {error.msg}"
        raise InvalidInputError(message) from None
    except RecursionError:
        raise InvalidInputError("the JSON has too many levels, one inside the other") from None
    except ValueError:  # int() refuses it
        raise InvalidInputError("a number in the JSON has more than 4,300 digits: write it as a text") from None
    for path, node in _nodes(entry) if twice else ():
        if id(node) in twice:
            raise InvalidInputError(f"{_path([*path, twice[id(node)][1]])}: the field is there twice")
    return entry, len(constants)


def check(entry: Any) -> None:
    """Raises InvalidInputError that names the first place that does not fit the schema, and what is expected there."""
    from jsonschema import Draft202012Validator, FormatChecker

    formats = FormatChecker(("uuid",))
    formats.checks("date-time", raises=(ValueError, OverflowError))(_moment)
    validator = Draft202012Validator(json.loads(schema_text()), format_checker=formats)
    errors = sorted(islice(validator.iter_errors(entry), _MOST_ERRORS), key=_urgency)
    if errors:
        more = " (and more)" if len(errors) > 1 else ""
        raise InvalidInputError(f"{_complaint(errors[0])}{more}")
    if "timestamp" in entry and _moment(entry["timestamp"]) > datetime.now(UTC) + _CLOCKS_DIFFER:
        raise InvalidInputError(f"timestamp is {entry['timestamp']}: an operation starts before it is recorded")


def _unrepeated(pairs: list[tuple[str, Any]], twice: dict[int, tuple[Json, str]]) -> Json:
    made: Json = {}
    for key, value in pairs:
        if key in made:
            twice[id(made)] = made, key  # the object as well: its id must not be given to another one
        made[key] = value
    return made


def _nodes(document: Any) -> Iterator[tuple[list[str | int], Any]]:
    """Every object and array with its path. No recursion: it may be as deep as the parser lets it be."""
    waiting: list[tuple[list[str | int], Any]] = [([], document)]
    while waiting:
        path, node = waiting.pop()
        yield path, node
        children = node.items() if isinstance(node, dict) else enumerate(node)
        waiting += [([*path, step], child) for step, child in children if isinstance(child, dict | list)]


def _path(steps: list[str | int]) -> str:
    """`parameters.sites[2]`"""
    written = (f"[{step}]" if isinstance(step, int) else f".{step[:_LONGEST_STEP]}" for step in steps)
    return "".join(written).removeprefix(".")


def _moment(text: object) -> datetime:
    return datetime.fromisoformat(str(text)).astimezone(UTC)


def _urgency(error: ValidationError) -> tuple[int, str]:
    """A field with a wrong name comes first: that it is missing under its right one follows from it."""
    order = ("additionalProperties", "required").index
    return order(error.validator) if error.validator in {"additionalProperties", "required"} else 2, error.json_path


def _complaint(error: ValidationError) -> str:
    path = _path(list(error.absolute_path))
    if error.validator == "additionalProperties":
        name = next(name for name in error.instance if name not in error.schema["properties"])
        return f"{_path([name])}: there is no such field{_suggestion(name, error.schema['properties'])}"
    if error.validator == "required":
        name = next(name for name in error.validator_value if name not in error.instance)
        return f"{name}: the field is required, and is missing"
    return f"{path or 'the entry'}: expected {_expectation(error)}"


def _suggestion(name: str, known: Json) -> str:
    from difflib import get_close_matches

    longer = [one for one in known if len(name) > 1 and name in one]
    close = longer or get_close_matches(name[:_LONGEST_STEP], known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; the fields are {', '.join(known)}"


def _expectation(error: ValidationError) -> str:
    wanted = error.validator_value
    if error.validator == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return f"{' or '.join(_KINDS[kind] for kind in kinds)}, not {_kind(error.instance)}"
    if error.validator in {"format", "pattern"}:
        return f"something like {' or '.join(error.schema['examples'])}"
    return _EXPECTED[str(error.validator)].format(wanted)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds: dict[type, str] = {str: "string", dict: "object", list: "array"}
    return _KINDS[kinds.get(type(value), "number")]


def _form(entry: Json, replaced: int, settings: Settings) -> Json:
    """The whole log entry as it may be written: filled in, storable, without secrets."""
    filled = _filled_in(entry)
    command = filled.pop("command")
    filled["operation_id"] = filled["operation_id"].lower()
    storable, redactor = Storable(), Redactor({**os.environ, **settings.given})
    made = capture.written_form(storable.convert(filled), command, redactor)
    if storable.changed + replaced:
        made["context"]["sanitised"] = storable.changed + replaced
    return made


def _filled_in(entry: Json) -> Json:
    """What is known here and now, and over it what the entry says."""
    questions = _questions(entry.get("working_directory", "."))
    duration = timedelta(seconds=entry.get("duration_seconds") or 0)
    started = _moment(entry["timestamp"]) if "timestamp" in entry else datetime.now(UTC) - duration
    # A tree that is dirty has no patch here: it may have changed since the operation ended.
    captured = capture.begin_form(entry["tool_name"], entry["operation"], questions, {}, started).form
    captured["context"].pop("process_id", None)  # this process is not the operation's
    if any(name in entry for name in _GIT):
        captured |= dict.fromkeys(_GIT)
        captured["context"].pop("git", None)
    results = dict(entry.get("results", {}))
    filled = {"success": results.pop("success", True), "duration_seconds": None, "error_message": None, "note": None}
    filled |= {"parameters": {}, "command": None, **captured, **entry, "timestamp": captured["timestamp"]}
    directory = questions.directory or "/"
    inputs, outputs = (_found(filled.pop(name, []), directory, name) for name in ("inputs", "outputs"))
    outputs |= files.named_in([results], directory)
    named = {"inputs": files.facts(inputs.values()), "outputs": files.facts(outputs.values())}
    known = {name: facts for name, facts in named.items() if facts}
    return {**filled, "results": results, "context": {**captured["context"], **known, **entry.get("context", {})}}


def _questions(directory: str | None) -> capture.Questions:
    """git at work on the entry's folder; where that is not on this machine, on none."""
    for place in (directory or "/", "/"):
        with contextlib.suppress(OSError, ValueError), contextlib.chdir(place):
            return capture.Questions(None)
    return capture.Questions(None)  # our own folder is gone, and has no git


def _found(paths: list[str], directory: str, what: str) -> dict[str, files.Seen]:
    found = {}
    for path in paths:
        seen = files.look(path, directory)
        if seen:
            found[seen.path] = seen
        elif sys.stderr:
            print(f"audit-dagster: {what}: there is no file {path!r}: it is not recorded", file=sys.stderr)  # noqa: T201
    return found
