"""Markdown execution logs: the real ones where they are at hand, and logs written here for what those do not show."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_dagster.entry import LogEntry
from audit_dagster.errors import EntryError, InvalidInputError
from audit_dagster.importers.markdown_logs import MAX_BYTES, find_logs, is_execution_log, parse_log, read_logs
from audit_dagster.importers.outcome import NO_ERROR_TEXT, Read, Refused
from audit_dagster_tests.conftest import REAL_LOGS, needs_real_logs

CHICAGO = ZoneInfo("America/Chicago")

RESULTS = {
    "success": True,
    "rows": 12,
    "start_time": "2025-03-01T09:00:00.250000",
    "end_time": "2025-03-01T09:00:02.750000",
}
ENVIRONMENT = {
    "timestamp": "2025-03-01T09:00:02.800000",
    "user": "mia",
    "hostname": "bench",
    "platform": "Linux-6.1",
    "python_version": "3.12.1",
    "working_directory": "/home/mia/lab",
    "script_path": "/home/mia/lab/soil.py",
    "tool_name": "soil-probe",
    "environment_variables": {"CI": "false", "MCP_USER": None},
    "execution_source": "Manual/Local",
    "triggered_by": "mia@bench",
}


def make_log(
    *,
    operation: str = "Read the probe in bed 4",
    parameters: str = "- **bed**: 4\n",
    summary: str = "- **Status**: ✅ Success\n- **Duration**: 2.5s\n",
    results: dict[str, Any] | str = RESULTS,
    environment: dict[str, Any] | str = ENVIRONMENT,
    after_context: str = "",
    after_summary: str = "",
) -> str:
    def block(title: str, value: dict[str, Any] | str) -> str:
        text = value if isinstance(value, str) else json.dumps(value, indent=2)
        return f"<details>\n<summary>{title}</summary>\n\n```json\n{text}\n```\n</details>\n"

    return (
        "# Soil-Probe Execution Log\n\n## Execution Context\n- **Timestamp**: 2025-03-01T09:00:02.800000\n"
        f"- **Operation**: {operation}\n- **Execution Source**: Manual/Local\n- **Triggered By**: mia@bench\n"
        "- **Hostname**: bench\n- **Platform**: Linux-6.1\n- **Working Directory**: /home/mia/lab\n"
        f"{after_context}\n## Parameters\n{parameters}\n## Results Summary\n{summary}{after_summary}\n"
        f"## Detailed Results\n{block('Full Results JSON', results)}\n"
        f"## Execution Environment\n{block('Environment Details', environment)}\n---\n*Log generated automatically*\n"
    )


def parsed(zone: ZoneInfo = CHICAGO, **parts: Any) -> LogEntry:
    return parse_log(make_log(**parts), zone, "a.md")


# The real logs


@pytest.fixture(scope="module")
def real_entries() -> list[LogEntry]:
    outcomes = list(read_logs([REAL_LOGS], CHICAGO))
    assert [outcome for outcome in outcomes if isinstance(outcome, Refused)] == []
    return [outcome.entry for outcome in outcomes if isinstance(outcome, Read)]


@needs_real_logs
def test_every_real_log_is_read(real_entries: list[LogEntry]) -> None:
    texts = [path.read_text() for path in REAL_LOGS.rglob("*.md")]
    starts = [re.search(r'"start_time": "(.{10})', t) or re.search(r"Timestamp\*\*: (.{10})", t) for t in texts]

    assert len(real_entries) == len(texts) == 39
    assert sum(not entry.success for entry in real_entries) == sum("❌ Failed" in text for text in texts) == 3
    days = Counter(entry.timestamp.astimezone(CHICAGO).date().isoformat() for entry in real_entries)
    assert days == Counter(match.group(1) for match in starts if match)
    assert sum(entry.duration_seconds is None for entry in real_entries) == sum('"start_time"' not in t for t in texts)
    tools = Counter(entry.tool_name for entry in real_entries)
    assert tools == Counter(path.parent.name for path in REAL_LOGS.rglob("*.md"))


@needs_real_logs
def test_real_entries_are_complete_and_keep_nothing_twice(real_entries: list[LogEntry]) -> None:
    for entry in real_entries:
        assert entry.user_name == "zach"
        assert "…" not in entry.operation
        assert not {"note", "success", "zip_file"} & entry.parameters.keys()
        assert not {"note", "start_time", "end_time", "error"} & entry.results.keys()
        assert "None" not in entry.parameters.values()
        assert entry.context["imported_from"]["kind"] == "markdown-log"
        assert entry.command is None
        assert (entry.error_message is None) == entry.success
        assert LogEntry.from_json(json.loads(json.dumps(entry.to_json(), allow_nan=False))) == entry


@needs_real_logs
def test_real_ids_are_unique_and_the_same_again(real_entries: list[LogEntry], tmp_path: Path) -> None:
    ids = [entry.operation_id for entry in real_entries]
    assert len(set(ids)) == 39
    elsewhere = read_logs([REAL_LOGS], ZoneInfo("Asia/Tokyo"))
    assert [outcome.entry.operation_id for outcome in elsewhere if isinstance(outcome, Read)] == ids


@needs_real_logs
def test_a_real_decoding_keeps_parameters_that_its_results_repeat(real_entries: list[LogEntry]) -> None:
    [entry] = [entry for entry in real_entries if entry.tool_name == "uid-decoding"]
    assert entry.parameters["system_uid"] == entry.results["system_uid"] == 59001428
    assert entry.duration_seconds == pytest.approx(0.000054)


# One log


def test_a_log_becomes_an_entry() -> None:
    entry = parsed()
    assert entry.timestamp == datetime(2025, 3, 1, 15, 0, 0, 250000, UTC)
    assert entry.duration_seconds == 2.5
    assert (entry.tool_name, entry.operation, entry.user_name) == ("soil-probe", "Read the probe in bed 4", "mia")
    assert entry.parameters == {"bed": 4}
    assert entry.results == {"rows": 12}
    assert entry.working_directory == "/home/mia/lab"
    assert entry.context == {
        "hostname": "bench",
        "platform": "Linux-6.1",
        "python_version": "3.12.1",
        "script_path": "/home/mia/lab/soil.py",
        "source": "Manual/Local",
        "triggered_by": "mia@bench",
        "environment_variables": {"CI": "false"},
        "imported_from": {"kind": "markdown-log", "file": "a.md"},
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("None", None),
        ("True", True),
        ("False", False),
        ("", ""),
        ("59001428", 59001428),
        ("-3", -3),
        ("0012", "0012"),
        ("1e5", "1e5"),
        ("28.3", 28.3),
        ("28.30", "28.30"),
        ("nan", "nan"),
        ("1_000", "1_000"),
        ("123456789012345678901234", "123456789012345678901234"),
        ("e00fce68f374e425e2d6b891", "e00fce68f374e425e2d6b891"),
        ("2025-06-10", "2025-06-10"),
        ('`["a", 1, null]`', ["a", 1, None]),
        ('`{"depth": 0.5}`', {"depth": 0.5}),
        ("`[broken`", "`[broken`"),
        ("`code`", "`code`"),
        ("'quoted' and \"quoted\" (°)", "'quoted' and \"quoted\" (°)"),
    ],
)
def test_a_parameter_gets_its_value_back(written: str, value: object) -> None:
    result = parsed(parameters=f"- **x**: {written}\n").parameters["x"]
    assert result == value
    assert type(result) is type(value)


def test_results_among_the_parameters_of_an_extraction_become_results() -> None:
    entry = parsed(
        parameters="- **success**: True\n- **records_extracted**: 9\n- **output_file**: /d/a.csv\n"
        "- **zip_file**: /d/a.zip\n- **project**: Beds\n",
        results={"success": True, "records_extracted": 9, "output_file": "/d/other.csv"},
    )
    assert entry.parameters == {"output_file": "/d/a.csv", "project": "Beds"}
    assert entry.results == {"records_extracted": 9, "output_file": "/d/other.csv", "zip_file": "/d/a.zip"}


def test_the_newer_form_has_git_and_the_command() -> None:
    exported = {name: value for name, value in ENVIRONMENT.items() if name != "user"}
    git = {"git_commit": "0123456789abcdef0123456789abcdef01234567", "git_branch": "main", "git_dirty": True}
    section = (
        "\n## Git Information\n- **Branch**: main\n- **Commit**: 01234567...\n- **Status**: ⚠️ Dirty\n"
        '\n## Command\n```bash\nrtgs soil --note it\'s "wet"\n```\n'
    )
    entry = parsed(environment={**exported, **git}, after_context=section)
    assert entry.git_commit_hash == git["git_commit"]
    assert (entry.git_branch, entry.git_dirty, entry.user_name) == ("main", True, "mia")
    assert entry.context["command_text"] == 'rtgs soil --note it\'s "wet"'
    assert entry.command is None
    assert entry.parameters == {"bed": 4}

    only_sections = parsed(after_context=section)
    assert (only_sections.git_commit_hash, only_sections.git_branch, only_sections.git_dirty) == (
        "01234567",
        "main",
        True,
    )


@pytest.mark.parametrize(
    ("bullet", "dirty"),
    [
        ("- **Status**: ✅ Clean", False),
        ("- **status**: clean", False),
        ("- **Working Tree**: dirty", True),
        ("- **Dirty**: yes", True),
        ("- **Dirty**: False", False),
        ("- **Commit**: `abcdef12`", None),
    ],
)
def test_the_state_of_the_working_tree(bullet: str, dirty: bool | None) -> None:
    assert parsed(after_context=f"\n## Git Information\n{bullet}\n").git_dirty is dirty


def test_an_unknown_state_that_was_printed_as_clean_stays_unknown() -> None:
    environment = {**ENVIRONMENT, "git_commit": "abc", "git_branch": None, "git_dirty": None}
    entry = parsed(
        environment=environment, after_context="\n## Git Information\n- **Branch**: None\n- **Status**: ✅ Clean\n"
    )
    assert (entry.git_commit_hash, entry.git_branch, entry.git_dirty) == ("abc", None, None)


def test_git_facts_may_be_nested() -> None:
    entry = parsed(environment={**ENVIRONMENT, "git": {"commit": "abc", "branch": "dev", "dirty": False}})
    assert (entry.git_commit_hash, entry.git_branch, entry.git_dirty) == ("abc", "dev", False)


@pytest.mark.parametrize("body", ["```\nrtgs soil 4\n```\n", "`rtgs soil 4`\n", "rtgs soil 4\n"])
def test_the_command_in_any_dress(body: str) -> None:
    assert parsed(after_context=f"\n## Command\n{body}").context["command_text"] == "rtgs soil 4"
    assert parsed(after_summary=f"\n## Command\n{body}").context.get("command_text") == (
        "rtgs soil 4" if body.startswith("```") else None
    )


def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    text = make_log(parameters="- **text**: one\ntwo\n")
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    [outcome] = read_logs([tmp_path], CHICAGO)
    assert isinstance(outcome, Read)
    assert outcome.entry == parse_log(text, CHICAGO, "a.md")
    assert parse_log("\ufeff" + text, CHICAGO, "a.md") == outcome.entry


def test_fences_inside_the_json() -> None:
    text = "before ```\nstill ```json {"
    raw = '{"success": true, "readme": "line\n```\n</details>\n", "n": 1}'
    assert parsed(results={**RESULTS, "readme": text}).results["readme"] == text
    assert parsed(results=raw).results == {"readme": "line\n```\n</details>\n", "n": 1}


def test_headings_and_bullets_inside_texts_are_text() -> None:
    note = "see\n\n## Parameters\n- **bed**: 9\n\n## Results Summary\nnone\n## Command\n\n## Detailed Results\nlater"
    error = "boom\n## Detailed Results\n## Execution Environment\n- **Status**: ✅ Success"
    entry = parsed(
        parameters=f"- **bed**: 4\n- **note**: {note}\n- **depth**: 2\n",
        summary=f"- **Status**: ❌ Failed\n- **Duration**: 2.5s\n- **Error**: {error}\n",
        results={"success": False, "error": error},
    )
    assert entry.note == note
    assert entry.parameters == {"bed": 4, "depth": 2}
    assert entry.error_message == error
    assert "command_text" not in entry.context


def test_what_jsonb_refuses_is_replaced_and_counted() -> None:
    raw = (
        '{"success": true, "mean": NaN, "max": [Infinity, -Infinity], '
        '"text": "a\\u0000b\\ud800", "fine": "\\ud83c\\udf31"}'
    )
    entry = parsed(results=raw)
    assert entry.results == {"mean": None, "max": [None, None], "text": "a\ufffdb\ufffd", "fine": "🌱"}
    assert entry.context["sanitised"] == 4


@pytest.mark.parametrize("error", ["", "  ", None])
def test_a_failure_without_a_text_says_so(error: str | None) -> None:
    entry = parsed(results={"success": False, "error": error, "error_type": "Probe error"})
    assert (entry.error_message, entry.results) == (NO_ERROR_TEXT, {"error_type": "Probe error"})
    assert parsed(results={"success": False}).error_message == NO_ERROR_TEXT
    assert parsed(results={"success": False, "error": ["a", 1]}).error_message == '["a", 1]'


def test_the_status_line_speaks_where_the_results_do_not() -> None:
    assert parsed(results={}).success
    assert not parsed(results={}, summary="- **Status**: ❌ Failed\n").success
    with pytest.raises(EntryError, match="succeeded"):
        parsed(results={}, summary="- **Duration**: Unknown\n")


@pytest.mark.parametrize(
    ("parts", "note"),
    [
        ({"results": {**RESULTS, "note": "wet"}, "parameters": "- **note**: None\n"}, "wet"),
        ({"results": {**RESULTS, "note": None}, "parameters": "- **note**: dry\n"}, "dry"),
        ({"operation": "Read bed 4 - after rain - again"}, "after rain - again"),
        ({"operation": "Read bed 4 - deep", "parameters": "- **note**: None\n"}, None),
        ({"operation": "Operation failed - Probe error", "results": {"success": False, "error": "x"}}, None),
    ],
)
def test_the_note_is_found_and_kept_once(parts: dict[str, Any], note: str | None) -> None:
    entry = parsed(**parts)
    assert entry.note == note
    assert entry.operation == parts.get("operation", "Read the probe in bed 4")
    assert "note" not in entry.parameters
    assert "note" not in entry.results


def test_a_second_note_that_says_something_else_stays() -> None:
    entry = parsed(results={**RESULTS, "note": "wet"}, parameters="- **note**: dry\n")
    assert (entry.note, entry.parameters) == ("wet", {"note": "dry"})


def test_who_ran_it_without_the_user_in_the_environment() -> None:
    for triggered_by, user in (("claude via mia@bench", "mia"), ("mia@bench", "mia"), ("octo", "octo"), (None, "mia")):
        environment = {**ENVIRONMENT, "user": None, "triggered_by": triggered_by}
        assert parsed(environment=environment).user_name == user


def test_the_tool_is_in_the_title_too() -> None:
    assert parsed(environment={**ENVIRONMENT, "tool_name": None}).tool_name == "soil-probe"


@pytest.mark.parametrize(
    ("line", "seconds"),
    [("45.7s", 45.7), ("45s", 45), ("1.5m", 90), ("2.0h", 7200), ("Unknown", None), ("-3.0s", None)],
)
def test_the_duration_line_is_the_last_resort(line: str, seconds: float | None) -> None:
    summary = f"- **Status**: ✅ Success\n- **Duration**: {line}\n"
    entry = parsed(results={"success": True}, summary=summary)
    assert entry.duration_seconds == seconds
    assert entry.context.get("duration_precision") == (None if seconds is None else "rounded")
    assert entry.timestamp == datetime(2025, 3, 1, 15, 0, 2, 800000, UTC)
    assert parsed(results={"success": True, "duration": 3.25}, summary=summary).duration_seconds == 3.25


@pytest.mark.parametrize(
    ("start", "end", "utc", "seconds"),
    [
        ("2025-03-09T01:59:00", "2025-03-09T03:01:00", "07:59", 120),  # the spring gap
        ("2025-03-09T02:30:00", "2025-03-09T03:30:00", "08:30", 0),  # a time that never was
        ("2025-11-02T01:59:00", "2025-11-02T01:01:00", "06:59", 120),  # autumn, seemingly backwards
        ("2025-11-02T00:30:00", "2025-11-02T02:30:00", "05:30", 10800),  # autumn, both sides clear
    ],
)
def test_runs_over_a_change_of_summer_time(start: str, end: str, utc: str, seconds: float) -> None:
    entry = parsed(results={"success": True, "start_time": start, "end_time": end})
    assert f"{entry.timestamp:%H:%M}" == utc
    assert entry.duration_seconds == seconds


def test_times_that_make_no_sense_are_kept_as_they_are() -> None:
    backwards = {"success": True, "start_time": "2025-06-01T10:00:00", "end_time": "2025-06-01T09:00:00"}
    entry = parsed(results=backwards)
    assert (entry.duration_seconds, entry.results) == (2.5, {"end_time": "2025-06-01T09:00:00"})
    assert parsed(results={"success": True, "start_time": "noon"}).results == {"start_time": "noon"}


def test_the_id_depends_on_the_run_only() -> None:
    one = parsed()
    assert parse_log(make_log(), CHICAGO, "/elsewhere/b.md").operation_id == one.operation_id
    assert parsed(zone=ZoneInfo("UTC")).operation_id == one.operation_id
    assert parsed(zone=ZoneInfo("UTC")).timestamp != one.timestamp
    for other in (
        {"operation": "Read the probe in bed 5"},
        {"results": {**RESULTS, "rows": 13}},
        {"environment": {**ENVIRONMENT, "timestamp": "2025-03-01T09:00:02.800001"}},
        {"environment": {**ENVIRONMENT, "hostname": "bench2"}},
    ):
        assert parsed(**other).operation_id != one.operation_id


def test_what_nobody_planned_for_in_the_environment_is_kept() -> None:
    assert parsed(environment={**ENVIRONMENT, "gpu": "none here"}).context["environment"] == {"gpu": "none here"}


# Files


def refusal(path: Path) -> str:
    [outcome] = read_logs([path], CHICAGO)
    assert isinstance(outcome, Refused)
    assert outcome.source == str(path)
    return outcome.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        ("Grüße".encode("latin-1"), "not UTF-8 text \\(byte 3\\)"),
        (make_log().encode("utf-16"), "not UTF-8"),
        (b"# Notes\n\nnothing\n", "no execution log"),
        (b"# X Execution Log\n\n## Update Details\n", "no execution log"),
        (make_log().partition("## Detailed")[0].encode(), "no section 'Detailed Results'"),
        (make_log().partition("## Execution Environment")[0].encode(), "no section 'Execution Environment'"),
        (make_log().partition('"end_time"')[0].encode(), "Detailed Results.*breaks off"),
        (make_log().partition('"script_path"')[0].encode(), "Execution Environment.*breaks off"),
        (make_log(results="[1, 2]").encode(), "not an object"),
        (make_log(results="[" * 100_000).encode(), "nested too deeply"),
        (make_log(results='{"a":' * 600 + "1" + "}" * 600).encode(), "nested too deeply"),
        (make_log(results='{"n": ' + "9" * 5000 + "}").encode(), "too long"),
        (make_log(operation="").encode(), "names no operation"),
        (make_log(environment={**ENVIRONMENT, "timestamp": "yesterday"}).encode(), "no timestamp"),
        (make_log(environment={**ENVIRONMENT, "timestamp": "0001-01-01T00:00:00"}, results={}).encode(), None),
        (
            make_log(environment={**ENVIRONMENT, "timestamp": "9999-12-31T23:59:00"}, results={}).encode(),
            "out of range",
        ),
    ],
)
def test_a_bad_file_is_refused_with_a_reason(tmp_path: Path, content: bytes, reason: str | None) -> None:
    path = tmp_path / "log.md"
    path.write_bytes(content)
    if reason is None:
        assert isinstance(next(read_logs([path], CHICAGO)), Read)
    else:
        assert re.search(reason, refusal(path))


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "log.md"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES * 3)
    assert "48 MiB is too large" in refusal(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.md").mkdir()
    (tmp_path / "x.md" / "inner.md").write_text(make_log())
    os.mkfifo(tmp_path / "y.md")
    (tmp_path / "z.md").symlink_to("nowhere")
    folder, inner, pipe, link = read_logs([tmp_path], CHICAGO)
    assert isinstance(folder, Refused)
    assert "a folder" in folder.reason
    assert isinstance(inner, Read)
    assert isinstance(pipe, Refused)
    assert "not a regular file" in pipe.reason
    assert isinstance(link, Refused)
    assert "No such file" in link.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(make_log())
    (tmp_path / "a.md").chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    try:
        reasons = [outcome.reason for outcome in read_logs([tmp_path], CHICAGO) if isinstance(outcome, Refused)]
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert reasons == ["it cannot be read: Permission denied"] * 2


def test_find_logs(tmp_path: Path) -> None:
    for name in ("b.md", "a.md", "sub/c.md", "notes.txt", "D.MD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_logs([tmp_path])]
    assert found == ["D.MD", "a.md", "b.md", "sub/c.md"]
    given = [tmp_path / "notes.txt", tmp_path / "b.md", tmp_path]
    assert [path.name for path in find_logs(given)] == ["notes.txt", "b.md", "D.MD", "a.md", "c.md"]
    with pytest.raises(InvalidInputError, match="gone"):
        find_logs([tmp_path, tmp_path / "gone"])


def test_a_name_cut_by_the_program_or_not_utf8(tmp_path: Path) -> None:
    for name in (b"2025_read_'bed'_(4)_\xc2\xb0_....md", b"broken_\xff.md"):
        Path(os.fsdecode(tmp_path / os.fsdecode(name))).write_text(make_log())
    first, second = read_logs([tmp_path], CHICAGO)
    assert isinstance(first, Read)
    assert isinstance(second, Read)
    assert first.entry.context["imported_from"]["file"] == "2025_read_'bed'_(4)_°_....md"
    assert second.entry.context["imported_from"]["file"] == "broken_\ufffd.md"
    assert second.source.endswith("broken_\ufffd.md")


def test_is_execution_log() -> None:
    assert is_execution_log(make_log())
    assert is_execution_log(make_log().replace("\n", "\r\n"))
    assert not is_execution_log("# Soil-Probe Execution Log\n")
    assert not is_execution_log("## Execution Context\n")


@given(st.data())
def test_a_damaged_log_is_read_or_refused_and_never_raises(data: st.DataObject) -> None:
    text = make_log(results={**RESULTS, "note": "wet", "error": "x"})
    cut = sorted(data.draw(st.integers(0, len(text)), label=side) for side in ("from", "to"))
    damaged = text[: cut[0]] + data.draw(st.text(max_size=20)) + text[cut[1] :]
    try:
        entry = parse_log(damaged, CHICAGO, "a.md")
    except EntryError as error:
        assert str(error)
    else:
        json.dumps(entry.to_json(), allow_nan=False).encode()
