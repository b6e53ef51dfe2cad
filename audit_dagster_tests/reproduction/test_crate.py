"""Crates: what they tell, that a validator accepts them without network, and that nothing gets out of their folder."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from audit_dagster import log_custom_operation
from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError, InvalidInputError
from audit_dagster.importers.markdown_logs import read_logs
from audit_dagster.importers.outcome import Read
from audit_dagster.provenance_service import write_crate
from audit_dagster.reproduction.chain import FileFacts
from audit_dagster.reproduction.crate import Description, describe, payload
from audit_dagster.settings import Settings
from audit_dagster_tests.conftest import REAL_LOGS, make_entry, needs_real_logs

METADATA = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
# The terms of RO-Crate 1.1 that a crate of ours uses: one that is not here is not known to the validator either.
SCHEMA_ORG = (
    "CreateAction CreativeWork Dataset Person PropertyValue SoftwareApplication about actionStatus agent contentSize "
    "datePublished description encodingFormat endTime error hasPart instrument license mentions name object result "
    "softwareVersion startTime url value version"
)
TERMS = {term: f"http://schema.org/{term}" for term in SCHEMA_ORG.split()} | {
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
}
REQUIRED, RECOMMENDED = "REQUIRED", "RECOMMENDED"
Issues = list[tuple[str, str]]

pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")


class _Terms(BaseAdapter):
    """Answers as the place of the context does, so that the validator's cache keeps it."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        assert request.url == CONTEXT
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = 200, CONTEXT, request
        answer.headers["Content-Type"] = "application/ld+json"
        body = io.BytesIO(json.dumps({"@context": TERMS}).encode())
        answer.raw = HTTPResponse(body=body, headers=answer.headers, status=200, preload_content=False)
        return answer

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the validator would have fetched."""
    from requests_cache import CachedSession

    path = tmp_path_factory.mktemp("validator") / "cache"
    with CachedSession(cache_name=str(path), backend="sqlite", expire_after=-1) as session:
        session.mount(CONTEXT, _Terms())
        session.get(CONTEXT)
    return path


@pytest.fixture
def issues(cache: Path) -> Callable[..., Issues]:
    """What roc-validator says against a crate: pairs of severity and message."""
    from rocrate_validator.models import Severity, ValidationSettings
    from rocrate_validator.services import validate
    from rocrate_validator.utils import log

    log.basicConfig(level=logging.CRITICAL)  # what it has to say is in the issues

    def found(folder: Path, severity: str = REQUIRED) -> Issues:
        settings = ValidationSettings(
            rocrate_uri=str(folder),
            profile_identifier="process-run-crate-0.5",
            requirement_severity=Severity[severity],
            cache_path=cache,
            offline=True,
        )
        result = validate(settings)
        assert result.passed() == (not result.get_issues())
        return [(issue.severity.name, issue.message or "") for issue in result.get_issues()]

    return found


def graph_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The crate's entities by their id, none of which is there twice."""
    graph = json.loads((folder / METADATA).read_text("utf-8"))["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert len(entities) == len(graph)
    return entities


def actions_of(graph: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [entity for entity in graph.values() if entity["@type"] == "CreateAction"]


def references(value: Any) -> list[str]:
    found = value if isinstance(value, list) else [] if value is None else [value]
    return [one["@id"] for one in found]


def check_references(graph: dict[str, dict[str, Any]]) -> None:
    """Whatever is referred to is there, and all data belong to the root."""
    for entity in graph.values():
        for value in entity.values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict) and one["@id"] != "https://w3id.org/ro/crate/1.1":
                    assert one["@id"] in graph
    data = [identity for identity, entity in graph.items() if entity["@type"] == "File"]
    assert sorted(references(graph["./"]["hasPart"])) == sorted(data)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def recorded(settings: Settings, tmp_path: Path) -> list[LogEntry]:
    """Three operations that really ran: one that another builds on, and one that failed."""
    (tmp_path / "survey.csv").write_text("site,temperature\n4,20\n")
    export = log_custom_operation("lab", "export")
    export.add_input("survey.csv")
    export.add_parameter("site", 4)
    export.add_parameter("units", ["°C", None])
    with export as logger:
        (tmp_path / "Turf table.csv").write_text("20\n")
        logger.add_output("Turf table.csv")
        logger.add_note("Of May, 20 °C")
    plot = log_custom_operation("lab", "plot")
    plot.add_input("Turf table.csv")
    with plot as logger:
        (tmp_path / "figure.png").write_bytes(b"\x89PNG")
        (tmp_path / "scratch.txt").write_text("first")
        logger.add_output("figure.png")
        logger.add_output("scratch.txt")
    with pytest.raises(ValueError, match="too hot"), log_custom_operation("lab", "check"):
        raise ValueError("too hot")
    (tmp_path / "scratch.txt").write_text("second, and longer")
    return AuditService(settings).recent_entries()


class TestRealOperations:
    def test_the_validator_accepts_it(self, recorded: list[LogEntry], issues: Callable[..., Issues]) -> None:
        folder = write_crate(recorded, "crate").path
        assert issues(folder) == []

    def test_what_it_only_recommends(self, recorded: list[LogEntry], issues: Callable[..., Issues]) -> None:
        """What only the lab can say (author, publisher, licence), where tools live, and which files lie elsewhere."""
        found = issues(write_crate(recorded, "crate").path, RECOMMENDED)
        assert {severity for severity, _ in found} == {RECOMMENDED}
        kinds = ("Root Data Entity", "url", "absolute URI", "have a result", "uses scheme 'file'")
        assert [message for _, message in found if not any(kind in message for kind in kinds)] == []
        assert len([message for _, message in found if "The Action" in message]) == 1  # a failure has no result

    def test_the_validator_sees_what_is_missing(self, recorded: list[LogEntry], issues: Callable[..., Issues]) -> None:
        folder = write_crate(recorded, "crate").path
        text = (folder / METADATA).read_text("utf-8")
        (folder / METADATA).write_text(text.replace('"instrument"', '"agent2"'), "utf-8")
        (folder / "outputs" / "figure.png").unlink()
        found = issues(folder)
        assert {severity for severity, _ in found} == {REQUIRED}
        assert any("figure.png" in message for _, message in found)
        assert any("instrument" in message for _, message in found)

    def test_what_it_holds(self, recorded: list[LogEntry], tmp_path: Path) -> None:
        crate = write_crate(recorded, tmp_path / "new" / "crate")
        files = files_in(crate.path)
        assert (crate.operations, crate.copied, crate.referenced) == (3, 2, 1)
        assert sorted(files) == sorted(
            [METADATA, "entries.json", "outputs/Turf_table.csv", "outputs/figure.png", "reproduce.sh"]
        )
        assert files["outputs/Turf_table.csv"] == b"20\n"
        assert [LogEntry.from_json(form) for form in json.loads(files["entries.json"])] == recorded[::-1]
        script = crate.path / "reproduce.sh"
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", script], check=True)

    def test_what_it_tells(self, recorded: list[LogEntry], tmp_path: Path) -> None:
        graph = graph_of(write_crate(recorded, "crate").path)
        check_references(graph)
        export, plot, check = actions_of(graph)
        host = os.uname().nodename
        assert references(graph["./"]["mentions"]) == [export["@id"], plot["@id"], check["@id"]]
        assert references(export["result"]) == ["outputs/Turf_table.csv"]
        survey = hashlib.sha256((tmp_path / "survey.csv").read_bytes()).hexdigest()
        table, *parameters = references(export["object"])
        assert table == f"file://{host}{tmp_path}/survey.csv#sha256={survey}"
        assert [(graph[one]["name"], graph[one]["value"]) for one in parameters] == [
            ("site", 4),
            ("units", '["\\u00b0C", null]'),
        ]
        assert references(plot["object"]) == references(export["result"])
        first = hashlib.sha256(b"first").hexdigest()
        assert references(plot["result"]) == [
            "outputs/figure.png",
            f"file://{host}{tmp_path}/scratch.txt#sha256={first}",
        ]
        figure = graph["outputs/figure.png"]
        assert (figure["name"], figure["contentSize"]) == (f"{tmp_path}/figure.png", "4")
        assert figure["sha256"] == hashlib.sha256(b"\x89PNG").hexdigest()
        assert export["actionStatus"] == "http://schema.org/CompletedActionStatus"
        assert (check["actionStatus"], check["error"]) == (
            "http://schema.org/FailedActionStatus",
            "ValueError: too hot",
        )
        assert "error" not in export
        assert "result" not in check
        assert export["description"].startswith("Of May, 20 °C\nCommand: ")
        (person,) = [entity for entity in graph.values() if entity["@type"] == "Person"]
        assert export["agent"] == plot["agent"] == {"@id": person["@id"]}
        (application,) = [entity for entity in graph.values() if entity["@type"] == "SoftwareApplication"]
        assert application["name"] == "lab"
        version = recorded[0].context["tool"]["version"]
        assert application["softwareVersion"].startswith(version)

    def test_the_command_line_of_a_colleague_reads_the_script(self, recorded: list[LogEntry]) -> None:
        folder = write_crate(recorded, "crate").path
        done = subprocess.run(["bash", folder / "reproduce.sh", "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def output(path: str | Path, content: bytes, **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"path": str(path), "size": len(content), "mtime": None, "sha256": digest, **more}


class TestCopies:
    """Which outputs come into the crate. The settings are those of a test, since the script is made with them."""

    def test_only_what_has_the_recorded_content(self, settings: Settings, tmp_path: Path) -> None:
        for name in ("same", "changed", "locked", "twin"):
            (tmp_path / name).write_bytes(name.encode())
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to("same")
        outputs = [
            output(tmp_path / "same", b"same"),
            output(tmp_path / "link", b"same"),
            output(tmp_path / "changed", b"before"),
            output(tmp_path / "gone", b"gone"),
            output(tmp_path / "gone too", b"twin"),
            output(tmp_path / "twin", b"twin"),
            output(tmp_path / "pipe", b""),
            output(tmp_path / "folder", b"folder"),
            output("/dev/zero", b"zero"),
            output(f"{tmp_path}/a\0b", b"nul"),
            output(tmp_path / "unread", b"unread", sha256=None),
        ]
        crate = write_crate([make_entry(context={"outputs": outputs})], "crate", settings)
        copies = {name: content for name, content in files_in(crate.path).items() if name.startswith("outputs/")}
        assert copies == {"outputs/same": b"same", "outputs/gone_too": b"twin"}
        assert (crate.copied, crate.referenced) == (2, 6)
        check_references(graph_of(crate.path))

    def test_up_to_a_size(self, settings: Settings, tmp_path: Path) -> None:
        for name in "abc":
            (tmp_path / name).write_text(name * 1000)
        outputs = [output(tmp_path / name, name.encode() * 1000) for name in "abc"]
        crate = write_crate([make_entry(context={"outputs": outputs})], "crate", settings, most_bytes=2500)
        assert (crate.copied, crate.referenced) == (2, 1)
        assert sorted(path.name for path in (crate.path / "outputs").iterdir()) == ["a", "b"]

    def test_a_large_file_takes_little_memory(self, settings: Settings, tmp_path: Path) -> None:
        import tracemalloc

        size = 64 * 2**20
        with (tmp_path / "large").open("wb") as file:
            file.truncate(size)
        digest = hashlib.file_digest((tmp_path / "large").open("rb"), "sha256").hexdigest()
        entry = make_entry(context={"outputs": [output(tmp_path / "large", b"", sha256=digest, size=size)]})
        tracemalloc.start()
        try:
            crate = write_crate([entry], "crate", settings)
            assert tracemalloc.get_traced_memory()[1] < size / 4
        finally:
            tracemalloc.stop()
        assert (crate.path / "outputs" / "large").stat().st_size == size


class TestRefusals:
    def test_folders(self, settings: Settings, tmp_path: Path) -> None:
        entry = make_entry()
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.tex").write_text("years of work")
        (tmp_path / "file").write_text("x")
        for name in ("full", "file"):
            with pytest.raises(InvalidInputError, match=f"{name} is there and not an empty folder: name a new one"):
                write_crate([entry], tmp_path / name, settings)
        with pytest.raises(AuditError, match=r"cannot write .*: Not a directory: choose another folder"):
            write_crate([entry], tmp_path / "file" / "crate", settings)
        assert files_in(tmp_path / "full") == {"thesis.tex": b"years of work"}

    def test_nothing_to_tell(self, settings: Settings, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match="no operations"):
            write_crate([], "crate", settings)
        assert not (tmp_path / "crate").exists()

    def test_an_empty_folder_and_a_link_to_one_are_filled(self, settings: Settings, tmp_path: Path) -> None:
        for name in ("empty", "linked"):
            (tmp_path / name).mkdir()
        (tmp_path / "link").symlink_to("linked")
        for name in ("empty", "link"):
            write_crate([make_entry()], name, settings)
            assert sorted(files_in(tmp_path / name)) == ["entries.json", "reproduce.sh", METADATA]
        assert (tmp_path / "link").is_symlink()

    def test_what_fails_half_way_leaves_nothing(self, settings: Settings, tmp_path: Path) -> None:
        odd = make_entry(parameters={"odd": object()})  # no JSON
        (tmp_path / "empty").mkdir()
        for name in ("new", "empty"):
            with pytest.raises(TypeError):
                write_crate([odd], name, settings)
        assert not (tmp_path / "new").exists()
        assert list((tmp_path / "empty").iterdir()) == []

    def test_without_the_library_it_says_what_to_install(self, tmp_path: Path) -> None:
        code = (
            "import sys; sys.modules['rocrate'] = None\n"
            "from audit_dagster.provenance_service import write_crate\n"
            "from audit_dagster.errors import AuditError\n"
            "try: write_crate([], 'crate')\n"
            "except AuditError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "a crate needs the library rocrate: pip install 'audit-dagster[crates]'\n"

    def test_the_library_is_loaded_when_it_is_used(self) -> None:
        code = "import audit_dagster.provenance_service, sys; print('rocrate' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"


_SEEDS = (
    "../../../etc/passwd /etc/passwd ~root C:\\evil NUL con.txt .hidden -rf -- $(touch${IFS}canary) `canary` ${HOME} "
    "a;b a|b a&b %2e%2e%2f %00 # ?x=1 #frag @id @type @context _:blank {@id} [] \" ' \\ </script> <b> javascript:x "
    "https://w3id.org/ro/crate/1.1 file:///etc/passwd ./ . .. ro-crate-metadata.json reproduce.sh entries.json :// "
    "{{7*7}} %s {0} \\u0000"
)
_ENDS = ("", " ", "\n", "\0", "\x1b[31m", "\u202e", "\ud800", "/", ".", "é\u0301", "\U0001f600", "x" * 300)
HOSTILE = [seed + end for seed in _SEEDS.split() for end in _ENDS]


class TestHostile:
    def test_there_are_enough(self) -> None:
        assert len(set(HOSTILE)) >= 500

    def test_nothing_escapes_and_the_validator_accepts_it(
        self, settings: Settings, tmp_path: Path, issues: Callable[..., Issues]
    ) -> None:
        entries = [hostile_entry(tmp_path, HOSTILE[first : first + 20]) for first in range(0, len(HOSTILE), 20)]
        before = files_in(tmp_path)
        crate = write_crate(entries, "crate", settings)
        after = {name: content for name, content in files_in(tmp_path).items() if not name.startswith("crate/")}
        assert after == before
        graph = graph_of(crate.path)
        check_references(graph)
        assert len(actions_of(graph)) == len(entries)
        names = [name for name in files_in(crate.path) if name.startswith("outputs/")]
        assert len(names) == crate.copied == len(before)
        assert len({name.lower() for name in names}) == len(names)
        assert all(name.isascii() and name.isprintable() and len(name) <= 120 for name in names)
        assert issues(crate.path) == []

    def test_names_are_safe_distinct_and_told_apart_by_more_than_case(self) -> None:
        outputs = [output(f"/lab/{number}/{text}", str(number).encode()) for number, text in enumerate(HOSTILE)]
        outputs += [output(f"/{number}/Out.csv", f"same{number}".encode()) for number in range(3000)]
        outputs += [output(f"/{number}/out-2.CSV", f"other{number}".encode()) for number in range(3)]
        found = payload([make_entry(context={"outputs": outputs})])
        names = [one.name.removeprefix("outputs/") for one in found]
        assert len(found) == len(outputs) == len({name.lower() for name in names})
        assert all(not {"/", "\\", ":"} & set(name) and name[0] not in ".-" and name[-1] != "." for name in names)
        assert not [name for name in names if name.lower().split(".")[0] in {"con", "nul", "com1"}]


def hostile_entry(folder: Path, texts: list[str]) -> LogEntry:
    """Every text in every place that a crate tells of, and as the name of a file that is there, where it can be one."""
    outputs = []
    for text in texts:
        outputs.append(output(f"/{text}", text.encode("utf-8", "surrogatepass")))
        place = folder / hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if "/" not in text and "\0" not in text and text not in {".", ".."} and len(text) < 200:
            place.mkdir()
            name = text if "\ud800" not in text else text.replace("\ud800", "\udcff")
            (place / name).write_bytes(text.encode("utf-8", "surrogatepass"))
            outputs.append(output(place / name, text.encode("utf-8", "surrogatepass")))
    return make_entry(
        tool_name=texts[0],
        operation=texts[1],
        user_name=texts[2],
        note=texts[3],
        success=False,
        error_message=texts[4],
        command=texts,
        parameters={text: text for text in texts},
        results={text: text for text in texts},
        duration_seconds=float("inf"),
        context={
            "hostname": texts[5],
            "tool": {"version": texts[6], "file": texts[7], "git": {"commit": texts[8], "remote": texts[9]}},
            "git": texts[10],
            "inputs": [*outputs[:3], texts[0], None],
            "outputs": outputs,
        },
    )


@needs_real_logs
def test_the_real_logs(settings: Settings, issues: Callable[..., Issues]) -> None:
    outcomes = list(read_logs([REAL_LOGS], ZoneInfo("America/Chicago")))
    entries = [outcome.entry for outcome in outcomes if isinstance(outcome, Read)]
    assert len(entries) == 39
    crate = write_crate(entries, "crate", settings)
    graph = graph_of(crate.path)
    check_references(graph)
    assert len(actions_of(graph)) == 39
    assert issues(crate.path) == []


def described(*entries: LogEntry) -> Description:
    script, log = FileFacts("reproduce.sh", "0" * 64, 1), FileFacts("entries.json", "1" * 64, 2)
    return describe(entries, {}, script, log, datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))


class TestDescription:
    """Entries in, description out: no file is looked at."""

    def test_times_are_of_the_one_form_that_the_validator_takes(self) -> None:
        started = datetime(2023, 6, 15, 14, 30, 22, tzinfo=ZoneInfo("America/Chicago"))
        made = described(make_entry(timestamp=started, duration_seconds=1.0005))
        (action,) = [entity for entity in made.context.values() if entity["@type"] == "CreateAction"]
        assert action["startTime"] == "2023-06-15T19:30:22.000+00:00"
        assert action["endTime"] == "2023-06-15T19:30:23.000+00:00"
        assert made.root["datePublished"] == "2024-01-02T03:04:05.678+00:00"

    @pytest.mark.parametrize("seconds", [None, float("nan"), float("inf"), 1e300, 1e12])
    def test_an_end_that_nobody_knows(self, seconds: float | None) -> None:
        made = described(make_entry(duration_seconds=seconds))
        assert "endTime" not in next(iter(made.context.values()))

    @pytest.mark.parametrize(
        ("tool", "version"),
        [
            (None, None),
            ({"version": "1.2", "distribution": "lab-tools"}, "1.2"),
            ({"git": {"commit": "abc", "dirty": True}}, "commit abc with uncommitted changes"),
            ({"version": "1.2", "git": {"commit": "abc", "dirty": False}}, "1.2, commit abc"),
            ({"file": "/lab/tools/parse.py"}, "commit feed"),
            ({"file": "/usr/bin/parse"}, None),
        ],
    )
    def test_the_version_of_a_tool(self, tool: dict[str, Any] | None, version: str | None) -> None:
        context = {"git": {"root": "/lab", "remote": "https://example.org/lab.git"}, "tool": tool}
        made = described(make_entry(git_commit_hash="feed", context=context))
        (application,) = [entity for entity in made.context.values() if entity["@type"] == "SoftwareApplication"]
        assert application.get("softwareVersion") == version
        assert application.get("url") == ("https://example.org/lab.git" if version == "commit feed" else None)

    def test_tools_of_two_versions_are_two_and_people_are_one(self) -> None:
        old, new = ({"tool": {"version": version}} for version in ("1", "2"))
        made = described(make_entry(context=old), make_entry(context=new), make_entry(context=new))
        kinds = [entity["@type"] for entity in made.context.values()]
        assert (kinds.count("SoftwareApplication"), kinds.count("Person")) == (2, 1)
