"""Hundreds of hostile texts in every place of a record, and then every document, chart, alert and table of them.

Each is compared with the same one of harmless texts: what the template did not make is not there.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from markdown_it.token import Token

from audit_dagster import report_rows
from audit_dagster.alert_service import send_alerts
from audit_dagster.alerts.message import alert_message
from audit_dagster.cli import cli
from audit_dagster.entry import LogEntry
from audit_dagster.escaping import file_name
from audit_dagster.reports import charts
from audit_dagster.reports.charts import inline
from audit_dagster.settings import PostgresSettings
from audit_dagster.store.query import append
from audit_dagster_tests.alerts.texts import LINKS, Page, incident_with
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.pictures import browser
from audit_dagster_tests.reports.hostile_texts import HARMLESS, HOSTILE
from audit_dagster_tests.reports.lab import Lab, lab
from audit_dagster_tests.reports.test_documents import assert_cells

if TYPE_CHECKING:
    from playwright.sync_api import Page as BrowserPage

DAY = date(2023, 6, 12)
NOON = datetime(2023, 6, 12, 12, tzinfo=UTC)
# The tools that have a report each, and the one that has every text in its report.
TITLES = range(0, len(HOSTILE), 100)
BUSIEST = HOSTILE.index("</title><script>alert(1)</script>")
# Controls and what deceives the eye; a line end is no harm.
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
# What a chart has more or less of, since each tool has its own colour and pattern.
DRAWN = ["defs", "path", "pattern", "rect", "use"]
COLOUR = re.compile("\x1b\\[[0-9;]*m")
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
IN_THE_BROWSER = """drawn => {
  const found = {};
  const count = name => { found[name] = (found[name] ?? 0) + 1; };
  for (const element of document.querySelectorAll('*')) {
    if (!drawn.includes(element.nodeName)) count(element.nodeName);
    for (const {name} of element.attributes) if (name.startsWith('on')) count(name);
  }
  return found;
}"""


def entries_with(texts: Sequence[str]) -> Iterator[LogEntry]:
    """Each text in every place of an operation, and of one of the busiest tool that failed."""
    for number, text in enumerate(texts):
        fields: dict[str, Any] = {
            **dict.fromkeys(("tool_name", "operation", "user_name", "note", "git_branch", "git_commit_hash"), text),
            "working_directory": text,
            "parameters": {text: text, "list": [text]},
            "results": {text: {text: [text]}, "output_file": text},
            "command": ["tool", text],
            "context": {
                "hostname": text,
                "git": {"root": text},
                "tool": {"version": text, "distribution": text},
                "inputs": [{"path": text, "size": 1, "sha256": "0" * 64}],
                text: text,
            },
        }
        failed = {**fields, "tool_name": texts[BUSIEST], "success": False, "error_message": text}
        for which, form in enumerate((failed, fields)):
            place = which * len(texts) + number
            yield make_entry(
                **form,
                operation_id=str(UUID(int=0x40008000000000000000 + place)),
                timestamp=NOON + timedelta(seconds=place),
                duration_seconds=1.0 + place,
            )


def whole(texts: Sequence[str], number: int) -> LogEntry:
    """All texts as the parameters and the results of one operation."""
    return make_entry(
        operation_id=f"{number:08x}-0000-4000-8000-000000000000",
        timestamp=NOON - timedelta(days=2, seconds=number),
        parameters={text: f"{text}{number}" for text in texts},
        results={text: [text, number] for text in texts},
    )


def write_all(made: Lab, texts: Sequence[str]) -> None:
    """Every document that there is."""
    assert set(append(made.connection, list(entries_with(texts)))) == {"stored"}
    service, connection = made.service, made.connection
    service.write_daily_report(connection, DAY)
    service.write_weekly_summary(connection, DAY)
    for number in (*TITLES, BUSIEST):
        service.write_tool_report(connection, DAY, texts[number])
    service.write_site(connection)


@pytest.fixture(scope="module")
def labs(server: PostgresSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Lab]]:
    """One of hostile and one of harmless texts, with all documents written."""
    folder = tmp_path_factory.mktemp("labs")
    with pytest.MonkeyPatch.context() as patch:
        for name in vars(report_rows):
            if name.startswith("_MOST_"):  # so that the tables have every text
                patch.setattr(report_rows, name, 100_000)
        with lab(server, folder, "hostile") as hostile, lab(server, folder, "harmless") as harmless:
            write_all(hostile, HOSTILE)
            write_all(harmless, HARMLESS)
            yield hostile, harmless


def pairs(labs: tuple[Lab, Lab], ending: str) -> list[tuple[Path, Path]]:
    """The documents of that form with hostile texts, and the same of harmless ones; folders of tools by their order."""
    hostile, harmless = ([*made.reports.rglob(f"*.{ending}")] for made in labs)
    assert len(hostile) == len(harmless) > 0
    folders = dict(zip(map(file_name, HOSTILE), map(file_name, HARMLESS), strict=True))

    def same(path: Path) -> Path:
        kind, *parts = path.relative_to(labs[0].reports).parts
        return labs[1].reports.joinpath(kind, *(folders.get(part, part) for part in parts))

    return [(path, same(path)) for path in sorted(hostile)]


def test_there_are_enough_texts() -> None:
    assert len(HOSTILE) == len(set(HOSTILE)) == len(set(HARMLESS)) >= 500


# ---- Files ----


def test_no_document_has_a_raw_control(labs: tuple[Lab, Lab]) -> None:
    for ending in ("md", "html", "svg"):
        for path, _ in pairs(labs, ending):
            found = UNSEEN.search(path.read_text("utf-8"))
            assert found is None, (path, found)


def test_every_json_document_parses(labs: tuple[Lab, Lab]) -> None:
    for path, _ in pairs(labs, "json"):
        assert json.loads(path.read_text("utf-8"))
    day = json.loads((labs[0].reports / "daily" / f"{DAY}.json").read_text("utf-8"))
    stored = sorted(entries_with(HOSTILE), key=lambda entry: entry.timestamp)
    assert [LogEntry.from_json(form) for form in day["entries"]] == stored
    search = (labs[0].reports / "search" / f"{DAY}.js").read_text("ascii")
    name, rows = json.loads("[" + search.removeprefix("auditDay(").removesuffix(",\n]);\n") + "]]")
    assert (name, len(rows)) == (str(DAY), 2 * len(HOSTILE))


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def structure(tokens: Sequence[Token]) -> list[str]:
    """The kinds of all that a viewer makes of Markdown, in their order, but for the texts."""
    flat = [one for token in tokens for one in (token, *(token.children or []))]
    return [token.type for token in flat if token.type != "text"]


def test_markdown_has_the_structure_of_harmless_texts(labs: tuple[Lab, Lab]) -> None:
    for path, same in pairs(labs, "md"):
        text = path.read_text("utf-8")
        assert structure(parsed(text)) == structure(parsed(same.read_text("utf-8"))), path
        assert_cells(text)


# ---- The browser ----


@pytest.fixture(scope="module")
def page() -> Iterator[BrowserPage]:
    if not shutil.which("chromium"):
        pytest.skip("no chromium on PATH")
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("ending", ["html", "svg"])
def test_the_browser_makes_nothing_of_a_text(ending: str, page: BrowserPage, labs: tuple[Lab, Lab]) -> None:
    dialogs: list[str] = []
    requests: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    found = pairs(labs, ending)
    for path, same in found:
        page.goto(same.as_uri())
        expected = page.evaluate(IN_THE_BROWSER, DRAWN)
        page.goto(path.as_uri())
        assert page.evaluate(IN_THE_BROWSER, DRAWN) == expected, path
        assert not [name for name in expected if name.startswith("on")]
    assert dialogs == []
    assert requests == [file.as_uri() for path, same in found for file in (same, path)]


def test_the_search_makes_nothing_of_a_text(page: BrowserPage, labs: tuple[Lab, Lab]) -> None:
    happened: list[str] = []
    page.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: happened.append(request.url))
    made = []
    for one in labs:
        page.goto((one.reports / "index.html").as_uri())
        page.get_by_role("searchbox").fill(str(DAY))
        while "found in" not in (said := page.get_by_role("status").inner_text()):
            if said.startswith("The newest"):
                page.get_by_role("button", name="Show more").click()
            page.wait_for_timeout(20)
        assert page.locator("#found li").count() == 2 * len(HOSTILE)
        made.append(page.evaluate(IN_THE_BROWSER, DRAWN))
    assert made[0] == made[1]
    assert happened == [(one.reports / name).as_uri() for one in labs for name in ("index.html", f"search/{DAY}.js")]


# ---- Charts ----


def test_every_text_can_name_a_tool_in_a_chart() -> None:
    """Twelve in each: more, a chart does not name."""
    kinds = set()
    for start in range(0, len(HOSTILE), 12):
        names = (HOSTILE + HOSTILE[:12])[start : start + 12]
        svg = charts.durations([{"tool_name": name, "p50": 0.5, "p95": 70.0} for name in names], DAY, ZoneInfo("UTC"))
        assert not UNSEEN.search(svg)
        root = ElementTree.fromstring(svg)  # noqa: S314 - our own
        assert ElementTree.fromstring(inline(svg)) is not None  # noqa: S314
        assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
        tags = [element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in root.iter()]
        kinds.add(tuple(sorted(tag for tag in tags if tag not in DRAWN)))
    assert len(kinds) == 1


# ---- Alerts ----


def test_alerts_have_the_structure_of_harmless_texts() -> None:
    """Ten in each: more, a message only names."""
    zone = ZoneInfo("UTC")
    mail = MarkdownIt("commonmark", {"html": False})
    for start in range(0, len(HOSTILE), 10):
        made, same = (
            alert_message(
                "k",
                [replace(incident_with(text), facts={"Place": f"at {text}"}) for text in texts[start : start + 10]],
                LINKS,
                zone,
            )
            for texts in (HOSTILE, HARMLESS)
        )
        assert not UNSEEN.search(made.text)
        assert not UNSEEN.search(made.subject)
        assert "\n" not in made.subject
        assert structure(parsed(made.text)) == structure(parsed(same.text)), start
        shown, expected = Page(mail.render(made.text)), Page(mail.render(same.text))
        assert (shown.tags, shown.strange) == (expected.tags, []), start
        assert shown.links == expected.links


# ---- The command line ----


@pytest.fixture(scope="module")
def stocked(labs: tuple[Lab, Lab]) -> Lab:
    """The hostile texts, with incidents of them, and two operations that have all of them as parameters."""
    hostile, _ = labs
    assert set(append(hostile.connection, [whole(HOSTILE, 1), whole(HOSTILE, 2)])) == {"stored"}
    send_alerts(hostile.connection, hostile.service.settings)
    return hostile


JUNE = ["--start-date", "2023-06-01", "--end-date", "2023-06-30"]
QUESTIONS = [
    ["recent", "--limit", str(len(HOSTILE))],
    ["search", "alert(1)", "--limit", "200"],
    *(["stats", "--by", by, *JUNE] for by in ("tool", "day", "user", "error")),
    ["show", "00000001"],
    ["diff", "00000001", "00000002"],
    ["alerts", "list"],
]
# What only says something, and names a text.
REMARKS = [
    *(["recent", "--tool-name", f"no such {text}"] for text in HOSTILE[::50]),
    *(["search", f"no such {text}"] for text in HOSTILE[::50]),
    *(["stats", "--tool-name", f"no such {text}"] for text in HOSTILE[::50]),
]
ALL_IN_ONE = """
import json, sys
from audit_dagster.cli import cli
for words in json.load(open(sys.argv[1])):
    cli.main(words, standalone_mode=False)
