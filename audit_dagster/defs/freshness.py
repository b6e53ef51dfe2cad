"""By when a document has to be there: half a day after its schedule. Dagster's daemon looks, and shows it in the UI."""

from datetime import time, timedelta

import dagster as dg

from audit_dagster.settings import Settings

_HOURS_LATER = 12
# Since before the schedule's time, also on a day with an hour more.
_WINDOW = timedelta(hours=_HOURS_LATER + 2)
_settings = Settings.load()


def _policy(scheduled: time, weekly: bool) -> dg.FreshnessPolicy:
    days, hour = divmod(scheduled.hour + _HOURS_LATER, 24)
    weekday = 1 + days if weekly else "*"
    return dg.FreshnessPolicy.cron(f"{scheduled.minute} {hour} * * {weekday}", _WINDOW, _settings.timezone)


made_daily = _policy(_settings.daily_at, weekly=False)
made_weekly = _policy(_settings.weekly_at, weekly=True)
