"""Who is told what, and when: pure decisions over the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from audit_dagster.alerts.config import AlertConfig, SlowRule, ToolRule

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

FIRST_SEEN, STILL_FAILING, RESOLVED = "first seen", "still failing", "resolved"
SLOW, SILENT = "unusually slow", "silent"
RUN_FAILED, CHECK_FAILED = "run failed", "check failed"
FILE_TARGET = "file"

_FRIDAY = 4
_FIRST_RETRY, _LONGEST_RETRY = timedelta(minutes=1), timedelta(hours=1)
_MUTED_AGAIN = timedelta(hours=1)
_STEPS_ASIDE_AFTER, _STEPS_ASIDE_FOR = 20, timedelta(days=1)


class Slow(NamedTuple):
    """A success, and the durations in seconds of the successes before it."""

    seconds: float
    before: Sequence[float]


def message_kind(kind: str, told: int, *, is_run: bool = False) -> str:
    """What a message about an incident is called; `told` is how many messages there were about it."""
    if kind == "failing":
        return STILL_FAILING if told else RUN_FAILED if is_run else FIRST_SEEN
    return SLOW if kind == "slow" else SILENT


def next_telling(config: AlertConfig, told: int, now: datetime) -> datetime:
    """When an incident of which `told` messages told may be told of again."""
    steps = config.still_failing
    return now + steps[min(told, len(steps)) - 1]


def is_urgent(config: AlertConfig, tool_name: str) -> bool:
    """Whether the first failure of this tool is told at any hour and at once."""
    return _matches(config.urgent, tool_name)


def targets_of(config: AlertConfig, tool_name: str) -> Sequence[str]:
    """The targets of the first route whose pattern fits the tool; all of them where none does."""
    for route in config.routes:
        if _matches(route.tools, tool_name):
            return route.targets
    return tuple(config.targets)


def rule_of(config: AlertConfig, tool_name: str) -> ToolRule:
    """The thresholds of the first entry of `tools` whose pattern fits; those of the file where none does."""
    for rule in config.tools:
        if _matches(rule.tools, tool_name):
            return rule
    return ToolRule((), config.window, config.slow, config.silent_days)


def shortest_window(config: AlertConfig) -> timedelta:
    """Of all tools: what was counted after that is over for none."""
    return min([config.window, *(rule.window for rule in config.tools)])


def longest_silence(config: AlertConfig) -> int | None:
    """How many days decide at most; None where silence is looked for in no tool."""
    days = [config.silent_days, *(rule.silent_days for rule in config.tools)]
    return max((each for each in days if each), default=None)


def muted_until(
    config: AlertConfig, mutes: Mapping[str, datetime], tool_name: str, fingerprint: str, now: datetime
) -> datetime | None:
    """When to look again at a muted incident, at the latest in an hour; None if it is not muted."""
    ends = [end for what, end in mutes.items() if end > now and _is_meant(what, tool_name, fingerprint)]
    if ends:
        return min(max(ends), now + _MUTED_AGAIN)
    return now + _MUTED_AGAIN if _matches(config.mute, tool_name) else None


def quiet_until(config: AlertConfig, now: datetime, zone: ZoneInfo) -> datetime:
    """The end of the quiet hours that hold at `now`; `now` itself outside of them."""
    if config.quiet_hours is None:
        return now
    start, end = config.quiet_hours
    local = now.astimezone(zone)
    clock = local.time().replace(tzinfo=None)
    inside = start <= clock < end if start < end else clock >= start or clock < end
    if not inside:
        return now
    day = local.date() if clock < end else local.date() + timedelta(days=1)
    return max(now, datetime.combine(day, end, zone).astimezone(now.tzinfo))


def retry_after(failed_in_a_row: int) -> timedelta:
    """How long a target rests after so many failures in a row: a minute, doubled up to an hour."""
    return min(_LONGEST_RETRY, _FIRST_RETRY * (1 << min(failed_in_a_row - 1, 10)))


def steps_aside(attempts: int) -> timedelta | None:
    """How long a message lets those behind it pass: a day, after each twentieth attempt. It may be what is wrong."""
    return None if attempts % _STEPS_ASIDE_AFTER else _STEPS_ASIDE_FOR


def is_slow(rule: SlowRule | None, run: Slow) -> float | None:
    """The 95th percentile in seconds that `run` is far above; None if it is not, or too few went before.

    One run in twenty is above it by nature, hence the factor and the seconds on top.
    """
    if rule is None or len(run.before) < rule.runs:
        return None
    usual = percentile_95(run.before[: rule.runs])
    return usual if run.seconds > max(usual * rule.factor, usual + rule.min_seconds) else None


def percentile_95(values: Sequence[float]) -> float:
    """Between the two neighbours, as PostgreSQL's percentile_cont has it."""
    ordered = sorted(values)
    place = 0.95 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def days_to_look_at(days: int, today: date) -> list[date]:
    """The days that decide who is silent, the last one first: yesterday, and as many weeks as hold `days` weekdays."""
    return [today - timedelta(days=back) for back in range(1, 2 + 7 * -(-days // 5))]


def is_silent(days: int, ran_on: Iterable[date], today: date) -> bool:
    """Whether a tool that ran on each of the last `days` days, or weekdays, did not run yesterday (a weekday)."""
    ran = set(ran_on)
    yesterday, *before = days_to_look_at(days, today)
    if yesterday in ran or today in ran:
        return False
    if ran.issuperset(before[:days]):
        return True
    weekdays = [day for day in before if day.weekday() <= _FRIDAY]
    return yesterday.weekday() <= _FRIDAY and ran.issuperset(weekdays[:days])


def _is_meant(what: str, tool_name: str, fingerprint: str) -> bool:
    return what == f"={fingerprint}" or _matches((what,), tool_name)


def _matches(patterns: Iterable[str], tool_name: str) -> bool:
    return any(fnmatchcase(tool_name, pattern) for pattern in patterns)
