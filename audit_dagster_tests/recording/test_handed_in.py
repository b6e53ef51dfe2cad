"""`audit-dagster log`: any program may hand in an entry, and learns in one line what is wrong with it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from audit_dagster import log_custom_operation, set_global_logging
from audit_dagster.audit_service import AuditService
from audit_dagster.errors import InvalidInputError
from audit_dagster.recording import handed_in, losses
from audit_dagster.recording.redact import Redactor, is_secret_name
from audit_dagster.recording.spool import waiting
from audit_dagster.settings import Settings
from audit_dagster.store.drain import Drained, drain
from audit_dagster.store.query import fetch_entries
from audit_dagster_tests.recording.stored import only_entry

LOG = [sys.executable, "-m", "audit_dagster.cli", "log"]
BIN = Path(sys.prefix) / "bin"
GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
ID = "3f2b8c1e-5d4a-4e6f-9a7b-0c1d2e3f4a5b"
NOON = "2023-06-15T12:00:00Z"


def hand_in(**fields: Any) -> str:
    operation_id = handed_in.record(json.dumps({"tool_name": "model", "operation": "fit", **fields}).encode())
    assert operation_id is not None
    return operation_id


def log(*words: str, given: bytes = b"", **keywords: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*LOG, *words], input=given, capture_output=True, check=False, **keywords)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


# ---- What is stored ----


def test_the_least_is_filled_in(settings: Settings, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    done = log("--json", "-", given=b'{"tool_name": "model", "operation": "fit", "duration_seconds": 60}')
    entry = only_entry()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{entry.operation_id}\n", "")
    assert UUID(entry.operation_id).version == 4
    assert before <= entry.timestamp + timedelta(seconds=60) <= datetime.now(UTC)
    assert (entry.tool_name, entry.operation, entry.success, entry.duration_seconds) == ("model", "fit", True, 60)
    assert (entry.parameters, entry.results, entry.command) == ({}, {}, None)
    assert (entry.error_message, entry.note, entry.git_commit_hash) == (None, None, None)
    assert entry.working_directory == str(tmp_path)
    assert entry.user_name
    assert entry.context["hostname"] == os.uname().nodename
    assert "process_id" not in entry.context


def test_all_that_is_given_is_kept(settings: Settings) -> None:
    fields = {
        "timestamp": "2023-06-15T14:30:22.123+0200",
        "operation_id": ID,
        "tool_name": "sensing-data",
        "operation": "extract",
        "user": "ada",
        "git_branch": "feature/analysis",
        "git_commit": "abc1234",
        "git_dirty": True,
        "parameters": {"project": "Winter Turf - v3", "sites": [1, 2.5, None]},
        "results": {"success": False, "records": 15420},
        "duration_seconds": 45.7,
        "success": False,
        "error_message": "disk full",
        "note": "20 °C",
        "command": ["Rscript", "fit.R", ""],
        "working_directory": "/nowhere/at all",
        "context": {"hostname": "fieldstation", "r_version": "4.3.1"},
    }
    assert hand_in(**fields) == ID
    form = only_entry().to_json()
    context = form.pop("context")
    assert form == {name: fields[name] for name in form} | {"timestamp": "2023-06-15T12:30:22.123Z"}
    assert context["hostname"] == "fieldstation"
    assert context["r_version"] == "4.3.1"
    assert context["platform"].startswith(os.uname().sysname)


def test_success_may_stand_in_the_results(settings: Settings) -> None:
    hand_in(results={"success": False, "n": 1})
    assert not only_entry().success
    assert only_entry().results == {"n": 1}


def test_from_a_file(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "entry.json").write_bytes(b'\xef\xbb\xbf{"tool_name": "m\\u00fc", "operation": "fit"}\r\n')
    assert log("--json", "entry.json").stdout == f"{only_entry().operation_id}\n"
    assert only_entry().tool_name == "mü"


def test_the_drainer_is_woken(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    operation_id = hand_in()
    deadline = time.monotonic() + 20
    while not connection.execute("SELECT FROM audit_logs WHERE operation_id = %s", [operation_id]).fetchall():
        assert time.monotonic() < deadline, "nobody stored it"
        time.sleep(0.05)


def test_the_same_entry_twice_is_one(settings: Settings, without_drainer: None) -> None:
    for _ in range(2):
        assert hand_in(operation_id=ID.upper(), timestamp=NOON) == ID
    assert drain(settings) == Drained(stored=1, duplicates=1)
    hand_in(operation_id=ID, timestamp=NOON)
    assert drain(settings) == Drained(duplicates=1)


def test_another_entry_under_the_same_id_harms_nobody(settings: Settings, without_drainer: None) -> None:
    hand_in(operation_id=ID, note="first")
    hand_in(operation_id=ID, note="second")
    hand_in(note="neighbour")
    assert drain(settings) == Drained(stored=2, quarantined=1)
    assert {entry.note for entry in AuditService().recent_entries()} == {"first", "neighbour"}


def test_git_state_of_the_working_directory_unless_it_is_given(
    settings: Settings, tmp_path: Path, git: Callable[..., str]
) -> None:
    repository = tmp_path / "a repository"
    repository.mkdir()
    git("init", "--quiet", "--initial-branch=main", repository)
    git("-C", repository, "commit", "--quiet", "--allow-empty", "--message=first")
    (repository / "new").write_text("1")
    head = git("-C", repository, "rev-parse", "HEAD")
    with contextlib.chdir(repository):
        hand_in(note="here")
        hand_in(note="given", git_commit="abc")
        hand_in(note="unknown", git_branch=None)
        hand_in(note="elsewhere", working_directory="/")
        hand_in(note="gone", working_directory="/no/such/folder")
        hand_in(note="odd", working_directory="/\0")
    hand_in(note="there", working_directory=str(repository))
    entries = {entry.note: entry for entry in AuditService().recent_entries()}
    states = {note: (entry.git_branch, entry.git_commit_hash, entry.git_dirty) for note, entry in entries.items()}
    nothing = (None, None, None)
    assert states == {
        **{"here": ("main", head, True), "there": ("main", head, True), "given": (None, "abc", None)},
        **dict.fromkeys(("unknown", "elsewhere", "gone", "odd"), nothing),
    }
    assert {note for note, entry in entries.items() if "git" in entry.context} == {"here", "there"}
    assert "patch" not in entries["here"].context["git"]


def test_a_folder_that_is_gone(settings: Settings, tmp_path: Path) -> None:
    code = 'mkdir gone && cd gone && rmdir "$PWD" && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", code, "bash", *LOG, "--json", "-"],
        input=b'{"tool_name": "model", "operation": "fit"}',
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert only_entry().working_directory in {None, "/"}


def test_files_are_recorded_by_their_content(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("in.csv", "-out=1.png", "named.rds"):
        (folder / name).write_text(name)
    hand_in(
        working_directory=str(folder),
        inputs=["in.csv", "missing.csv"],
        outputs=["-out=1.png", "."],
        results={"model": "named.rds"},
    )
    context = only_entry().context
    assert [(item["path"], item["size"]) for item in context["inputs"]] == [(str(folder / "in.csv"), 6)]
    assert context["inputs"][0]["sha256"] == hashlib.sha256(b"in.csv").hexdigest()
    assert [Path(item["path"]).name for item in context["outputs"]] == ["-out=1.png", "named.rds"]
    assert capsys.readouterr().err.splitlines() == [
        "audit-dagster: inputs: there is no file 'missing.csv': it is not recorded",
        "audit-dagster: outputs: there is no file '.': it is not recorded",
    ]


def test_an_entry_knows_the_operation_around(settings: Settings) -> None:
    code = f'echo \'{{"tool_name": "model", "operation": "fit"}}\' | {shlex.join(LOG)} --json -'
    run = [sys.executable, "-m", "audit_dagster.cli", "run", "--", "bash", "-c", code]
    subprocess.run(run, check=True, capture_output=True)
    entries = {entry.operation: entry for entry in AuditService().recent_entries()}
    assert entries["fit"].context["parent_operation_id"] == entries["run"].operation_id


def test_secrets_are_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATION_TOKEN", "ambient-1234")
    hand_in(
        note="used hunter2hunter2 and ambient-1234",
        error_message="cannot reach postgresql://ada:swordfish9@db/turf",
        command=["fit", "--api-key", "abcdef123456"],
        parameters={"nested": [{"db_password": "hunter2hunter2"}], "text": "abcdef123456"},
    )
    text = json.dumps(only_entry().to_json())
    for secret in ("hunter2", "ambient-1234", "swordfish9", "abcdef123456"):
        assert secret not in text
    assert only_entry().command == ["fit", "--api-key", "${SECRET:API_KEY}"]
    assert only_entry().context["command_is_exact"] is False


def test_an_id_stays_one_whatever_the_environment_holds(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", ID[:8])
    monkeypatch.setenv("B_TOKEN", "2023-06")
    assert hand_in(operation_id=ID, timestamp=NOON) == only_entry().operation_id


def test_odd_values_are_stored_and_counted(settings: Settings) -> None:
    deep = "[" * 400 + "]" * 400
    raw = f'{{"tool_name": "a\\u0000b", "operation": "\\ud800", "parameters": {{"deep": {deep}, "large": 1e999, '
    raw += (
        f'"nan": NaN, "below": -Infinity, "digits": {"9" * 200}, "long": "{"x" * 200_000}"}}, "command": ["\\ud800"]}}'
    )
    handed_in.record(raw.encode())
    entry = only_entry()
    assert (entry.tool_name, entry.operation) == ("a\\u0000b", "\\ud800")
    values = entry.parameters
    assert (values["large"], values["nan"], values["below"]) == ("inf", "NaN", "-Infinity")
    assert values["digits"].startswith("0x")
    assert len(values["long"]) < 101_000
    assert entry.context["sanitised"] == 8
    assert entry.context["command_is_exact"] is False


# ---- From other languages ----


def run_in(folder: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


def test_from_bash(settings: Settings, tmp_path: Path) -> None:
    script = """
