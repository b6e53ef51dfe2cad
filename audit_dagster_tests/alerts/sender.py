"""A process that sends alerts: `once STEP` kills itself at a step, `until FILE` goes on until the file is there."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from audit_dagster import alert_fold, alert_send, alert_service, alert_tell
from audit_dagster.settings import Settings
from audit_dagster.store.connect import connect

# What is called last before death, and whether it is done by then.
STEPS = {
    "before-the-count-is-committed": ("mark_alerts_counted", True),
    "after-the-count-is-committed": ("incidents_to_tell", False),
    "before-messages-are-committed": ("note_telling", True),
    "after-messages-are-committed": ("claim_target", False),
    "before-the-claim-is-committed": ("next_message", True),
    "before-sending": ("deliver", False),
    "between-sending-and-marking": ("deliver", True),
    "after-marking": ("mark_message_sent", True),
}


def die_at(step: str) -> None:
    """Replace what the step calls by something that kills this process there."""
    last, done = STEPS[step]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def deadly(function: Any, name: str | None = None) -> Any:
        def called(*words: Any, **named: Any) -> Any:
            # Of what is delivered, what the webhook gets: the file is written beside it.
            if (name or words[1]) != last or (name and not words[1].startswith("webhook")):
                return function(*words, **named)
            if done:
                function(*words, **named)
            die()
            return None

        return called

    for module in (alert_fold, alert_tell, alert_send, alert_service):
        module.fetch = deadly(module.fetch)  # type: ignore[attr-defined]
    alert_send.deliver = deadly(alert_send.deliver, "deliver")  # type: ignore[attr-defined]


def main() -> None:
    mode, what = sys.argv[1:]
    settings = Settings.load()
    with connect(settings) as connection:
        if mode == "once":
            die_at(what)
            alert_service.send_alerts(connection, settings)
            return
        while not Path(what).exists():
            alert_service.send_alerts(connection, settings)
            time.sleep(0.001)


if __name__ == "__main__":
    main()
