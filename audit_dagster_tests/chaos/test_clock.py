"""The clock is set back: no duration follows it, and nothing waits until it has caught up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.recording.drainer import BACKOFF_NAME
from audit_dagster.recording.spool import waiting
from audit_dagster.settings import Settings
from audit_dagster_tests.chaos.world import Connection, record, wait_until

pytestmark = pytest.mark.chaos

SET_BACK_SECONDS = 3600
WORK_SECONDS = 0.3
_YEAR_SECONDS = 365 * 86400
_TOOL = Path(__file__).with_name("set_back.py")


def test_in_the_middle_of_an_operation(settings: Settings, connection: Connection, tmp_path: Path) -> None:
    tool = shutil.copy(_TOOL, tmp_path)  # out of this repository, which each operation would ask git about
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, tool, str(SET_BACK_SECONDS), str(WORK_SECONDS)], check=True, capture_output=True
    )
    most = time.monotonic() - begin
    assert (done.stdout, done.stderr) == (b"", b"")
    durations = {entry.operation: entry.duration_seconds or -1 for entry in AuditService().recent_entries()}
    assert durations.keys() == {"around", "in the middle", "afterwards"}
    assert WORK_SECONDS <= durations["afterwards"] < durations["around"] - 2 * WORK_SECONDS
    assert 2 * WORK_SECONDS <= durations["in the middle"] < durations["around"] - WORK_SECONDS
    assert durations["around"] < most


def test_after_a_drainer_failed_when_it_was_a_year_ahead(settings: Settings, connection: Connection) -> None:
    settings.spool_dir.mkdir(parents=True)
    failed = {"failures": 1, "not_before": time.time() + _YEAR_SECONDS}
    (settings.spool_dir / BACKOFF_NAME).write_text(json.dumps(failed))
    record("one")
    wait_until(lambda: not waiting(settings.spool_dir))
    assert [entry.operation for entry in AuditService().recent_entries()] == ["one"]
