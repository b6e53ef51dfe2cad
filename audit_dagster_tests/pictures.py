"""Makes pictures of Dagster: `python -m audit_dagster_tests.pictures FOLDER`, with AUDIT_STATE_DIR and
AUDIT_REPORTS_DIR naming a demo. It opens `audit-dagster dev` in Chromium and crops to what matters. Those of the pages
and of the terminal are made by a test of the demo, with what is here."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from audit_dagster.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PROGRAM = [sys.executable, "-m", "audit_dagster.cli"]
_ARGUMENTS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""
_START_SECONDS = 60
_LARGEST = 200_000
_WIDTH, _HEIGHT = 1400, 900
_COLUMNS = 120
# What a node of the graph shows. Without `partitions`: its foot shows them too, and of `audit_logs`, which is observed
# rather than materialized, that row says "0% filled".
_FACETS = ["unsynced-tag", "checks", "latest-event", "status", "kind-tag", "automation"]
# Chromium has no glyph for these where no emoji font is installed.
_DRAWN = {
    "✅": '<rect x="1" y="1" width="18" height="18" rx="3" fill="#2ba84a"/>'
    '<path d="M5 10l4 4 7-8" fill="none" stroke="#fff" stroke-width="2.5"/>',
    "❌": '<path d="M3 3l14 14M17 3L3 17" fill="none" stroke="#d62828" stroke-width="4"/>',
}
_DRAW = """(dialog, drawn) => {
  for (const title of dialog.querySelectorAll('h3'))
    for (const [sign, shapes] of Object.entries(drawn))
      title.innerHTML = title.innerHTML.replace(sign,
        `<svg viewBox="0 0 20 20" width="1em" height="1em" style="vertical-align: -0.15em">${shapes}</svg>`);
}"""


def main(folder: Path) -> None:
    """Write the pictures into `folder`, and say how large each is."""
    folder.mkdir(parents=True, exist_ok=True)
    day = _telling_day(Settings.load().reports_dir / "daily")
    with dagster(os.environ) as address, browser() as page:
        _asset_graph(page, address, folder / "asset-graph.png")
        _daily_report(page, address, day, folder / "daily-report.png")
    for path in sorted(folder.glob("*.png")):
        print(f"{path}: {path.stat().st_size // 1000} kB")
        if path.stat().st_size > _LARGEST:
            sys.exit(f"{path} is larger than {_LARGEST // 1000} kB")


@contextlib.contextmanager
def dagster(environment: Mapping[str, str], log: IO[Any] | None = None) -> Iterator[str]:
    """`audit-dagster dev` on a free port, once it serves our definitions; its address. Ends it as Ctrl-C does."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+") as kept:
        said = log or kept
        process = subprocess.Popen([*PROGRAM, "dev", "--port", str(port)], env=environment, stdout=said, stderr=said)
        try:
            _wait_until_served(process, address)
            yield address
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=30)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            said.seek(0)
            print(said.read(), file=sys.stderr)
            raise
    if code:
        raise AssertionError(f"audit-dagster dev ended with exit code {code}")


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def graphql(address: str, query: str, **variables: Any) -> dict[str, Any]:
    """What the webserver answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - our own server
        answer: dict[str, Any] = json.load(response)
    assert "errors" not in answer, answer
    data: dict[str, Any] = answer["data"]
    return data


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A page in headless Chromium that reaches this machine only."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS.split())
        page = chromium.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, device_scale_factor=1)
        page.route(lambda url: url.startswith("http") and "://127.0.0.1" not in url, lambda route: route.abort())
        yield page
        chromium.close()


def _wait_until_served(process: subprocess.Popen[Any], address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if graphql(address, "{ assetNodes { id } }")["assetNodes"]:
                return
        time.sleep(0.2)
    raise AssertionError("audit-dagster dev does not serve its assets")


def _telling_day(folder: Path) -> str:
    """The first day with failures among successes."""
    texts = {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}
    return next(day for day, text in texts.items() if text.count("✅") > 1 and "❌" in text)


def _asset_graph(page: Page, address: str, path: Path) -> None:
    page.goto(address)
    page.evaluate("facets => localStorage.setItem('asset-node-facets', JSON.stringify(facets))", _FACETS)
    page.goto(f"{address}/asset-groups")
    page.get_by_text("Hide navigation").click()
    page.get_by_text("Observed").first.wait_for()
    _take(
        page,
        path,
        page.locator("[class*=assetNodeBox]"),
        page.locator("foreignObject >> text=/^(markdown|bash)$/"),
        margin=16,
    )


def _daily_report(page: Page, address: str, day: str, path: Path) -> None:
    page.goto(f"{address}/assets/daily_report?view=partitions&partition={day}")
    page.get_by_text("Show Markdown").wait_for()
    page.set_viewport_size({"width": _WIDTH, "height": _HEIGHT + 300})
    page.get_by_text("Show Markdown").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("h1").wait_for()
    dialog.evaluate(_DRAW, _DRAWN)
    _take(page, path, dialog, margin=0)
    page.set_viewport_size({"width": _WIDTH, "height": _HEIGHT})


def take_pages(page: Page, reports: Path, folder: Path) -> list[Path]:
    """The tops of the site's four pages, as page-index.png and so on."""
    day = _telling_day(reports / "daily")
    week = max((reports / "weekly").glob("*.html"))
    tool = max((reports / "tools").glob(f"*/{week.name}"), key=lambda path: path.stat().st_size)
    shown = {"index": reports / "index.html", "day": reports / "daily" / f"{day}.html", "week": week, "tool": tool}
    page.set_viewport_size({"width": 1100, "height": 900})
    for name, path in shown.items():
        page.goto(path.as_uri())
        page.screenshot(path=folder / f"page-{name}.png")
    return [folder / f"page-{name}.png" for name in shown]


