"""A server of a test's own, for who means to kill or freeze it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_dagster.settings import Settings
from audit_dagster.store import embedded
from audit_dagster.store.connect import connect
from audit_dagster_tests.chaos.world import end_drainers


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings, in the environment too, of an embedded server that runs and that nobody else uses."""
    # Not pytest's own folder, which is 0700: as root the server runs as nobody, and has to reach its data.
    with tempfile.TemporaryDirectory(prefix="audit-chaos-") as folder:
        Path(folder).chmod(0o755)
        for name in [name for name in os.environ if name.startswith(("POSTGRES_", "AUDIT_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AUDIT_STATE_DIR", f"{folder}/state")
        monkeypatch.chdir(folder)
        settings = Settings.load()
        connect(settings).close()
        yield settings
        end_drainers(settings)
        embedded.stop(settings.state_dir)


@pytest.fixture(autouse=True)
def _no_drainer_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    settings = request.getfixturevalue("settings") if "settings" in request.fixturenames else None
    yield
    if settings:
        end_drainers(settings)
