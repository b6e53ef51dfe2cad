"""The site's page: what it says and links to, of which files and rows; and in a real browser, its search."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe

from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError
from audit_dagster.escaping import file_name
from audit_dagster.report_service import ReportService
from audit_dagster.reports.site import Pages, SiteRows, site_page
from audit_dagster.settings import Settings
from audit_dagster.site_rows import pages_in
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.pictures import browser

if TYPE_CHECKING:
    from playwright.sync_api import Page

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
Row = list[Any]

DAY, MONDAY, ZONE = date(2023, 6, 15), date(2023, 6, 12), ZoneInfo("UTC")
NOON = datetime(2023, 6, 15, 12, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script>\"'><img src=http://127.0.0.1:9/x onerror=alert(1)>"
_LINK = re.compile(r'href="([^"]*)"')
_ELEMENTS = "() => ['script', 'img', 'iframe', 'base', 'meta', 'style'].map(n => document.querySelectorAll(n).length)"
needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium on PATH")


def counted(name: str, value: Any, operations: int = 12, failed: int = 1, at: datetime = NOON) -> dict[str, Any]:
    return {name: value, "operations": operations, "failed": failed, "last_at": at}


def failure(**fields: Any) -> dict[str, Any]:
    row = {"tool_name": "decode", "operation": "run", "error_message": "disk full", "failures": 3, "seen_before": False}
    return {**row, "first_at": NOON - timedelta(days=9), "last_at": NOON, **fields}


def a_page(**rows: Any) -> str:
    return site_page(Pages(days=frozenset({DAY})), SiteRows(**rows), ZONE)


def links(text: str) -> list[str]:
    return [address for address in _LINK.findall(text) if not address.startswith("#")]


def section(text: str, name: str) -> str:
    return text.partition(f'<section id="{name}"')[2].partition("</section>")[0]


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


# ---- What it says ----


def test_nothing_yet() -> None:
    text = site_page(Pages(), SiteRows(), ZONE)
    assert links(text) == []
    assert text.count("No day has a report yet.") == 2
    assert 'data-days=""' in text


def test_the_newest_seven_days() -> None:
    days = [counted("day", DAY - timedelta(days=number), 10**number, 1) for number in range(8)]
    people = [counted("user_name", "ada"), counted("user_name", "bob", at=datetime(2023, 6, 8, 23, 59, tzinfo=UTC))]
    tools = [counted("tool_name", "decode", at=datetime(2023, 6, 9, tzinfo=UTC))]
    text = a_page(days=days, people=people, tools=tools)
    assert "The 7 days from 2023-06-09 to 2023-06-15" in text
    figures = re.findall(r"<dt>(\w+)</dt><dd[^>]*>([\d,]+)</dd>", text)
    assert figures == [("Operations", "1,111,111"), ("Failed", "7"), ("People", "1"), ("Tools", "1")]


def test_the_calendar_says_each_day() -> None:
    counts = [counted("day", DAY, 12, 1), counted("day", date(2022, 12, 19), 1, 0), counted("day", MONDAY, 3, 0)]
    calendar = section(a_page(days=counts), "calendar")
    said = re.findall(r'class="s(\d)"[^>]* aria-label="([^"]*)" title="([^"]*)">(\u00d7?)<', calendar)
    assert len(said) == 26 * 7 - 3, "the days after the newest are not there yet"
    assert all(label == title for _, label, title, _ in said)
    shown = {label: (strength, cross) for strength, label, _, cross in said}
    assert shown["2023-06-15: 12 operations, 1 failed"] == ("4", "\u00d7")
    assert shown["2022-12-19: 1 operation, 0 failed"] == ("2", "")
    assert shown["2023-06-12: 3 operations, 0 failed"] == ("3", "")
    assert shown["2023-06-14: 0 operations, 0 failed"] == ("0", "")
    assert links(calendar) == ["daily/2023-06-15.html"], "only what has a page is a link"


def test_failures_people_and_tools() -> None:
    week = {"decode": frozenset({"2023-W24", "2023-W23", "2023-W02"}), "Old": frozenset({"2020-W01"})}
    rows = SiteRows(
        tools=[counted("tool_name", "decode"), counted("tool_name", "plot", 5, 0, NOON - timedelta(days=1))],
        people=[counted("user_name", "ada lovelace")],
        kinds=[failure(), failure(error_message="", last_at=NOON - timedelta(days=2))],
    )
    text = site_page(Pages(days=frozenset({DAY}), tools=week), rows, ZONE)
    failures = section(text, "failures")
    assert "3 decode run disk full 2023-06-06 12:00 2023-06-15 12:00" in text_of(failures)
    assert "3 decode run no error text 2023-06-06 12:00 2023-06-13 12:00" in text_of(failures)
    assert links(failures) == ["daily/2023-06-15.html"]
    tools = section(text, "tools")
    assert text_of(tools).endswith(
        "decode 12 1 2023-06-15 12:00 2023-W24 older 2023-W23 2023-W02 "
        "plot 5 0 2023-06-14 12:00 Old 0 0 earlier 2020-W01"
    )
    assert links(tools) == [
        "daily/2023-06-15.html",
        *(f"tools/decode/2023-W{week}.html" for week in ("24", "23", "02")),
        "tools/~4fld/2020-W01.html",
    ]
    assert '<a href="#q%3Dada%20lovelace">ada lovelace</a>' in section(text, "people")


def test_a_failure_is_the_last_line_of_its_traceback() -> None:
    text = a_page(kinds=[failure(error_message="Traceback (most recent call last):\n  x\nKeyError: 'a'")])
    assert "<br>KeyError: &#39;a&#39;</td>" in text


def test_weeks_and_days_are_folded() -> None:
    days = frozenset(date(2021, 12, 31) + timedelta(days=number) for number in range(32))
    weeks = frozenset(f"{year}-W{week:02}" for year in (2021, 2022) for week in range(1, 11))
    text = site_page(Pages(days=days, weeks=weeks), SiteRows(), ZONE)
    folded = section(text, "weeks")
    assert links(folded)[:9] == [f"weekly/2022-W{week:02}.html" for week in (10, 9, 8, 7, 6, 5, 4, 3, 2)]
    assert re.findall("<summary>(.*)</summary>", folded) == ["Earlier in 2022: 2 weeks", "Earlier in 2021: 10 weeks"]
    everything = section(text, "days")
    assert links(everything) == [f"daily/{day}.html" for day in sorted(days, reverse=True)]
    assert re.findall("<summary>(.*)</summary>", everything) == [
        *("2022: 31 days", "January 2022", "2021: 1 day", "December 2021")
    ]


def test_hostile_names_stay_text() -> None:
    name = f"{HOSTILE}\x1b\u202e\n../../x"
    rows = SiteRows(
        tools=[counted("tool_name", name)], people=[counted("user_name", name)], kinds=[failure(error_message=name)]
    )
    pages = Pages(days=frozenset({DAY}), tools={name: frozenset({"2023-W24"})})
    text = site_page(pages, rows, ZONE)
    assert "<script>alert" not in text and "<img" not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    assert f"tools/{file_name(name)}/2023-W24.html" in links(text)
    assert all(re.match(r"#|daily/|weekly/|tools/~", address) for address in _LINK.findall(text))


# ---- Of real files and rows ----


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_the_page_of_a_database(settings: Settings, store: Store, connection: Connection) -> None:
    failed = make_entry(timestamp=NOON, tool_name="decode", success=False, error_message="disk full")
    store(
        failed,
        make_entry(timestamp=NOON, tool_name="decode", user_name="bob"),
        make_entry(timestamp=NOON, tool_name="A b"),
        make_entry(timestamp=NOON - timedelta(days=400), tool_name="long ago"),
        make_entry(timestamp=NOON + timedelta(days=1), tool_name="overmorrow"),
    )
    service = ReportService(settings)
    service.write_daily_report(connection, DAY)
    service.write_weekly_summary(connection, MONDAY)
    for tool in ("decode", "A b", "long ago"):
        service.write_tool_report(connection, MONDAY, tool)
    document, pages = service.write_site(connection)
    assert document.path == settings.reports_dir / "index.html"
    assert (pages.today, len(pages.weeks), len(pages.tools)) == (DAY, 1, 3)
    assert (document.operations, document.failed) == (3, 1)
    text = document.path.read_text("utf-8")
    assert re.findall(r"<dd[^>]*>([\d,]+)</dd>", text) == ["3", "1", "2", "2"]
    assert "2023-06-15: 3 operations, 1 failed" in text
    assert "1 decode extract disk full" in text_of(text)
    assert "decode 2 1 2023-06-15 12:00 2023-W24 A b 1 0 2023-06-15 12:00 2023-W24 long ago 0 0" in text_of(text)
    assert "ada 2 1 2023-06-15 12:00 bob 1 0" in text_of(section(text, "people"))
    assert "overmorrow" not in text
    for address in links(text):
        name, _, place = address.partition("#")
        assert not place or f'id="{place}"' in (settings.reports_dir / name).read_text("utf-8"), address
        assert (settings.reports_dir / name).is_file(), address
    places = {address.partition("#")[2] for address in links(text)}
    assert {"failures", "reproducibility", failed.operation_id} <= places
    assert service.write_site(connection)[0].path.read_text("utf-8") == text


def test_the_figures_of_the_newest_week(settings: Settings, store: Store, connection: Connection) -> None:
    def failed(days: int, error: str) -> LogEntry:
        return make_entry(timestamp=NOON + timedelta(days=days), success=False, error_message=error)

    whole: dict[str, Any] = {"command": ["true"], "git_commit_hash": "a" * 40, "context": {"git": {"ahead": 0}}}
    store(
        *(failed(0, "disk full"), failed(-1, "no route"), failed(-7, "no route"), failed(7, "after the week")),
        *(make_entry(timestamp=NOON, **whole), make_entry(timestamp=NOON), make_entry(timestamp=NOON)),
    )
    service = ReportService(settings)
    service.write_daily_report(connection, DAY)
    assert "Could be run again" not in service.write_site(connection)[0].text
    service.write_weekly_summary(connection, MONDAY)
    text = text_of(service.write_site(connection)[0].text)
    assert "New failure causes, 2023-W24 1 Could be run again, 2023-W24 33.3%" in text


def test_without_operations_or_reports(settings: Settings, connection: Connection) -> None:
    service = ReportService(settings)
    assert "No day has a report yet." in service.write_site(connection)[0].text
    service.write_daily_report(connection, DAY)
    text = service.write_site(connection)[0].text
    assert "Nothing failed in the last 26 weeks." in text
    assert set(links(text)) == {"daily/2023-06-15.html"}


def test_days_are_those_of_the_zone(settings: Settings, store: Store, connection: Connection) -> None:
    there = settings._replace(timezone="America/Chicago")
    store(make_entry(timestamp=datetime(2023, 6, 16, 4, 59, tzinfo=UTC)), make_entry(timestamp=NOON))
    service = ReportService(there)
    service.write_daily_report(connection, DAY)
    text = service.write_site(connection)[0].text
    assert "2023-06-15: 2 operations, 0 failed" in text
    assert "2023-06-15 23:59" in text_of(section(text, "people"))


def test_a_new_day_touches_its_files_and_the_index(settings: Settings, store: Store, connection: Connection) -> None:
    service = ReportService(settings)
    days = [DAY - timedelta(days=number) for number in range(3)]
    store(*(make_entry(timestamp=NOON - timedelta(days=number)) for number in range(3)))
    for day in days[1:]:
        service.write_daily_report(connection, day)
    service.write_weekly_summary(connection, MONDAY)
    service.write_site(connection)
    before = files(settings.reports_dir)
    service.write_daily_report(connection, DAY)
    service.write_site(connection)
    after = files(settings.reports_dir)
    changed = {name for name, found in after.items() if before.get(name) != found}
    assert before.keys() <= after.keys()
    beside = {f"daily/{DAY}.{ending}" for ending in ("html", "json", "md")}
    assert changed == {"index.html", f"search/{DAY}.js", *beside}
    assert f"daily/{DAY}.html" in links(after["index.html"][1].decode())


def test_only_pages_are_taken_for_pages(tmp_path: Path) -> None:
    names = ["2023-06-15.html", "2023-06-14-2.html", "2023-02-30.html", "2023-06-13.md", "x-2023-06-13.html", "x"]
    names += ["2023-06-12.html\n", "٢٠٢٣-06-11.html"]
    for folder in ("daily", "weekly", "search", "tools/decode"):
        (tmp_path / folder).mkdir(parents=True)
    for name in names:
        (tmp_path / "daily" / name).touch()
    (tmp_path / "weekly" / "2023-W24-days.svg").touch()
    (tmp_path / "tools" / "decode" / "2023-W24.html").touch()
    (tmp_path / "search" / "2023-06-15.js").touch()
    found = pages_in(tmp_path, ["decode", "plot"])
    assert found == Pages(frozenset({DAY}), frozenset(), {"decode": frozenset({"2023-W24"})}, frozenset({DAY}))
    (tmp_path / "daily").rename(tmp_path / "gone")
    (tmp_path / "daily").touch()
    with pytest.raises(AuditError, match=r"cannot read .*daily: Not a directory"):
        pages_in(tmp_path, [])


# ---- In the browser ----


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def a_row(number: int, **fields: Any) -> Row:
    row = {"time": "12:00:00", "tool": "decode", "operation": "run", "user": "ada", "ok": 1, "id": f"id-{number}"}
    return list({**row, "page": 1, "further": f"number {number}", **fields}.values())


def a_site(folder: Path, files: dict[date, list[Row]], more_days: int = 0, **rows: Any) -> Path:
    """A folder with the page and search files, as a day's report writes them."""
    site = folder / "all reports"
    (site / "search").mkdir(parents=True)
    for day, found in files.items():
        lines = ",\n".join(json.dumps(row) for row in found)
        (site / "search" / f"{day}.js").write_text(f'auditDay("{day}",[\n{lines}\n]);\n', "ascii")
    lost = [min(files) - timedelta(days=number + 1) for number in range(more_days)]
    text = site_page(Pages(days=frozenset(files), searchable=frozenset([*files, *lost])), SiteRows(**rows), ZONE)
    (site / "index.html").write_text(text, "utf-8")
    return site


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(params=["file", "http"])
def address_of(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], str]]:
    """A site's address, opened from a file and from a plain web server."""
    servers = []

    def address(site: Path) -> str:
        if request.param == "file":
            return (site / "index.html").as_uri()
        handler = functools.partial(_Quiet, directory=str(site.parent))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/all%20reports/"

    yield address
    for server in servers:
        server.shutdown()
        server.server_close()


