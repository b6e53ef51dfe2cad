"""Runs the named `.sql` files in `queries/`: one query each, bound values only."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_dagster.entry import LogEntry
from audit_dagster.errors import DatabaseAwayError, DatabaseError

if TYPE_CHECKING:
    from psycopg import Connection

_ROWS_AT_ONCE = 500
_FIELDS = tuple(field.name for field in fields(LogEntry))
_FOLDER = Path(__file__).parent / "queries"
Row = dict[str, Any]


@cache
def sql(name: str) -> bytes:
    """The text of `queries/<name>.sql`."""
    return (_FOLDER / f"{name}.sql").read_bytes()


def fetch(connection: Connection[Any], name: str, **parameters: Any) -> list[Row]:
    """All rows of a named query, as mappings. Raises DatabaseError in one sentence."""
    from psycopg.rows import dict_row

    with _answered(connection, name), connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql(name), parameters).fetchall()


def fetch_entries(connection: Connection[Any], name: str, **parameters: Any) -> list[LogEntry]:
    """The rows of a query over `audit_logs` as entries."""
    with _answered(connection, name), connection.cursor(row_factory=entry_row) as cursor:
        return list(_entries(cursor, name, parameters))


def stream_entries(connection: Connection[Any], name: str, **parameters: Any) -> Generator[LogEntry, None, None]:
    """As `fetch_entries`, with only some hundred rows in memory. Only within `snapshot`."""
    with _answered(connection, name), connection.cursor(name, row_factory=entry_row) as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        yield from _entries(cursor, name, parameters)


def _entries(cursor: Any, name: str, parameters: Mapping[str, Any]) -> Iterable[LogEntry]:
    from psycopg.types.string import TextLoader

    cursor.adapters.register_loader("uuid", TextLoader)
    answer: Iterable[LogEntry] = cursor.execute(sql(name), parameters)
    return answer


def entry_row(cursor: Any) -> Callable[[Sequence[Any]], LogEntry]:
    """A row factory of psycopg: a row of `audit_logs` as the entry that was appended, its uuid loaded as a text."""
    columns = [column.name for column in cursor.description or ()]
    values = itemgetter(*(columns.index(name) for name in _FIELDS)) if columns else tuple
    return lambda row: LogEntry(**dict(zip(_FIELDS, values(row), strict=True)))


@contextmanager
def snapshot(connection: Connection[Any]) -> Iterator[None]:
    """All queries of the block see the same rows, whatever is stored meanwhile. Raises DatabaseError."""
    with contextlib.ExitStack() as stack:
        with _answered(connection, "snapshot"):
            stack.enter_context(connection.transaction())
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
        with _answered(connection, "snapshot"):
            stack.close()


@contextmanager
def _answered(connection: Connection[Any], name: str) -> Iterator[None]:
    import psycopg

    try:
        yield
    except (psycopg.Error, UnicodeError) as error:
        if connection.closed:
            raise DatabaseAwayError(f"the database went away during '{name}': {_first_line(error)}") from error
        raise _told(error, f"the database could not answer '{name}'") from error


def append(connection: Connection[Any], entries: Sequence[LogEntry]) -> list[str]:
    """Store entries; for each, in their order: `stored`, `duplicate`, `conflict` or `refused: REASON`.

    All in one statement; where PostgreSQL refuses one, each by itself, so that one bad entry never holds up the others.
    Raises DatabaseError where the database cannot take any.
    """
    import psycopg
    from psycopg.errors import ProgramLimitExceeded, StatementTooComplex

    try:
        return _append_at_once(connection, entries) if entries else []
    except (psycopg.DataError, psycopg.IntegrityError, ProgramLimitExceeded, StatementTooComplex) as error:
        if len(entries) == 1:
            return [f"refused: {_first_line(error)}"]
    except psycopg.Error as error:
        raise _told(error, "the database did not take the entries") from error
    return [append(connection, [entry])[0] for entry in entries]


def keep_patch(connection: Connection[Any], patch: bytes) -> str:
    """Store a patch once; the SHA-256 under which it is found. Raises DatabaseError."""
    import psycopg

    try:
        ((digest,),) = connection.execute(sql("keep_patch"), {"patch": patch}).fetchall()
    except psycopg.Error as error:
        raise _told(error, "the database did not take a patch") from error
    return str(digest)


def fetch_patches(connection: Connection[Any], names: Sequence[str]) -> dict[str, bytes]:
    """The stored patches among these, by their SHA-256. Raises DatabaseError."""
    rows = fetch(connection, "patches", names=list(names)) if names else []
    return {row["sha256"]: bytes(row["patch"]) for row in rows}


def _append_at_once(connection: Connection[Any], entries: Sequence[LogEntry]) -> list[str]:
    forms = [json.dumps(entry.to_json(), allow_nan=False) for entry in entries]
    return [row[0] for row in connection.execute(sql("append_entries"), {"entries": forms})]


def _told(error: Exception, what: str) -> DatabaseError:
    from psycopg import errors

    if isinstance(error, (errors.UndefinedTable, errors.UndefinedFunction, errors.UndefinedColumn)):
        return DatabaseError(f"{what}: its schema is missing or old: run `audit-dagster init-db`")
    return DatabaseError(f"{what}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
