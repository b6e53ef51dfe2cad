"""What the database has after a test's operations."""

from __future__ import annotations

from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry


def entries() -> list[LogEntry]:
    """In the order of their start."""
    return AuditService().recent_entries(None)[::-1]


def only_entry() -> LogEntry:
    (entry,) = entries()
    return entry
