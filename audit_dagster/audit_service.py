"""What people ask of the log: recent operations, ranges of days, and the logging switch.

Importing this module is cheap: it is how a tool reaches `log_custom_operation`. psycopg comes with the first question.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError, InvalidInputError
from audit_dagster.recording.drainer import DELIVERED_NAME
from audit_dagster.recording.spool import is_locked, waiting
from audit_dagster.recording.switch import Switch, read_switch, write_switch
from audit_dagster.settings import Settings, nearest_env_file

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from psycopg import Connection

    from audit_dagster.recording.recorder import log_custom_operation

__all__ = [
    "AuditService",
    "get_logging_status",
    "log_custom_operation",
    "recent_logs",
    "set_global_logging",
]

_LARGEST_LIMIT = 2**63 - 1
_MOST_MINUTES = 1_000_000_000
_MOST_REASONS = 3
_MOST_NAMED = 10
_MOST_REPLAYS = 100
_ID_DIGITS = re.compile("[0-9a-f]{4,32}")
_SWITCH_VARIABLE = "POSTGRES_LOGGING_STATUS"
_SPOOL_STATUS = ("spool_dir", "waiting", "running", "quarantined", "quarantine_reasons", "last_delivered")
_DETAILS = ("git_dirty", "command", "working_directory", "context")


def __getattr__(name: str) -> Any:
    if name == "log_custom_operation":  # who only reads does not load the recorder
        from audit_dagster.recording.recorder import log_custom_operation

        return log_custom_operation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Replay(NamedTuple):
    """An operation that ran another one again; `verdict` is reproduced, differing or broken."""

    operation_id: str
    timestamp: datetime
    user_name: str
    verdict: str | None


class Afterwards(NamedTuple):
    """What became of an operation: when the database took it, and its latest replays, the latest first."""

    recorded_at: datetime
    replays: list[Replay]


class AuditService:
    """Reads the log. Each call first stores what waits in the spool, so that one sees what one just did."""

    def __init__(self, settings: Settings | None = None) -> None:
        """`settings` default to the environment's."""
        self.settings = settings or Settings.load()

    def recent_logs(
        self, limit: int | None = 10, tool_name: str | None = None, minutes: float | None = None
    ) -> list[dict[str, Any]]:
        """The newest operations first, as `recent_entries` finds them, in the form of `as_record`."""
        return [as_record(entry, self.settings.zone) for entry in self.recent_entries(limit, tool_name, minutes)]

    def get_audit_logs(
        self,
        start_date: str | date | datetime,
        end_date: str | date | datetime,
        tool_name: str | None = None,
        include_details: bool = False,
    ) -> list[dict[str, Any]]:
        """Operations that started on the days from `start_date` to `end_date`, both included, in AUDIT_TIMEZONE.

        With `include_details` the exact command, the working directory and the machine's context are there too.
        Raises InvalidInputError for dates that are none, DatabaseError where the database does not answer.
        """
        entries = self.entries_between(start_date, end_date, tool_name)
        return [as_record(entry, self.settings.zone, include_details=include_details) for entry in entries]

    def recent_entries(
        self, limit: int | None = 10, tool_name: str | None = None, minutes: float | None = None
    ) -> list[LogEntry]:
        """The newest `limit` operations (all where None), newest first, of one tool or the last `minutes` if given.

        Raises InvalidInputError for a limit or minutes below one, DatabaseError where the database does not answer.
        """
        from audit_dagster.store.query import fetch_entries

        if limit is not None:
            _check_limit(limit)
        if minutes is not None and not 0 < minutes < _MOST_MINUTES:
            raise InvalidInputError(f"minutes is {minutes}: give a number above 0 and below {_MOST_MINUTES}")
        since = None if minutes is None else datetime.now(UTC) - timedelta(minutes=minutes)
        with self.database() as connection:
            return fetch_entries(connection, "recent_logs", limit=limit, tool_name=tool_name, since=since)

    def entries_between(
        self, start_date: str | date | datetime, end_date: str | date | datetime, tool_name: str | None = None
    ) -> list[LogEntry]:
        """The entries behind `get_audit_logs`, in the order of their start."""
        from audit_dagster.reports.windows import as_days, days_window
        from audit_dagster.store.query import fetch_entries

        window = days_window(*as_days(start_date, end_date), self.settings.zone)
        with self.database() as connection:
            return fetch_entries(connection, "entries_between", start=window.start, end=window.end, tool_name=tool_name)

    def entries_by_id(self, operation_ids: Iterable[str]) -> list[LogEntry]:
        """These operations, in the order of their start. Raises InvalidInputError that names one that is not there."""
        from uuid import UUID

        from audit_dagster.store.query import fetch_entries

        wanted = []
        for operation_id in operation_ids:
            try:
                wanted.append(UUID(operation_id))
            except ValueError:
                raise InvalidInputError(f"{operation_id!r} is no operation id, which is a UUID") from None
        with self.database() as connection:
            found = fetch_entries(connection, "entries_by_id", operation_ids=wanted)
        missing = {str(one) for one in wanted} - {entry.operation_id for entry in found}
        if missing:
            raise InvalidInputError(f"there is no operation {min(missing)}")
        return found

    def find_operation(self, prefix: str) -> LogEntry:
        """The one operation whose id begins with these hexadecimal digits, at least four; dashes do not count.

        Raises InvalidInputError where there is none, or where there are several: it then names some of them.
        """
        from audit_dagster.store.query import fetch_entries

        digits = prefix.replace("-", "").lower()
        if not _ID_DIGITS.fullmatch(digits):
            raise InvalidInputError(f"{prefix!r} is no operation id: give its first hexadecimal digits, at least four")
        ends = {"first": digits.ljust(32, "0"), "last": digits.ljust(32, "f")}
        with self.database() as connection:
            found = fetch_entries(connection, "operations_by_prefix", **ends, limit=_MOST_NAMED + 1)
        if not found:
            raise InvalidInputError(f"there is no operation {prefix}: see `audit-dagster search`")
        if len(found) > 1:
            named = [f"{one.operation_id} ({one.tool_name} {one.operation})" for one in found[:_MOST_NAMED]]
            named += ["and more"] if len(found) > _MOST_NAMED else []
            raise InvalidInputError(f"several operations begin with {prefix}: {', '.join(named)}")
        return found[0]

    def afterwards(self, operation_id: str) -> Afterwards:
        """When the database took an operation that is there, and what came out each time that it was run again."""
        from audit_dagster.store.query import fetch

        with self.database() as connection:
            (stored,) = fetch(connection, "when_recorded", operation_id=operation_id)
            replays = fetch(connection, "replays_of", operation_id=operation_id, limit=_MOST_REPLAYS)
        named = [Replay(**{**row, "operation_id": str(row["operation_id"])}) for row in replays]
        return Afterwards(stored["recorded_at"], named)

    def search(self, text: str, limit: int = 20, tool_name: str | None = None) -> list[LogEntry]:
        """The newest operations with `text` in tool, operation, user, note, error, parameters or results, in any case.

        Raises InvalidInputError for a limit below one or an empty text.
        """
        from audit_dagster.store.query import fetch_entries

        if not text:
            raise InvalidInputError("give a text to search for")
        _check_limit(limit)
        asked = {"text": text, "text_in_json": json.dumps(text, ensure_ascii=False)[1:-1]}
        with self.database() as connection:
            return fetch_entries(connection, "search", **asked, limit=limit, tool_name=tool_name)

    @contextmanager
    def database(self) -> Iterator[Connection[Any]]:
        """A connection, after the spool was stored. Who may only read, reads on; one line on stderr says what waits."""
        from audit_dagster.store.connect import connect

        with connect(self.settings) as connection:
            try:
                self._drain()
            except (AuditError, OSError) as error:
                print(f"audit-dagster: the spool stays as it is: {error}", file=sys.stderr)  # noqa: T201
            yield connection

    def _drain(self) -> None:
        if waiting(self.settings.spool_dir):
            from audit_dagster.store.drain import drain

            drain(self.settings)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= _LARGEST_LIMIT:
        raise InvalidInputError(f"the limit is {limit}: give a number from 1 to {_LARGEST_LIMIT}")


