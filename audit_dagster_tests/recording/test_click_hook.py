"""`record_cli`: what real Click applications of every shape record of themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from audit_dagster import log_custom_operation, record_cli
from audit_dagster.cli import cli as audit
from audit_dagster.settings import Settings
from audit_dagster_tests.recording.stored import entries, only_entry

pytestmark = pytest.mark.usefixtures("unwarned", "without_drainer")


def names() -> list[tuple[str, str]]:
    return [(entry.tool_name, entry.operation) for entry in entries()]


def invoke(command: click.Command, *words: str, **keywords: Any) -> Result:
    return CliRunner().invoke(command, list(words), **keywords)


def raising(error: BaseException) -> Callable[[], Any]:
    def run() -> None:
        raise error

    return run


def checked(ctx: click.Context, parameter: click.Parameter, value: int) -> int:
    if value == 13:
        raise RuntimeError("unlucky")
    if value == 99:
        ctx.exit(9)
    return value


@click.command()
@click.option("--project", required=True)
@click.option("--limit", type=int, default=10, callback=checked)
@click.option("--dry-run", is_flag=True)
@click.option("--node", multiple=True)
@click.option("--note")
def extract(**values: Any) -> dict[str, Any]:
    click.echo(values["project"])
    return {"records": 15420}


def make_lab() -> click.Group:
    """A group like the documented one."""

    @click.group(commands={"sensing-data": click.Group("sensing_data", {"extract": copy.copy(extract)})})
    @click.option("--site")
    @click.version_option("1.0")
    def lab(site: str | None) -> None:
        if site == "nowhere":
            raise click.ClickException("no such site")

    @lab.command()
    @click.argument("where", nargs=-1)
    def clean(where: tuple[str, ...]) -> None:
        click.echo("clean")

    @lab.group(invoke_without_command=True)
    @click.option("--short", is_flag=True)
    def status(short: bool) -> dict[str, Any]:
        return {"up": True}

    status.command("disk")(lambda: None)
    return lab


def test_the_parts_of_an_entry(settings: Settings) -> None:
    words = "--site 4 sensing-data extract --project p --node a --node b --note"
    invoke(record_cli(make_lab()), *words.split(), "May, 20 °C")
    entry = only_entry()
    assert entry.parameters == {
        "site": "4",
        "project": "p",
        "limit": 10,
        "dry_run": False,
        "node": ["a", "b"],
    }
    assert entry.context["default_parameters"] == ["dry_run", "limit"]
    assert entry.note == "May, 20 °C"
    assert entry.results == {"records": 15420, "exit_code": 0}
    assert entry.command is None
    assert entry.context["tool"]["file"] == __file__


def test_parameters_of_words_that_could_be_parsed_only_in_part(settings: Settings) -> None:
    invoke(record_cli(make_lab()), *["sensing-data", "extract", "--project", "p", "--limit", "x"])
    assert only_entry().parameters == {"project": "p"}


def test_a_tool_that_is_named(settings: Settings) -> None:
    lab = record_cli(make_lab(), tool="field lab")
    for words in ("sensing-data extract --project p", "clean", "nothing"):
        invoke(lab, *words.split())
    invoke(record_cli(click.Command("dig", callback=lambda: None), tool="digger"))
    expected = ["sensing-data extract", "clean", "run"]
    assert names() == [*(("field lab", operation) for operation in expected), ("digger", "run")]


def test_a_recorded_application_inside_another(settings: Settings) -> None:
    outer = click.Group("outer")
    inner = record_cli(make_lab(), tool="lab")
    outer.add_command(inner, "inner")
    alone = click.Command("alone", callback=lambda: None)
    outer.add_command(alone)
    invoke(outer, "alone")
    invoke(outer, "inner", "clean")
    invoke(outer, "nothing")
    assert names() == [("lab", "clean")]
    invoke(record_cli(outer), "alone")
    assert names()[1:] == [("outer", "alone")]


def test_once_each_however_often_it_is_asked_for(settings: Settings) -> None:
    shared = click.Command("dig", callback=lambda: None)
    deep, shallow = click.Group("deep", {"dig": shared}), click.Group("shallow", {"dig": shared, "delve": shared})
    lab = click.Group("lab", {"deep": deep, "shallow": shallow})
    for command in (lab, lab, shared, deep):
        assert record_cli(command) is command
    for words in ("deep dig", "shallow dig", "shallow delve", "deep dig"):
        invoke(lab, *words.split())
    assert names() == [("deep", "dig"), ("shallow", "dig"), ("shallow", "delve"), ("deep", "dig")]


def test_a_command_that_is_shared_with_an_application_that_is_not_recorded(settings: Settings) -> None:
    shared = click.Command("dig", callback=lambda: None)
    recorded, other = click.Group("recorded", {"dig": shared}), click.Group("other", {"dig": shared})
    invoke(record_cli(recorded), "dig")
    invoke(other, "dig")
    invoke(other, "dig", "--x")
    assert names() == [("recorded", "dig")]


class Lazy(click.Group):
    """Its commands come when they are asked for, and by their beginnings, too."""

    def list_commands(self, _: click.Context) -> list[str]:
        return ["dig", "sow"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = [name for name in self.list_commands(ctx) if name.startswith(cmd_name)]
        if found and found[0] not in self.commands:
            self.add_command(click.Command(found[0], callback=lambda: None))
        return self.commands[found[0]] if found else None


class Resolving(click.Group):
    """Makes its commands where it resolves them."""

    def resolve_command(self, _: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        return "made", click.Command("made", callback=lambda: None), args[1:]


def test_groups_that_find_their_commands_in_their_own_way(settings: Settings) -> None:
    for words in ("dig", "di", "sow", "reap"):
        invoke(record_cli(Lazy("lazy")), words)
    invoke(record_cli(Resolving("resolving")), "anything")
    invoke(record_cli(click.CommandCollection("both", sources=[make_lab(), Lazy("lazy")])), "sow")
    expected = [*(("lazy", word) for word in ("dig", "dig", "sow", "run")), ("resolving", "made"), ("both", "sow")]
    assert names() == expected


def test_hooks_of_the_application_keep_working(settings: Settings) -> None:
    calls = []

    class Own(click.Group):
        def make_context(self, *arguments: Any, **keywords: Any) -> click.Context:
            calls.append("make_context")
            return super().make_context(*arguments, **keywords)

        def main(self, *arguments: Any, **keywords: Any) -> Any:
            calls.append("main")
            return super().main(*arguments, **keywords)

        def invoke(self, ctx: click.Context) -> Any:
            calls.append("invoke")
            try:
                return super().invoke(ctx)
            except LookupError:
                ctx.exit(5)

    own = Own("own")
    on_object = own.invoke
    own.invoke = lambda ctx: (calls.append("on the object"), on_object(ctx))[1]  # type: ignore[method-assign]
    own.add_command(click.Command("dig", callback=raising(LookupError("no spade"))))
    assert invoke(record_cli(own), "dig").exit_code == 5
    assert calls == ["main", "make_context", "on the object", "invoke"]
    assert only_entry().error_message == "LookupError: no spade"


def test_a_chain(settings: Settings) -> None:
    lab = click.Group("lab", chain=True, invoke_without_command=True)
    started = []
    for name in ("dig", "sow"):
        callback = lambda **_: started.append(len(entries()))  # noqa: E731
        lab.add_command(click.Command(name, callback=callback, params=[click.Option(["--deep"])]))
    collected: list[Any] = []
    lab.result_callback()(collected.append)
    record_cli(lab)
    assert invoke(lab, "dig", "--deep", "2", "sow").exit_code == 0
    assert started == [0, 1]  # the second begins when the first has ended
    assert collected == [[None, None]]
    assert [(e.operation, e.parameters, e.success) for e in entries()] == [
        ("dig", {"deep": "2"}, True),
        ("sow", {}, True),
    ]
    assert all("parent_operation_id" not in entry.context for entry in entries())
    invoke(lab)
    assert names()[2:] == [("lab", "run")]


@pytest.mark.parametrize("chain", [False, True])
def test_a_result_callback_that_fails_after_a_command_that_did_not(settings: Settings, chain: bool) -> None:
    lab = click.Group("lab", {"dig": click.Command("dig", callback=lambda: 1)}, chain=chain)
    lab.result_callback()(lambda _: 1 / 0)
    assert isinstance(invoke(record_cli(lab), "dig").exception, ZeroDivisionError)
    failed = ["ZeroDivisionError: division by zero"]
    found = [(e.operation, e.error_message) for e in entries()]
    assert found == ([("dig", None), ("run", *failed)] if chain else [("dig", *failed)])


def test_a_command_that_calls_others_is_one_operation_and_what_records_itself_lies_inside(settings: Settings) -> None:
    other = click.Command("other", callback=lambda: None)

    @click.command()
    @click.pass_context
    def dig(ctx: click.Context) -> None:
        ctx.invoke(other)
        with log_custom_operation("soil", "sieve"):
            pass

    lab = click.Group("lab", {"dig": dig, "other": other})
    invoke(record_cli(lab), "dig")
    outer, inner = entries()
    assert (outer.operation, inner.operation) == ("dig", "sieve")
    assert inner.context["parent_operation_id"] == outer.operation_id


def test_an_application_that_calls_a_recorded_one_from_inside(settings: Settings) -> None:
    lab = record_cli(make_lab())
    outer = record_cli(click.Command("outer", callback=lambda: lab.main(["clean"], standalone_mode=False)))
    invoke(outer)
    assert names() == [("outer", "run"), ("lab", "clean")]
    assert entries()[1].context["parent_operation_id"] == entries()[0].operation_id


def test_a_copy_of_a_recorded_command_runs_its_own_callback(settings: Settings) -> None:
    original = record_cli(click.Command("dig", callback=lambda: click.echo("original")))
    changed = copy.copy(original)
    changed.callback = lambda deep: click.echo(f"changed {deep}")
    changed.params = [click.Option(["--deep"])]
    assert invoke(changed, "--deep", "2").output == "changed 2\n"
    assert only_entry().parameters == {"deep": "2"}


def test_the_audit_itself_is_no_operation(settings: Settings) -> None:
    lab = make_lab()
    lab.add_command(audit, "audit")
    lab.commands["sensing-data"].add_command(audit, "audit")  # type: ignore[attr-defined]
    record_cli(lab)
    for words in ("audit recent", "audit recent --limit x", "audit nothing", "sensing-data audit recent --limit 0"):
        assert invoke(lab, *words.split()).exit_code == (0 if words == "audit recent" else 2)
    invoke(record_cli(audit), "recent")
    assert entries() == []


def test_what_is_no_application_is_returned_as_it_is(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for thing in (None, 7, entries):
        assert record_cli(thing) is thing
    assert len(capsys.readouterr().err.splitlines()) == 1


# ---- Values ----


def test_files_become_their_names_and_are_not_opened(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("1,2")
    (tmp_path / "kept.csv").write_text("kept")

    @click.command()
    @click.option("--table", type=click.File())
    @click.option("--also", type=click.File(), multiple=True)
    @click.option("--out", type=click.File("w"))
    @click.option("--safe", type=click.File("w", atomic=True))
    @click.option("--unused", type=click.File("w"))
    @click.option("--folder", type=click.Path(path_type=Path), default=Path("data"))
    @click.argument("stdin", type=click.File())
    def dig(out: Any, safe: Any, stdin: Any, **_: Any) -> None:
        out.write("result")
        safe.write("safe")

    words = "--table in.csv --also in.csv --also in.csv --out out.csv --safe safe.csv --unused kept.csv -"
    assert invoke(record_cli(dig), *words.split(), input="").exit_code == 0
    entry = only_entry()
    assert (tmp_path / "kept.csv").read_text() == "kept"
    assert entry.parameters == {
        "table": "in.csv",
        "also": ["in.csv", "in.csv"],
        "out": "out.csv",
        "safe": "safe.csv",
        "unused": "kept.csv",
        "folder": "data",
        "stdin": "<stdin>",
    }
    sizes = {Path(file["path"]).name: file["size"] for file in entry.context["outputs"]}
    assert sizes == {"out.csv": 6, "safe.csv": 4}  # what was written is on the disk by then


def test_hidden_input_is_hidden_and_prompts_come_first(settings: Settings) -> None:
    waiting = []

    def answered(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
        waiting.append(len(list(settings.spool_dir.glob("*.op"))) if settings.spool_dir.exists() else 0)
        return value

    @click.command()
    @click.option("--pin", prompt=True, hide_input=True, callback=answered)
    def dig(pin: str) -> None:
        waiting.append(len(list(settings.spool_dir.glob("*.op"))))
        click.echo(f"using {pin}")

    done = invoke(record_cli(dig), input="1234-5678\n")
    assert "using 1234-5678" in done.output
    assert waiting == [0] * (len(waiting) - 1) + [1]
    assert only_entry().parameters == {"pin": "${SECRET:PIN}"}
    assert only_entry().context["default_parameters"] == []


def test_a_prompt_that_is_not_answered(settings: Settings) -> None:
    dig = click.Command("dig", params=[click.Option(["--pin"], prompt=True)], callback=lambda **_: None)
    assert invoke(record_cli(dig), input="").exit_code == 1
    assert only_entry().error_message == "Aborted"


def test_defaults_environment_and_default_map(settings: Settings) -> None:
    options = [
        click.Option([f"--{name}"], default="d", envvar=name.upper()) for name in ("plain", "mapped", "from-env")
    ]
    dig = click.Command("dig", params=options, callback=lambda **_: None)
    invoke(record_cli(dig), default_map={"mapped": "m"}, env={"FROM-ENV": "e"})
    assert only_entry().parameters == {"plain": "d", "mapped": "m", "from_env": "e"}
    assert only_entry().context["default_parameters"] == ["mapped", "plain"]


def test_a_file_that_cannot_be_written_to_its_end(settings: Settings) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            raise OSError(28, "No space left on device")

    dig = click.Command("dig", callback=lambda: click.get_current_context().with_resource(Full()))
    for command in (dig, click.Group("lab", {"dig": dig})):
        words = ["dig"] if isinstance(command, click.Group) else []
        assert isinstance(invoke(record_cli(command), *words).exception, OSError)
    assert [entry.error_message for entry in entries()] == ["OSError: [Errno 28] No space left on device"] * 2
    assert not any(entry.success for entry in entries())


def test_contexts_that_nobody_closes_or_that_are_closed_early(settings: Settings) -> None:
    lab = record_cli(make_lab())
    clean = lab.commands["clean"]
    context = lab.make_context("lab", ["clean"])
    lab.invoke(context)
    clean.invoke(clean.make_context("clean", [], parent=context))
    empty = record_cli(click.Command("empty"))
    empty.invoke(empty.make_context("empty", []))
    closing = record_cli(click.Command("closing", callback=lambda: click.get_current_context().close()))
    invoke(closing)
    assert sorted(names()) == [("closing", "run"), ("empty", "run"), ("lab", "clean"), ("lab", "clean")]
    assert all(entry.success for entry in entries())
