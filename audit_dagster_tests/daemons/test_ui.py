"""What a data engineer does in Dagster's UI, in a real browser. `make pictures` takes the docs' pictures of it here."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from audit_dagster.settings import Settings
from audit_dagster.store import embedded
from audit_dagster.store.connect import connect
from audit_dagster.store.query import append
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.pictures import browser, dagster, graphql
from audit_dagster_tests.test_demo import clean_environment, open_folder, processes

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium on PATH")
DAYS = 60
PER_DAY = 4
FIRST = datetime.now(UTC).date() - timedelta(days=DAYS)
MONTH = [FIRST + timedelta(days=10 + number) for number in range(31)]
MISSING = MONTH[4]
STATE = """{
  assetNodeOrError(assetKey: {path: ["daily_report"]}) {
    ... on AssetNode { partitionStats { numMaterialized numFailed } }
  }
  runsOrError(filter: {}) { ... on Runs { results { status pipelineName tags { key value } } } }
}"""
_LOCATION = "audit_dagster.definitions"


@pytest.fixture(scope="module")
def lab() -> Iterator[Path]:
    """A state folder whose log has two months: the first half hour of each day fails now and then."""
    folder = open_folder()
    settings = Settings.load(_environment(folder))
    entries = [_entry(FIRST + timedelta(days=day), number) for day in range(DAYS) for number in range(PER_DAY)]
    with connect(settings) as connection:
        assert set(append(connection, entries)) == {"stored"}
    yield folder
    embedded.stop(settings.state_dir)
    assert processes(folder) == []
    shutil.rmtree(folder)


def _environment(folder: Path) -> dict[str, str]:
    return clean_environment() | {"AUDIT_STATE_DIR": str(folder / "state"), "AUDIT_SERVER_IDLE_SECONDS": "1"}


def _entry(day: date, number: int) -> Any:
    failed = number == 3 and day.day % 5 == 0
    return make_entry(
        timestamp=datetime.combine(day, clock(8 + number), UTC),
        tool_name=("sensing-data", "visualization")[number % 2],
        success=not failed,
        error_message="ConnectionError: the logger did not answer" if failed else None,
        command=["true"],
    )


def test_a_data_engineer_in_the_ui(lab: Path, tmp_path: Path) -> None:
    pictures = Path(os.environ.get("AUDIT_PICTURES", tmp_path))
    with dagster(_environment(lab)) as address, browser() as page:
        _materialize_a_missing_day(page, address, lab)
        _backfill_a_month(page, address, lab, pictures / "ui-backfill.png")
        page.screenshot(path=pictures / "ui-month.png")
        _see_the_sensor(page, address, lab)
        page.screenshot(path=pictures / "ui-sensor.png")
        _see_the_checks(page, address)
        page.screenshot(path=pictures / "ui-checks.png")
    reports = {path.stem for path in (lab / "state" / "reports" / "daily").glob("*.md")}
    assert reports == set(map(str, MONTH)), "what was asked for in the browser, and nothing else"


def _materialize_a_missing_day(page: Page, address: str, lab: Path) -> None:
    report = lab / "state" / "reports" / "daily" / f"{MISSING}.md"
    assert not report.exists()
    page.goto(f"{address}/assets/daily_report?view=partitions&partition={MISSING}")
    page.get_by_text("Latest materialization").wait_for()
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("1 partition", exact=True).wait_for()
    dialog.get_by_text("Showing").wait_for()  # it knows the partitions by now
    dialog.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("Launched run").wait_for()
    _wait(address, lambda state: _materialized(state) >= 1)
    page.goto(f"{address}/assets/daily_report?view=partitions&partition={MISSING}")
    page.get_by_text(f"Audit Report - {MISSING}").wait_for()
    assert f"Total Operations: {PER_DAY}" in page.locator("body").inner_text()
    assert report.is_file()


def _backfill_a_month(page: Page, address: str, lab: Path, picture: Path) -> None:
    page.goto(f"{address}/assets/daily_report?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    chosen = dialog.locator("input[type=text]").first
    chosen.fill(f"[{MONTH[0]}...{MONTH[-1]}]")
    chosen.press("Enter")
    dialog.get_by_text(f"{len(MONTH)} partitions").first.wait_for()
    page.screenshot(path=picture)
    dialog.get_by_role("button", name="Launch backfill").click()
    dialog.wait_for(state="hidden")
    _wait(address, lambda state: _materialized(state) >= len(MONTH))
    page.goto(f"{address}/assets/daily_report?view=partitions&partition={MONTH[-1]}")
    page.get_by_text(f"Audit Report - {MONTH[-1]}").wait_for()
    written = {path.stem for path in (lab / "state" / "reports" / "daily").glob("*.md")}
    assert {str(day) for day in MONTH} <= written


def _see_the_sensor(page: Page, address: str, lab: Path) -> None:
    """It ticked, asked for the one run that told people, and asks for none since."""
    _wait(address, lambda state: ("failure_alerts_job", "SUCCESS") in _runs(state))
    page.goto(f"{address}/locations/{_LOCATION}/sensors/failure_alerts_sensor")
    page.get_by_text("1 run requested").first.wait_for()
    assert list((lab / "state" / "reports" / "alerts").glob("*.md"))


def _see_the_checks(page: Page, address: str) -> None:
    page.goto(f"{address}/assets/daily_report?view=checks")
    page.get_by_text("daily_totals_equal_the_database").last.wait_for()
    page.get_by_text("Passed").first.wait_for()
    page.get_by_text("looked_at").first.wait_for()


def _wait(address: str, condition: Callable[[Mapping[str, Any]], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition(state := graphql(address, STATE)):
        assert state["assetNodeOrError"]["partitionStats"]["numFailed"] == 0, state
        assert time.monotonic() < deadline, state
        time.sleep(0.3)


def _materialized(state: Mapping[str, Any]) -> int:
    return int(state["assetNodeOrError"]["partitionStats"]["numMaterialized"])


def _runs(state: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(run["pipelineName"], run["status"]) for run in state["runsOrError"]["results"]}