set -euo pipefail
SECONDS=0
name='soil "model"'
id=$(audit-dagster log --json - <<END
{
  "tool_name": "soil-model",
  "operation": "fit",
  "timestamp": "$(date --iso-8601=seconds)",
  "duration_seconds": $SECONDS,
  "parameters": {"name": "${name//\\"/\\\\\\"}"},
  "command": ["bash", "fit.sh"]
}
END
)
printf '%s' "$id"
"""
    done = run_in(tmp_path, "bash", "-c", script)
    assert (done.returncode, done.stderr) == (0, b"")
    assert only_entry().operation_id == done.stdout.decode()
    assert only_entry().parameters == {"name": 'soil "model"'}
    assert abs(datetime.now(UTC) - only_entry().timestamp) < timedelta(minutes=1)


def test_from_perl(settings: Settings, tmp_path: Path) -> None:
    if shutil.which("perl") is None:
        pytest.skip("perl is not installed")
    script = r"""
use strict; use JSON::PP; use POSIX qw(strftime);
my $entry = {
    tool_name => "soil-model", operation => "fit", duration_seconds => 1.5, success => JSON::PP::true,
    timestamp => strftime("%Y-%m-%dT%H:%M:%S%z", localtime),
    parameters => { site => "S\x{e9}te", depth => [5, 10] },
};
open(my $log, "|-", "audit-dagster", "log", "--json", "-") or die;
print $log encode_json($entry);
close($log) or exit($? >> 8);
"""
    done = run_in(tmp_path, "perl", "-e", script)
    assert (done.returncode, done.stderr) == (0, b"")
    assert only_entry().operation_id == done.stdout.decode().strip()
    assert only_entry().parameters == {"site": "Séte", "depth": [5, 10]}
    assert abs(datetime.now(UTC) - only_entry().timestamp) < timedelta(minutes=1)


@pytest.mark.parametrize("language", ["bash", "perl"])
def test_the_guides_examples(settings: Settings, tmp_path: Path, language: str) -> None:
    if shutil.which(language) is None:
        pytest.skip(f"{language} is not installed")
    section = GUIDE.read_text("utf-8").split("\n### From other languages\n")[1].split("\n### ")[0]
    example = section.split(f"  ```{language}\n")[1].split("  ```\n")[0]
    done = run_in(tmp_path, language, "-c" if language == "bash" else "-e", textwrap.dedent(example))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"{only_entry().operation_id}\n"
    assert (only_entry().tool_name, only_entry().results) == ("soil-model", {"rmse": 0.42})


# ---- What is refused ----


def written(**fields: Any) -> bytes:
    return json.dumps({"tool_name": "a", "operation": "b", **fields}).encode()


MOMENT = "expected something like 2023-06-15T14:30:22.123Z or 2023-06-15T09:30:22-05:00"
NOT_A_UUID = f"operation_id: expected something like {ID}"
FOLDER = "working_directory: expected something like /home/ada/analysis"
LINES = b'{"tool_name": "a",\n "operation": "b"}\n{"tool_name": "a", "operation": "b"}\n'
TWICE = b'{"tool_name": "a", "operation": "b", "parameters": {"sites": [0, 1, {"x": 1, "name": 2, "name": 3}]}}'
HIDDEN = b'{"tool_name": "a", "operation": "b", "note": {"x": 1, "x": 2}, "note": "c"}'
REFUSED: list[tuple[bytes, str]] = [
    (b"", "expected a JSON object: there is nothing"),
    (b" \r\n\t", "expected a JSON object: there is nothing"),
    (b"\xef\xbb\xbf", "expected a JSON object: there is nothing"),
    (b'{"tool_name": "\xff"}', "expected UTF-8: byte 16 is 0xff"),
    ('{"tool_name": "ü"}'.encode("utf-16"), "expected UTF-8: byte 1 is 0xff"),
    (b"{", "broken JSON at line 1 column 2: Expecting property name enclosed in double quotes"),
    (b"{'tool_name': 'a'}", "broken JSON at line 1 column 2: Expecting property name enclosed in double quotes"),
    (b'{"tool_name": "a",\n "operation": }', "broken JSON at line 2 column 15: Expecting value"),
    (b'{"tool_name": "a\tb"}', "broken JSON at line 1 column 17: Invalid control character at"),
    (b'{"tool_name": "a"', "broken JSON at line 1 column 18: Expecting ',' delimiter"),
    (b"# comment\n{}", "broken JSON at line 1 column 1: Expecting value"),
    (LINES, "broken JSON at line 3 column 1: Extra data"),
    (b"nul", "broken JSON at line 1 column 1: Expecting value"),
    (b"[" * 100_000, "the JSON has too many levels, one inside the other"),
    (b'{"a":' * 100_000, "the JSON has too many levels, one inside the other"),
    (b'{"tool_name": ' + b"9" * 5000 + b"}", "a number in the JSON has more than 4,300 digits: write it as a text"),
    (
        b'{"a": "' + b"x" * 60_000_000 + b'"}',
        "an entry has at most 16 MB: write the data to a file and name it in 'outputs'",
    ),
    (b'{"tool_name": "a", "tool_name": "b"}', "tool_name: the field is there twice"),
    (TWICE, "parameters.sites[2].name: the field is there twice"),
    (HIDDEN, "note: the field is there twice"),
    (b"null", "the entry: expected an object, not null"),
    (b"true", "the entry: expected an object, not true"),
    (b"5", "the entry: expected an object, not a number"),
    (b"NaN", "the entry: expected an object, not a text"),
    (b'"text"', "the entry: expected an object, not a text"),
    (b"[]", "the entry: expected an object, not an array"),
    (b'[{"tool_name": "a", "operation": "b"}]', "the entry: expected an object, not an array"),
    (b"{}", "tool_name: the field is required, and is missing (and more)"),
    (b'{"tool_name": "a"}', "operation: the field is required, and is missing"),
    (b'{"tol_name": "a"}', "tol_name: there is no such field; did you mean 'tool_name'? (and more)"),
    (written(user_name="ada"), "user_name: there is no such field; did you mean 'user'?"),
    (written(git_commit_hash="abc"), "git_commit_hash: there is no such field; did you mean 'git_commit'?"),
    (written(Parameters={}), "Parameters: there is no such field; did you mean 'parameters'?"),
    (written(duration=1), "duration: there is no such field; did you mean 'duration_seconds'?"),
    (written(id=1), "id: there is no such field; did you mean 'operation_id'?"),
    (
        written(zzz=1),
        "zzz: there is no such field; the fields are timestamp, operation_id, tool_name, operation, user, ",
    ),
    (written(**{"x" * 1_000_000: 1}), f"{'x' * 60}: there is no such field; the fields are timestamp,"),
    (written(tool_name=None), "tool_name: expected a text, not null"),
    (written(tool_name=5), "tool_name: expected a text, not a number"),
    (written(tool_name=""), "tool_name: expected a text that is not empty"),
    (written(tool_name="x" * 501), "tool_name: expected a text of at most 500 characters"),
    (written(operation=["fit"]), "operation: expected a text, not an array"),
    (written(operation=True), "operation: expected a text, not true"),
    (written(user=""), "user: expected a text that is not empty"),
    (written(user=None), "user: expected a text, not null"),
    (written(timestamp="yesterday"), f"timestamp: {MOMENT}"),
    (written(timestamp="2023-06-15"), f"timestamp: {MOMENT}"),
    (written(timestamp="2023-06-15T14:30:22"), f"timestamp: {MOMENT}"),
    (written(timestamp="2023-06-15 14:30:22Z"), f"timestamp: {MOMENT}"),
    (written(timestamp="2023-02-30T14:30:22Z"), f"timestamp: {MOMENT}"),
    (written(timestamp="2023-06-15T24:30:22Z"), f"timestamp: {MOMENT}"),
    (written(timestamp="2023-06-15T14:30:22+25:00"), f"timestamp: {MOMENT}"),
    (written(timestamp="0001-01-01T00:00:00+14:00"), f"timestamp: {MOMENT}"),
    (written(timestamp="9999-12-31T23:59:59-14:00"), f"timestamp: {MOMENT}"),
    (written(timestamp="٢٠٢٣-06-15T14:30:22Z"), f"timestamp: {MOMENT}"),
    (written(timestamp=f"{NOON}\n"), f"timestamp: {MOMENT}"),
    (written(timestamp=1686839422), "timestamp: expected a text, not a number"),
    (written(operation_id=""), NOT_A_UUID),
    (written(operation_id="17"), NOT_A_UUID),
    (written(operation_id=ID.replace("-", "")), NOT_A_UUID),
    (written(operation_id=f"urn:uuid:{ID}"), NOT_A_UUID),
    (written(operation_id=f"{{{ID}}}"), NOT_A_UUID),
    (written(operation_id=f"{ID}\n"), NOT_A_UUID),
    (written(operation_id=17), "operation_id: expected a text, not a number"),
    (written(git_branch=5), "git_branch: expected a text or null, not a number"),
    (written(git_dirty="yes"), "git_dirty: expected true or false or null, not a text"),
    (written(parameters=[]), "parameters: expected an object, not an array"),
    (written(parameters=None), "parameters: expected an object, not null"),
    (written(results="good"), "results: expected an object, not a text"),
    (written(results={"success": "yes"}), "results.success: expected true or false, not a text"),
    (written(duration_seconds=-0.1), "duration_seconds: expected a number that is not below 0"),
    (written(duration_seconds=1e12), "duration_seconds: expected a number that is not above 3155760000"),
    (written(duration_seconds="45.7"), "duration_seconds: expected a number or null, not a text"),
    (written(duration_seconds=True), "duration_seconds: expected a number or null, not true"),
    (written(duration_seconds=float("nan")), "duration_seconds: expected a number or null, not a text"),
    (written(duration_seconds=float("-inf")), "duration_seconds: expected a number or null, not a text"),
    (written(duration_seconds=0).replace(b": 0}", b": 1e999}"), "expected a number that is not above 3155760000"),
    (written(success=1), "success: expected true or false, not a number"),
    (written(success="true"), "success: expected true or false, not a text"),
    (written(error_message=["x"]), "error_message: expected a text or null, not an array"),
    (written(note={}), "note: expected a text or null, not an object"),
    (written(command="ls -l"), "command: expected an array or null, not a text"),
    (written(command=[]), "command: expected at least 1 item"),
    (written(command=["seq", 5]), "command[1]: expected a text, not a number"),
    (written(command=[1] * 1_000_000), "command[0]: expected a text, not a number (and more)"),
    (written(timestamp="9999-12-31T23:59:59Z"), "timestamp is 9999-12-31T23:59:59Z: an operation starts before it is"),
    (written(working_directory="here"), FOLDER),
    (written(working_directory=""), FOLDER),
    (written(context="laptop"), "context: expected an object, not a text"),
    (written(inputs="a.csv"), "inputs: expected an array, not a text"),
    (written(inputs=["a.csv", ""]), "inputs[1]: expected a text that is not empty"),
    (written(outputs=[None]), "outputs[0]: expected a text, not null"),
    (written(outputs=["x"] * 101), "outputs: expected at most 100 items"),
]


@pytest.mark.parametrize(("raw", "message"), REFUSED, ids=[f"{number}" for number in range(len(REFUSED))])
def test_what_is_refused_and_why(raw: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
    with pytest.raises(InvalidInputError) as refused:
        handed_in.record(raw)
    text = str(refused.value)
    assert message in text
    assert text.startswith(message) or message.startswith("expected a number that is not above")
    assert len(text.splitlines()) == 1
    assert len(text) < 400
    assert refused.value.exit_code == 2
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (b"", "there is nothing"),
        (b"\xff", "expected UTF-8"),
        (b"[" * 100_000, "too many levels"),
        (b'{"a": "' + b"x" * 60_000_000 + b'"}', "at most 16 MB"),
        (b'{"tool_name": "a", "operation": "b", "\\u001b[31m\\ud800\\n": 1}', "␛[31m<U+D800>↵: there is no such field"),
    ],
    ids=["empty", "bytes", "deep", "large", "control characters"],
)
def test_a_refusal_is_one_line_and_exit_code_2(settings: Settings, given: bytes, part: str) -> None:
    done = log("--json", "-", given=given)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: ")
    assert part in done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "give --json FILE"),
        (["--json", "-", "--schema"], "give --json FILE"),
        (["--json", "nowhere.json"], "cannot read nowhere.json: No such file or directory"),
        (["--json", "."], "cannot read .: Is a directory"),
        (["--json", ""], "cannot read : No such file or directory"),
    ],
)
def test_wrong_words(settings: Settings, words: list[str], part: str) -> None:
    done = log(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_stdin(settings: Settings) -> None:
    done = subprocess.run(["bash", "-c", '"$@" <&-', "bash", *LOG, "--json", "-"], check=False, capture_output=True)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


# ---- Where it cannot be recorded ----


def test_logging_that_is_off(settings: Settings) -> None:
    set_global_logging(False)
    done = log("--json", "-", given=written())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Logging is off: nothing was recorded.\n")
    assert waiting(settings.spool_dir) == []


def test_a_spool_that_cannot_be_written(settings: Settings) -> None:
    """A file stands where the spool's folder should be: that stops root as well."""
    settings.spool_dir.parent.mkdir()
    settings.spool_dir.write_text("in the way")
    done = log("--json", "-", given=written())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: the entry is not recorded: cannot write the spool {settings.spool_dir}: ")
    assert len(done.stderr.splitlines()) == 1
    assert losses.total(settings).count == 1


