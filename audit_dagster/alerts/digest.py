"""The message about failed operations: a pure function of the claimed entries."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from audit_dagster.entry import LogEntry
from audit_dagster.render import render
from audit_dagster.reports.daily import NO_ERROR_TEXT, facts


def failure_digest(entries: Sequence[LogEntry], attempts: Mapping[str, int], zone: ZoneInfo) -> str:
    """One message about `entries`, in the order of their start.

    `attempts` counts, by operation id, how often a failure was claimed: above one the message says that it may be a
    repeat, because the first claimer may have died after sending.
    """
    failures = [
        {
            "time": entry.timestamp.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"),
            "entry": entry,
            "error": entry.error_message or NO_ERROR_TEXT,
            "command": shlex.join(entry.command) if entry.command else None,
            "facts": [(name, value) for name, value in facts(entry) if name != "Error"],
            "repeat": attempts.get(entry.operation_id, 1) > 1,
        }
        for entry in entries
    ]
    return render("failure_digest.md.j2", failures=failures, zone_name=zone.key)
