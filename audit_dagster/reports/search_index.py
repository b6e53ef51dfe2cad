"""A day for the static site's search: a script that hands its operations over, one per line."""

from __future__ import annotations

from datetime import date
from typing import Any

from audit_dagster.entry import LogEntry
from audit_dagster.escaping import ascii_json, visible
from audit_dagster.failures import cause
from audit_dagster.reports.daily import json_text

_LONGEST = 300


def search_start(day: date) -> str:
    """What comes before the operations."""
    return f'auditDay("{day}",[\n'


def search_line(entry: LogEntry, time: str, page: int) -> str:
    """One operation: time, tool, operation, user, whether it succeeded, id, page, further text."""
    further = (cause(entry.error_message), entry.note, json_text(entry.parameters) if entry.parameters else None)
    fields: list[Any] = [
        time,
        visible(entry.tool_name),
        visible(entry.operation),
        visible(entry.user_name),
        int(entry.success),
        entry.operation_id,
        page,
        " · ".join(visible(text[:_LONGEST]) for text in further if text),
    ]
    return f"{ascii_json(fields)},\n"


def search_end() -> str:
    """What comes after the operations."""
    return "]);\n"