def test_a_drainer_that_cannot_be_started_leaves_the_entry(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("audit_dagster.recording.recorder._warned", False)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    hand_in()
    assert "the entry waits in the spool" in capsys.readouterr().err
    assert len(waiting(settings.spool_dir)) == 1


# ---- The schema ----

SCHEMA = json.loads(handed_in.schema_text())


def test_the_schema_is_one(settings: Settings) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"].startswith("urn:")
    assert json.loads(log("--schema").stdout) == SCHEMA


def test_every_field_is_described_and_its_examples_fit() -> None:
    for name, field in SCHEMA["properties"].items():
        assert field["description"].endswith("."), name
        assert field["examples"], name
        for example in field["examples"]:
            handed_in.check({"tool_name": "a", "operation": "b", name: example})
    for example in SCHEMA["examples"]:
        handed_in.check(example)


def test_it_knows_every_field_of_the_log_entry(settings: Settings) -> None:
    with log_custom_operation("tool", "x"):
        pass
    assert SCHEMA["properties"].keys() - only_entry().to_json().keys() == {"inputs", "outputs"}
    assert only_entry().to_json().keys() <= SCHEMA["properties"].keys()


def test_what_was_recorded_fits_and_is_the_same_when_handed_in(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "made.txt").write_text("made")
    with log_custom_operation("tool", "good") as logger:
        logger.add_parameter("sites", [1, 2])
        logger.add_result("file", "made.txt")
        logger.add_result("nan", float("nan"))
        logger.add_note("20 °C")
    with contextlib.suppress(ZeroDivisionError), log_custom_operation("tool", "bad"):
        _ = 1 / 0
    subprocess.run([*LOG[:-1], "run", "--", "bash", "-c", "echo no >&2; exit 3"], check=False, capture_output=True)
    (tmp_path / "made.txt").write_text("changed")
    forms = [recorded.to_json() for recorded in AuditService().recent_entries()]
    assert len(forms) == 3
    for form in forms:
        handed_in.check(form)
        Draft202012Validator(SCHEMA).validate(form)
        handed_in.record(json.dumps(form).encode())
    drain(settings)
    assert [recorded.to_json() for recorded in AuditService().recent_entries()] == forms
    assert not (settings.spool_dir / "quarantine").exists()


# ---- Every entry that the schema accepts ----


def is_plain(text: str) -> bool:
    return Redactor({}).text(text) == text and not is_secret_name(text)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30).filter(is_plain)
