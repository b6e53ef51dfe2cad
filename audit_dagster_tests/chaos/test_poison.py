"""Entries that cannot be stored: each is put aside with its reason, and its neighbours are stored."""

from __future__ import annotations

import json
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from audit_dagster.audit_service import get_logging_status
from audit_dagster.recording.spool import PATCHES, keep_patch, waiting
from audit_dagster.settings import Settings
from audit_dagster.store.drain import DIED, QUARANTINE
from audit_dagster_tests.chaos.world import CLI, SCALE, Connection, count, record, sync

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("without_drainer")]

ENTRIES = 3000 * SCALE
_NEIGHBOURS = 4


def test_one_poison_entry_among_thousands(settings: Settings, connection: Connection) -> None:
    for number in range(ENTRIES):
        record(f"operation {number}")
    poison = waiting(settings.spool_dir)[ENTRIES // 2]
    _with_a_nul(poison)
    assert sync() == f"{ENTRIES - 1} stored, 0 already there, 1 in quarantine\n"
    assert count(connection) == ENTRIES - 1
    reason = "refused: unsupported Unicode escape sequence"
    assert _reasons(settings) == {poison.stem: reason}
    status = get_logging_status()
    assert (status["waiting"], status["quarantined"]) == (0, 1)
    assert status["quarantine_reasons"] == [{"name": poison.name, "reason": reason}]
    shown = subprocess.run([*CLI, "postgres-logging-status"], check=True, capture_output=True, text=True).stdout
    assert f"{poison.name}: {reason}" in shown
    assert sync() == "0 stored, 0 already there, 0 in quarantine\n"


def _with_a_nul(path: Path) -> None:
    """JSON that reads well, with a checksum that fits, and that PostgreSQL refuses."""
    _rewrite(path, "results", {"value": "\0"})


def _with_a_negative_duration(path: Path) -> None:
    _rewrite(path, "duration_seconds", -1)


def _with_a_text_for_a_duration(path: Path) -> None:
    _rewrite(path, "duration_seconds", "long")


def _rewrite(path: Path, name: str, value: object) -> None:
    begin, end = path.read_bytes().splitlines(keepends=True)
    text = json.dumps({**json.loads(end.split(b" ", 2)[2]), name: value}).encode()
    path.write_bytes(begin + b"%08x %d %s\n" % (zlib.crc32(text), len(text), text))


def _with_a_wrong_checksum(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes((b"1" if content[:1] == b"0" else b"0") + content[1:])


def _with_a_hole(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + content[200:])


def _cut_in_its_beginning(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_with_a_negative_duration, "refused: new row for relation"),
        (_with_a_text_for_a_duration, "the field 'duration_seconds' of a log entry has the wrong type"),
        (_with_a_wrong_checksum, "a line's checksum does not fit"),
        (_with_a_hole, "a line's checksum does not fit"),
        (_cut_in_its_beginning, "the file has no begin line"),
        (_emptied, "the file has no begin line"),
    ],
)
def test_other_poison(settings: Settings, connection: Connection, spoil: Callable[[Path], None], reason: str) -> None:
    for number in range(_NEIGHBOURS + 1):
        record(f"operation {number}")
    poison = waiting(settings.spool_dir)[_NEIGHBOURS // 2]
    spoil(poison)
    content = poison.read_bytes()
    assert sync() == f"{_NEIGHBOURS} stored, 0 already there, 1 in quarantine\n"
    (found,) = _reasons(settings).items()
    assert found[0] == poison.stem
    assert found[1].startswith(reason)
    assert (settings.spool_dir / QUARANTINE / poison.name).read_bytes() == content


def test_one_whose_end_is_torn_is_a_failed_operation(settings: Settings, connection: Connection) -> None:
    """So dies a process whose machine lost its power while it wrote."""
    record("whole")
    record("torn")
    torn = waiting(settings.spool_dir)[1]
    torn.write_bytes(torn.read_bytes()[:-10])
    assert sync() == "2 stored, 0 already there, 0 in quarantine\n"
    rows = dict(connection.execute("SELECT operation, error_message FROM audit_logs").fetchall())
    assert rows == {"whole": None, "torn": DIED}


def test_a_damaged_patch_holds_up_nothing(settings: Settings, connection: Connection) -> None:
    for name in ("first", "second"):
        digest = keep_patch(settings.spool_dir, name.encode())
        (settings.spool_dir / PATCHES / digest).write_bytes(b"damaged")
        record(name)
        assert sync() == "1 stored, 0 already there, 1 in quarantine\n"
    assert count(connection) == 2


def _reasons(settings: Settings) -> dict[str, str]:
    return {path.stem: path.read_text().strip() for path in (settings.spool_dir / QUARANTINE).glob("*.reason")}
