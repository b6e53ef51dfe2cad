"""Questions on the command line: each answer as a table, as lines, as JSON and as CSV, whatever text is in the log."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from audit_dagster.cli import cli
from audit_dagster.entry import LogEntry
from audit_dagster.escaping import csv_cell
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
JUNE = ("--start-date", "2023-06-01", "--end-date", "2023-06-30")
HOSTILE = '=cmd()\x1b]0;title\x07\nsecond\u202eline\t"quoted", 100% _x_'
COLOUR = re.compile("\x1b\\[[0-9;]*m")


def ask(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stderr if code else done.stdout


def ask_for_json(*words: str) -> list[Any]:
    answer: list[Any] = json.loads(ask(*words, "--json"))
    return answer


def ask_for_csv(*words: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ask(*words, "--csv"), newline="")))


def lines_of(*words: str) -> list[list[str]]:
    return [line.split("\t") for line in ask(*words).splitlines()]


def on_terminal(*words: str, columns: int = 100, **environment: str) -> str:
    reader, writer = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    environment = {**inherited, "COLUMNS": str(columns), "TERM": "xterm", **environment}
    command = [sys.executable, "-m", "audit_dagster.cli", *words]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=environment) as process:
        os.close(writer)
        shown = b""
        try:
            while piece := os.read(reader, 65536):
                shown += piece
        except OSError:  # so a terminal ends on Linux
            pass
        os.close(reader)
        assert process.stderr is not None
        assert (process.wait(), process.stderr.read()) == (0, b"")
    return shown.decode()


def numbered(number: int, **fields: Any) -> LogEntry:
    return make_entry(operation_id=f"{number:08x}-0000-4000-8000-000000000000", **fields)


# ---- stats ----


def three_days(store: Store) -> None:
    def at(day: int, **fields: Any) -> LogEntry:
        return make_entry(timestamp=datetime(2023, 6, day, 23, 30, tzinfo=UTC), **fields)

    broken = {"success": False, "tool_name": "plot", "error_message": "Traceback (most recent call last):\n x\nE: bad"}
    store(at(1, duration_seconds=1.0), at(1, duration_seconds=3.0), at(2, **broken), at(2, **broken, user_name="eve"))
    store(at(3, duration_seconds=2.0), at(3, success=False, error_message=None, duration_seconds=None))


def test_stats_by_tool_is_the_default(settings: Settings, store: Store) -> None:
    three_days(store)
    assert lines_of("stats", *JUNE) == [
        ["sensing-data", "4", "1", "75.0%", "2.0s", "2.9s"],
        ["plot", "2", "2", "0.0%", "1.5s", "1.5s"],
    ]
    (first, _) = ask_for_json("stats", *JUNE)
    times = {"p50_seconds": 2.0, "p95_seconds": pytest.approx(2.9)}
    counts = {"operations": 4, "failed": 1, "success_rate": 0.75}
    assert first == {"tool_name": "sensing-data", **counts, **times}
    assert ask_for_csv("stats", *JUNE)[1]["success_rate"] == "0.0"
    assert [row[0] for row in lines_of("stats", *JUNE, "--tool-name", "plot")] == ["plot"]


def test_stats_by_day_user_and_error(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    three_days(store)
    assert lines_of("stats", "--by", "day", *JUNE) == [
        ["2023-06-01", "2", "0", "100.0%", "2.0s", "2.9s"],
        ["2023-06-02", "2", "2", "0.0%", "1.5s", "1.5s"],
        ["2023-06-03", "2", "1", "50.0%", "2.0s", "2.0s"],
    ]
    (first, *_) = ask_for_json("stats", "--by", "day", *JUNE)
    assert (first["day"], first["p50_seconds"], first["p95_seconds"]) == ("2023-06-01", 2.0, pytest.approx(2.9))
    assert lines_of("stats", "--by", "user", *JUNE) == [
        ["ada", "5", "2", "60.0%", "1.8s", "2.8s"],
        ["eve", "1", "1", "0.0%", "1.5s", "1.5s"],
    ]
    moments = ["2023-06-02 23:30:00"] * 2
    assert lines_of("stats", "--by", "error", *JUNE) == [
        ["2", *moments, "plot", "extract", "E: bad"],
        ["1", *["2023-06-03 23:30:00"] * 2, "sensing-data", "extract", "no error text"],
    ]
    (cause, _) = ask_for_json("stats", "--by", "error", *JUNE)
    assert (cause["failed"], cause["first_at"]) == (2, "2023-06-02T23:30:00.000Z")
    assert cause["error_message"].startswith("Traceback")
    monkeypatch.setenv("AUDIT_TIMEZONE", "Asia/Tokyo")
    assert [row[0] for row in lines_of("stats", "--by", "day", *JUNE)] == ["2023-06-02", "2023-06-03", "2023-06-04"]


def test_stats_takes_the_last_thirty_days(settings: Settings, store: Store) -> None:
    now = datetime.now(UTC)
    store(*(make_entry(timestamp=now - timedelta(days=days)) for days in (0, 28, 32)))
    assert lines_of("stats")[0][1] == "2"
    since = str((now - timedelta(days=40)).date())
    assert lines_of("stats", "--start-date", since)[0][1] == "3"
    until = str((now - timedelta(days=10)).date())
    assert lines_of("stats", "--end-date", until)[0][1] == "2"


def test_stats_on_a_terminal_writes_numbers_for_people(settings: Settings, store: Store) -> None:
    store(*(make_entry(success=number > 0, error_message=None) for number in range(1501)))
    assert lines_of("stats", *JUNE)[0][1:4] == ["1501", "1", "99.9%"]
    assert on_terminal("stats", *JUNE).splitlines()[-1].split()[1:4] == ["1,501", "1", "99.9%"]
    assert ask_for_csv("stats", *JUNE)[0]["operations"] == "1501"


def test_stats_of_nothing(settings: Settings) -> None:
    assert ask("stats", *JUNE) == "No operations from 2023-06-01 to 2023-06-30.\n"
    assert ask("stats", *JUNE, "--tool-name", "x\x1b[31m").startswith("No operations of the tool 'x␛[31m' from")
    assert ask("stats", "--by", "error", *JUNE) == "No failures from 2023-06-01 to 2023-06-30.\n"
    assert ask_for_json("stats", *JUNE) == []
    assert ask("stats", "--by", "user", *JUNE, "--csv") == (
        "user,operations,failed,success_rate,p50_seconds,p95_seconds\n"
    )
    assert "before the start date" in ask("stats", "--start-date", "2023-06-30", "--end-date", "2023-06-01", code=2)
    assert "out of range" in ask("stats", "--end-date", "0001-01-05", code=2)


# ---- show ----


def full_entry() -> LogEntry:
    file = {"path": "/data/in.csv", "size": 3, "sha256": "a" * 64}
    return numbered(
        0xABCD1234,
        git_branch="main",
        git_commit_hash="c" * 40,
        git_dirty=True,
        parameters={"site": 4, "name": "Wetter, Süd"},
        results={"records": 7},
        success=False,
        error_message="ValueError: no rows",
        note="for June",
        command=["python3", "x.py", "two words"],
        working_directory="/home/ada",
        context={
            "hostname": "lab-1",
            "python_version": "3.11.2",
            "git": {"root": "/home/ada", "patch": {"sha256": "d" * 64}},
            "tool": {"distribution": "x", "version": "1.2"},
            "inputs": [file, "odd"],
            "outputs": "none",
            "traceback": "Traceback:\n  line 1\nValueError: no rows",
        },
    )


def test_show_says_everything(settings: Settings, store: Store) -> None:
    (entry,) = store(full_entry())
    rows = lines_of("show", "abcd")
    assert all(len(row) == 3 for row in rows)
    assert list(dict.fromkeys(row[0] for row in rows)) == [
        *("What", "Who and when", "Where", "Code", "Parameters", "Results", "Inputs and outputs"),
        *("Error", "Note", "Run again"),
    ]
    found = {(section, name): value for section, name, value in rows}
    assert found["What", "operation_id"] == entry.operation_id
    assert found["What", "status"] == "FAILED"
    assert found["Where", "hostname"] == "lab-1"
    assert found["Code", "git.patch.sha256"] == "d" * 64
    assert (found["Code", "git_dirty"], found["Code", "tool.version"]) == ("true", "1.2")
    assert found["Parameters", "name"] == "Wetter, Süd"
    assert ["Inputs and outputs", "input", f"/data/in.csv (size 3, sha256 {'a' * 64})"] in rows
    assert found["Error", "traceback"] == "Traceback:↵  line 1↵ValueError: no rows"
    assert found["Run again", "command"] == "python3 x.py 'two words'"
    (form,) = ask_for_json("show", "ABCD-1234")
    assert abs(datetime.fromisoformat(form.pop("recorded_at")) - datetime.now(UTC)) < timedelta(minutes=1)
    assert form == {**entry.to_json(), "replays": []}
    by_csv = {(row["section"], row["name"]): row["value"] for row in ask_for_csv("show", entry.operation_id)}
    assert by_csv["Error", "traceback"] == entry.context["traceback"]


def test_show_names_the_replays_and_what_they_repeat(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = store(make_entry(command=["true"]))

    def replay(day: int, **context: Any) -> LogEntry:
        at = datetime(2023, 7, day, 9, tzinfo=UTC)
        return make_entry(timestamp=at, user_name="eve", context={"reproduces": first.operation_id, **context})

    same, other = store(replay(1, verdict="reproduced"), replay(2, verdict="differing", differing=["a.csv"]))
    monkeypatch.setenv("AUDIT_TIMEZONE", "Asia/Tokyo")
    rows = lines_of("show", first.operation_id)
    (stored,) = [value for section, name, value in rows if (section, name) == ("Who and when", "recorded_at")]
    assert stored.endswith("+09:00")
    assert [row[1:] for row in rows if row[0] == "Reproduction"] == [
        ["run again", f"differing at 2023-07-02 18:00:00+09:00 by eve, operation {other.operation_id}"],
        ["run again", f"reproduced at 2023-07-01 18:00:00+09:00 by eve, operation {same.operation_id}"],
    ]
    assert {row["name"] for row in ask_for_csv("show", first.operation_id)} >= {"recorded_at", "run again"}
    assert ask_for_json("show", first.operation_id)[0]["replays"][1] == {
        "operation_id": same.operation_id,
        "timestamp": "2023-07-01T09:00:00.000Z",
        "user_name": "eve",
        "verdict": "reproduced",
    }
    rows = lines_of("show", other.operation_id)
    assert [row[1:] for row in rows if row[0] == "Reproduction"] == [
        ["reproduces", first.operation_id],
        ["verdict", "differing"],
        ["differing", '["a.csv"]'],
    ]
    (again,) = [value for _, name, value in rows if name == "script"]
    assert again.endswith(f"--operation-id {first.operation_id}"), "a script leaves replays out"


def test_the_command_of_show_runs(settings: Settings, store: Store, tmp_path: Path) -> None:
    (entry,) = store(make_entry(command=["true"]))
    (command,) = [row[2] for row in lines_of("show", entry.operation_id) if row[:2] == ["Run again", "script"]]
    assert "1 of 1 operations" in ask(*command.split()[1:])
    assert (tmp_path / "reproduce_commands.sh").exists()


def test_show_without_a_command_gives_the_reason(settings: Settings, store: Store) -> None:
    (entry,) = store(make_entry(operation="", command=["x\\u0000"], context={"command_is_exact": False}))
    assert "not possible" in {row[1] for row in lines_of("show", entry.operation_id)}
    (odd,) = store(make_entry(duration_seconds=1e300, context={"tool": 3, "git": [], "inputs": {"path": 1}}))
    rows = lines_of("show", odd.operation_id)
    assert ["Code", "tool", "3"] in rows
    assert not [row for row in rows if row[1] == "end"]


def test_a_prefix_has_to_name_one(settings: Settings, store: Store) -> None:
    one, other = store(numbered(0xAAAA0001, tool_name="a\x1btool"), numbered(0xAAAA0002))
    message = ask("show", "aaaa", code=2)
    assert one.operation_id in message and other.operation_id in message
    assert "a␛tool" in message and len(message.splitlines()) == 1
    assert ask_for_json("show", "aaaa0002")[0]["operation_id"] == other.operation_id
    assert "there is no operation bbbb" in ask("show", "bbbb", code=2)
    for wrong in ("aaa", "zzzz", "", "----", f"{one.operation_id}0", "aaaä"):
        assert "at least four" in ask("show", "--", wrong, code=2)
    assert "at least four" in ask("diff", "aaaa0001", "first", code=2)
    store(*(numbered(0xCCCC0000 + number) for number in range(12)))
    many = ask("show", "cccc", code=2)
    assert many.count("-4000-8000-") == 10 and many.endswith("and more\n")


# ---- search ----


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ({"tool_name": "soil-model"}, "Soil-M"),
        ({"operation": "Fit"}, "fit"),
        ({"user_name": "grace"}, "GRACE"),
        ({"note": "100% of _x_"}, "0% of _X"),
        ({"success": False, "error_message": "KeyError: 'ÄÖ'"}, "'äö'"),
        ({"parameters": {"deep": [{"path": 'C:\\data "new"'}]}}, 'c:\\DATA "new'),
        ({"results": {"rows": 4711}}, "4711"),
        ({"note": "two\nlines\t%s %(x)s"}, "two\nlines\t%S %(x)s"),
    ],
)
def test_search_finds(settings: Settings, store: Store, field: dict[str, Any], text: str) -> None:
    _, wanted = store(make_entry(note="1000 of axe"), make_entry(**field))
    assert [form["operation_id"] for form in ask_for_json("search", text)] == [wanted.operation_id]
    assert ask_for_json("search", f"{text}%") == []


def test_search_is_newest_first_and_can_be_narrowed(settings: Settings, store: Store) -> None:
    old, other, new = store(make_entry(note="x1"), make_entry(note="x2", tool_name="plot"), make_entry(note="x3"))
    assert [row[-2:] for row in lines_of("search", "x")[:1]] == [["x3", new.operation_id]]
    assert [form["note"] for form in ask_for_json("search", "x", "--limit", "2")] == ["x3", "x2"]
    assert [form["note"] for form in ask_for_json("search", "x", "--tool-name", "plot")] == ["x2"]
    assert ask_for_csv("search", "X1")[0]["operation_id"] == old.operation_id
    assert (
        ask("search", "not\x1bthere", "--tool-name", "plot") == "No operations of the tool 'plot' with 'not␛there'.\n"
    )
    assert ask("search", "not there", "--csv").startswith("timestamp,operation_id,tool_name,")
    assert "give a text" in ask("search", "", code=2)
    assert "1 to" in ask("search", "x", "--limit", str(10**20), code=2)
    assert other.tool_name in ask("search", "x2")


# ---- diff ----


def test_diff_names_what_differs(settings: Settings, store: Store) -> None:
    shared = {"git_branch": "main", "results": {"same": 1}, "duration_seconds": 2.0}
    store(
        numbered(
            0x1111,
            **shared,
            parameters={"site": 1, "only": None, "list": ["a b"]},
            command=["run", "--site", "1"],
            context={"python_version": "3.11.2", "tool": {"version": "1.0"}, "hostname": "one"},
        ),
        numbered(
            0x2222,
            **shared,
            git_commit_hash="f" * 40,
            parameters={"site": 1.0, "list": ["a", "b"]},
            command=["run", "--site", "1 0"],
            success=False,
            error_message="broken",
            context={"python_version": "3.12.0", "tool": {"version": "2.0"}, "hostname": "two"},
        ),
    )
    assert lines_of("diff", "00001111", "00002222") == [
        ["success", "true", "false"],
        ["error", "(not there)", "broken"],
        ["git_commit", "(not there)", "f" * 40],
        ["python_version", "3.11.2", "3.12.0"],
        ["tool.version", "1.0", "2.0"],
        ["command", "run --site 1", "run --site '1 0'"],
        ["parameters.list", "'a b'", "a b"],
        ["parameters.site", "1", "1.0"],
    ]
    assert ask_for_json("diff", "00001111", "00002222")[0] == {"name": "success", "first": True, "second": False}
    assert ask_for_csv("diff", "00001111", "00002222")[1] == {"name": "error", "first": "", "second": "broken"}
    assert ask("diff", "00001111", "00001111") == "Nothing differs.\n"
    assert ask_for_json("diff", "00001111", "00001111") == []


def test_diff_names_the_files_that_differ(
    settings: Settings, without_drainer: None, git: Callable[..., str], tmp_path: Path
) -> None:
    """Two runs of one command, in a repository with changes of which the second has more."""
    git("init", "-q", "lab")
    lab = tmp_path / "lab"
    (lab / "make.sh").write_text('cat "$1" > "$2"\n')
    git("-C", lab, "add", ".")
    git("-C", lab, "commit", "-q", "-m", "first")
    for text, note in (("one", "before"), ("three", "after")):
        (lab / "in.txt").write_text(text)
        (lab / "out.txt").unlink(missing_ok=True)
        command = [sys.executable, "-m", "audit_dagster.cli", "run", "--note", note, "--"]
        subprocess.run([*command, "bash", "make.sh", "in.txt", "out.txt"], check=True, cwd=lab)
    second, first = [form["operation_id"] for form in ask_for_json("recent")]
    found = {name: values for name, *values in lines_of("diff", first, second)}
    sums = [f"{hashlib.sha256(text).hexdigest()} ({len(text)} B)" for text in (b"one", b"three")]
    assert (found[f"output {lab}/out.txt"], found[f"input {lab}/in.txt"]) == (sums, sums)
    assert found["note"] == ["before", "after"]
    assert len(set(found["git.patch"])) == 2 and all(len(digest) == 64 for digest in found["git.patch"])
    assert set(found) - {"duration_seconds"} == {
        *("note", "git.patch", f"input {lab}/in.txt", f"output {lab}/out.txt"),
        *(["git_dirty"] if "git_dirty" in found else []),
    }


def test_diff_of_odd_entries(settings: Settings, store: Store) -> None:
    tool = {"commit": "a" * 40, "dirty": True, "patch": {"sha256": "b" * 64}}
    file = {"path": "/here/out.txt", "size": 12345, "sha256": "c" * 64}
    store(
        numbered(0x3333, working_directory="/here", context={"tool": {"git": tool}, "outputs": [file], "inputs": "x"}),
        numbered(
            0x4444,
            working_directory="/there",
            user_name="eve",
            duration_seconds=1.5,
            context={"tool": {"git": "odd"}, "outputs": [{**file, "path": "/there/out.txt"}, {"path": "/etc/x"}, None]},
        ),
    )
    assert lines_of("diff", "00003333", "00004444") == [
        ["user", "ada", "eve"],
        ["tool.git.commit", "a" * 40, "(not there)"],
        ["tool.git.dirty", "true", "(not there)"],
        ["tool.git.patch", "b" * 64, "(not there)"],
        ["working_directory", "/here", "/there"],
        ['input "x"', "x", "(not there)"],
        ["output /etc/x", "(not there)", "not read (size unknown)"],
    ], "what two folders have under one name is the same file"


# ---- open ----


def test_open_takes_the_newest_or_the_day(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("click.launch", lambda path: opened.append(path) or len(opened) > 2)
    monkeypatch.setenv("AUDIT_REPORTS_DIR", str(tmp_path / "reports"))
    daily = tmp_path / "reports" / "daily"
    assert "`audit-dagster site --start-date DATE --end-date DATE`" in ask("open", code=2)
    daily.mkdir(parents=True)
    for name in ("2023-06-01.md", "2023-06-02.md", "2023-06-02_plot.md", "index.html"):
        (daily / name).touch()
    assert ask("open", "--print") == f"{daily}/2023-06-02.md\n"
    (daily / "2023-06-01.html").touch()
    assert ask_for_json("open") == [f"{daily}/2023-06-01.html"]
    assert ask("open", "2023-06-02", "--csv") == f"path\n{daily}/2023-06-02.md\n"
    assert ask("open") == f"{daily}/2023-06-01.html\n"
    assert ask("open", "2023-06-02") == f"{daily}/2023-06-02.md\n"
    assert opened == [f"{daily}/2023-06-01.html", f"{daily}/2023-06-02.md"]
    assert "no program opened" in ask("open", code=1)
    assert "no report of 2023-07-01" in ask("open", "2023-07-01", code=2)
    for wrong in ("*", "../x", "July"):
        assert "YYYY-MM-DD" in ask("open", wrong, code=2)
    (daily.parent / "index.html").touch()
    assert ask("open", "--print") == f"{daily.parent}/index.html\n"
    assert ask("open", "--print", "2023-06-02") == f"{daily}/2023-06-02.md\n"


def test_site_writes_the_page_that_open_opens(
    settings: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_REPORTS_DIR", str(tmp_path))
    assert ask("site") == f"{tmp_path}/index.html\n"
    assert ask_for_json("site") == [f"{tmp_path}/index.html"]
    assert ask("open", "--print") == f"{tmp_path}/index.html\n"


def test_the_command_that_open_names_makes_a_report(
    settings: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder"
    monkeypatch.setenv("AUDIT_REPORTS_DIR", str(folder))
    store(make_entry(command=["true"]))
    (command,) = re.findall("`audit-dagster (.*)`", ask("open", "2023-06-15", code=2))
    ask(*shlex.split(command))
    assert ask("open", "--print", "2023-06-15") == f"{folder}/daily/2023-06-15.html\n"
    page = (folder / "daily" / "2023-06-15.html").read_text()
    leads_to = set(re.findall(r'href="(\.\./[^"#]*)"', page))
    assert leads_to == {
        *("../index.html", "../weekly/2023-W24.html", "../tools/sensing-data/2023-W24.html", "../scripts/2023-06-15.sh")
    }
    assert all((folder / "daily" / address).is_file() for address in leads_to)
    assert (folder / "search" / "2023-06-15.js").is_file()


def test_site_makes_the_pages_of_days(
    settings: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_REPORTS_DIR", str(tmp_path / "reports"))
    store(make_entry(), make_entry(timestamp=datetime(2023, 6, 18, 23, 59, tzinfo=UTC), tool_name="Plot"))
    pages = tmp_path / "reports"
    assert ask("site", "--start-date", "2023-06-15", "--end-date", "2023-06-19") == f"{pages}/index.html\n"
    days = {f"2023-06-{day}.html" for day in range(15, 20)}
    assert {path.name for path in pages.glob("daily/*.html")} == days
    assert {path.stem for path in pages.glob("weekly/*.html")} == {"2023-W24", "2023-W25"}
    assert len(list(pages.glob("tools/*/2023-W24.html"))) == 2
    assert not list(pages.glob("tools/*/2023-W25.html")), "nothing ran"
    assert all(f"daily/{name}" in (pages / "index.html").read_text() for name in days)
    store(make_entry(timestamp=datetime(2023, 6, 19, tzinfo=UTC), note="late"))
    ask("site", "--start-date", "2023-06-19", "--end-date", "2023-06-19")
    assert "late" in (pages / "daily" / "2023-06-19.md").read_text()
    today = datetime.now(UTC).date()
    ask("site", "--start-date", str(today), "--end-date", "9000-01-01", "--json")
    made = {path.name for path in pages.glob("daily/*.html")} - days
    assert made <= {f"{today}.html", f"{today + timedelta(days=1)}.html"}, "none of a day to come, but at midnight"
    assert "still to come" in ask("site", "--start-date", str(today + timedelta(days=2)), code=2)
    assert "goes with --start-date" in ask("site", "--end-date", "2023-06-15", code=2)
    assert "YYYY-MM-DD" in ask("site", "--start-date", "July", code=2)


# ---- completion ----


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(settings: Settings, shell: str) -> None:
    command = [sys.executable, "-m", "audit_dagster.cli", "completion", shell]
    script = subprocess.run(command, check=True, capture_output=True, text=True)
    assert script.stderr == ""
    assert f"_AUDIT_DAGSTER_COMPLETE={shell}_complete" in script.stdout
    assert "audit-dagster" in script.stdout


def test_completion_completes(settings: Settings) -> None:
    words = {"COMP_WORDS": "audit-dagster st", "COMP_CWORD": "1", "_AUDIT_DAGSTER_COMPLETE": "bash_complete"}
    command = [sys.executable, "-m", "audit_dagster.cli"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **words})
    assert done.stdout.split() == ["plain,stats", "plain,stop-server"]
    rtgs = [sys.executable, "-c", "from audit_dagster.rtgs import main; main()", "audit", "completion", "bash"]
    done = subprocess.run(rtgs, check=True, capture_output=True, text=True)
    assert "_RTGS_COMPLETE=bash_complete" in done.stdout


# ---- every form, and text that means harm ----


def hostile_entry() -> LogEntry:
    texts = {"tool_name": HOSTILE, "operation": HOSTILE, "user_name": HOSTILE, "note": HOSTILE}
    return numbered(
        0xEEEE,
        **texts,
        success=False,
        error_message=HOSTILE,
        git_branch=HOSTILE,
        parameters={HOSTILE: HOSTILE},
        command=["x", HOSTILE],
        context={HOSTILE: HOSTILE, "traceback": HOSTILE, "inputs": [{"path": HOSTILE}]},
    )


QUESTIONS: list[tuple[str, ...]] = [
    *[("stats", *JUNE, "--by", by) for by in ("tool", "day", "user", "error")],
    *[("show", "0000eeee"), ("search", "cmd"), ("diff", "0000eeee", "0000ffff"), ("recent",)],
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question[0]}-{question[-1]}")
def test_hostile_text_stays_text(settings: Settings, store: Store, question: tuple[str, ...]) -> None:
    store(hostile_entry(), numbered(0xFFFF))
    for columns in (40, 100):
        shown = COLOUR.sub("", on_terminal(*question, columns=columns))
        assert shown
        assert not set(shown) & set("\x1b\x07\u202e\t"), shown
        if question[0] != "show":
            assert all(len(line) <= columns for line in shown.splitlines())
    plain = ask(*question)
    assert not set(plain) & set("\x1b\x07\u202e")
    table = list(csv.reader(io.StringIO(ask(*question, "--csv"), newline="")))
    assert len({len(row) for row in table}) == 1 and len(table) > 1
    for cell in (cell for row in table for cell in row):
        assert cell == csv_cell(cell)
    assert not set(on_terminal(*question, "--csv")) & set("\x1b\x07\u202e\t")
    assert all(isinstance(one, dict) for one in ask_for_json(*question))


def test_csv_keeps_every_character(settings: Settings, store: Store) -> None:
    store(hostile_entry())
    (row,) = ask_for_csv("recent")
    assert row["note"] == f"'{HOSTILE}"
    assert (row["success"], row["duration_seconds"], row["git_commit"]) == ("false", "1.5", "")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        *[(text, f"'{text}") for text in ("=1+1", "+a", "-", "-1-2", "@x", "\tx", "\rx", "-1e", "+", "-٣")],
        *[(text, text) for text in ("", "a=b", "-1", "+1.5", "-2.5e-7", "1e5", " =1", "'=1", "2023-06-15")],
    ],
)
def test_a_cell_is_no_formula(text: str, cell: str) -> None:
    assert csv_cell(text) == cell


def test_colour_is_for_terminals_that_want_it(settings: Settings, store: Store) -> None:
    store(make_entry(success=False, error_message="broken"))
    assert "\x1b[31m" in on_terminal("recent")
    assert "\x1b[31m" not in on_terminal("recent", NO_COLOR="1")
    assert "\x1b" not in ask("recent")


def test_show_on_a_terminal_has_headings(settings: Settings, store: Store) -> None:
    (entry,) = store(full_entry())
    shown = [line.rstrip() for line in COLOUR.sub("", on_terminal("show", "abcd1234", columns=70)).splitlines()]
    assert {"What", "Parameters", "Run again"} <= set(shown)
    start = shown.index("Error")
    lines = [line.split()[-1] for line in shown[start + 1 : start + 5]]
    assert lines == ["rows", "Traceback:", "1", "rows"]
    assert any(entry.operation_id in line for line in shown)


def test_the_ids_of_search_fit_a_terminal(settings: Settings, store: Store) -> None:
    (entry,) = store(make_entry(note="n"))
    shown = on_terminal("search", "sensing", columns=70)
    assert entry.operation_id[:8] in shown
    assert f"{entry.timestamp:%Y-%m-%d %H:%M:%S}" in shown, "times are not cut either"


def test_tables_at_eighty_columns(settings: Settings, store: Store) -> None:
    names = {"tool_name": "sensing-data-extraction", "operation": "extract"}
    error = "ConnectionError: the logger at station 4 did not answer within 30 seconds"
    noon = datetime(2023, 6, 15, 12, tzinfo=UTC)
    store(numbered(0xABCD1234, **names, success=False, error_message=error, duration_seconds=8123.4, timestamp=noon))
    store(numbered(0xABCD5678, note="", duration_seconds=0.25, timestamp=datetime(2023, 6, 14, tzinfo=UTC)))
    shown = [line.rstrip() for line in on_terminal("recent", columns=80, NO_COLOR="1").splitlines()]
    assert shown[1:] == [
        "2023-06-15 12:00:00  FAILED  sensing-data-extr…  extract    2 h 15 min  abcd1234",
        f"    {error}",
        "2023-06-14 00:00:00  ok      sensing-data        extract        250 ms  abcd5678",
    ]
    cut = on_terminal("recent", "--limit", "1", columns=74, NO_COLOR="1").splitlines()[-1]
    assert cut == f"    {error[:69]}…", "one line"
    narrow = [line.split() for line in COLOUR.sub("", on_terminal("recent", "--limit", "1", columns=60)).splitlines()]
    assert narrow == [
        ["Start", "(UTC)", "2023-06-15", "12:00:00"],
        ["Status", "FAILED"],
        ["Tool", "sensing-data-extraction"],
        ["Operation", "extract"],
        ["Duration", "2", "h", "15", "min"],
        ["Note", "or", "error", *error.split()[:7]],
        error.split()[7:],
        ["Id", "abcd1234"],
    ], "where a table would tell nothing, each value has a line"
    wide = on_terminal("recent", columns=200, NO_COLOR="1").splitlines()
    assert len(wide) == 3 and error in wide[1] and wide[1].rstrip().endswith("abcd1234")
    for question in (["stats", *JUNE], ["stats", "--by", "error", *JUNE], ["diff", "abcd12", "abcd56"]):
        lines = COLOUR.sub("", on_terminal(*question, columns=80)).splitlines()
        assert max(map(len, lines)) <= 80, question
        assert "Error" not in question or error in lines[-1]
    assert error.split()[-1] in on_terminal("diff", "abcd12", "abcd56", columns=60), "what differs is not cut"


def test_report_as_json(settings: Settings, store: Store) -> None:
    assert ask_for_json("report", *JUNE) == []
    store(make_entry())
    assert ask_for_json("report", *JUNE) == ["logs/2023-06-15.md"]
    assert ask("report", *JUNE, "--csv") == "path\nlogs/2023-06-15.md\n"
    assert Path("logs/2023-06-15.md").read_text().startswith("# Audit Report")


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=str)
def test_a_reader_that_leaves_is_no_error(settings: Settings, store: Store, form: list[str]) -> None:
    store(*(make_entry(note="x" * 500) for _ in range(1000)))
    command = ["bash", "-c", '"$@" | head -1', "bash", sys.executable, "-m", "audit_dagster.cli"]
    done = subprocess.run(
        [*command, "search", "xx", "--limit", "1000", *form], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question[0]}-{question[-1]}")
def test_no_database_is_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, question: tuple[str, ...]
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "1")
    for form in ([], ["--json"], ["--csv"]):
        message = ask(*question, *form, code=1)
        assert message.startswith("Error: ") and len(message.splitlines()) == 1
        assert "POSTGRES_PORT" in message


def test_a_long_text_takes_three_lines_of_a_narrow_terminal(settings: Settings, store: Store) -> None:
    store(make_entry(note="long " * 20_000, error_message="bad " * 20_000, success=False))
    for columns in (40, 60):
        assert len(on_terminal("recent", columns=columns).splitlines()) < 20