def as_record(entry: LogEntry, zone: ZoneInfo, *, include_details: bool = False) -> dict[str, Any]:
    """The documented log entry for Python: `timestamp` is a datetime in `zone`, and `status` says success or failed.

    An unknown duration is NaN and a missing note empty, so that a column of them keeps its type in a DataFrame.
    """
    record = entry.to_json()
    record["timestamp"] = entry.timestamp.astimezone(zone)
    record["status"] = "success" if entry.success else "failed"
    record["note"] = entry.note or ""
    if entry.duration_seconds is None:
        record["duration_seconds"] = math.nan
    if not include_details:
        for name in _DETAILS:
            del record[name]
    return record


def recent_logs(
    limit: int | None = 10, tool_name: str | None = None, minutes: float | None = None
) -> list[dict[str, Any]]:
    """The newest operations first; see `AuditService.recent_logs`. `limit=None` asks for all of them."""
    return AuditService().recent_logs(limit, tool_name, minutes)


def set_global_logging(enabled: bool) -> None:
    """Switch logging on or off for this and every later process of the user.

    POSTGRES_LOGGING_STATUS, where it is set, overrides the switch. Raises AuditError where the file cannot be written.
    """
    write_switch(Settings.load(), enabled=enabled)


def get_logging_status() -> dict[str, Any]:
    """Whether operations are logged, what waits for the database, what was lost, and whether the database answers.

    `problems` says in words what keeps operations from being recorded; what cannot be told then is None, and `enabled`
    is False. Takes about three seconds where the database does not answer. Times are in UTC.
    """
    from audit_dagster.recording import losses

    problems: list[str] = []
    settings, switch = None, Switch(False, "environment")
    try:
        settings = Settings.for_recording()
        problems += [settings.problem] if settings.problem else []
        switch = Switch(False, "settings file")
        switch = read_switch(settings)
    except (AuditError, RuntimeError) as error:  # the latter where there is no home folder
        problems.append(str(error))
    lost = losses.total(settings)
    return {
        "enabled": switch.enabled,
        "decided_by": switch.decided_by,
        "decided_where": decided_where(settings, switch) if settings else None,
        **_spool_status(settings, problems),
        "lost": lost.count,
        "last_lost": lost.last,
        **_database_status(settings if settings and not settings.problem else None),
        "problems": problems,
    }


