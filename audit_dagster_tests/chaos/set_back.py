"""A tool in whose middle the clock is set back: `python set_back.py SECONDS WORK_SECONDS`."""

import datetime
import sys
import time

from audit_dagster import log_custom_operation

seconds, work_seconds = float(sys.argv[1]), float(sys.argv[2])


def set_back() -> None:
    """Every clock of this process but the monotonic one, wherever it was imported to."""
    real, now, now_ns = datetime.datetime, time.time, time.time_ns

    class SetBack(real):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real.now(tz) - datetime.timedelta(seconds=seconds)

    time.time, time.time_ns = lambda: now() - seconds, lambda: now_ns() - int(seconds * 1e9)
    for module in list(sys.modules.values()):
        if getattr(module, "datetime", None) is real:
            module.datetime = SetBack
    datetime.datetime = SetBack


begin = time.time()
with log_custom_operation("chaos", "around"):
    with log_custom_operation("chaos", "in the middle"):
        time.sleep(work_seconds)
        set_back()
        time.sleep(work_seconds)
    with log_custom_operation("chaos", "afterwards"):
        time.sleep(work_seconds)
if not (time.time() < begin and datetime.datetime.now(datetime.UTC).timestamp() < begin):
    sys.exit("the clock was not set back")
