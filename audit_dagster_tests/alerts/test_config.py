"""The file of rules: its documentation is true, and a mistake is told with its line."""

from __future__ import annotations

import re
from datetime import time, timedelta
from pathlib import Path

import pytest

from audit_dagster.alert_settings import alert_config
from audit_dagster.alerts.config import AlertConfig, Route, SlowRule, ToolRule, parse_config, parse_duration
from audit_dagster.errors import ConfigurationError, InvalidInputError
from audit_dagster.settings import Settings

DOCUMENTED = Path(__file__).parents[2] / "docs" / "alerts.yaml"
TARGETS = {"file": "file:///tmp/alerts", "mail": "mailto://lab"}


def read(text: str, **environ: str) -> AlertConfig:
    return parse_config(text, "alerts.yaml", TARGETS, environ)


def test_the_documented_file_is_what_holds_without_it() -> None:
    text = DOCUMENTED.read_text("utf-8")
    assert read(text) == AlertConfig(targets=TARGETS)
    keys = {"silent" if name == "silent_days" else name for name in AlertConfig._fields}
    assert set(re.findall(r"^(\w+):", text, re.MULTILINE)) == keys
    assert set(re.findall(r"^  (\w+):", text, re.MULTILINE)) == {*SlowRule._fields, "days"}


def test_the_examples_in_its_comments_are_read() -> None:
    text = DOCUMENTED.read_text("utf-8")
    keys = ("tools", "quiet_hours", "urgent", "targets", "routes")
    examples = dict(zip(keys, re.findall(r"Such as ([\[{].*[\]}])", text), strict=True))
    config = read("\n".join(f"{key}: {value}" for key, value in examples.items()), SOIL_TOPIC="topic")
    (rule,) = config.tools
    assert rule == ToolRule(("sensing-*",), timedelta(hours=1), SlowRule(min_seconds=120.0), None)
    assert config.quiet_hours == (time(22), time(7))
    assert config.urgent == ("sensing-data", "etl-*")
    assert config.targets["soil-team"] == "ntfys://ntfy.sh/topic"
    assert config.routes == (Route(("soil-*",), ("soil-team", "file")),)


def test_what_a_tool_is_not_given_is_as_for_the_others() -> None:
    text = """
slow: {factor: 3, min_seconds: 5}
silent: off
tools:
- tools: [etl-*, turf]
  slow: {runs: 10}
- {tools: nightly, silent: {days: 3}, slow: off}
window: 1 h
"""
    config = read(text)
    assert config.tools == (
        ToolRule(("etl-*", "turf"), timedelta(hours=1), SlowRule(3.0, 5.0, 10), None),
        ToolRule(("nightly",), timedelta(hours=1), None, 3),
    )
    assert (config.slow, config.silent_days) == (SlowRule(3.0, 5.0, 30), None)


def test_all_of_it_off_or_empty() -> None:
    for text in ("", "# nothing", "{}"):
        assert read(text) == AlertConfig(targets=TARGETS)
    config = read("slow: off\nsilent: false\nquiet_hours: off\nwindow: 0 s")
    assert (config.slow, config.silent_days, config.quiet_hours, config.window) == (None, None, None, timedelta())


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        (
            "window: 5 m\n\nquiet_hours:\n  from: '25:00'\n  to: '07:00'",
            4,
            "quiet_hours.from is '25:00': give a time as HH:MM",
        ),
        ("quiet_hours:\n  from: '22:00'", 2, "has no 'to'"),
        ("window: soon", 1, "give a length of time such as 10 minutes"),
        ("window: [1]", 1, "window is a sequence"),
        ("still_failing: []", 1, "has no step"),
        ("still_failing: [1 h, 0 s]", 1, "one of no length"),
        ("slow:\n  factor: much", 2, "slow.factor is 'much': give a number"),
        ("slow:\n  runs: 0", 2, "from 1 to 366"),
        ("slow:\n  faktor: 2", 2, "there is no 'slow.faktor': the keys here are factor, min_seconds, runs"),
        ("\nwindows: 5 m", 2, "there is no 'windows'"),
        ("silent_days: 5", 1, "there is no 'silent_days'"),
        ("window: 5 m\nwindow: 6 m", 2, "is there twice"),
        ("mute: {a: b}", 1, "give a list"),
        ("mute: null", 1, "give a list"),
        ("- a", 1, "the file is a sequence"),
        ("routes:\n- tools: x\n  targets: [file, team]", 3, "names 'team': give one of file, mail"),
        ("routes:\n- tools: x", 2, "has no 'targets'"),
        ("tools:\n- tools: x\n- slow: off", 3, "tools has no 'tools': give the patterns"),
        ("tools:\n- tools: x\n  slow:\n    factor: much", 4, "tools.slow.factor is 'much': give a number"),
        ("tools:\n- tools: x\n  window: soon", 3, "tools.window is 'soon': give a length of time"),
        ("tools:\n- tools: x\n  mute: y", 3, "there is no 'tools.mute': the keys here are tools, window, slow, silent"),
        ("tools: x", 1, "tools is 'x': give keys with values"),
        ("targets:\n  team: ${TEAM_URL}", 2, "needs the variable TEAM_URL"),
        ("window: [", 1, "this is no YAML"),
        ("a: b: c", 1, "this is no YAML"),
        ("window: *x", 1, "this is no YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, part: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(text)
    assert str(refused.value).startswith(f"alerts.yaml line {line}: ")
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["\0", "a: \x07", "&a [*a]", "? [a]\n: b", "[" * 500])
def test_hostile_files_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(text)
    assert "\n" not in str(refused.value)


def test_a_secret_is_not_shown() -> None:
    config = read("targets:\n  team: slack://${TOKEN}", TOKEN="hunter2")
    assert config.targets["team"] == "slack://hunter2"
    assert "hunter2" not in repr(config)


def test_durations() -> None:
    assert [parse_duration(text) for text in ("2d", "4h", "10 minutes", "1.5 hours", "0 s")] == [
        timedelta(days=2),
        timedelta(hours=4),
        timedelta(minutes=10),
        timedelta(minutes=90),
        timedelta(),
    ]
    for text in ("", "2", "d", "-1 h", "99999999999 d", "1 week", "1e9 h"):
        with pytest.raises(InvalidInputError, match="no length of time"):
            parse_duration(text)


def test_from_the_environment(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_ALERTS_FILE", str(tmp_path / "rules.yaml"))
    with pytest.raises(ConfigurationError, match="correct AUDIT_ALERTS_FILE"):
        alert_config(Settings.load())
    (tmp_path / "rules.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        alert_config(Settings.load())
    (tmp_path / "rules.yaml").write_text("mute: [a]\n")
    url = "webhook+http://127.0.0.1:1/x#KEY"
    monkeypatch.setenv("AUDIT_ALERT_URLS", f"{url}\n {url}")
    config = alert_config(Settings.load())
    assert config.mute == ("a",)
    first, second, last = config.targets
    assert (second, last) == (f"{first} #2", "file")