def decided_where(settings: Settings, switch: Switch) -> str | None:
    """The variable or file that decides the switch; None where nothing does and the default holds."""
    if switch.decided_by == "default":
        return None
    if switch.decided_by == "settings file":
        return str(settings.config_file)
    if _SWITCH_VARIABLE in os.environ:
        return f"{_SWITCH_VARIABLE} in the environment"
    return f"{_SWITCH_VARIABLE} in {nearest_env_file()}"


def _spool_status(settings: Settings | None, problems: list[str]) -> dict[str, Any]:
    from audit_dagster.store.drain import QUARANTINE

    status: dict[str, Any] = dict.fromkeys(_SPOOL_STATUS)
    if settings is None:
        return status
    spool_dir = settings.spool_dir
    status["spool_dir"] = str(spool_dir)
    try:
        files, refused = waiting(spool_dir), waiting(spool_dir / QUARANTINE)
        running = sum(is_locked(path) and os.access(path, os.R_OK | os.W_OK) for path in files)
        status |= {"waiting": len(files), "running": running, "quarantined": len(refused)}
        newest = refused[-_MOST_REASONS:]
        status["quarantine_reasons"] = [{"name": path.name, "reason": _reason(path)} for path in newest]
        with contextlib.suppress(FileNotFoundError):
            changed = (spool_dir / DELIVERED_NAME).stat().st_mtime
            status["last_delivered"] = datetime.fromtimestamp(changed, UTC)
        _check_writable(spool_dir)
    except OSError as error:
        problems.append(f"the spool {spool_dir} cannot be used: {error}")
    return status


def _check_writable(folder: Path) -> None:
    """Raises OSError unless files can be made in the folder, or the folder itself can be made."""
    nearest = next(one for one in (folder, *folder.parents) if one.exists() or one.is_symlink())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{nearest} may not be written")


def _reason(refused: Path) -> str:
    try:
        return refused.with_suffix(".reason").read_text("utf-8", "replace").strip()
    except OSError as error:
        return f"unknown: {error.strerror}"


def _database_status(settings: Settings | None) -> dict[str, Any]:
    if settings is None:
        return dict.fromkeys(("database", "database_answers", "database_problem"))
    from audit_dagster.store.probe import probe

    found = probe(settings)
    return {"database": found.place, "database_answers": found.answers, "database_problem": found.problem}
