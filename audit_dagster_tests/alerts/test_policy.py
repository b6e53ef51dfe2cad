"""Who is told what and when, without a database."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from audit_dagster.alerts import policy
from audit_dagster.alerts.config import AlertConfig, Route, SlowRule, ToolRule

CHICAGO = ZoneInfo("America/Chicago")
NIGHT = AlertConfig(quiet_hours=(time(22), time(7)))
NOON = AlertConfig(quiet_hours=(time(12), time(13)))


@pytest.mark.parametrize(
    ("config", "now", "end"),
    [
        (NIGHT, datetime(2023, 6, 15, 21, 59), None),
        (NIGHT, datetime(2023, 6, 15, 22, 0), datetime(2023, 6, 16, 7)),
        (NIGHT, datetime(2023, 6, 16, 6, 59), datetime(2023, 6, 16, 7)),
        (NIGHT, datetime(2023, 6, 16, 7, 0), None),
        (NIGHT, datetime(2023, 3, 11, 23, 0), datetime(2023, 3, 12, 7)),
        (NIGHT, datetime(2023, 11, 5, 1, 30, fold=1), datetime(2023, 11, 5, 7)),
        (NOON, datetime(2023, 6, 15, 12, 30), datetime(2023, 6, 15, 13)),
        (NOON, datetime(2023, 6, 15, 23, 0), None),
        (AlertConfig(), datetime(2023, 6, 15, 3), None),
    ],
)
def test_quiet_hours_end(config: AlertConfig, now: datetime, end: datetime | None) -> None:
    moment = now.replace(tzinfo=CHICAGO).astimezone(UTC)
    expected = moment if end is None else end.replace(tzinfo=CHICAGO)
    assert policy.quiet_until(config, moment, CHICAGO) == expected


def test_back_off() -> None:
    now = datetime(2023, 6, 15, tzinfo=UTC)
    hours = [(policy.next_telling(AlertConfig(), told, now) - now) / timedelta(hours=1) for told in (1, 2, 3, 4, 99)]
    assert hours == [1, 4, 24, 24, 24]
    minutes = [policy.retry_after(failed) / timedelta(minutes=1) for failed in (1, 2, 3, 6, 7, 8, 5000)]
    assert minutes == [1, 2, 4, 32, 60, 60, 60]
    assert [attempt for attempt in range(1, 61) if policy.steps_aside(attempt)] == [20, 40, 60]


def test_routes_and_mutes() -> None:
    now = datetime(2023, 6, 15, tzinfo=UTC)
    config = AlertConfig(
        routes=(Route(("soil-*",), ("a",)), Route(("*",), ("b", "c"))), targets={"a": "", "b": ""}, mute=("sandbox-?",)
    )
    assert policy.targets_of(config, "soil-model") == ("a",)
    assert policy.targets_of(config, "turf") == ("b", "c")
    assert policy.targets_of(config._replace(routes=()), "turf") == ("a", "b")
    assert policy.muted_until(config, {}, "sandbox-1", "f", now) == now + timedelta(hours=1)
    assert policy.muted_until(config, {}, "sandbox-12", "f", now) is None
    mutes = {"tu*": now + timedelta(minutes=5), "=f": now + timedelta(days=1), "old": now}
    assert policy.muted_until(config, mutes, "turf", "g", now) == now + timedelta(minutes=5)
    assert policy.muted_until(config, mutes, "other", "f", now) == now + timedelta(hours=1)
    assert policy.muted_until(config, mutes, "old", "g", now) is None


def test_slow() -> None:
    usual = [100.0] * 28 + [110.0, 500.0]
    assert policy.percentile_95(usual) == pytest.approx(105.5)
    for seconds, slow in ((105.0, False), (205.0, False), (212.0, True)):
        assert (policy.is_slow(SlowRule(), policy.Slow(seconds, usual)) is not None) == slow
    assert policy.is_slow(SlowRule(), policy.Slow(55.0, [1.0] * 30)) == 1.0
    assert policy.is_slow(SlowRule(), policy.Slow(12.0, [1.0] * 30)) == 1.0
    assert policy.is_slow(SlowRule(), policy.Slow(9.0, [0.005] * 30)) is None, "a cold disk, a slow name server"
    assert policy.is_slow(SlowRule(min_seconds=60), policy.Slow(50.0, [1.0] * 30)) is None
    assert policy.is_slow(SlowRule(), policy.Slow(900.0, [1.0] * 29)) is None
    assert policy.is_slow(None, policy.Slow(900.0, [1.0] * 30)) is None


def test_the_first_pattern_that_fits_has_the_thresholds() -> None:
    quick = ToolRule(("quick-*",), timedelta(), SlowRule(1.5, 1, 5), 2)
    config = AlertConfig(silent_days=None, tools=(quick, ToolRule(("q*", "old"), timedelta(hours=2), None, None)))
    assert policy.rule_of(config, "quick-look") == quick
    assert policy.rule_of(config, "queue").window == policy.rule_of(config, "old").window == timedelta(hours=2)
    assert policy.rule_of(config, "other")[1:] == (config.window, config.slow, None)
    assert (policy.shortest_window(config), policy.longest_silence(config)) == (timedelta(), 2)
    assert policy.longest_silence(AlertConfig(silent_days=None)) is None


def test_silence() -> None:
    wednesday = date(2023, 6, 14)
    days = [wednesday - timedelta(days=back) for back in range(40)]
    working = [day for day in days if day.weekday() < 5]
    for ran_on, silent in (
        (days[2:9], True),
        (days[1:9], False),
        ([days[0], *days[2:9]], False),
        (days[2:8], False),
        (working[2:9], True),
        (working[2:8], False),
    ):
        assert policy.is_silent(7, ran_on, wednesday) == silent
    sunday, monday = date(2023, 6, 11), date(2023, 6, 12)
    friday_and_before = [day for day in working if day < date(2023, 6, 10)]
    assert not policy.is_silent(7, friday_and_before, sunday)
    assert not policy.is_silent(7, friday_and_before, monday)
    assert policy.is_silent(7, friday_and_before, date(2023, 6, 13))