"""


def asked(made: Lab, *words: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.reports)
        done = CliRunner(env=made.environment).invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_pipe_gets_no_control(stocked: Lab) -> None:
    for words in (*QUESTIONS, *REMARKS):
        answer = asked(stocked, *words)
        assert not UNSEEN.search(answer.replace("\t", " ")), words
        if words in QUESTIONS:
            assert len({line.count("\t") for line in answer.splitlines()}) == 1, words


@pytest.mark.parametrize("colour", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_gets_no_control_but_our_colours(colour: dict[str, str], stocked: Lab, tmp_path: Path) -> None:
    commands = tmp_path / "commands.json"
    asked_for = (
        [*QUESTIONS[1:3], *REMARKS] if colour else [*QUESTIONS, *([*words, "--csv"] for words in QUESTIONS[-3:])]
    )
    commands.write_text(json.dumps(asked_for), "utf-8")
    inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    environment = {**inherited, **stocked.environment, "TERM": "xterm-256color", **colour}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-c", ALL_IN_ONE, str(commands)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        shown = b"".join(_read(ours))
        os.close(ours)
    answer = shown.decode()
    assert process.returncode == 0, answer[-2000:]
    assert len(answer) > 10_000
    assert ("\x1b[31m" in answer) == ("NO_COLOR" not in colour)
    left = COLOUR.sub("", answer).replace("\r\n", "\n")
    found = UNSEEN.search(left)
    assert found is None, left[max(0, found.start() - 100) : found.end() + 20]


def _read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # so a terminal ends on Linux
            return
        yield piece


def test_no_cell_of_csv_starts_a_formula(stocked: Lab) -> None:
    for words in QUESTIONS:
        rows = list(csv.reader(io.StringIO(asked(stocked, *words, "--csv"), newline="")))
        assert [row for row in rows if len(row) != len(rows[0])] == [], words
        for cell in (cell for row in rows for cell in row):
            assert not re.match(r"[=+\-@\t\r]", cell) or NUMBER.fullmatch(cell), (words, cell)


def test_json_parses_and_has_the_texts(stocked: Lab) -> None:
    answers = {tuple(words): json.loads(asked(stocked, *words, "--json")) for words in QUESTIONS}
    assert all(answers.values())
    (whole_one,) = answers[("show", "00000001")]
    assert whole_one["parameters"] == whole(HOSTILE, 1).parameters
    tools = {row["tool_name"] for row in answers[("stats", "--by", "tool", *JUNE)]}
    assert tools == {*HOSTILE, "sensing-data"}
    assert {entry["tool_name"] for entry in answers[tuple(QUESTIONS[0])]} == set(HOSTILE)


def test_reports_by_command_have_the_names_that_are_told(stocked: Lab, tmp_path: Path) -> None:
    for text in HOSTILE[::100]:
        folder = tmp_path / "reports"
        answer = asked(stocked, "report", *JUNE, "--tool-name", text, "--output-dir", str(folder), "--json")
        (path,) = map(Path, json.loads(answer))
        assert path.parent == folder
        assert re.fullmatch(r"[a-z0-9_.~-]+", path.name)
        assert path.is_file()
