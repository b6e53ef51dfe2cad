"""Rows of the earlier program's table `tool_call_logs` become entries."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from audit_dagster.entry import JsonObject, LogEntry, utc_text
from audit_dagster.errors import DatabaseError, EntryError
from audit_dagster.importers.outcome import Read, Refused, decode_json, record_to_entry

if TYPE_CHECKING:
    import psycopg

# All columns: the table of the program's first months has none for git and the command.
_QUERY = "SELECT * FROM tool_call_logs ORDER BY id"
_JSON_COLUMNS = ("parameters", "results", "environment_variables")


def read_table(dsn: str, zone: ZoneInfo) -> Iterator[Read | Refused]:
    """One outcome for every row, in the order of their ids. Raises DatabaseError where the table cannot be read.

    A row takes the same operation_id as the Markdown log that was exported from it. Rows that agree in all of that are
    still separate rows: the second has an operation_id of its own.
    """
    import psycopg
    from psycopg.rows import dict_row

    seen: set[str] = set()
    try:
        with psycopg.connect(dsn, row_factory=dict_row) as connection:
            connection.read_only = True
            with connection.cursor(name="tool_call_logs") as cursor:
                for row in cursor.execute(_QUERY):
                    yield _read(row, zone, seen)
    except psycopg.Error as error:
        raise DatabaseError(_sentence(error)) from None


def row_to_entry(row: Mapping[str, Any], zone: ZoneInfo) -> LogEntry:
    """The entry of one row. Raises EntryError with the reason."""
    record = {name: _text(value) for name, value in row.items()}
    unreadable = []
    for name in _JSON_COLUMNS:
        record[name], readable = _json_column(record.get(name))
        if not readable:
            unreadable.append(name)
    created_at = record.get("created_at")
    if isinstance(created_at, datetime):
        # Unlike `timestamp`, which is local, the program wrote this one in UTC.
        record["created_at"] = utc_text(created_at.replace(tzinfo=created_at.tzinfo or UTC))
    record["unreadable"] = unreadable
    return record_to_entry(record, zone, {"kind": "tool_call_logs", "id": row.get("id")})


def _read(row: Mapping[str, Any], zone: ZoneInfo, seen: set[str]) -> Read | Refused:
    source = f"tool_call_logs id {row.get('id')}"
    try:
        entry = row_to_entry(row, zone)
    except EntryError as error:
        return Refused(source, str(error))
    if entry.operation_id in seen:
        entry = dataclasses.replace(entry, operation_id=str(uuid.uuid5(uuid.UUID(entry.operation_id), source)))
    seen.add(entry.operation_id)
    return Read(source, entry)


def _text(value: Any) -> Any:
    # psycopg gives bytes where the database's encoding is SQL_ASCII.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _json_column(value: Any) -> tuple[JsonObject, bool]:
    """The object in a JSON text, and whether there was one: a damaged text is kept under "raw"."""
    if value is None or value == "":
        return {}, True
    if not isinstance(value, str):
        return (value, True) if isinstance(value, dict) else ({"raw": value}, False)
    try:
        decoded = decode_json(value)
    except EntryError:
        return {"raw": value}, False
    if decoded is None:
        return {}, True
    return (decoded, True) if isinstance(decoded, dict) else ({"raw": value}, False)


def _sentence(error: psycopg.Error) -> str:
    from psycopg import errors

    detail = str(error).strip().partition("\n")[0]
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
        return "This database has no table tool_call_logs with a column id: is it the one the earlier program wrote to?"
    if isinstance(error, errors.InsufficientPrivilege):
        return "This login may not read the table tool_call_logs: it needs SELECT on it."
    if error.sqlstate is None and isinstance(error, errors.OperationalError):
        return f"The database with the table tool_call_logs cannot be reached: {detail}"
    if error.sqlstate is None and isinstance(error, errors.ProgrammingError):
        # Without the detail: it repeats words of the address, and one of them may be the password.
        return "The address of the database with the table tool_call_logs cannot be understood."
    return f"The table tool_call_logs cannot be read: {detail}"
