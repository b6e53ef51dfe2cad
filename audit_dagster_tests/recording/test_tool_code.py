"""Where a tool's own code comes from: a project, an editable install, an installed script, a module of a package."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.recording import tool_code
from audit_dagster.recording.program import program_file
from audit_dagster.recording.tool_code import describe
from audit_dagster.settings import Settings

Git = Callable[..., str]
RUN = [sys.executable, "-m", "audit_dagster.cli", "run", "--"]
RECORD = "from audit_dagster import log_custom_operation\nwith log_custom_operation('tool', 'x'):\n    pass\n"
PYPROJECT = '[project]\nname = "lab-tools"\nversion = "1.2.3"\n'


def tool() -> dict[str, Any]:
    """What the newest operation says of its tool's code."""
    found: dict[str, Any] = AuditService().recent_entries()[0].context.get("tool", {})
    return found


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    path.chmod(mode)
    return path


def install(site: Path, name: str, record: list[str], **files: str) -> Path:
    """The `.dist-info` of a distribution, as installers write it."""
    folder = site / f"{name}.dist-info"
    write(folder / "RECORD", "".join(f"{line},sha256=x,1\n" for line in [*record, f"{name}.dist-info/RECORD"]))
    for file, text in files.items():
        write(folder / re.sub(r"_(json|txt)$", r".\1", file), text)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The packages of an environment whose scripts are in `environment/bin`."""
    folder = tmp_path / "environment" / "lib" / "python3.11" / "site-packages"
    folder.mkdir(parents=True)
    (tmp_path / "environment" / "bin").mkdir()
    return folder


def test_a_script_in_a_project_with_a_lock_file(settings: Settings, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write(project / "pyproject.toml", PYPROJECT)
    lock = write(project / "uv.lock", "version = 1\n")
    write(project / "requirements.txt", "numpy\n")
    script = write(project / "scripts" / "extract.py", RECORD)
    subprocess.run([sys.executable, script], check=True)
    facts = tool()
    found = facts.pop("lock_file")
    assert (found["path"], found["sha256"]) == (str(lock), hashlib.sha256(lock.read_bytes()).hexdigest())
    assert facts == {"file": str(script), "distribution": "lab-tools", "version": "1.2.3"}


@pytest.mark.parametrize("name", ["poetry.lock", "pixi.lock", "renv.lock", "requirements.txt", "environment.yml"])
def test_lock_files(tmp_path: Path, name: str) -> None:
    write(tmp_path / "p" / "setup.py", "")
    write(tmp_path / "p" / name, "x")
    facts, source = describe(str(write(tmp_path / "p" / "deep" / "er" / "x.py", "")))
    assert facts["lock_file"]["path"] == str(tmp_path / "p" / name)
    assert source == str(tmp_path / "p" / "deep" / "er")


def test_the_version_of_an_editable_install_is_the_installed_one(
    settings: Settings, tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project says that its version is dynamic; the environment's metadata knows it."""
    project = tmp_path / "my project"
    write(project / "pyproject.toml", '[project]\nname = "Lab.Tools"\ndynamic = ["version"]\n')
    module = write(project / "src" / "lab_tools.py", RECORD)
    origin = json.dumps({"url": f"file://{project}".replace(" ", "%20"), "dir_info": {"editable": True}})
    install(site, "lab_tools-4.5.6", ["../../../bin/lab", "__editable__.lab.pth"], direct_url_json=origin)
    monkeypatch.setenv("PYTHONPATH", f"{site}:{project / 'src'}")
    subprocess.run([sys.executable, "-c", "import lab_tools"], check=True)
    assert tool() == {"file": str(module), "distribution": "Lab.Tools", "version": "4.5.6"}
    script = write(site.parents[2] / "bin" / "lab", "#!/bin/sh\n", 0o755)
    facts, source = describe(str(script))
    assert (facts["distribution"], facts["version"], source) == ("lab_tools", "4.5.6", str(project))