def told(page: Page, text: str) -> None:
    page.get_by_role("status").get_by_text(text, exact=True).wait_for(timeout=10_000)


def found(page: Page) -> list[str]:
    return page.locator("#found li").all_inner_texts()


@needs_chromium
def test_the_search(page: Page, tmp_path: Path, address_of: Callable[[Path], str]) -> None:
    days = {
        DAY: [a_row(1), a_row(2, ok=0, page=3, further="DISK full")],
        DAY - timedelta(days=1): [a_row(3, user="bob"), a_row(4, tool="Plot", further="disk fine")],
    }
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    address = address_of(a_site(tmp_path, days, more_days=1))
    page.goto(address)
    page.get_by_role("searchbox").fill("disk")
    told(page, "2 found in 2 of 3 days; 1 day could not be read")
    assert found(page) == [
        "2023-06-15 12:00:00 decode run ada ✗ failed DISK full",
        "2023-06-14 12:00:00 Plot run ada ✓ ok disk fine",
    ]
    hrefs = [link.get_attribute("href") for link in page.locator("#found a").all()]
    assert hrefs == ["daily/2023-06-15-3.html#id-2", "daily/2023-06-14.html#id-4"]
    page.get_by_label("only failed").check()
    told(page, "1 found in 2 of 3 days; 1 day could not be read")
    page.get_by_label("only failed").uncheck()
    page.get_by_role("searchbox").fill("  2023-06-14 BOB ")
    page.locator("#found li", has_text="bob").wait_for()
    assert found(page) == ["2023-06-14 12:00:00 decode run bob ✓ ok number 3"]
    assert page.url.endswith("#q=%20%202023-06-14%20BOB%20")
    page.reload()
    told(page, "1 found in 2 of 3 days; 1 day could not be read")
    page.get_by_role("searchbox").fill("")
    page.locator("#found li").first.wait_for(state="detached")
    folder = address.rpartition("/")[0]
    assert {url for url in asked if not url.startswith(f"{folder}/")} == set()


