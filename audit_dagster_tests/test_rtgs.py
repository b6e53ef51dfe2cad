"""`rtgs` with an installed rtgs-lab-tools: a package of that name, laid out as the public one is, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audit_dagster.audit_service import AuditService
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings

# The group that imports a tool's commands when they are asked for, and says nothing where that fails.
ROOT = """
import importlib
import click

class OnDemand(click.Group):
    places = {
        "sensing-data": "sensing_data",
        "visualization": "visualization",
        "device-configuration": "device_configuration",
        "gridded-data": "gridded_data",
        "audit": "audit",
    }

    def list_commands(self, ctx):
        return sorted({*super().list_commands(ctx), *self.places})

    def get_command(self, ctx, cmd_name):
        known = super().get_command(ctx, cmd_name)
        if known is None and cmd_name in self.places:
            try:
                module = importlib.import_module(f"rtgs_lab_tools.{self.places[cmd_name]}.cli")
            except ImportError:
                return None
            known = module.tool_cli
            self.add_command(known, name=cmd_name)
        return known

@click.group(cls=OnDemand)
def cli():
    "The lab's tools."
"""

COMMON = """
import sys
from functools import wraps
import click

class Shared:
    "What a tool's group hands to its commands."

class LabError(Exception):
    pass

def common(function):
    for option in (click.option("--verbose", "-v", is_flag=True), click.option("--note")):
        function = option(function)
    return function

def tells_errors(function):
    @wraps(function)
    def told(*arguments, **keywords):
        try:
            return function(*arguments, **keywords)
        except LabError as error:
            click.echo(f"Lab error: {error}", err=True)
            sys.exit(1)
    return told
"""

SENSING = """
import click
from ..common import LabError, Shared, common, tells_errors

@click.group()
@click.pass_context
def tool_cli(ctx):
    ctx.ensure_object(Shared)

@tool_cli.command()
@click.option("--project", "-p")
@click.option("--start-date", default="2018-01-01")
@click.option("--node", multiple=True)
@common
@click.pass_context
@tells_errors
def extract(ctx, project, start_date, node, verbose, note):
    assert isinstance(ctx.obj, Shared)
    if project is None:
        raise LabError("no project")
    click.echo(f"extracted {project}")

@tool_cli.command()
@common
def list_projects_cmd(verbose, note):
    click.echo("Winter Turf - v3")
"""

VISUALIZATION = """
import click
from audit_dagster import log_custom_operation
from ..common import common

@click.group()
def tool_cli():
    pass

@tool_cli.command()
@click.option("--file", "-f", required=True)
@common
def create(file, verbose, note):
    with log_custom_operation("visualization", "draw") as logger:
        logger.add_result("file", file)
"""

DEVICES = """
import click
from audit_dagster import record_cli

@click.group()
def tool_cli():
    pass

@tool_cli.group()
def firmware():
    pass

@firmware.command()
@click.option("--devices", required=True)
def update(devices):
    print("updated", devices)

record_cli(tool_cli)
"""

AUDIT = """
import click

@click.group()
def tool_cli():
    pass

@tool_cli.command()
def recent():
    print("theirs")
"""

MODULES = {
    "cli.py": ROOT,
    "common.py": COMMON,
    "sensing_data/cli.py": SENSING,
    "visualization/cli.py": VISUALIZATION,
    "device_configuration/cli.py": DEVICES,
    "gridded_data/cli.py": "import a_package_that_is_not_installed\n",
    "audit/cli.py": AUDIT,
}


@pytest.fixture(autouse=True)
def _lab_tools(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    for name, code in MODULES.items():
        module = site / "rtgs_lab_tools" / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(code)
        (module.parent / "__init__.py").touch()
    metadata = site / "rtgs_lab_tools-0.3.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rtgs-lab-tools\nVersion: 0.3.0\n")
    (metadata / "entry_points.txt").write_text("[console_scripts]\nrtgs = rtgs_lab_tools.cli:cli\n")
    monkeypatch.setenv("PYTHONPATH", str(site))


RTGS = str(Path(sys.prefix) / "bin" / "rtgs")


def rtgs(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RTGS, *words], capture_output=True, text=True, check=False)


def entries() -> list[LogEntry]:
    """In the order of their start."""
    return AuditService().recent_entries(None)[::-1]


def test_a_command_of_theirs_is_recorded_as_the_documented_one(tmp_path: Path) -> None:
    words = ("sensing-data", "extract", "--project", "Winter Turf - v3", "--node", "a", "--note", "May, 20 °C")
    done = rtgs(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "extracted Winter Turf - v3\n", "")
    (entry,) = entries()
    assert (entry.tool_name, entry.operation, entry.success) == ("sensing-data", "extract", True)
    assert entry.parameters == {
        "project": "Winter Turf - v3",
        "start_date": "2018-01-01",
        "node": ["a"],
        "verbose": False,
    }
    assert entry.context["default_parameters"] == ["start_date", "verbose"]
    assert entry.note == "May, 20 °C"
    assert entry.command is not None
    assert entry.command[-len(words) - 1 :] == [RTGS, *words]
    assert entry.context["tool"]["file"] == str(tmp_path / "site" / "rtgs_lab_tools" / "sensing_data" / "cli.py")


def test_each_command_is_recorded_once_and_what_it_records_itself_lies_inside() -> None:
    rtgs("sensing-data", "list-projects")
    rtgs("visualization", "create", "--file", "turf.csv")
    rtgs("device-configuration", "firmware", "update", "--devices", "a,b")
    found = [(entry.tool_name, entry.operation) for entry in entries()]
    assert found == [
        ("sensing-data", "list-projects"),
        ("visualization", "create"),
        ("visualization", "draw"),
        ("device-configuration", "firmware update"),
    ]
    outer, inner = entries()[1:3]
    assert inner.context["parent_operation_id"] == outer.operation_id


def test_what_fails_there_is_recorded_with_its_cause() -> None:
    told = rtgs("sensing-data", "extract")
    assert (told.returncode, told.stderr) == (1, "Lab error: no project\n")
    assert rtgs("visualization", "create").returncode == 2
    missing = rtgs("gridded-data", "download")
    assert missing.returncode == 2
    assert "No such command 'gridded-data'" in missing.stderr
    found = [(e.tool_name, e.operation, e.results["exit_code"], e.error_message) for e in entries()]
    assert found == [
        ("sensing-data", "extract", 1, "LabError: no project"),
        ("visualization", "create", 2, "UsageError: Missing option '--file' / '-f'."),
        ("rtgs", "run", 2, "UsageError: No such command 'gridded-data'."),
    ]
    assert "no project" in entries()[0].context["traceback"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("audit recent --json", 0),
        ("audit recent --limit nothing", 2),
        ("audit nothing", 2),
        ("audit report --start-date x --end-date y", 2),
        ("audit --help", 0),
        ("--help", 0),
        ("sensing-data extract --help", 0),
    ],
)
def test_the_audit_and_help_are_no_operations(words: str, code: int) -> None:
    done = rtgs(*words.split())
    assert done.returncode == code, done.stderr
    assert "theirs" not in done.stdout
    if words == "audit recent --json":
        assert json.loads(done.stdout) == []
    assert entries() == []


def test_what_the_audits_run_records_is_one_operation() -> None:
    assert rtgs("audit", "run", "--", "bash", "-c", "exit 3").returncode == 3
    assert [(entry.tool_name, entry.operation) for entry in entries()] == [("bash", "run")]
