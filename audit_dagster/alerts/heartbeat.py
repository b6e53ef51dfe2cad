"""The daily sign of life: a URL that is called, so that somebody else notices when it is not."""

from __future__ import annotations

from audit_dagster.alerts.web import request


def beat(url: str, timeout: float = 5) -> None:
    """Call `url` once. Raises DeliveryError unless it answers 2xx within `timeout` seconds."""
    request("GET", url, None, {}, timeout)
