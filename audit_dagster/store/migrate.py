"""The schema: ordered `.sql` files, each applied once in a transaction of its own, safe when two start at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_dagster.errors import DatabaseError

if TYPE_CHECKING:
    from psycopg import Connection

_FOLDER = Path(__file__).parent / "migrations"
# Not to_regclass(): a session remembers what it did not find, and after waiting for the lock it would miss the table.
_EXISTS = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = 'audit_migrations')"
_OLDEST_SERVER = 140000
_LOCK = 7_201_406_231  # any number, the same in every process that migrates

_ROLES_REFUSED = (
    "the account {user} may not create the roles. As an administrator run: "
    "CREATE ROLE audit_owner NOLOGIN; CREATE ROLE audit_writer NOLOGIN; CREATE ROLE audit_reader NOLOGIN; "
    "GRANT audit_owner TO {user}; GRANT CREATE, USAGE ON SCHEMA public TO audit_owner; "
    "GRANT USAGE ON SCHEMA public TO audit_writer, audit_reader; then run `audit-dagster init-db` again"
)


def migrations() -> list[tuple[str, str]]:
    """(name, SQL) of every migration, in order."""
    return [(path.stem, path.read_text("utf-8")) for path in sorted(_FOLDER.glob("*.sql"))]


def migrate(connection: Connection[Any]) -> list[str]:
    """Bring the schema up to date; the names of the migrations that this call applied.

    Raises DatabaseError where the server is too old or the account may not create roles.
    """
    from psycopg import errors

    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        raise DatabaseError(f"PostgreSQL {version // 10000} is too old: version 14 or newer is needed")
    applied = []
    for name, sql in migrations():
        try:
            with connection.transaction():
                if _apply(connection, name, sql):
                    applied.append(name)
        except errors.InsufficientPrivilege as error:
            user = connection.info.user
            raise DatabaseError(f"{_ROLES_REFUSED.format(user=user)} ({str(error).splitlines()[0]})") from error
    return applied


def pending(connection: Connection[Any]) -> list[str]:
    """The migrations that this database still lacks."""
    (exists,) = connection.execute(_EXISTS).fetchone() or (False,)
    names = [name for name, _ in migrations()]
    if not exists:
        return names
    done = {row[0] for row in connection.execute("SELECT name FROM audit_migrations")}
    return [name for name in names if name not in done]


def _apply(connection: Connection[Any], name: str, sql: str) -> bool:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    if name not in pending(connection):
        return False
    connection.execute(
        "CREATE TABLE IF NOT EXISTS audit_migrations"
        " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    connection.execute(sql.encode())  # bytes: several statements, no parameters
    connection.execute("INSERT INTO audit_migrations (name) VALUES (%s)", [name])
    return True
