"""`audit-dagster templates`: a lab's own templates are named, tried, and told of with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jinja2 import nodes, pass_context

from audit_dagster.cli import cli
from audit_dagster.commands.templates import _FILLED
from audit_dagster.render import environment_of, render, templates_dir


def templates(*words: str) -> Result:
    return CliRunner().invoke(cli, ["templates", *words])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIT_TEMPLATES_DIR", str(tmp_path))
    return tmp_path


def test_list_says_whose_each_is(own: Path) -> None:
    (own / "daily_report.md.j2").write_text("mine")
    (own / "extra\x1b.j2").write_text("mine")
    lines = templates("list").stdout.splitlines()
    assert "daily_report.md.j2\town" in lines
    assert "page.html.j2\tshipped" in lines
    assert "extra␛.j2\town" in lines


def test_show_prints_the_shipped_text(own: Path) -> None:
    (own / "shell_hook.sh.j2").write_text("mine")
    assert templates("show", "shell_hook.sh.j2").stdout == (templates_dir() / "shell_hook.sh.j2").read_text("utf-8")
    refused = templates("show", "../pyproject.toml")
    assert (refused.exit_code, "there is no template" in refused.stderr) == (2, True)


def test_copies_of_the_shipped_ones_pass(own: Path) -> None:
    for path in templates_dir().glob("*.j2"):
        (own / path.name).write_text(path.read_text("utf-8"), "utf-8")
    done = templates("check")
    said = dict(line.split("\t") for line in done.stdout.splitlines())
    assert done.exit_code == 0
    assert said == dict.fromkeys((path.name for path in templates_dir().glob("*.j2")), "ok"), "each is filled"


@pytest.mark.parametrize("name", [path.name for path in sorted(templates_dir().glob("*.j2"))])
@pytest.mark.parametrize("wrong", ["{{ nothing.there }}", "{{ 1|nothing }}"])
def test_check_fills_each(name: str, wrong: str, own: Path) -> None:
    (own / name).write_text(f"\n{wrong}")
    done = templates("check")
    assert done.exit_code == 1
    assert f"{name}, line 2: " in done.stdout
    assert "1 templates do not work" in done.stderr


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("weekly_summary.md.j2", "\n{% if %}"),
        ("tool_report.md.j2", "{{ week }}\n{% for row in users %}{{ row.usr_name|md }}{% endfor %}"),
        ("weekly_summary.html.j2", "{{ week }}\n{% for row in tools %}{{ row.p51|duration }}{% endfor %}"),
        ("alert_message.md.j2", "{{ key|md }}\n{% for kind, other in others %}{{ kind|md_cod }}{% endfor %}"),
        ("daily_report.html.j2", "{{ day }}\n{% if page > 1 %}{{ nothing.there }}{% endif %}"),
        ("daily_report.html.j2", "{{ day }}\n{% if failed > failures|length %}{{ nothing.there }}{% endif %}"),
        ("index.html.j2", "{{ today }}\n{% if causes_left_out %}{{ nothing.there }}{% endif %}"),
        ("tool_report.md.j2", "{{ week }}\n{% if not usage and previous.operations %}{{ nothing.there }}{% endif %}"),
        ("part.j2", "\n{{ x|no_such_filter }}"),
    ],
)
def test_check_names_file_and_line(name: str, source: str, own: Path) -> None:
    (own / name).write_text(source)
    done = templates("check")
    assert done.exit_code == 1
    assert f"{name}, line 2: " in done.stdout
    assert "1 templates do not work" in done.stderr


def test_a_template_that_is_no_text(own: Path) -> None:
    (own / "page.html.j2").write_bytes(b"\xff\xfe")
    done = templates("check")
    assert (done.exit_code, done.stdout) == (
        1,
        f"page.html.j2\ta template in {own} is not UTF-8: page.html.j2 needs it\n",
    )


def test_a_template_of_no_document_is_compiled(own: Path) -> None:
    (own / "part.j2").write_text("{{ anything }}")
    assert templates("check").stdout == "part.j2\tcompiles\n"


def test_a_misspelt_name_is_told(own: Path) -> None:
    (own / "dayly_report.md.j2").write_text("{{ anything }}")
    said = "dayly_report.md.j2\tcompiles; no document is made of it: is it meant to be daily_report.md.j2?\n"
    assert templates("check").stdout == said


def test_subfolders_are_looked_at(own: Path) -> None:
    (own / "parts").mkdir()
    (own / "parts" / "part.j2").write_text("{{ anything }}")
    (own / "parts" / "page.html.j2").write_text("mine")
    assert {"parts/page.html.j2\town", "parts/part.j2\town"} <= set(templates("list").stdout.splitlines())
    misplaced, part = templates("check").stdout.splitlines()
    assert misplaced.startswith("parts/page.html.j2\tcompiles; no document is made of it")
    assert part == "parts/part.j2\tcompiles"
    (own / "parts" / "part.j2").write_text("\n{% if %}")
    done = templates("check")
    assert (done.exit_code, "parts/part.j2, line 2: " in done.stdout) == (1, True)


class Reached:
    """Which expressions, texts and arms of inline conditions of the shipped templates were rendered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places: dict[int, str] = {}
        self.seen: set[int] = set()
        environment = environment_of.__wrapped__(None)  # not the one that all others use
        self._parse = environment._parse
        environment.filters["reached"] = self._reached
        monkeypatch.setattr(environment, "_parse", self._marked)
        monkeypatch.setattr("audit_dagster.render.environment", lambda: environment)

    @pass_context  # so that it is called when a document is made, not when its template is read
    def _reached(self, _context: object, value: object, number: int) -> object:
        self.seen.add(number)
        return value

    def _marked(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = self._parse(source, name, filename)
        for output in list(tree.find_all(nodes.Output)):
            output.nodes = [self._mark(node, name) for node in output.nodes]
        for condition in list(tree.find_all(nodes.CondExpr)):
            condition.expr1 = self._mark(condition.expr1, name)
            condition.expr2 = condition.expr2 and self._mark(condition.expr2, name)
        return tree

    def _mark(self, node: nodes.Expr, name: str | None) -> nodes.Filter:
        number = len(self.places)
        self.places[number] = f"{name}, line {node.lineno}"
        mark = nodes.Const(number, lineno=node.lineno)
        return nodes.Filter(node, "reached", [mark], [], None, None, lineno=node.lineno)


def test_the_samples_reach_every_line_of_the_shipped_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = Reached(monkeypatch)
    for fill in {fill for fills in _FILLED.values() for fill in fills}:
        fill()
    render("page.html.j2")  # has a title of its own, which every page replaces
    assert {place.partition(",")[0] for place in reached.places.values()} == set(_FILLED)
    assert sorted({place for number, place in reached.places.items() if number not in reached.seen}) == []


def test_a_folder_that_does_not_exist(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_TEMPLATES_DIR", str(own / "none"))
    done = templates("check")
    assert (done.exit_code, "set it to a folder that exists" in done.stderr) == (2, True)
