"""A web server that gets the messages, as the only target."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from audit_dagster.settings import Settings
from audit_dagster_tests.alerts.world import KEY_VARIABLE, Receiver, receiving


@pytest.fixture
def receiver(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as made:
        monkeypatch.setenv("AUDIT_ALERT_URLS", made.url)
        monkeypatch.setenv(KEY_VARIABLE, "key")
        yield made
