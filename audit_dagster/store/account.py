"""Who the embedded PostgreSQL runs as: this user, or `nobody` where root asks, because PostgreSQL refuses root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from audit_dagster.errors import DatabaseError

# Folders that `nobody` can reach where root's own cannot be: binaries and data under a 0700 home.
SHARED = Path("/var/lib/audit-dagster")
_KEPT_VARIABLES = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group PostgreSQL is switched to."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """The account to switch to; None where this user can run PostgreSQL."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        message = "PostgreSQL refuses to run as root and there is no user `nobody`: run as an ordinary user"
        raise DatabaseError(message) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def environment(**extra: str) -> dict[str, str]:
    """What child processes see: no PG* variable, and none of root's secrets, which other processes of `nobody` could
    read in /proc."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C.UTF-8", **extra}


def run(
    command: list[str | Path],
    account: Account | None,
    *,
    output: int | IO[bytes] = subprocess.DEVNULL,
    text: bytes | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run as `account`, in a session of its own so that Ctrl-C does not reach the server. `text` goes to its stdin."""
    return subprocess.run(
        command,
        check=False,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=environment(**variables),
        start_new_session=True,
        umask=0o077,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def can_enter(account: Account | None, folder: Path) -> bool:
    """Asked of the system, which knows of ACLs and mount options, by trying."""
    return account is None or run(["/bin/sh", "-c", 'test -x "$1"', "sh", folder], account).returncode == 0


def make_folder(folder: Path) -> None:
    """Create it closed to others; where root creates it, `nobody` may pass through but not list it. Existing ones stay
    as they are."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
