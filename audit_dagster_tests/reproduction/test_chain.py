"""The chain that made a file: what is chosen where there is a choice, through a database too, and with real files."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_dagster import log_custom_operation
from audit_dagster.entry import LogEntry
from audit_dagster.errors import InvalidInputError
from audit_dagster.provenance_service import candidates, chain_of, wanted_content
from audit_dagster.reproduction.chain import Chain, FileFacts, chain, followed, made
from audit_dagster_tests.conftest import make_entry

START = datetime(2023, 6, 1, 12, tzinfo=UTC)
Store = Callable[..., list[LogEntry]]


def sha(name: str) -> str:
    """The SHA-256 of a content that tests call by a name."""
    return hashlib.sha256(name.encode()).hexdigest()


def step(name: str, reads: str = "", makes: str = "", minute: float = 0, **fields: Any) -> LogEntry:
    """An operation that reads and makes files, each `PATH=CONTENT` or, for both, `NAME`."""
    context = {"inputs": facts(reads), "outputs": facts(makes), **fields.pop("context", {})}
    known = {key: files for key, files in context.items() if files}
    started = START + timedelta(minutes=minute)
    return make_entry(operation=name, timestamp=started, context=known, **fields)


def facts(files: str) -> list[dict[str, Any]]:
    parts = [word.partition("=") for word in files.split()]
    return [
        {"path": f"/lab/{path}", "size": 7, "mtime": None, "sha256": None if content == "?" else sha(content or path)}
        for path, _, content in parts
    ]


def names(found: Chain) -> list[str]:
    return [entry.operation for entry in found.steps]


def both(connection: psycopg.Connection[Any], store: Store, content: str, *entries: LogEntry) -> list[str]:
    """The chain in memory, which is the one through the database."""
    pure = chain(reversed(entries), sha(content))
    store(*entries)
    assert chain(candidates(connection, sha(content)), sha(content)) == pure
    return names(pure)


class TestChoice:
    @pytest.fixture(autouse=True)
    def _database(self, connection: psycopg.Connection[Any], store: Store) -> None:
        self.chain = lambda content, *entries: both(connection, store, content, *entries)

    def test_from_the_last_output_to_the_first_input(self) -> None:
        entries = [
            step("export", "", "raw", 0),
            step("parse", "raw", "table", 10),
            step("other", "raw", "elsewhere", 15),
            step("plot", "table", "figure", 20),
            step("paper", "figure", "pdf", 30),
        ]
        assert self.chain("figure", *entries) == ["export", "parse", "plot"]

    def test_nobody(self) -> None:
        assert self.chain("figure", step("parse", "figure", "table")) == []

    def test_the_shortest_way_and_not_the_latest(self) -> None:
        entries = [
            step("direct", "", "table", 0),
            step("export", "", "raw", 10),
            step("parse", "raw", "table", 20),
            step("plot", "table", "figure", 30),
        ]
        assert self.chain("figure", *entries) == ["direct", "plot"]

    def test_who_put_it_where_it_was_read_and_not_who_made_a_copy(self) -> None:
        entries = [
            step("export", "", "raw", 0),
            step("parse", "raw", "table=t", 10),
            step("pack", "table=t", "old=t", 15, duration_seconds=3600.0),
            step("backup", "", "copy=t", 20),
            step("plot", "table=t", "figure", 30),
        ]
        assert self.chain("figure", *entries) == ["export", "parse", "plot"]
        assert names(chain(entries, sha("t"), ["/lab/copy"])) == ["backup"]
        assert names(chain(entries, sha("t"), ["/lab/table"])) == ["export", "parse"]
        assert names(chain(entries, sha("t"), ["/elsewhere"])) == ["backup"]

    def test_a_shared_step_counts_once(self) -> None:
        entries = [
            step("export", "", "raw", 0),
            step("left", "raw", "a", 1),
            step("right", "raw", "b", 2),
            step("join", "a b", "both", 3),
        ]
        assert self.chain("both", *entries) == ["export", "left", "right", "join"]

    def test_of_equals_the_latest(self) -> None:
        entries = [step(f"export{n}", "", "raw", n) for n in range(30)]
        assert self.chain("table", *entries, step("parse", "raw", "table", 25)) == ["export24", "parse"]

    def test_a_file_that_is_changed_in_place(self) -> None:
        entries = [step("create", "", "log=0", 0)]
        entries += [step(f"append{n}", f"log={n - 1}", f"log={n}", n) for n in range(1, 5)]
        assert self.chain("3", *entries) == ["create", "append1", "append2", "append3"]

    def test_there_and_back_again(self) -> None:
        entries = [step("flip", "x=a", "x=b", 0), step("flop", "x=b", "x=a", 1), step("flip2", "x=a", "x=b", 2)]
        assert self.chain("b", *entries) == ["flip"]
        assert names(chain(entries, sha("a"))) == ["flip", "flop"]
        assert names(chain(entries[1:], sha("b"))) == ["flop", "flip2"]

    def test_who_only_reads_a_file_made_nothing(self) -> None:
        entries = [step("export", "", "raw", 0), step("look", "raw", "raw report", 1)]
        assert self.chain("raw", *entries) == ["export"]

    def test_failures_and_reproductions_made_nothing_to_build_on(self) -> None:
        entries = [
            step("export", "", "raw", 0),
            step("broken", "", "raw", 1, success=False),
            step("again", "", "raw", 2, context={"reproduces": "an id"}),
            step("parse", "raw", "table", 3),
        ]
        assert self.chain("table", *entries) == ["export", "parse"]

    def test_what_started_later_made_no_input(self) -> None:
        entries = [step("parse", "raw", "table", 0), step("export", "", "raw", 1)]
        assert self.chain("table", *entries) == ["parse"]

    def test_who_had_ended_comes_before_who_still_ran(self) -> None:
        entries = [
            step("export", "", "raw", 0),
            step("slow", "", "raw", 5, duration_seconds=3600.0),
            step("parse", "raw", "table", 10),
        ]
        assert self.chain("table", *entries) == ["export", "parse"]
        assert names(chain(entries[1:], sha("table"))) == ["slow", "parse"]

    def test_empty_files_lead_nowhere(self) -> None:
        entries = [step("touch", "", "done=", 0), step("parse", "done= raw", "table", 1)]
        for entry in entries:
            for file in [*entry.context.get("inputs", ()), *entry.context["outputs"]]:
                file["sha256"] = sha("") if file["path"] == "/lab/done" else file["sha256"]
        assert self.chain("table", *entries) == ["parse"]

    def test_what_anybody_may_have_written_there(self) -> None:
        odd: list[Any] = [
            None,
            7,
            "x",
            {},
            {"path": 3},
            {"path": "/a", "sha256": 4},
            {"path": "rel", "sha256": sha("a")},
        ]
        entries = [
            step("numbers", context={"inputs": odd, "outputs": odd}),
            step("text", context={"inputs": "x", "outputs": "x"}),
            step("endless", "", "a", 1, duration_seconds=1e300),
            step("ages", "a", "b", 2),
        ]
        assert self.chain("b", *entries) == ["endless", "ages"]


def test_random_histories_have_the_same_chain_through_the_database(
    connection: psycopg.Connection[Any], store: Store
) -> None:
    """As long as a content has few makers; and each step of the chain made something that was wanted."""
    lengths = set()
    for seed in range(60):
        chance = random.Random(seed)  # noqa: S311 - no secret
        entries = []
        for number in range(chance.randint(1, 40)):
            made_here = chance.randint(1, 8)
            near = range(made_here - 3, made_here + (chance.random() < 0.1))  # sometimes what it makes itself
            reads = " ".join(f"{seed}/{one}" for one in chance.choices(near, k=2))
            fields = {"success": chance.random() < 0.9, "duration_seconds": chance.choice([0.0, 300.0])}
            entries.append(step(f"{number}", reads, f"{seed}/{made_here}", number, **fields))
        store(*entries)
        last = sha(f"{seed}/8")
        found = chain(entries, last)
        assert chain(candidates(connection, last), last) == found
        wanted = {last}
        for entry in reversed(found.steps):
            assert wanted & made(entry)
            wanted |= followed(entry)
        lengths.add(len(found.steps))
    assert {0, 1, 2, 3, 4, 5} <= lengths


def test_beginnings_are_what_nobody_made() -> None:
    entries = [step("parse", "raw big=?", "table", 0), step("plot", "table style", "figure", 1)]
    found = chain(entries, sha("figure")).beginnings
    assert [(file.path, file.sha256) for file in found] == [
        ("/lab/raw", sha("raw")),
        ("/lab/big", None),
        ("/lab/style", sha("style")),
    ]


def test_a_long_history_of_one_file_is_quick() -> None:
    entries = [step(f"append{n}", f"log={n}", f"log={n + 1}", n) for n in range(5000)]
    began = time.perf_counter()
    assert len(chain(entries, sha("5000")).steps) == 5000
    assert time.perf_counter() - began < 5


@pytest.mark.usefixtures("settings")
class TestRealFiles:
    """Operations that really ran, and files that really are there."""

    @pytest.fixture
    def lab(self, tmp_path: Path) -> Path:
        (tmp_path / "survey.txt").write_text("3 1 2")
        with log_custom_operation("lab", "sort") as logger:
            logger.add_input("survey.txt")
            Path("sorted.txt").write_text("1 2 3")
            logger.add_output("sorted.txt")
        with log_custom_operation("lab", "unrelated") as logger:
            Path("other.txt").write_text("nothing to do with it")
            logger.add_output("other.txt")
        with log_custom_operation("lab", "sum") as logger:
            logger.add_input("sorted.txt")
            Path("sum.txt").write_text("6")
            logger.add_output("sum.txt")
        return tmp_path

    def test_by_name_by_link_and_by_hash(self, lab: Path) -> None:
        (lab / "link.txt").symlink_to("sum.txt")
        shutil.move(lab / "other.txt", lab / "moved away.txt")
        digest = hashlib.sha256(b"6").hexdigest()
        for target in ("sum.txt", lab / "sum.txt", "./link.txt", digest, digest.upper()):
            found = chain_of(target)
            assert names(found) == ["sort", "sum"]
            assert [file.path for file in found.beginnings] == [str(lab / "survey.txt")]
        assert names(chain_of("moved away.txt")) == ["unrelated"]

    def test_another_content_names_who_made_the_path(self, lab: Path) -> None:
        (lab / "sum.txt").write_text("7, by hand")
        with pytest.raises(
            InvalidInputError, match=r"no recorded operation made the content of .*/sum.txt \(SHA"
        ) as told:
            chain_of("sum.txt")
        assert "that path was made with another content by: lab sum on " in str(told.value)

    def test_a_failure_that_left_it_is_named(self, lab: Path) -> None:
        with pytest.raises(ZeroDivisionError), log_custom_operation("lab", "half") as logger:
            (lab / "half.txt").write_text("half")
            logger.add_output("half.txt")
            _ = 1 / 0
        with pytest.raises(InvalidInputError, match=r"it was left by operations that failed: lab half on \d{4}-"):
            chain_of(lab / "half.txt")

    def test_a_file_changed_in_place(self, lab: Path) -> None:
        for number in range(3):
            logger = log_custom_operation("lab", f"append{number}")
            logger.add_input("sum.txt")
            with logger, (lab / "sum.txt").open("a") as file:
                logger.add_output("sum.txt")
                file.write(str(number))
                file.flush()
        assert names(chain_of("sum.txt")) == ["sort", "sum", "append0", "append1", "append2"]

    def test_what_cannot_be_looked_for(self) -> None:
        os.mkfifo("pipe")
        Path(os.fsdecode(b"odd \xff.txt")).write_text("x")
        for target, reason in {
            "missing.txt": "there is no file missing.txt, and it is no SHA-256",
            "0" * 63: "there is no file",
            "": "there is no file",
            "pipe": "pipe is no file",
            ".": "cannot read .: Is a directory",
            "a\0b": "cannot read",
            os.fsdecode(b"odd \xff.txt"): "no recorded operation made the content of",
            "0" * 64: f"no recorded operation made the content of SHA-256 {'0' * 64}$",
        }.items():
            with pytest.raises(InvalidInputError, match=reason):
                chain_of(target)

    def test_a_file_with_the_name_of_a_hash_is_a_file(self) -> None:
        Path("0" * 64).write_text("x")
        assert wanted_content("0" * 64).sha256 == hashlib.sha256(b"x").hexdigest()


def test_a_hundred_thousand_operations(connection: psycopg.Connection[Any], store: Store) -> None:
    """A chain of twenty steps among them, each of which was also taken many times."""
    connection.execute(
        """
        INSERT INTO audit_logs (timestamp, operation_id, tool_name, operation, user_name, parameters, results,
                                duration_seconds, success, context, entry_sha256)
        SELECT timestamptz '2023-01-01Z' + n * interval '1 minute', md5(n::text)::uuid, 'tool', 'run', 'ada',
               '{}', '{}', 1, true, jsonb_build_object(
                   'inputs', jsonb_build_array(jsonb_build_object(
                       'path', '/lab/in' || n % 7, 'size', 1, 'sha256', encode(sha256((n % 50)::text::bytea), 'hex'))),
                   'outputs', jsonb_build_array(jsonb_build_object(
                       'path', '/lab/out' || n, 'size', 1, 'sha256', encode(sha256(('o' || n / 3)::bytea), 'hex')))
               ), ''
        FROM generate_series(1, 99980) AS n
        """
    )
    store(*(step(f"step{n}", f"c{n} o{n * 1000}", f"c{n + 1}", n + 200_000) for n in range(20)))
    connection.execute("ANALYZE audit_logs")
    took = []
    for _ in range(5):
        began = time.perf_counter()
        found = chain(candidates(connection, sha("c20")), sha("c20"))
        took.append(time.perf_counter() - began)
    assert [name for name in names(found) if name.startswith("step")] == [f"step{n}" for n in range(20)]
    assert len(found.steps) == 40  # each read what one more operation had made
    assert min(took) < 0.1, took


def test_steps_that_were_taken_again_and_again(connection: psycopg.Connection[Any], store: Store) -> None:
    """Each night the same five steps with the same outcome: few of them are fetched, and the latest are the chain."""
    nights = [step(f"{night}.{n}", f"c{n}", f"c{n + 1}", night * 60 + n) for night in range(200) for n in range(5)]
    store(*nights)
    fetched = candidates(connection, sha("c5"))
    assert len(fetched) < 250
    last_night = [f"199.{n}" for n in range(5)]
    assert names(chain(fetched, sha("c5"))) == names(chain(nights, sha("c5"))) == last_night


def test_facts_are_those_recorded() -> None:
    entry = step("export", "", "raw")
    assert chain([entry], sha("raw")) == Chain([entry], [])
    reader = step("parse", "raw", "table", 1)
    assert chain([reader], sha("table")).beginnings == [FileFacts("/lab/raw", sha("raw"), 7)]