NAME = TEXT.filter(bool)
NUMBER = st.integers(-(10**99), 10**99) | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
OBJECT = st.dictionaries(TEXT, VALUE, max_size=4)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(2025, 12, 30), timezones=ZONES).map(datetime.isoformat)
ENTRIES = st.fixed_dictionaries(
    {"tool_name": NAME, "operation": NAME},
    optional={
        "timestamp": MOMENTS,
        "operation_id": st.builds(lambda: str(uuid4())),  # another one in each example
        "user": NAME,
        "git_branch": st.none() | TEXT,
        "git_commit": st.none() | TEXT,
        "git_dirty": st.none() | st.booleans(),
        "parameters": OBJECT,
        "results": OBJECT.filter(lambda results: "success" not in results),
        "duration_seconds": st.none() | st.floats(0, 3155760000) | st.integers(0, 3155760000),
        "success": st.booleans(),
        "error_message": st.none() | TEXT,
        "note": st.none() | TEXT,
        "command": st.none() | st.lists(TEXT, min_size=1, max_size=5),
        "working_directory": st.none() | TEXT.map("/{}".format) | TEXT.map("C:\\{}".format),
        "context": OBJECT,
        "inputs": st.lists(st.just("there"), max_size=2),
        "outputs": st.lists(st.just("there"), max_size=2),
    },
)


