"""The real daemon, its observations and its automation: late rows, and exactly the documents that they change."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus

from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.defs.test_late_data import MONDAY, WEEK, WEEKS, Store, observe, report_all_made
from audit_dagster_tests.deploy.processes import PROJECT, daemon, running, wait_until

# The project's own definitions, whose changes are looked for each 5 s instead of 30.
HURRIED = """
from audit_dagster.defs import automation
automation.default_automation_condition_sensor._min_interval = 5
from audit_dagster.definitions import defs
"""


def test_late_rows_lead_to_runs_of_what_they_change(settings: Settings, store: Store, tmp_path: Path) -> None:
    """And the same observed again leads to none."""
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    definitions = tmp_path / "hurried.py"
    definitions.write_text(HURRIED)
    log, place = tmp_path / "daemon.log", {"DAGSTER_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    days = [MONDAY + timedelta(days=day) for day in range(21)]
    store(*(make_entry(timestamp=day, tool_name=tool) for day in days for tool in ("extract", "plot")))
    with (
        dg.DagsterInstance.from_config(str(tmp_path)) as instance,
        running(daemon(definitions), log, **place),
    ):
        observe(instance)
        report_all_made(instance)
        wait_for_ticks(instance, 2)
        store(make_entry(timestamp=MONDAY, tool_name="plot"), make_entry(timestamp=MONDAY + WEEK, tool_name="plot"))
        observe(instance)
        expected = {
            "daily_report": {"2023-06-05": 2, "2023-06-12": 2},
            "reproduction_script": {"2023-06-05": 2, "2023-06-12": 2},
            "weekly_summary": dict.fromkeys(WEEKS, 2),
            "tool_stats": {f"plot|{week}": 1 for week in WEEKS},
        }
        deadline = time.monotonic() + 180
        while (made := made_again(instance)) != expected:
            assert time.monotonic() < deadline, made
            time.sleep(1)
        observe(instance)
        wait_for_ticks(instance, 2)
        assert made_again(instance) == expected
        assert len(instance.get_backfills()) <= 2, "one, or two where a tick comes between the two observations"
        wait_until((settings.reports_dir / "index.html").is_file, 120, "the site, which follows unasked", log)
    assert sorted(path.name for path in (settings.reports_dir / "daily").iterdir()) == [
        f"2023-06-{day}.{ending}" for day in ("05", "12") for ending in ("html", "json", "md")
    ]


def made_again(instance: dg.DagsterInstance) -> dict[str, dict[str, int]]:
    """How often each document was made, of those that were not only filled in."""
    found = {}
    for name in ("daily_report", "reproduction_script", "weekly_summary", "tool_stats"):
        records = instance.fetch_materializations(dg.AssetKey(name), limit=1_000).records
        count = Counter(str(record.partition_key) for record in records)
        found[name] = {key: times for key, times in count.items() if times > 1 or name == "tool_stats"}
    return found


def wait_for_ticks(instance: dg.DagsterInstance, more: int) -> None:
    """Until the automation has been evaluated so many times from now on."""
    before, deadline = evaluations(instance), time.monotonic() + 120
    while evaluations(instance) < before + more:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def evaluations(instance: dg.DagsterInstance) -> int:
    """Ticks of the automation sensor that ended well."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    (sensor,) = [state for state in states if state.instigator_name == "default_automation_condition_sensor"] or (None,)
    if sensor is None:
        return 0
    ended = [TickStatus.SKIPPED, TickStatus.SUCCESS]
    return len(instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id, statuses=ended))
