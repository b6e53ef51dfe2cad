"""A day as a page and as JSON: all that the rows say, nothing that they make up, the same each time."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError, ConfigurationError
from audit_dagster.escaping import shell_line, visible
from audit_dagster.render import render
from audit_dagster.report_service import ReportService
from audit_dagster.reports import daily
from audit_dagster.reports.daily import daily_report, operation_of
from audit_dagster.reports.daily_page import MOST_ON_A_PAGE, Neighbours, daily_pages, json_end, json_start
from audit_dagster.reports.day import day_of
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.reports.test_documents import HOSTILE_NOTE

DAY = date(2023, 6, 15)
ZONE = ZoneInfo("UTC")
WHERE = Neighbours(DAY, str(DAY), before=date(2023, 6, 14), after=date(2023, 6, 16))
ODD = f'{HOSTILE_NOTE}</pre></details><script>alert(1)</script><img src=x onerror="alert(1)">\'"&amp;🙂```'


def page_of(*entries: LogEntry) -> str:
    (page,) = daily_pages(WHERE, entries, ZONE).values()
    return page


def json_of(*entries: LogEntry) -> str:
    day = day_of(DAY, entries, ZONE)
    lines = ",\n".join(operation_of(entry, day).entry for entry in entries)
    return f"{json_start(day)}{lines}{json_end(WHERE, day)}"


def odd_entry(**fields: Any) -> LogEntry:
    texts = {"tool_name": ODD, "operation": ODD, "user_name": ODD, "note": ODD, "error_message": ODD}
    more: dict[str, Any] = {"parameters": {ODD: ODD}, "results": {ODD: [ODD]}, "context": {"traceback": ODD}}
    ground = {"git_branch": ODD, "git_commit_hash": ODD, "working_directory": ODD, "command": ["sh", ODD]}
    return make_entry(**{**texts, **more, **ground, "success": False, **fields})


def test_a_day_without_operations() -> None:
    page = page_of()
    assert "No operations on this day." in page
    assert "Failures" not in page
    assert "<svg" not in page
    form = json.loads(json_of())
    assert (form["operations"], form["failed"], form["tools"], form["entries"]) == (0, 0, [], [])


def test_a_page_shows_what_the_rows_say() -> None:
    failed = make_entry(success=False, error_message="disk full", git_branch="main", git_dirty=True)
    fine = make_entry(tool_name="A/b", command=["python3", "x.py", "a b"], parameters={"project": "Turf"}, note="ok")
    page = page_of(failed, fine)
    assert (
        f'<li><a href="#{failed.operation_id}">{failed.timestamp:%H:%M:%S} sensing-data extract</a>: disk full</li>'
        in page
    )
    assert page.count("<details id=") == 2
    assert "<details open" not in page
    for text in ("<dd>50.0%</dd>", "<dd>main</dd>", "<dd>uncommitted changes</dd>", "python3 x.py &#39;a b&#39;"):
        assert text in page
    for address in ("2023-06-14.html", "2023-06-16.html", "../weekly/2023-W24.html", "../scripts/2023-06-15.sh"):
        assert f'href="{address}"' in page
    assert 'href="../tools/~41~2fb/2023-W24.html"' in page
    assert page_of(failed, fine) == page


def test_a_page_writes_a_command_and_durations_for_people() -> None:
    page = page_of(make_entry(duration_seconds=76.4, parameters={"project": "Winter Turf", "node_id": 4}, note="a"))
    assert "<dt>Duration</dt><dd>1 min 16 s</dd>" in page
    command = "rtgs sensing-data extract --project &#39;Winter Turf&#39; --node-id 4 --note &#39;Reproduction: a&#39;"
    assert f">{command}</pre>" in page
    assert "Run it again" not in page_of(make_entry(tool_name="No Command"))


def test_a_page_names_the_files_of_an_operation() -> None:
    made: list[Any] = [{"path": "/data/turf.csv", "size": 1234, "sha256": "ab" * 32}, {"path": "/a\nb"}, "handed in", 3]
    page = page_of(make_entry(context={"inputs": "none", "outputs": made}))
    assert "Files read" not in page
    lines = f"/data/turf.csv (1.2 kB, SHA-256 {'ab' * 32})\n/a↵b (not read)"
    assert f'<h3>Files made</h3>\n<pre tabindex="0">\n{lines}</pre>' in page


def test_no_text_becomes_markup() -> None:
    page = page_of(odd_entry(), odd_entry(success=True))
    assert page.count("<script") == 1
    assert not re.search(r"<(img|iframe|b|code)\b", page)
    assert not [character for character in page if character != "\n" and visible(character) != character]


def test_the_policy_names_the_one_script() -> None:
    from base64 import b64encode
    from hashlib import sha256

    page = page_of(make_entry())
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in page


def test_a_large_note_is_cut_in_the_page_and_whole_in_the_json() -> None:
    entry = make_entry(note="x" * 1_000_000)
    assert len(page_of(entry)) < 100_000
    assert "(1,000,000 characters; the JSON of this day has them all)" in page_of(entry)
    assert LogEntry.from_json(json.loads(json_of(entry))["entries"][0]) == entry


def test_json_gives_the_entries_back() -> None:
    entries = [make_entry(), odd_entry(), make_entry(success=False)]
    text = json_of(*entries)
    form = json.loads(text)
    assert list(form) == ["day", "timezone", "operations", "failed", "tools", "entries", "links"]
    assert [LogEntry.from_json(one) for one in form["entries"]] == entries
    assert (form["operations"], form["failed"]) == (3, 2)
    assert text == json_of(*entries)
    assert text.isascii()


def test_a_long_day_has_pages() -> None:
    entries = [make_entry(success=number % 1500 != 0) for number in range(2 * MOST_ON_A_PAGE + 1)]
    pages = daily_pages(WHERE, entries, ZONE)
    assert list(pages) == [".html", "-2.html", "-3.html"]
    assert [page.count("<details id=") for page in pages.values()] == [MOST_ON_A_PAGE, MOST_ON_A_PAGE, 1]
    first, second, _ = pages.values()
    assert f'href="#{entries[0].operation_id}"' in first
    assert f'href="2023-06-15-2.html#{entries[1500].operation_id}"' in first
    assert f'<details id="{entries[1500].operation_id}">' in second
    assert "Failures" not in second
    assert 'href="2023-06-15-3.html">Page 3</a>' in second


def test_all_forms_lie_beside_each_other_and_old_pages_go(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]], tmp_path: Path
) -> None:
    store(make_entry(), make_entry(success=False))
    service = ReportService(settings)
    folder = settings.reports_dir / "daily"
    folder.mkdir(parents=True)
    for number in (2, 3):
        (folder / f"{DAY}-{number}.html").write_text("an earlier, longer day")
    document = service.write_daily_report(connection, DAY)
    assert sorted(path.name for path in folder.iterdir()) == [f"{DAY}.html", f"{DAY}.json", f"{DAY}.md"]
    assert document.path.name == f"{DAY}.md"
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    service.write_daily_report(connection, DAY)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def navigation(page: Path) -> list[str]:
    return re.findall(r'<li><a href="([^"#]+)">', page.read_text("utf-8").split("</header>")[0])


def test_a_folder_of_reports_links_the_days_that_are_in_it(
    settings: Settings, store: Callable[..., list[LogEntry]], tmp_path: Path
) -> None:
    days = [date(2023, 6, 1), DAY, date(2023, 6, 30)]
    store(*(make_entry(timestamp=datetime(day.year, day.month, day.day, 12, tzinfo=UTC)) for day in days))
    paths = ReportService(settings).generate_report(days[0], days[-1], tmp_path / "logs", "sensing-data")
    stems = [f"{day}_sensing-data" for day in days]
    assert [Path(path).name for path in paths] == [f"{stem}.md" for stem in stems]
    first, middle, last = (f"{stem}.html" for stem in stems)
    for page, others in ((first, [middle]), (middle, [first, last]), (last, [middle])):
        forms = [page.replace(".html", ending) for ending in (".md", ".json")]
        assert navigation(tmp_path / "logs" / page) == [*others, *forms]
    assert not (settings.reports_dir / "search").exists()


def test_among_all_reports_the_first_day_has_none_before(
    settings: Settings, connection: psycopg.Connection[Any]
) -> None:
    service = ReportService(settings._replace(start_date=DAY))
    for day, first in ((DAY, "2023-06-16.html"), (date(2023, 6, 16), "2023-06-15.html")):
        service.write_daily_report(connection, day)
        found = navigation(settings.reports_dir / "daily" / f"{day}.html")
        assert next(address for address in found if not address.startswith("..")) == first


def test_a_long_day_is_written_as_it_is_rendered(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    """The service reads the rows in parts, and never has all of them."""
    entries = store(
        *(make_entry(success=number % 3 == 0, note="x" * 200) for number in range(MOST_ON_A_PAGE)),
        *(odd_entry(tool_name=f"tool {number}") for number in range(5)),
    )
    document = ReportService(settings).write_daily_report(connection, DAY)
    folder = settings.reports_dir / "daily"
    report = daily_report(DAY, entries, ZONE)
    made = {".md": report, ".json": json_of(*entries), **daily_pages(WHERE, entries, ZONE)}
    assert {path.name for path in folder.iterdir()} == {f"{DAY}{ending}" for ending in made}
    assert {ending: (folder / f"{DAY}{ending}").read_bytes().decode() for ending in made} == made
    assert (document.operations, document.failed) == (1005, 671)
    assert document.text == report[: report.rindex("\n", 0, 200_000) + 1] + "…\n"


def test_the_first_failures_are_listed_and_the_others_counted() -> None:
    entries = [make_entry(success=False) for _ in range(1201)]
    page = daily_pages(WHERE, entries, ZONE)[".html"]
    assert page.count('<li><a href="#') == 200
    assert "<p>1,001 more failed. The pages of this day have them all among their operations, marked ✗.</p>" in page
    assert "more failed" not in page_of(*entries[:200])


def test_the_search_has_every_operation(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    start = datetime(2023, 6, 15, 11, 0, 1, tzinfo=UTC)
    error = "Traceback (most recent call last):\n  …\nOSError: disk\tfull"
    failed = make_entry(timestamp=start, success=False, error_message=error, note="n" * 400, parameters={"a": [1, "é"]})
    late = start + timedelta(hours=9)
    bare = make_entry(timestamp=late, tool_name='</script>"', operation="\x1b", user_name="")
    store(failed, *(make_entry() for _ in range(MOST_ON_A_PAGE - 1)), bare)
    service = ReportService(settings)
    service.write_daily_report(connection, DAY)
    text = (settings.reports_dir / "search" / f"{DAY}.js").read_text("ascii")
    first, *others, last, end = text.splitlines()[1:]
    further = f"OSError: disk\\u2409full \\u00b7 {'n' * 300} \\u00b7 " + '{\\"a\\": [1, \\"\\u00e9\\"]}'
    assert text.startswith('auditDay("2023-06-15",[\n')
    assert first == f'["11:00:01","sensing-data","extract","ada",0,"{failed.operation_id}",1,"{further}"],'
    assert len(others) == MOST_ON_A_PAGE - 1
    assert json.loads(last[:-1])[1:] == ['</script>"', "\u241b", "", 1, bare.operation_id, 2, ""]
    assert end == "]);"
    service.write_daily_report(connection, date(2023, 6, 16))
    assert (settings.reports_dir / "search" / "2023-06-16.js").read_text("ascii") == 'auditDay("2023-06-16",[\n]);\n'


def test_nothing_is_left_of_a_report_that_could_not_be_made(
    settings: Settings,
    connection: psycopg.Connection[Any],
    store: Callable[..., list[LogEntry]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(make_entry(), make_entry(tool_name="poison"))
    service = ReportService(settings)
    service.write_daily_report(connection, DAY)
    folder = settings.reports_dir
    made = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    store(make_entry())
    real = daily.facts

    def facts(entry: LogEntry) -> list[tuple[str, str]]:
        return real(entry) if entry.tool_name != "poison" else [("", str(1 // 0))]

    monkeypatch.setattr(daily, "facts", facts)
    with pytest.raises(ZeroDivisionError):
        service.write_daily_report(connection, DAY)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == made
    monkeypatch.undo()
    assert service.write_daily_report(connection, DAY).operations == 3


def test_a_template_that_shows_no_operations_keeps_none_from_the_other_files(
    settings: Settings,
    connection: psycopg.Connection[Any],
    store: Callable[..., list[LogEntry]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (entry,) = store(make_entry())
    (tmp_path / "daily_report.md.j2").write_text("{{ total }} in all\n")
    monkeypatch.setenv("AUDIT_TEMPLATES_DIR", str(tmp_path))
    assert ReportService(settings).write_daily_report(connection, DAY).text == "1 in all\n"
    form = json.loads((settings.reports_dir / "daily" / f"{DAY}.json").read_bytes())
    assert [LogEntry.from_json(one) for one in form["entries"]] == [entry]
    assert entry.operation_id in (settings.reports_dir / "daily" / f"{DAY}.html").read_text("utf-8")


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_a_command_to_copy_is_seen_whole(words: list[str]) -> None:
    line = shell_line(words)
    assert visible(line) == line


def test_bash_reads_a_command_to_copy_as_it_was() -> None:
    words = ["", "a b", "it's", "a\nb", "\x1b[31m\\'\\x", "\u202e'é", "$HOME `id` !", "\ufeff"]
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {shell_line(words)}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


def test_a_labs_own_template_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_TEMPLATES_DIR", str(tmp_path / "own"))
    with pytest.raises(ConfigurationError, match=r"AUDIT_TEMPLATES_DIR is '.*own': set it to a folder that exists"):
        page_of()
    (tmp_path / "own").mkdir()
    path = tmp_path / "own" / "daily_report.html.j2"
    path.write_text('{% extends "page.html.j2" %}\n{% block content %}<p>{{ day }} of ours</p>{% endblock %}')
    assert "<p>2023-06-15 of ours</p>" in page_of()


@pytest.mark.parametrize("source", ["ok\n{{ nothing.there }}\n", "ok\n{% if %}\n", "ok\n{{ day|no_such_filter }}\n"])
def test_an_error_in_an_own_template_names_file_and_line(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_TEMPLATES_DIR", str(tmp_path))
    (tmp_path / "shell_hook.sh.j2").write_text(source)
    with pytest.raises(AuditError, match=r"^the template .*shell_hook\.sh\.j2, line 2: \S") as caught:
        render("shell_hook.sh.j2", day=datetime.now(UTC) + timedelta(0))
    assert "\n" not in str(caught.value)


def test_a_link_to_an_operation_of_a_long_day_names_its_page(
    settings: Settings, connection: psycopg.Connection[Any], store: Callable[..., list[LogEntry]]
) -> None:
    zone = "America/Chicago"
    midnight = datetime(2023, 6, 15, tzinfo=ZoneInfo(zone))
    moment = midnight + timedelta(hours=1)
    first = make_entry(timestamp=midnight, duration_seconds=70.0)
    others = [make_entry(timestamp=moment) for _ in range(MOST_ON_A_PAGE - 2)]  # one moment: their order is the log's
    last, next_page = (make_entry(timestamp=moment, duration_seconds=length) for length in (80.0, 90.0))
    store(make_entry(timestamp=midnight - timedelta(seconds=1)), first, *others, last, next_page)
    ReportService(settings._replace(timezone=zone)).write_weekly_summary(connection, date(2023, 6, 12))
    page = (settings.reports_dir / "weekly" / "2023-W24.html").read_text("utf-8")
    assert re.findall(r'href="\.\./daily/(.*?)#(.*?)"', page)[:3] == [
        ("2023-06-15-2.html", next_page.operation_id),
        ("2023-06-15.html", last.operation_id),
        ("2023-06-15.html", first.operation_id),
    ]
