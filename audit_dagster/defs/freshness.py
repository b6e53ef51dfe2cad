"""By when a document has to be there: half a day after its schedule. Dagster's daemon looks, and shows it in the UI.

Nobody is told of that, so the check `documents_are_made` looks too, with each observation of the log.
"""

from datetime import datetime, time, timedelta

import dagster as dg
from dagster._core.definitions.freshness import CronFreshnessPolicy
from dagster._utils.schedules import get_latest_completed_cron_tick

from audit_dagster.settings import Settings

_HOURS_LATER = 12
# Since before the schedule's time, also on a day with an hour more.
_WINDOW = timedelta(hours=_HOURS_LATER + 2)
_settings = Settings.load()


def _policy(scheduled: time, weekly: bool) -> CronFreshnessPolicy:
    days, hour = divmod(scheduled.hour + _HOURS_LATER, 24)
    weekday = 1 + days if weekly else "*"
    return dg.FreshnessPolicy.cron(f"{scheduled.minute} {hour} * * {weekday}", _WINDOW, _settings.timezone)


def last_due(policy: CronFreshnessPolicy, now: datetime) -> datetime:
    """The newest time of the schedule whose deadline is over."""
    deadline = get_latest_completed_cron_tick(policy.deadline_cron, now, policy.timezone)
    return deadline.astimezone(_settings.zone) - timedelta(hours=_HOURS_LATER)  # by the clock on the wall


made_daily = _policy(_settings.daily_at, weekly=False)
made_weekly = _policy(_settings.weekly_at, weekly=True)
