"""The files that an operation reads and makes: found where they are named, told apart, and never in the way."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from audit_dagster import log_custom_operation
from audit_dagster.audit_service import AuditService
from audit_dagster.recording import files
from audit_dagster.recording.recorder import Recording
from audit_dagster.settings import Settings

Json = dict[str, Any]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def record(work: Callable[[], object] = lambda: None, command: list[str] | None = None, **facts: Any) -> Json:
    """What the context says of an operation that did `work`."""
    recording = Recording("tool", "x")
    recording.parameters.update(facts.get("parameters", {}))
    recording.inputs += facts.get("inputs", [])
    recording.outputs += facts.get("outputs", [])
    recording.start(command)
    work()
    recording.results.update(facts.get("results", {}))
    recording.finish(success=True, error_message=None)
    return AuditService().recent_entries()[0].context


def hashes(facts: list[Json]) -> dict[str, str | None]:
    return {Path(one["path"]).name: one["sha256"] for one in facts}


def old(name: str, content: bytes = b"content\n") -> Path:
    """A file that was there long before."""
    path = Path(name).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    time.sleep(0.03)  # longer than a step of the clock that files get their times from
    return path


def test_hash_size_and_time_of_change(settings: Settings) -> None:
    table = old("data/table.csv", b"1,2\n" * 1_000_000)
    os.utime(table, ns=(0, 1_686_825_022_123_000_000))
    (fact,) = record(command=["tool", "data/table.csv"])["inputs"]
    assert fact == {
        "path": str(table),
        "size": 4_000_000,
        "mtime": "2023-06-15T10:30:22.123+00:00",
        "sha256": sha256(table.read_bytes()),
    }
    assert datetime.fromisoformat(fact["mtime"]) == datetime(2023, 6, 15, 10, 30, 22, 123000, tzinfo=UTC)


def test_wherever_inputs_are_named(settings: Settings) -> None:
    for name in ("argv", "flag", "declared", "text", "path", "listed", "mapped", "deep", "./dotted/../dotted"):
        old(name.replace("./dotted/../", ""), name.encode())
    Path("dotted.d").mkdir()
    context = record(
        command=["tool", "argv", "--flag=flag", "-x", "--none=missing", "./dotted", "dotted.d", "argv"],
        inputs=[str(Path("declared").absolute())],
        parameters={
            "a": "text",
            "b": Path("path"),
            "c": ["listed", 3, None, "missing"],
            "d": {"key": "mapped", "more": ["deep"]},
            "e": "no file at all",
        },
    )
    names = {"argv", "flag", "declared", "text", "path", "listed", "mapped", "deep", "dotted"}
    assert hashes(context["inputs"]).keys() == names
    assert len(context["inputs"]) == len(names)
    assert all(one["sha256"] for one in context["inputs"])
    assert "outputs" not in context


def test_outputs_are_what_was_made_and_what_is_named_as_such(settings: Settings) -> None:
    old("kept")
    old("result")

    def work() -> None:
        for name in ("by argv", "by flag", "by parameter", "by result", "declared", "unnamed"):
            Path(name).write_text(name)

    context = record(
        work,
        command=["tool", "by argv", "--output=by flag", "kept"],
        parameters={"output_file": Path("by parameter")},
        results={"output": "by result", "files": {"table": "result", "none": "missing"}},
        outputs=["declared", "never made"],
    )
    assert hashes(context["inputs"]).keys() == {"kept"}
    made = ("by argv", "by flag", "by parameter", "by result", "declared")
    assert hashes(context["outputs"]) == {
        **{name: sha256(name.encode()) for name in made},
        "result": sha256(b"content\n"),
    }


@pytest.mark.parametrize("how", ["command", "parameters", "inputs"])
def test_an_input_that_is_overwritten_is_an_output_too(settings: Settings, how: str) -> None:
    table = old("table.csv", b"before\n")
    named: Json = {
        "command": ["tool", "table.csv"] if how == "command" else None,
        "parameters": {"table": "table.csv"} if how == "parameters" else {},
        "inputs": ["table.csv"] if how == "inputs" else [],
    }
    context = record(lambda: table.write_bytes(b"after!\n"), **named)
    assert hashes(context["inputs"]) == {"table.csv": sha256(b"before\n")}
    assert hashes(context["outputs"]) == {"table.csv": sha256(b"after!\n")}


def test_one_that_was_written_a_moment_ago_and_is_written_again_at_once(settings: Settings) -> None:
    """Its size, and often its time of change, are the same."""
    for number in range(20):
        table = Path("table.csv")
        table.write_text(f"{number:03} before")
        context = record(lambda: table.write_text(f"{number:03} after!"), command=["tool", "table.csv"])  # noqa: B023
        assert hashes(context["inputs"]) == {"table.csv": sha256(f"{number:03} before".encode())}
        assert hashes(context["outputs"]) == {"table.csv": sha256(f"{number:03} after!".encode())}


def test_one_that_was_written_a_moment_ago_and_is_only_read_is_no_output(settings: Settings) -> None:
    Path("table.csv").write_text("new")
    context = record(lambda: Path("table.csv").read_text(), command=["tool", "table.csv"])
    assert "outputs" not in context
    table = old("old.csv")
    context = record(lambda: table.chmod(0o600), command=["tool", "old.csv"])
    assert "outputs" not in context


def test_named_inside_the_block(settings: Settings) -> None:
    """An input that is named late is an input; one that was made before it was named, an output."""
    for name in ("input", "parameter"):
        old(name)
    with log_custom_operation("tool", "x") as logger:
        logger.add_input("input")
        logger.add_parameter("table", Path("parameter"))
        Path("made").write_text("made")
        logger.add_parameter("output", "made")
        logger.add_output("output")
        Path("output").write_text("output")
    context = AuditService().recent_entries()[0].context
    assert hashes(context["inputs"]) == dict.fromkeys(("input", "parameter"), sha256(b"content\n"))
    assert hashes(context["outputs"]) == {"made": sha256(b"made"), "output": sha256(b"output")}


def test_named_before_the_block(settings: Settings) -> None:
    table = old("table.csv", b"before\n")
    logger = log_custom_operation("tool", "x")
    logger.add_input(table)
    logger.add_output(os.fsencode("out"))  # type: ignore[arg-type]
    with logger:
        table.write_bytes(b"after!\n")
        Path("out").write_text("out")
    context = AuditService().recent_entries()[0].context
    assert hashes(context["inputs"]) == {"table.csv": sha256(b"before\n")}
    assert hashes(context["outputs"]) == {"table.csv": sha256(b"after!\n"), "out": sha256(b"out")}


def test_a_command_that_run_records(settings: Settings) -> None:
    old("in.txt", b"b\na\n")
    run = [sys.executable, "-m", "audit_dagster.cli", "run", "--"]
    subprocess.run([*run, "sort", "--output=out.txt", "in.txt"], check=True)
    subprocess.run([*run, "sort", "-o", "in.txt", "in.txt"], check=True)
    in_place, sorting = (entry.context for entry in AuditService().recent_entries())
    assert hashes(sorting["inputs"]) == {"in.txt": sha256(b"b\na\n")}
    assert hashes(sorting["outputs"]) == {"out.txt": sha256(b"a\nb\n")}
    assert hashes(in_place["inputs"]) == {"in.txt": sha256(b"b\na\n")}
    assert hashes(in_place["outputs"]) == {"in.txt": sha256(b"a\nb\n")}


def test_words_with_a_name_before_the_path(settings: Settings) -> None:
    run = [sys.executable, "-m", "audit_dagster.cli", "run", "--"]
    old("in.txt", b"in")
    subprocess.run([*run, "dd", "if=in.txt", "of=out.txt", "status=none"], check=True)
    context = AuditService().recent_entries()[0].context
    assert hashes(context["inputs"]) == {"in.txt": sha256(b"in")}
    assert hashes(context["outputs"]) == {"out.txt": sha256(b"in")}
    for name in ("a=b", "b", "c"):
        old(name)
    context = record(command=["tool", "a=b", "data.path=c", "https://example.org/?x=in.txt", "so x=in.txt"])
    assert hashes(context["inputs"]).keys() == {"a=b", "c"}


def test_links_and_names_that_are_odd(settings: Settings) -> None:
    old("real", b"real\n")
    Path("link").symlink_to("real")
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    odd = ["with space", "Ünïcode 名", "it's", "-dash", "x" * 255, "$(touch canary)"]
    for name in odd:
        old(f"odd/{name}", b"odd")
    not_text = os.fsdecode(b"not \xff text")
    old(not_text, b"odd")
    words = ["tool", "link", "dangling", "loop", "x" * 5000, "nul\0", "\ud800", "", "a\nb", not_text]
    found = hashes(record(command=[*words, *(f"odd/{name}" for name in odd)])["inputs"])
    assert found["link"] == sha256(b"real\n")
    assert found == {
        "link": sha256(b"real\n"),
        "not \\udcff text": sha256(b"odd"),
        **dict.fromkeys(odd, sha256(b"odd")),
    }


def test_what_is_no_file_is_not_touched(settings: Settings, tmp_path: Path) -> None:
    os.mkfifo("fifo")
    Path("folder").mkdir()
    unix = socket.socket(socket.AF_UNIX)
    unix.bind("socket")
    old("file")
    words = ["fifo", "folder", "socket", "/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/kmsg", "/sys/kernel/notes"]
    names = ["file", *words]
    began = time.monotonic()
    context = record(command=["tool", *names], parameters={"all": names}, results={"all": names}, inputs=list(names))
    assert time.monotonic() - began < 10
    unix.close()
    assert hashes(context["inputs"]).keys() == {"file"}
    assert hashes(context["outputs"]).keys() == {"file"}


def test_a_file_that_becomes_a_fifo_holds_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    seen = files.Seen(str(tmp_path / "fifo"), 10, 0, 0, 0)
    assert files.facts([seen]) == [
        {"path": seen.path, "size": 10, "mtime": "1970-01-01T00:00:00.000+00:00", "sha256": None}
    ]


def test_one_that_vanishes_or_shrinks_has_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    seen = files.look("file", str(tmp_path))
    assert seen is not None
    path.write_bytes(b"x" * 50)
    assert files.facts([seen])[0]["sha256"] is None
    path.unlink()
    assert files.facts([seen])[0] == {**files.facts([seen])[0], "size": 100, "sha256": None}


def test_one_that_is_written_meanwhile(settings: Settings) -> None:
    """Somebody writes and cuts it all the time: the operation is recorded, whatever is said of the file."""
    Path("busy").write_bytes(b"x" * 100_000)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with Path("busy").open("r+b") as stream:
                stream.truncate(1000)
                stream.seek(0)
                stream.write(os.urandom(200_000))

    writer = threading.Thread(target=busy)
    writer.start()
    try:
        contexts = [record(command=["tool", "busy"]) for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    assert [hashes(context["inputs"]).keys() for context in contexts] == [{"busy"}] * 5


def test_one_that_may_not_be_read(settings: Settings) -> None:
    code = "from audit_dagster import log_custom_operation as l\nwith l('tool', 'x') as logger: pass"
    closed = old("closed")
    closed.chmod(0)
    # Root may read everything: that power is taken away. An ordinary user has none.
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    done = subprocess.run([*powerless, sys.executable, "-c", code, "closed"], check=False, capture_output=True)
    closed.chmod(0o600)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (fact,) = AuditService().recent_entries()[0].context["inputs"]
    assert (fact["path"], fact["size"], fact["sha256"]) == (str(closed), 8, None)


def test_contents_are_read_up_to_a_limit(settings: Settings) -> None:
    with Path("huge").open("wb") as stream:
        stream.truncate(10 * 1024**3)
    old("small")
    began = time.monotonic()
    context = record(command=["tool", "huge", "small"], results={"file": "huge"})
    assert time.monotonic() - began < 10, "ten gigabytes were read"
    assert hashes(context["inputs"]) == {"huge": None, "small": sha256(b"content\n")}
    assert [(one["size"], one["sha256"]) for one in context["outputs"]] == [(10 * 1024**3, None)]


def test_the_limit_is_for_all_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 250)
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 100)
    found = files.named_in([["a", "b", "c"]], str(tmp_path))
    assert [bool(one["sha256"]) for one in files.facts(found.values())] == [True, True, False]


def test_many_files(settings: Settings) -> None:
    """The first hundred; and those beyond are not taken for made only because nobody had looked at them."""
    names = [f"many/{number:03}" for number in range(300)]
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    time.sleep(0.03)
    old("in")
    context = record(command=["tool", *names], parameters={"a": "in"}, inputs=["in"])
    assert len(context["inputs"]) == files.MOST_FILES
    assert hashes(context["inputs"]).keys() == {"in", *(Path(name).name for name in names[:99])}
    assert "outputs" not in context
    context = record(results={"files": names})
    assert hashes(context["outputs"]).keys() == {Path(name).name for name in names[:100]}


def test_times_that_no_calendar_has(settings: Settings, tmp_path: Path) -> None:
    for name, seconds in {"early": -(2**31), "late": 2**33, "never": 2**38}.items():
        old(name)
        os.utime(name, (seconds, seconds))
    context = record(command=["tool", "early", "late", "never"])
    times = {Path(one["path"]).name: one["mtime"] for one in context["inputs"]}
    assert times["early"] == "1901-12-13T20:45:52.000+00:00"
    never = Path("never").stat().st_mtime
    assert times["never"] is None or never < 2**38, "a file system may cut it"


def test_a_file_of_secrets_has_no_hash(settings: Settings) -> None:
    """A short password is soon found by it."""
    old("secrets/.env", b"PIN=1234\n")
    old("secrets/id_rsa", b"x")
    context = record(command=["tool", "secrets/.env"], parameters={"key": "secrets/id_rsa"})
    assert hashes(context["inputs"]) == {".env": None, "id_rsa": None}


def test_without_a_working_directory(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = old("file")
    Path("gone").mkdir()
    os.chdir("gone")
    (tmp_path / "gone").rmdir()
    context = record(command=["tool", "file", str(file)], inputs=["x"])
    os.chdir(tmp_path)
    assert hashes(context["inputs"]).keys() == {"file"}


def test_declared_things_that_are_no_paths(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    class Angry:
        def __fspath__(self) -> str:
            raise RuntimeError("leave me alone")

    class AngryList(list[str]):
        def __iter__(self) -> Any:
            raise RuntimeError

    old("file")
    with log_custom_operation("tool", "x") as logger:
        for wrong in (None, 3, Angry(), AngryList("x"), ["file"], b"\xff\0"):
            logger.add_input(wrong)  # type: ignore[arg-type]
            logger.add_output(wrong)  # type: ignore[arg-type]
        logger.add_input("file")
        with os.scandir(".") as entries:
            logger.add_output(next(entry for entry in entries if entry.name == "file"))
    context = AuditService().recent_entries()[0].context
    assert hashes(context["inputs"]) == hashes(context["outputs"]) == {"file": sha256(b"content\n")}
    assert len(capfd.readouterr().err.splitlines()) <= 1
    assert record(inputs=[None, Angry(), AngryList("x"), "file"]) is not None