def take_terminal(page: Page, path: Path, words: list[str], environment: Mapping[str, str]) -> None:
    """A command and what it says on a terminal."""
    from rich.console import Console
    from rich.text import Text

    with tempfile.TemporaryFile("w") as nowhere:
        console = Console(record=True, width=_COLUMNS, file=nowhere)
        said = Text.from_ansi(_on_a_terminal(words, environment))
        console.print(Text(f"$ audit-dagster {' '.join(words)}\n").append_text(said))
    page.set_content(f'<body style="margin: 0">{console.export_svg(title="audit-dagster")}</body>')
    page.locator("svg").first.evaluate("svg => svg.style.width = '1200px'")
    _take(page, path, page.locator("svg").first, margin=0)


def _on_a_terminal(words: list[str], environment: Mapping[str, str]) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, _COLUMNS, 0, 0))
    colourful = {**environment, "TERM": "xterm-256color"}
    with subprocess.Popen([*PROGRAM, *words], stdout=theirs, stdin=theirs, env=colourful) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor
            while more := terminal.read(4096):
                said += more
    assert process.returncode == 0
    return said.decode().replace("\r\n", "\n")


def _take(page: Page, path: Path, *shown: Locator, margin: int = 24) -> None:
    """The rectangle around all of `shown`, once the page stands still."""
    last = b""
    deadline = time.monotonic() + 15
    while last != (last := page.screenshot()) and time.monotonic() < deadline:
        page.wait_for_timeout(700)
    boxes = [box for place in shown for one in place.all() if (box := one.bounding_box())]
    window = page.viewport_size
    assert boxes and window
    left = max(0, min(box["x"] for box in boxes) - margin)
    top = max(0, min(box["y"] for box in boxes) - margin)
    right = min(window["width"], max(box["x"] + box["width"] for box in boxes) + margin)
    bottom = min(window["height"], max(box["y"] + box["height"] for box in boxes) + margin)
    page.screenshot(path=path, clip={"x": left, "y": top, "width": right - left, "height": bottom - top})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
