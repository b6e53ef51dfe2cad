"""The pages in a real browser: hostile text stays text, the keyboard is enough, and nothing needs the script."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.pictures import browser
from audit_dagster_tests.reports.test_daily_page import ODD, odd_entry, page_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium on PATH")
_ENDINGS = ("</pre>", "</details>", "</summary>", "</dl>", "</style>", "</script>", "</title>", "-->", '">', "'>")
_MARKUP = (
    *("<script>alert(1)</script>", "<img src=http://127.0.0.1:9/x onerror=alert(1)>", "<iframe src=x></iframe>"),
    *("<svg onload=alert(1)>", "<a href=javascript:alert(1)>x</a>", "<style>*{display:none}</style>"),
    *("<base href=http://127.0.0.1:9/>", "<meta http-equiv=refresh content=0>", "{{ 7*7 }}", "&lt;script&gt;"),
)
HOSTILE = [ending + markup for ending in _ENDINGS for markup in _MARKUP]
_ELEMENTS = "() => ['script', 'img', 'iframe', 'base', 'meta', 'style'].map(n => document.querySelectorAll(n).length)"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def show(page: Page, text: str, folder: Path) -> None:
    path = folder / "day.html"
    path.write_text(text, "utf-8")
    page.goto(path.as_uri())


def test_hostile_texts_stay_texts(page: Page, tmp_path: Path) -> None:
    show(page, page_of(make_entry(success=False, error_message="x", command=["true"])), tmp_path)
    expected = page.evaluate(_ELEMENTS)
    happened: list[str] = []
    page.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: happened.append(request.url))
    texts = [
        {"tool_name": text, "operation": text, "note": f"{text}\n{text}", "error_message": text} for text in HOSTILE
    ]
    assert len(texts) == 100
    entries = [odd_entry(**some, parameters={text: text}) for some, text in zip(texts, HOSTILE, strict=True)]
    show(page, page_of(*entries), tmp_path)
    page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert happened == [(tmp_path / "day.html").as_uri()]
    assert page.evaluate(_ELEMENTS) == expected
    assert page.locator("main details").count() == len(HOSTILE)
    assert page.locator("main summary strong").all_inner_texts() == HOSTILE


def test_keyboard_and_copy_button(page: Page, tmp_path: Path) -> None:
    command = ["python3", "x.py", "a b", "it's\x1b"]
    entry = make_entry(command=command, success=False, error_message="disk full")
    show(page, page_of(entry), tmp_path)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    details = page.locator("details")
    assert details.get_attribute("open") is None
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.get_attribute("open") is not None
    page.get_by_role("button", name="Copy").press("Enter")
    page.locator("button", has_text="Copied").or_(page.locator("button", has_text="Selected")).wait_for()
    seen = "python3 x.py 'a b' $'it\\'s\\x1b'"
    assert page.locator("details pre[id]").inner_text() == seen
    assert page.evaluate("() => getSelection().toString() || navigator.clipboard.readText()") == seen


def test_a_failure_leads_to_its_operation(page: Page, tmp_path: Path) -> None:
    show(page, page_of(make_entry(), make_entry(success=False, error_message="disk full")), tmp_path)
    page.locator("main ul a").click()
    page.locator("details[open]").wait_for()
    assert page.locator("details[open]").count() == 1
    assert "✗ failed" in page.locator("details[open] summary").inner_text()


def test_without_scripts_all_is_there(page: Page, tmp_path: Path) -> None:
    assert page.context.browser
    context = page.context.browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    show(plain, page_of(odd_entry(), make_entry(command=["true"])), tmp_path)
    assert plain.locator("button:visible").count() == 0
    plain.locator("summary").last.click()
    assert plain.locator("details pre:visible").all_inner_texts() == ["true"]
    assert plain.locator("details pre").count() >= 6
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_does_not_scroll_sideways(page: Page, scheme: str, tmp_path: Path) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 375, "height": 800})
    show(page, page_of(odd_entry(note=ODD * 20), odd_entry(tool_name="x" * 300)), tmp_path)
    page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("() => document.documentElement.scrollWidth") == 375
