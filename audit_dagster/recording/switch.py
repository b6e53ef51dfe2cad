"""Whether operations are logged: POSTGRES_LOGGING_STATUS decides, else the user's settings file, else yes."""

from __future__ import annotations

import json
from typing import NamedTuple

from audit_dagster.errors import AuditError, ConfigurationError
from audit_dagster.settings import Settings


class Switch(NamedTuple):
    """The switch's state, and which of `environment`, `settings file` and `default` decides it."""

    enabled: bool
    decided_by: str


def read_switch(settings: Settings) -> Switch:
    """Read the switch. Raises ConfigurationError where the settings file is broken."""
    if settings.logging_override is not None:
        return Switch(settings.logging_override, "environment")
    try:
        text = settings.config_file.read_text("utf-8")
    except FileNotFoundError:
        return Switch(True, "default")
    except OSError as error:
        raise AuditError(f"cannot read {settings.config_file}: {error.strerror}") from error
    try:
        enabled = json.loads(text)["logging_enabled"]
    except (ValueError, KeyError, TypeError):
        enabled = None
    if not isinstance(enabled, bool):
        raise ConfigurationError(f"{settings.config_file} is broken: delete it, or enable or disable logging again")
    return Switch(enabled, "settings file")


def write_switch(settings: Settings, *, enabled: bool) -> None:
    """Keep the switch for this and every later process of the user. Raises AuditError."""
    try:
        settings.config_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = settings.config_file.with_suffix(".tmp")
        draft.write_text(json.dumps({"logging_enabled": enabled}) + "\n", "utf-8")
        draft.replace(settings.config_file)
    except OSError as error:
        raise AuditError(f"cannot write {settings.config_file}: {error.strerror}") from error
