"""`audit-dagster templates`: a lab's own templates are named, tried, and told of with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from audit_dagster.cli import cli
from audit_dagster.render import templates_dir


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


def test_a_folder_that_does_not_exist(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_TEMPLATES_DIR", str(own / "none"))
    done = templates("check")
    assert (done.exit_code, "set it to a folder that exists" in done.stderr) == (2, True)
