"""AUDIT_EXECUTOR: the same definitions, with steps here or on Celery workers."""

from __future__ import annotations

import sys

import pytest

from audit_dagster.defs.executor import chosen_executor
from audit_dagster.errors import ConfigurationError
from audit_dagster.settings import Settings


def test_steps_happen_in_the_run_unless_somebody_asks() -> None:
    assert chosen_executor(Settings.load({"HOME": "/tmp"})).name == "in_process"  # noqa: S108


def test_celery_with_a_broker() -> None:
    values = {"HOME": "/tmp", "AUDIT_EXECUTOR": "celery", "AUDIT_CELERY_URL": "redis://localhost/0"}  # noqa: S108
    assert chosen_executor(Settings.load(values)).name == "celery"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"HOME": "/tmp", "AUDIT_EXECUTOR": "celery"}  # noqa: S108
    with pytest.raises(ConfigurationError, match="set AUDIT_CELERY_URL to a broker"):
        chosen_executor(Settings.load(values))
    monkeypatch.setitem(sys.modules, "dagster_celery", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'audit-dagster\[celery\]'"):
        chosen_executor(Settings.load({**values, "AUDIT_CELERY_URL": "redis://localhost/0"}))


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AUDIT_EXECUTOR is 'ray': set it to in_process or celery"):
        Settings.load({"HOME": "/tmp", "AUDIT_EXECUTOR": "ray"})  # noqa: S108