@given(entry=ENTRIES)
@profile(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_schema_accepts_comes_back_as_it_was(
    settings: Settings, connection: psycopg.Connection[Any], without_drainer: None, entry: dict[str, Any]
) -> None:
    command = entry.get("command") or []
    assume(Redactor({}).form(entry) == entry and Redactor({}).argv(command) == command)
    Path("there").touch()
    Draft202012Validator(SCHEMA).validate(entry)
    operation_id = handed_in.record(json.dumps(entry).encode())
    assert drain(settings) == Drained(stored=1)
    (found,) = fetch_entries(connection, "entries_by_id", operation_ids=[UUID(operation_id)])
    stored = found.to_json()
    for name, value in entry.items():
        check_same(name, value, stored)


def check_same(name: str, value: Any, form: dict[str, Any]) -> None:
    if name == "timestamp":
        assert datetime.fromisoformat(form[name]) == datetime.fromisoformat(value)
    elif name == "operation_id":
        assert form[name] == value.lower()
    elif name == "results":
        assert same({**value, "success": form["success"]}, form[name])
    elif name == "context":
        assert same(value, {key: item for key, item in form[name].items() if key in value})
    elif name not in {"inputs", "outputs"}:
        assert same(value, form[name]), name


def same(left: Any, right: Any) -> bool:
    """jsonb keeps a large float as an integer of the same decimal digits."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and not isinstance(right, bool):
        return left == float(right)
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)
