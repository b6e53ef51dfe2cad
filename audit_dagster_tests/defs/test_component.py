"""AuditReportsComponent in a project of somebody's own, by Dagster's own commands."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

import audit_dagster
from audit_dagster import AuditReportsComponent
from audit_dagster.component import AuditDatabase
from audit_dagster.definitions import defs
from audit_dagster.entry import LogEntry
from audit_dagster.settings import Settings, choose
from audit_dagster_tests.conftest import make_entry

DEFS_YAML = """
type: audit_dagster.AuditReportsComponent
attributes:
  postgres:
    host: "{{ env.LAB_HOST }}"
    port: "{{ env.LAB_PORT }}"
    db: "{{ env.LAB_DB }}"
    user: "{{ env.LAB_USER }}"
    password: "{{ env.LAB_PASSWORD }}"
  timezone: America/Chicago
  start_date: 2023-06-01
  reports_dir: REPORTS
"""
DEFINITIONS = """
from pathlib import Path

import dagster as dg


@dg.asset
def warehouse():
    import os
    assert os.environ["POSTGRES_HOST"] == "warehouse.invalid"


@dg.definitions
def defs():
    folder = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    own = dg.AutomationConditionSensorDefinition("default_automation_condition_sensor", target=[warehouse])
    return dg.Definitions.merge(
        folder, dg.Definitions(assets=[warehouse], sensors=[own], executor=dg.multiprocess_executor)
    )
"""


@pytest.fixture
def project(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dagster project whose POSTGRES_HOST is another database's."""
    folder = tmp_path / "project"
    home = tmp_path / "dagster_home"
    assert settings.postgres
    files = {
        folder / "pyproject.toml": '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "lab"\n',
        folder / "src/lab/__init__.py": "",
        folder / "src/lab/definitions.py": DEFINITIONS,
        folder / "src/lab/defs/audit/defs.yaml": DEFS_YAML.replace("REPORTS", str(tmp_path / "reports")),
        home / "dagster.yaml": "telemetry: {enabled: false}\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, value in settings.postgres._asdict().items():
        monkeypatch.setenv(f"LAB_{name.upper()}", str(value))
    for name in settings.postgres.as_environment():
        monkeypatch.delenv(name)
    monkeypatch.setenv("POSTGRES_HOST", "warehouse.invalid")
    monkeypatch.setenv("PYTHONPATH", f"{folder / 'src'}{os.pathsep}{Path(audit_dagster.__file__).parents[1]}")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(folder)
    return folder


def dg_command(*words: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sysconfig.get_path("scripts")) / "dg")
    wide = {**os.environ, "COLUMNS": "200"}
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, env=wide)


def test_a_project_of_ones_own(project: Path, tmp_path: Path, store: Callable[..., list[LogEntry]]) -> None:
    store(make_entry(), make_entry(success=False))
    checked = dg_command("check", "defs")  # the YAML too
    assert checked.returncode == 0, checked.stdout + checked.stderr
    launched = dg_command("launch", "--assets", "daily_report,warehouse", "--partition", "2023-06-15")
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert "multiprocess" in launched.stderr + launched.stdout
    assert "# Audit Report - 2023-06-15" in (tmp_path / "reports" / "daily" / "2023-06-15.md").read_text()


def test_the_commands_know_the_component(project: Path) -> None:
    assert "audit_dagster.AuditReportsComponent" in dg_command("list", "components").stdout
    yaml = project / "src/lab/defs/audit/defs.yaml"
    yaml.write_text(yaml.read_text().replace("timezone:", "time_zone:"))
    told = dg_command("check", "yaml")
    assert told.returncode == 1
    assert "defs.yaml:10" in told.stdout + told.stderr
    assert "'time_zone' was unexpected" in told.stdout + told.stderr


@pytest.fixture
def chosen(settings: Settings) -> Iterator[Callable[..., dg.Definitions]]:
    def build(**attributes: object) -> dg.Definitions:
        return AuditReportsComponent(**attributes).build_defs(dg.ComponentTree.for_test().load_context)

    yield build
    choose({})


def test_everything_is_in_it_but_the_executor(chosen: Callable[..., dg.Definitions]) -> None:
    built = chosen(postgres=AuditDatabase(host="db.example.org", password="hunter2"), reports_dir="s3://lab/audit")
    found, all_of_it = built.get_repository_def(), defs.get_repository_def()
    assert {spec.key for spec in built.resolve_all_asset_specs()} == {
        spec.key for spec in defs.resolve_all_asset_specs()
    }
    assert set(found.job_names) == set(all_of_it.job_names)
    assert {item.name for item in found.schedule_defs} == {item.name for item in all_of_it.schedule_defs}
    sensors = {item.name for item in found.sensor_defs}
    assert "audit_automation_sensor" in sensors
    assert len(sensors) >= len(all_of_it.sensor_defs)
    assert built.executor is None
    (database,) = (built.resources or {}).values()
    assert "hunter2" not in repr(database)
    settings = database.settings()
    assert settings.postgres == ("db.example.org", 5432, "rtgs_audit", "audit_user", "hunter2")
    assert (settings.reports, settings.timezone) == ("s3://lab/audit", "UTC")
    assert "db.example.org" not in os.environ.values()
    assert settings.child_environment()["POSTGRES_HOST"] == "db.example.org"


def test_another_zone_after_the_partitions_were_made_is_refused(chosen: Callable[..., dg.Definitions]) -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="set AUDIT_TIMEZONE and AUDIT_START_DATE in the env"):
        chosen(timezone="America/Chicago")


def test_the_name_costs_nothing_until_it_is_used() -> None:
    program = "import sys, audit_dagster as a; print('AuditReportsComponent' in dir(a), 'dagster' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True False\n"