@needs_chromium
def test_what_a_report_wrote_is_found(
    page: Page, settings: Settings, store: Store, connection: Connection, tmp_path: Path
) -> None:
    (entry,) = store(make_entry(user_name="Ünal\u202e<b>", note="the turf\nof winter", parameters={"site": 4}))
    service = ReportService(settings)
    service.write_daily_report(connection, DAY)
    page.goto(service.write_site(connection)[0].path.absolute().as_uri())
    page.get_by_role("searchbox").fill('WINTER "site"')
    told(page, "1 found in 1 of 1 day")
    page.locator("#people tbody a").first.click()
    told(page, "1 found in 1 of 1 day")
    page.locator("#found a").click()
    page.locator("details[open]").wait_for()
    assert page.locator("details[open]").get_attribute("id") == entry.operation_id
    page.get_by_role("link", name="All reports").click()
    page.get_by_role("heading", name="Audit reports").wait_for()


@needs_chromium
def test_the_search_goes_on_after_two_hundred(page: Page, tmp_path: Path) -> None:
    days = {DAY - timedelta(days=day): [a_row(number) for number in range(150)] for day in range(3)}
    page.goto((a_site(tmp_path, days) / "index.html").as_uri() + "#q=ada")
    told(page, "The newest 200 are shown")
    assert len(found(page)) == 200
    assert "number 149" in found(page)[0]
    page.get_by_role("button", name="Show more").press("Enter")
    told(page, "The newest 400 are shown")
    page.get_by_role("button", name="Show more").click()
    told(page, "450 found in 3 of 3 days")
    assert (len(found(page)), page.get_by_role("button", name="Show more").count()) == (450, 0)


