"""Days, weeks and tools as partitions: any name, any zone, and the same document from the same rows."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest

from audit_dagster.definitions import defs
from audit_dagster.entry import LogEntry
from audit_dagster.escaping import file_name
from audit_dagster.report_service import ReportService
from audit_dagster.reports.totals import stated_totals
from audit_dagster.reports.windows import day_window, monday_of
from audit_dagster.settings import Settings
from audit_dagster.store.query import fetch
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
DAY, WEEK = "2023-06-15", "2023-06-12"
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
NAMES = [
    *("../x", "CON", "con", "com1.txt", "A", "a", "é", "e\u0301", "x" * 300, "x" * 299 + "y", "", " ", ".", ".."),
    *("...", "a...b", "a....b", "a.~2e.b", "...a", "a|b", "a\nb", "a\ab", "a\0b", "\ud800", "~", "~41", "a:b", "a b"),
    *(
        "a/b",
        "-",
        "[a...b]",
        "a,b",
        "a*",
        "\u202ea",
        "%2e",
        "NUL.tar.gz",
        "trailing.",
        "trailing ",
        "日本語",
        "🚀" * 40,
    ),
]
# Longer or shorter by an hour, by half an hour, at midnight, and in Casablanca around Ramadan.
ZONES = ["America/Chicago", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(instance: dg.DagsterInstance, job: str, key: str) -> None:
    defs.resolve_job_def(job).execute_in_process(run_config=_QUIET, instance=instance, partition_key=key)


def test_names_of_tools_are_keys_that_dagster_and_every_file_system_take(
    instance: dg.DagsterInstance,
) -> None:
    keys = [file_name(name) for name in NAMES]
    assert len({key.casefold() for key in keys}) == len(NAMES)
    assert all(re.fullmatch(r"[a-z0-9_~-][a-z0-9_.~-]{0,99}", key) and not key.endswith(".") for key in keys), keys
    instance.add_dynamic_partitions("tools", keys)
    assert set(instance.get_dynamic_partitions("tools")) == set(keys)
    partitions = defs.resolve_assets_def("tool_stats").partitions_def
    assert isinstance(partitions, dg.MultiPartitionsDefinition)
    for key in keys:
        whole = dg.MultiPartitionKey({"week": WEEK, "tool": key})
        assert partitions.get_partition_key_from_str(str(whole)).keys_by_dimension == {"week": WEEK, "tool": key}


def test_dots_never_make_two_names_one() -> None:
    names = ["".join(letters) for length in range(7) for letters in itertools.product(".a~", repeat=length)]
    assert len({file_name(name) for name in names}) == len(names)
    assert not any("..." in file_name(name) for name in names)


def test_hostile_names_are_materialized_each_to_a_file_of_its_own(
    settings: Settings, store: Store, instance: dg.DagsterInstance
) -> None:
    names = ["../x", "CON", "A", "a", "é", "e\u0301", "x" * 300, "", "a...b", "a|b", "a\nb"]
    store(*(make_entry(tool_name=name) for name in names))
    keys = [file_name(name) for name in names]
    instance.add_dynamic_partitions("tools", keys)
    for key in keys:
        run(instance, "tool_stats_job", str(dg.MultiPartitionKey({"week": WEEK, "tool": key})))
    made = {path.parent.name: path for path in (settings.reports_dir / "tools").rglob("*.md")}
    assert made.keys() == set(keys)
    assert all(stated_totals(path.read_text()) == (1, 0) for path in made.values())
    assert len(instance.get_materialized_partitions(dg.AssetKey("tool_stats"))) == len(names)


def test_the_same_rows_give_the_same_documents(
    settings: Settings, store: Store, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store(
        make_entry(command=["true"], note="first", parameters={"b": 1, "a": [{"y": None, "x": 2}]}),
        make_entry(success=False, error_message="broken", user_name="grace"),
        make_entry(timestamp=datetime(2023, 6, 15, 12, tzinfo=UTC), tool_name="b"),
        make_entry(timestamp=datetime(2023, 6, 15, 12, tzinfo=UTC), tool_name="a"),
        make_entry(timestamp=datetime(2023, 6, 8, 12, tzinfo=UTC)),
    )
    instance.add_dynamic_partitions("tools", ["sensing-data"])
    texts = []
    for folder in ("first", "second"):
        monkeypatch.setenv("AUDIT_REPORTS_DIR", str(tmp_path / folder))
        run(instance, "daily_documents_job", DAY)
        run(instance, "weekly_summary_job", WEEK)
        run(instance, "tool_stats_job", f"sensing-data|{WEEK}")
        made = {path.relative_to(tmp_path / folder): path for path in (tmp_path / folder).rglob("*") if path.is_file()}
        texts.append({name: _without_its_time(path.read_bytes()) for name, path in made.items()})
    assert len(texts[0]) == 17  # of a day five, of a week and of a tool six each
    assert texts[0] == texts[1]


def _without_its_time(document: bytes) -> bytes:
    lines = document.split(b"\n")
    kept = [line for line in lines if b"generated" not in line.lower()]
    assert len(lines) - len(kept) <= 1
    return b"\n".join(kept)


@pytest.mark.parametrize("zone", ZONES)
def test_each_row_is_in_one_day_and_one_week(
    settings: Settings, store: Store, connection: Connection, zone: str
) -> None:
    """Around every clock change of the year, a row every ten minutes: the second of two equal hours, too."""
    here = ZoneInfo(zone)
    changes = clock_changes(2023, here)
    assert len(changes) >= 2
    ten = timedelta(minutes=10)
    moments = [change + number * ten for change in changes for number in range(-36 * 6, 36 * 6)]
    rows = store(*(make_entry(timestamp=moment, success=moment.minute != 0) for moment in sorted(set(moments))))
    assert any(row.timestamp.astimezone(here).fold for row in rows)

    service = ReportService(settings._replace(timezone=zone))
    days = Counter(row.timestamp.astimezone(here).date() for row in rows)
    made = {day: service.write_daily_report(connection, day) for day in days}
    assert {day: document.operations for day, document in made.items()} == days
    text = "\n".join(document.text for document in made.values())
    assert {text.count(f'"operation_id":"{row.operation_id}"') for row in rows[::20]} == {1}
    weeks = Counter(monday_of(row.timestamp.astimezone(here).date()) for row in rows)
    assert {week: service.write_weekly_summary(connection, week).operations for week in weeks} == weeks
    (total,) = fetch(connection, "window_totals", start=rows[0].timestamp, end=rows[-1].timestamp + ten, tool_name=None)
    assert sum(days.values()) == sum(weeks.values()) == total["operations"]
    assert sum(document.failed for document in made.values()) == total["failed"]
    changed = {hours(day, here) for day in days} - {24.0}
    assert changed == ({23.5, 24.5} if zone == "Australia/Lord_Howe" else {23.0, 25.0})


@pytest.mark.parametrize("zone", [*ZONES, "America/Havana", "Africa/Cairo", "Asia/Beirut", "Pacific/Apia", "UTC"])
def test_dagster_has_a_partition_for_each_day_and_week(zone: str) -> None:
    """Where midnight does not exist, or comes twice, too; and its days begin where ours do."""
    start, end = date(2023, 1, 2), datetime(2025, 1, 6, 0, 15, tzinfo=ZoneInfo(zone))
    days = dg.DailyPartitionsDefinition(start_date=str(start), timezone=zone)
    keys = days.get_partition_keys(current_time=end)
    assert keys == [str(start + timedelta(days=number)) for number in range(len(keys))]
    assert keys[-1] == "2025-01-05"
    weeks = dg.WeeklyPartitionsDefinition(start_date=str(start), timezone=zone, day_offset=1)
    assert weeks.get_partition_keys(current_time=end) == keys[::7]
    assert [key for key in keys if not _same_window(days, key, ZoneInfo(zone))] == []


def _same_window(days: dg.DailyPartitionsDefinition, key: str, zone: ZoneInfo) -> bool:
    ours = day_window(date.fromisoformat(key), zone)
    theirs = days.time_window_for_partition_key(key)
    return (theirs.start.timestamp(), theirs.end.timestamp()) == (ours.start.timestamp(), ours.end.timestamp())


def clock_changes(year: int, zone: ZoneInfo) -> list[datetime]:
    """The hours in which the zone's offset changes."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=number) for number in range(366 * 24)]
    return [later for hour, later in itertools.pairwise(hours) if _offset(hour, zone) != _offset(later, zone)]


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def hours(day: date, zone: ZoneInfo) -> float:
    window = day_window(day, zone)
    return (window.end.timestamp() - window.start.timestamp()) / 3600


def test_the_callers_own_settings_do_not_reach_the_tests() -> None:
    """Somebody who works with this has them in the shell: `audit_dagster.defs` would read them."""
    theirs = {"AUDIT_START_DATE": "2026-10-01", "POSTGRES_HOST": "nowhere", "AUDIT_TEST_PROFILE": "nightly"}
    asked = f"import os, audit_dagster_tests.conftest; print([name for name in os.environ if name in {list(theirs)}])"
    root = Path(__file__).parents[2]
    said = subprocess.check_output([sys.executable, "-c", asked], env={**os.environ, **theirs}, cwd=root, text=True)
    assert said == "['AUDIT_TEST_PROFILE']\n"