def test_an_installed_script(settings: Settings, tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "aaa-1.0", ["aaa/__init__.py"])
    (site / "no_record-1.0.dist-info").mkdir()
    install(site, "lab_tools-2.0.post1", ["lab/__init__.py", "../../../bin/lab"])
    script = write(site.parents[2] / "bin" / "lab", "#!/bin/sh\nexit 3\n", 0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    assert subprocess.run([*RUN, "lab", "--x"], check=False).returncode == 3
    assert tool() == {"file": str(script), "distribution": "lab_tools", "version": "2.0.post1"}
    (tmp_path / "somewhere").symlink_to(script)
    assert subprocess.run([*RUN, tmp_path / "somewhere"], check=False).returncode == 3
    assert tool()["distribution"] == "lab_tools"


def test_a_console_script_of_an_editable_project_runs_again_as_it_was(
    settings: Settings, tmp_path: Path, site: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code is the project's module: a script puts the worktree's first, although a later one is installed."""
    project = tmp_path / "project"
    module = write(project / "src" / "nsfit" / "cli.py", "def main(): print('version A')\n")
    write(project / "src" / "nsfit" / "__init__.py", "")
    commit(project, git, dirty=False)
    origin = json.dumps({"url": f"file://{project}", "dir_info": {"editable": True}})
    entry_points = "[console_scripts]\nns = other:main\nnsfit = nsfit.cli:main\n"
    install(site, "nsfit-1.0", ["../../../bin/nsfit"], direct_url_json=origin, entry_points_txt=entry_points)
    write(site / "_nsfit.pth", f"import os\n{project}/src\n")
    code = f"import site; site.addsitedir({str(site)!r}); from nsfit.cli import main; main()"
    shell = shlex.join(["exec", sys.executable, "-c", code])  # whose path may have a space, as none after `#!`
    script = write(site.parents[2] / "bin" / "nsfit", f"#!/bin/sh\n{shell}\n", 0o755)
    monkeypatch.chdir(project)
    assert subprocess.run([*RUN, script], check=False, capture_output=True, text=True).stdout == "version A\n"
    assert (tool()["file"], tool()["distribution"]) == (str(module), "nsfit")
    module.write_text("def main(): print('version B')\n")
    git("-C", project, "commit", "--quiet", "--all", "--message=B")
    subprocess.run([*RUN[:-2], "reproduce", "--recent", tmp_path / "again.sh"], check=True)
    again = ["bash", tmp_path / "again.sh", f"--work={tmp_path / 'work'}", "--yes"]
    done = subprocess.run(again, check=False, capture_output=True, text=True)
    assert "version A\n" in done.stdout, done
    assert "version B" not in done.stdout


def test_a_module_of_an_editable_project(tmp_path: Path, site: Path) -> None:
    module = write(tmp_path / "project" / "src" / "nsfit" / "fit.py", "")
    write(site / "_nsfit.pth", f"import os\n{tmp_path}/project/src\n")
    assert program_file([str(site.parents[2] / "bin" / "python3"), "-m", "nsfit.fit"]) == str(module)


def test_a_module_whose_distribution_has_another_name(
    settings: Settings, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write(site / "labmod" / "extract.py", RECORD)
    install(site, "zzz_other-0.9", ["labmodule.py", "labmod/extract.py.bak"])
    install(site, "The_Lab_Distribution-3.1", ["labmod/__init__.py", "labmod/extract.py"])
    monkeypatch.setenv("PYTHONPATH", str(site))
    subprocess.run([sys.executable, "-m", "labmod.extract"], check=True)
    assert tool() == {"file": str(module), "distribution": "The_Lab_Distribution", "version": "3.1"}


def test_a_real_distribution_of_this_environment() -> None:
    import click

    facts, source = describe(str(click.__file__))
    assert (facts["distribution"], facts["version"], source) == ("click", version("click"), None)
    pytest_script = Path(sysconfig.get_path("scripts"), "pytest")
    assert describe(str(pytest_script))[0]["distribution"] == "pytest"


def test_code_that_is_in_no_file(settings: Settings) -> None:
    subprocess.run([sys.executable, "-c", RECORD], check=True)
    assert "tool" not in AuditService().recent_entries()[0].context
    subprocess.run([sys.executable], input=RECORD.encode(), check=True)
    entry = AuditService().recent_entries()[0]
    assert "tool" not in entry.context
    assert entry.command is None


BROKEN = {
    "pyproject.toml": [
        "",
        "\0",
        "[project",
        "project = 1",
        "[project]\nname = 3",
        "[project]\nname = 'x'\nversion = 2023-01-01",
        f"x = {'[' * 5000}{']' * 5000}",
    ],
    "direct_url.json": ["", "[]", "null", '{"url": 3}', '{"dir_info": "x"}', '{"dir_info": [1]}', "[" * 50_000, "{"],
    "RECORD": ["", "\0\n", "lab,\n" * 3, "\ud800"],
}
BROKEN["direct_url.json"].append('{"url": "file://\\u0000", "dir_info": {"editable": true}}')


@pytest.mark.parametrize(
    ("file", "content"), [(file, content) for file, contents in BROKEN.items() for content in contents]
)
def test_nothing_is_raised(tmp_path: Path, site: Path, file: str, content: str) -> None:
    project = tmp_path / "project"
    raw = content.encode("utf-8", "surrogatepass")
    lock = write(project / "uv.lock", "x")
    code = write(project / "x.py", "")
    write(project / "pyproject.toml", PYPROJECT)
    folder = install(site, "lab-1.0", ["lab.py"])
    if file == "pyproject.toml":
        (project / file).write_bytes(raw)
    else:
        (folder / file).write_bytes(raw)
    module = write(site / "lab.py", "")
    facts, source = describe(str(code))
    assert (facts["file"], source) == (str(code), str(project))
    assert facts["lock_file"]["path"] == str(lock)
    assert describe(str(module))[0]["file"] == str(module)


@pytest.mark.parametrize("name", ["", "/", "nul\0", "\udcff", "x" * 5000, "/nowhere/x.py", "/dev/null/x.py"])
def test_files_that_are_none(name: str) -> None:
    assert describe(name)[0]["file"]


# ---- Its repository ----


def commit(folder: Path, git: Git, *, dirty: bool) -> str:
    git("init", "--quiet", "--initial-branch=work", folder)
    git("-C", folder, "add", ".")
    git("-C", folder, "commit", "--quiet", "--message=first")
    if dirty:
        write(folder / "new.txt", "new\n")
    return git("-C", folder, "rev-parse", "HEAD")


def test_the_tools_own_repository_where_it_is_another(
    settings: Settings, tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write(tmp_path / "tools" / "extract.py", RECORD)
    tools = commit(script.parent, git, dirty=True)
    git("-C", script.parent, "remote", "add", "origin", "https://ada:pa55word9@example.org/tools.git")
    write(tmp_path / "data" / "table.csv", "1\n")
    data = commit(tmp_path / "data", git, dirty=False)
    monkeypatch.chdir(tmp_path / "data")
    subprocess.run([sys.executable, script], check=True)
    entry = AuditService().recent_entries()[0]
    assert (entry.git_commit_hash, entry.git_dirty) == (data, False)
    assert entry.context["git"] == {"root": str(tmp_path / "data")}
    own = entry.context["tool"]["git"]
    patch = own.pop("patch")
    assert own == {
        "commit": tools,
        "branch": "work",
        "dirty": True,
        "root": str(script.parent),
        "remote": "https://ada:${SECRET:URL_PASSWORD}@example.org/tools.git",
        "ahead": 1,
    }
    with AuditService().database() as connection:
        ((kept,),) = connection.execute("SELECT patch FROM audit_patches WHERE sha256 = %s", [patch["sha256"]])
    assert patch["exact"]
    assert b"+new\n" in kept


def test_the_tools_own_repository_where_it_is_the_same(
    settings: Settings, tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write(tmp_path / "one" / "scripts" / "extract.py", RECORD)
    commit(tmp_path / "one", git, dirty=True)
    monkeypatch.chdir(tmp_path / "one")
    subprocess.run([sys.executable, script], check=True)
    entry = AuditService().recent_entries()[0]
    assert entry.context["tool"] == {"file": str(script)}
    assert entry.context["git"]["patch"]["exact"]


def test_an_editable_tool_that_run_starts_has_its_repository(
    settings: Settings, tmp_path: Path, site: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "tools" / "pyproject.toml", PYPROJECT)
    tools = commit(tmp_path / "tools", git, dirty=False)
    origin = json.dumps({"url": f"file://{tmp_path}/tools", "dir_info": {"editable": True}})
    install(site, "lab_tools-1.2.3", ["../../../bin/lab"], direct_url_json=origin)
    script = write(site.parents[2] / "bin" / "lab", "#!/bin/sh\n", 0o755)
    subprocess.run([*RUN, script], check=True)
    assert (tool()["git"]["commit"], tool()["git"]["dirty"]) == (tools, False)


def test_what_is_known_is_asked_once(tmp_path: Path) -> None:
    code = write(tmp_path / "x.py", "")
    before = tool_code.describe.cache_info().misses
    assert describe(str(code)) is describe(str(code))
    assert tool_code.describe.cache_info().misses == before + 1