@needs_chromium
def test_hostile_texts_stay_texts(page: Page, tmp_path: Path) -> None:
    page.goto((a_site(tmp_path, {DAY: []}) / "index.html").as_uri())
    expected = page.evaluate(_ELEMENTS)
    happened: list[str] = []
    page.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: happened.append(request.url))
    row = a_row(1, tool=HOSTILE, operation=HOSTILE, user=HOSTILE, id=HOSTILE, further=HOSTILE)
    rows = {
        "tools": [counted("tool_name", HOSTILE)],
        "people": [counted("user_name", HOSTILE)],
        "kinds": [failure()],
    }
    site = a_site(tmp_path / "hostile", {DAY: [row]}, **rows)
    page.goto((site / "index.html").as_uri())
    page.locator("#people a", has_text="alert").click()
    told(page, "1 found in 1 of 1 day")
    assert found(page) == [f"2023-06-15 12:00:00 {HOSTILE} {HOSTILE} {HOSTILE} ✓ ok {HOSTILE}"]
    assert page.get_by_role("searchbox").input_value() == HOSTILE
    assert page.evaluate(_ELEMENTS) == expected
    assert set(happened) == {(site / "index.html").as_uri(), (site / "search" / f"{DAY}.js").as_uri()}


@needs_chromium
def test_without_scripts_all_but_the_search_is_there(page: Page, tmp_path: Path) -> None:
    site = a_site(tmp_path, {DAY: [a_row(1)]}, days=[counted("day", DAY)])
    assert page.context.browser
    context = page.context.browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((site / "index.html").as_uri())
    assert plain.locator("noscript p").is_visible()
    assert not plain.get_by_role("searchbox").is_visible()
    assert plain.locator("button:visible").count() == 0
    plain.locator("#days summary").first.click()
    plain.locator("#days summary").last.click()
    assert plain.get_by_role("link", name="2023-06-15", exact=True).is_visible()
    assert plain.get_by_role("link", name="2023-06-15: 12 operations, 1 failed").is_visible()
    context.close()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_accessible(page: Page, scheme: str, tmp_path: Path) -> None:
    days = [counted("day", DAY - timedelta(days=number), number, number % 3) for number in range(1, 60)]
    rows = {"days": days, "tools": [counted("tool_name", "x" * 300)], "people": [counted("user_name", "ada")]}
    site = a_site(tmp_path, {DAY: [a_row(1, ok=0, further="y" * 900)]}, **rows, kinds=[failure()])
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 375, "height": 800})
    page.goto((site / "index.html").as_uri() + "#q=ada")
    told(page, "1 found in 1 of 1 day")
    page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("() => document.documentElement.scrollWidth") == 375
    violations = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == []


def test_ten_years_are_small() -> None:
    days = frozenset(DAY - timedelta(days=number) for number in range(3650))
    weeks = frozenset(f"{year}-W{week:02}" for year in range(2014, 2024) for week in range(1, 53))
    tools = {f"tool-{number}": weeks for number in range(200)}
    rows = SiteRows(
        days=[counted("day", day) for day in sorted(days)[-182:]],
        tools=[counted("tool_name", name) for name in tools],
        people=[counted("user_name", f"person {number}") for number in range(100)],
    )
    assert len(site_page(Pages(days, weeks, tools, days), rows, ZONE).encode()) < 1_000_000
