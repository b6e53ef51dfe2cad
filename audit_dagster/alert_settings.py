"""Where alerts go and by which rules: AUDIT_ALERT_URLS, AUDIT_ALERTS_FILE, and the folder that always gets them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from audit_dagster.alerts.config import AlertConfig, parse_config
from audit_dagster.alerts.message import Links, Message
from audit_dagster.alerts.policy import FILE_TARGET
from audit_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from audit_dagster.settings import Settings

_TEST_TIMEOUT_SECONDS = 10


def alert_config(settings: Settings) -> AlertConfig:
    """The rules and the targets. Raises ConfigurationError that names the file and the line."""
    default = default_config(settings)
    name = settings.given.get("AUDIT_ALERTS_FILE")
    if not name:
        return default
    try:
        text = Path(name).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"cannot read {name} ({reason}): correct AUDIT_ALERTS_FILE") from None
    return parse_config(text, Path(name).name, default.targets, {**os.environ, **settings.given})


def default_config(settings: Settings) -> AlertConfig:
    """What holds without AUDIT_ALERTS_FILE: the default rules, AUDIT_ALERT_URLS and the folder."""
    return AlertConfig(targets={**_targets(settings), FILE_TARGET: (settings.reports_dir / "alerts").as_uri()})


def links(settings: Settings) -> Links:
    """Where a message's reader finds the reports and Dagster."""
    reports = settings.given.get("AUDIT_REPORTS_URL") or str(settings.reports_dir)
    return Links(reports=reports, dagster=settings.given.get("AUDIT_DAGSTER_URL"))


def heartbeat_url(settings: Settings) -> str | None:
    """What is called once a day to say that alerts work."""
    return settings.given.get("AUDIT_HEARTBEAT_URL")


def _targets(settings: Settings) -> dict[str, str]:
    """By a label without credentials, which keeps its queue when a password changes; the second of a kind has #2."""
    from audit_dagster.alerts.delivery import target_name

    targets: dict[str, str] = {}
    for address in settings.given.get("AUDIT_ALERT_URLS", "").split():
        label = name = target_name(address)
        number = 1
        while name in targets or name == FILE_TARGET:
            number += 1
            name = f"{label} #{number}"
        targets[name] = address
    return targets


def send_test_message(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Send a message to each target now; its name, and what went wrong or None."""
    from audit_dagster.alerts.delivery import DeliveryError, deliver

    moment = datetime.now(UTC)
    text = "This is a test of the alerts of `audit-dagster`. Nothing failed.\n"
    message = Message(f"test-{moment:%Y-%m-%dT%H%M%S.%fZ}", "audit-dagster: a test message", text)
    for name, address in alert_config(settings).targets.items():
        try:
            deliver(message, address, 1, _TEST_TIMEOUT_SECONDS)
        except DeliveryError as error:
            yield name, str(error)
        else:
            yield name, None
