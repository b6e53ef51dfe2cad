"""The command line: bad input gets one clear line and the right exit code; an empty answer is no error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from audit_dagster.cli import cli
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import REAL_LOGS, make_entry, needs_real_logs

Store = Callable[..., list[LogEntry]]


def audit(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "audit_dagster.cli", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def check_refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    assert done.stdout == ""


RANGE = ("--start-date", "2023-06-01", "--end-date", "2023-06-30")


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("report", "--start-date", "June", "--end-date", "2023-06-30"), 2, "give a date as YYYY-MM-DD"),
        (("report", "--start-date", "2023-02-30", "--end-date", "2023-06-30"), 2, "'2023-02-30'"),
        (("report", "--start-date", "2023-06-30", "--end-date", "2023-06-01"), 2, "swap them"),
        (("report", "--start-date", "9999-12-31", "--end-date", "9999-12-31"), 2, "out of range"),
        (("report",), 2, "--start-date"),
        (("report", "--start-date", "20230601", "--end-date", "2023-06-30"), 2, "YYYY-MM-DD"),
        (("recent", "--limit", "-1"), 2, "--limit"),
        (("recent", "--tool-name", "\udcff"), 1, "could not answer"),
        (("reproduce", "--recent", "--output-file", ""), 1, "cannot write"),
        (("reproduce", "--recent", "--output-file", "/dev/null"), 1, "it is no file"),
        (("recent", "--limit", "ten"), 2, "--limit"),
        (("recent", "--minutes", "0"), 2, "--minutes"),
        (("recent", "--minutes", "99999999999999999999"), 2, "give a number"),
        (("recent", "--limit", "99999999999999999999"), 2, "give a number"),
        (("reproduce", "--logs-dir", "nowhere"), 2, "audit-dagster report"),
        (("reproduce", "--logs-dir", "."), 2, "has no reports"),
        (("reproduce", "--minutes", "5"), 2, "--recent"),
        (("reproduce", "--recent", "--file", "x"), 2, "give one of"),
        (("reproduce", "--file", ""), 2, "there is no file"),
        (("reproduce", "--start-date", "", "--end-date", ""), 2, "date"),
        (("run", "--tool", "turf", "--", "true"), 2, "No such option"),
        (("reproduce", "--start-date", "2023-06-01"), 2, "go together"),
        (("reproduce", "--operation-id", "first"), 2, "no operation id"),
        (("reproduce", "--operation-id", "00000000-0000-0000-0000-00000000ffff"), 2, "there is no operation"),
        (("reproduce", "--file", "nowhere.csv"), 2, "there is no file nowhere.csv"),
        (("reproduce", "--recent", "a.sh", "--output-file", "b.sh"), 2, "not both"),
        (("reproduce", "--recent", "--format", "ro-crate"), 2, "ro-crate DIR"),
        (("import",), 2, "give files or folders"),
        (("import", "nowhere"), 2, "nowhere"),
        (("import", ".", "--timezone", "Mars/Olympus"), 2, "--timezone"),
        (("import", "--table", "host=127.0.0.1 port=1 connect_timeout=2"), 1, "cannot"),
        (("import", "--table", "not a dsn"), 1, ""),
        (("no-such-command",), 2, "No such command"),
    ],
)
def test_bad_words(settings: Settings, words: tuple[str, ...], code: int, part: str) -> None:
    check_refused(audit(*words), code, part)


@pytest.mark.parametrize(
    ("variable", "value", "code", "part"),
    [
        ("POSTGRES_PORT", "1", 1, "correct POSTGRES_HOST and POSTGRES_PORT"),
        ("POSTGRES_HOST", "no-such-host.invalid", 1, "POSTGRES_HOST"),
        ("POSTGRES_PASSWORD", "wrong", 1, "correct POSTGRES_USER and POSTGRES_PASSWORD"),
        ("POSTGRES_USER", "nobody-here", 1, "POSTGRES_USER"),
        ("POSTGRES_DB", "no_such_database", 1, "POSTGRES_DB"),
        ("POSTGRES_DB", "template1", 1, "audit-dagster init-db"),
        ("POSTGRES_PORT", "five", 2, "POSTGRES_PORT"),
        ("AUDIT_TIMEZONE", "Mars", 2, "AUDIT_TIMEZONE"),
        ("AUDIT_START_DATE", "soon", 2, "AUDIT_START_DATE"),
    ],
)
def test_bad_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, code: int, part: str
) -> None:
    monkeypatch.setenv(variable, value)
    check_refused(audit("recent"), code, part)
    check_refused(audit("report", *RANGE), code, part)


def test_each_help_has_an_example() -> None:
    def commands(group: click.Group) -> Iterator[click.Command]:
        for command in group.commands.values():
            yield command
            if isinstance(command, click.Group):
                yield from commands(command)

    assert [one.name for one in (cli, *commands(cli)) if "\b\n    Example" not in (one.callback.__doc__ or "")] == []


def test_a_folder_that_cannot_be_written(settings: Settings, store: Store, tmp_path: Path) -> None:
    store(make_entry())
    (tmp_path / "file").write_text("in the way")
    check_refused(audit("report", *RANGE, "--output-dir", tmp_path / "file"), 1, "cannot write", "choose another")
    check_refused(audit("reproduce", "--recent", "--output-file", tmp_path / "file" / "x.sh"), 1, "cannot write")


@pytest.mark.parametrize("words", [["recent"], ["recent", "--json"], ["--version"], ["--help"]])
def test_an_answer_that_cannot_be_written(settings: Settings, store: Store, words: list[str]) -> None:
    store(make_entry())
    command = ["bash", "-c", '"$@" >/dev/full', "bash", sys.executable, "-m", "audit_dagster.cli", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "No space left" in done.stderr
    closed = ["bash", "-c", '"$@" >&-', "bash", sys.executable, "-m", "audit_dagster.cli", *words]
    done = subprocess.run(closed, check=False, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_a_link_stays_one(settings: Settings, store: Store, tmp_path: Path) -> None:
    store(make_entry(command=["true"]))
    (tmp_path / "link.sh").symlink_to("real.sh")
    assert audit("reproduce", "--recent", "--output-file", tmp_path / "link.sh").returncode == 0
    assert (tmp_path / "link.sh").is_symlink()
    assert (tmp_path / "real.sh").read_text().startswith("#!/bin/bash")


@pytest.mark.parametrize("damage", ["cut", "broken line", "no comment"])
def test_a_damaged_report_is_named(settings: Settings, store: Store, tmp_path: Path, damage: str) -> None:
    store(*(make_entry(command=["echo", "x" * 200]) for _ in range(3)))
    audit("report", *RANGE, "--output-dir", tmp_path)
    report = tmp_path / "2023-06-15.md"
    text = report.read_text()
    start = text.rindex("<!-- audit-entry")
    report.write_text(
        {
            "cut": text[: start + 100],
            "broken line": f"{text[: start + 100]}\n{text[start + 100 :]}",
            "no comment": text[:start],
        }[damage]
    )
    os.mkfifo(tmp_path / "pipe.md")
    check_refused(audit("reproduce", "--logs-dir", tmp_path), 2, "2023-06-15.md", "write the report anew")


def test_an_empty_range_and_an_unseen_tool_are_no_error(settings: Settings, tmp_path: Path) -> None:
    done = audit("report", *RANGE, "--output-dir", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "No operations from 2023-06-01 to 2023-06-30: nothing was written.\n"
    assert not (tmp_path / "out").exists()
    done = audit("recent", "--tool-name", "never\x1b[31mseen")
    assert (done.returncode, done.stdout) == (0, "No operations of the tool 'never␛[31mseen'.\n")
    assert audit("recent", "--json").stdout == "[]\n"


def test_recent_shows_newest_first_and_plain_into_a_pipe(settings: Settings, store: Store) -> None:
    store(
        make_entry(note="first"),
        make_entry(tool_name="other\ttool", success=False, error_message="broken\n\x1b[31mred", duration_seconds=None),
    )
    lines = audit("recent").stdout.splitlines()
    assert [line.split("\t")[1:] for line in lines] == [
        ["FAILED", "other␉tool", "extract", "unknown", "broken↵␛[31mred"],
        ["ok", "sensing-data", "extract", "1.5s", "first"],
    ]
    assert len(audit("recent", "--limit", "1").stdout.splitlines()) == 1
    assert "other" not in audit("recent", "--tool-name", "sensing-data").stdout


def test_recent_minutes(settings: Settings, store: Store) -> None:
    now = datetime.now(UTC)
    store(make_entry(timestamp=now - timedelta(minutes=5)), make_entry(timestamp=now - timedelta(minutes=90)))
    assert len(json.loads(audit("recent", "--minutes", "60", "--json").stdout)) == 1
    assert len(json.loads(audit("recent", "--minutes", "120", "--json").stdout)) == 2


def test_recent_json_is_the_documented_log_format(settings: Settings, store: Store) -> None:
    (entry,) = store(make_entry(git_branch="main", git_commit_hash="a" * 40, note="n", results={"records": 1}))
    (shown,) = json.loads(audit("recent", "--limit", "20", "--json").stdout)
    assert shown["timestamp"].endswith("Z")
    assert {
        "operation_id": entry.operation_id,
        "tool_name": "sensing-data",
        "operation": "extract",
        "user": "ada",
        "git_branch": "main",
        "git_commit": "a" * 40,
        "parameters": {},
        "results": {"success": True, "records": 1},
        "duration_seconds": 1.5,
        "note": "n",
    }.items() <= shown.items()


def test_recent_on_a_narrow_terminal(settings: Settings, store: Store) -> None:
    import pty

    store(make_entry(note="[bold]not markup[/bold] \x1b]0;title\x07"))
    reader, writer = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    command = [sys.executable, "-m", "audit_dagster.cli", "recent"]
    subprocess.run(command, check=True, stdout=writer, env=environment)
    os.close(writer)
    shown = os.read(reader, 100_000).decode()
    os.close(reader)
    assert "[bold]not" in shown
    assert "\x1b]0" not in shown


def test_settings_come_from_an_env_file_above(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = settings.postgres
    assert place is not None
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in place.as_environment().items()))
    for name in place.as_environment():
        monkeypatch.delenv(name)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert Settings.load().postgres == place
    assert audit("recent").returncode == 0


def test_import_names_what_it_refuses(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "broken.md").write_text("# Not a log\n")
    done = audit("import", tmp_path / "logs")
    assert done.returncode == 1
    assert done.stdout == "1 read, 0 stored, 0 already there, 1 refused\n"
    assert "broken.md" in done.stderr


@needs_real_logs
def test_the_labs_real_logs(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = audit("import", REAL_LOGS, "--timezone", "America/Chicago")
    assert done.stdout == "39 read, 39 stored, 0 already there, 0 refused\n"
    done = audit("import", REAL_LOGS, "--timezone", "America/Chicago")
    assert done.stdout == "39 read, 0 stored, 39 already there, 0 refused\n"
    monkeypatch.setenv("AUDIT_TIMEZONE", "America/Chicago")
    audit("report", "--start-date", "2025-06-06", "--end-date", "2025-06-10", "--output-dir", tmp_path / "out")
    totals = {
        path.stem: [line for line in path.read_text().splitlines() if line.startswith(("- Total", "- Failed"))]
        for path in sorted((tmp_path / "out").iterdir())
    }
    # Counted by hand from the files.
    assert totals == {
        "2025-06-06": ["- Total Operations: 2", "- Failed: 0 (0.0%)"],
        "2025-06-09": ["- Total Operations: 8", "- Failed: 1 (12.5%)"],
        "2025-06-10": ["- Total Operations: 29", "- Failed: 2 (6.9%)"],
    }
    headings = [
        line for path in (tmp_path / "out").iterdir() for line in path.read_text().splitlines() if "### " in line
    ]
    assert sum(line.endswith("❌") for line in headings) == 3
    assert sum(line.endswith("✅") for line in headings) == 36


def test_a_section_that_is_deleted_is_out_of_the_script(settings: Settings, store: Store, tmp_path: Path) -> None:
    store(*(make_entry(command=["echo", word]) for word in ("one", "two", "three")))
    audit("report", *RANGE, "--output-dir", tmp_path)
    report = tmp_path / "2023-06-15.md"
    before, _, rest = report.read_text().partition("### ")
    sections = rest.split("### ")
    report.write_text(before + "### " + "### ".join(section for section in sections if "echo two" not in section))
    done = audit("reproduce", "--logs-dir", tmp_path, "--output-file", tmp_path / "again.sh")
    assert "2 of 2 operations, 2023-06-15 to 2023-06-15" in done.stdout
    command = ["bash", tmp_path / "again.sh", "--work", tmp_path / "work"]
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line for line in again.splitlines() if line in {"one", "two", "three"}] == ["one", "three"]


def test_reproduce_takes_what_is_chosen_in_the_form_that_is_chosen(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    made, digest = tmp_path / "made.csv", "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    made.write_text("foo")
    facts = {"path": str(made), "size": 3, "sha256": digest}
    first, failed, last = store(
        make_entry(command=["make", "made.csv"], context={"outputs": [facts]}),
        make_entry(command=["false"], success=False, results={"exit_code": 3}),
        make_entry(command=["wc", "made.csv"], context={"inputs": [facts]}),
    )
    for chosen, ids in (
        (("--recent",), [first.operation_id, last.operation_id]),
        (("--recent", "--include-failed"), [first.operation_id, failed.operation_id, last.operation_id]),
        (("--operation-id", last.operation_id), [last.operation_id]),
        (("--file", made), [first.operation_id]),
        (("--file", digest), [first.operation_id]),
        (("--start-date", "2023-06-15", "--end-date", "2023-06-15"), [first.operation_id, last.operation_id]),
    ):
        plan = json.loads(audit("reproduce", *chosen, "--format", "json").stdout)
        assert [step["operation_id"] for step in plan["steps"]] == ids, chosen
    step = json.loads(audit("reproduce", "--recent", "--include-failed", "--format", "json").stdout)["steps"][1]
    assert (step["argv"], step["expected_exit_code"]) == (["false"], 3)
    written = audit("reproduce", "--recent", "--format", "json", "plan.json")
    assert (written.stdout, json.loads((tmp_path / "plan.json").read_text())["left_out"][0]["reason"]) == (
        "plan.json\n",
        "it failed",
    )
    crate = audit("reproduce", "--recent", "--format", "ro-crate", tmp_path / "crate")
    assert crate.stdout == f"{tmp_path}/crate: 3 operations, 1 of their outputs, 0 more by reference\n", crate
    assert (tmp_path / "crate" / "ro-crate-metadata.json").exists()


def test_rtgs_has_the_same_audit_group_and_says_what_is_missing(settings: Settings) -> None:
    rtgs = [sys.executable, "-c", "from audit_dagster.rtgs import main; main()"]
    ours = subprocess.run([*rtgs, "audit", "recent", "--json"], check=True, capture_output=True, text=True)
    assert ours.stdout == "[]\n"
    missing = subprocess.run([*rtgs, "sensing-data"], check=False, capture_output=True, text=True)
    assert missing.returncode == 2
    assert "Install rtgs-lab-tools" in missing.stderr


def test_rtgs_passes_other_commands_on(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in distribution: what counts is its metadata and its `rtgs` script."""
    (tmp_path / "rtgs_lab_tools.py").write_text(
        "import click\n"
        "@click.group()\ndef cli(): pass\n"
        "@cli.command('sensing-data')\n@click.argument('word')\ndef sensing(word): print('theirs', word)\n"
        "@cli.command()\ndef audit(): print('their audit')\n"
    )
    metadata = tmp_path / "rtgs_lab_tools-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rtgs-lab-tools\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[console_scripts]\nrtgs = rtgs_lab_tools:cli\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rtgs = [sys.executable, "-c", "from audit_dagster.rtgs import main; main()"]
    done = subprocess.run([*rtgs, "sensing-data", "x"], check=True, capture_output=True, text=True)
    assert done.stdout == "theirs x\n"
    help_text = subprocess.run([*rtgs, "--help"], check=True, capture_output=True, text=True).stdout
    assert "sensing-data" in help_text
    ours = subprocess.run([*rtgs, "audit", "recent", "--json"], check=True, capture_output=True, text=True)
    assert [entry["tool_name"] for entry in json.loads(ours.stdout)] == ["rtgs"], "theirs, and not the audit's own"


def test_sync_and_stop_server(settings: Settings, without_drainer: None) -> None:
    from audit_dagster.recording.recorder import Recording

    recording = Recording("tool", "x")
    recording.start(None)
    recording.finish(success=True, error_message=None)
    assert audit("sync").stdout == "1 stored, 0 already there, 0 in quarantine\n"
    assert audit("stop-server").stdout == "The embedded server was not running.\n"
