from __future__ import annotations

import pytest

from audit_dagster.recording import recorder


@pytest.fixture
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has not told of a failure of recording yet, which it does once."""
    monkeypatch.setattr(recorder, "_warned", False)
