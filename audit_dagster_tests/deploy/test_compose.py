"""deploy/compose.yaml without containers: its commands, health checks and environment as processes of this machine."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit_dagster.alert_settings import alert_config
from audit_dagster.entry import LogEntry
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store.connect import open_connection
from audit_dagster.store.query import append
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.deploy.processes import DEPLOY, PROJECT, free_port, program_path, running, wait_until
from audit_dagster_tests.pictures import graphql

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
LAUNCH = """mutation ($day: String!) {
  launchRun(executionParams: {
    selector: {repositoryLocationName: "audit_dagster", repositoryName: "__repository__",
               jobName: "daily_documents_job"},
    executionMetadata: {tags: [{key: "dagster/partition", value: $day}]}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


@dataclass
class _Machine:
    """What stands for the containers: a folder, free ports, and the database of this test."""

    folder: Path
    place: PostgresSettings
    ports: dict[str, str] = field(default_factory=lambda: {name: str(free_port()) for name in ("4000", "3000")})

    def here(self, words: list[str]) -> list[str]:
        """A command of the file, with this machine's folder, ports and hosts."""
        return [self._here(word) for word in words]

    def _here(self, word: str) -> str:
        for inside, outside in {"/srv": str(self.folder), "0.0.0.0": "127.0.0.1", **self.ports}.items():  # noqa: S104
            word = word.replace(inside, outside)
        return word

    def environment(self, service: str) -> dict[str, str]:
        """What the file and the image set, but for the database's place."""
        given = {name: value for name, value in SERVICES[service]["environment"].items() if "${" not in value}
        image = {"DAGSTER_HOME": "/srv/dagster", "AUDIT_STATE_DIR": "/srv/audit", "AUDIT_REPORTS_DIR": "/srv/reports"}
        ours = {**self.place.as_environment(), "PYTHONPATH": str(PROJECT)}
        return {name: self._here(value) for name, value in (given | image).items()} | ours

    def run(self, service: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        log = self.folder / "dagster" / f"{service}.log"
        return running(self.here(SERVICES[service]["command"]), log, **self.environment(service))

    def healthy(self, service: str) -> bool:
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        assert kind == "CMD"
        environment = {**self.environment(service), "PATH": program_path()}
        done = subprocess.run(self.here(words), env=environment, capture_output=True, check=False, timeout=30)
        return done.returncode == 0


def _rules() -> Path:
    """The rules of the alerts that the services are given where nobody names others."""
    named = COMPOSE["configs"]["alerts"]["file"]
    assert named.startswith("${AUDIT_ALERTS_FILE:-")
    return DEPLOY / named.partition(":-")[2].rstrip("}")


@pytest.fixture
def machine(empty_database: PostgresSettings, tmp_path: Path) -> Iterator[_Machine]:
    made = _Machine(tmp_path, empty_database)
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    workspace = (DEPLOY / "workspace.yaml").read_text("utf-8").replace("host: code", "host: 127.0.0.1")
    (tmp_path / "audit").mkdir()
    shutil.copy(_rules(), tmp_path / "audit")
    (home / "workspace.yaml").write_text(workspace.replace("4000", made.ports["4000"]), "utf-8")
    yield made


def test_its_commands_make_a_report(machine: _Machine) -> None:
    """From an empty database to a day's documents, by the commands of the file, each called healthy by its check."""
    with machine.run("schema") as schema:
        assert schema.wait(60) == 0, (machine.folder / "dagster" / "schema.log").read_text("utf-8")
    _store(machine.place, make_entry(), make_entry(success=False, error_message="broken"))
    logs = [machine.folder / "dagster" / f"{name}.log" for name in ("code", "webserver", "daemon")]
    with machine.run("code"):
        wait_until(lambda: machine.healthy("code"), 60, "a healthy code location", *logs[:1])
        with machine.run("webserver"), machine.run("daemon"):
            for name in ("webserver", "daemon"):
                wait_until(lambda name=name: machine.healthy(name), 60, f"a healthy {name}", *logs)  # type: ignore[misc]
            _make_a_day(f"http://127.0.0.1:{machine.ports['3000']}", "2023-06-15", *logs)
    assert sorted(path.name for path in (machine.folder / "reports" / "daily").iterdir()) == [
        f"2023-06-15.{ending}" for ending in ("html", "json", "md")
    ]
    assert [path.name for path in (machine.folder / "reports" / "scripts").iterdir()] == ["2023-06-15.sh"]


def _make_a_day(address: str, day: str, *logs: Path) -> None:
    launched = graphql(address, LAUNCH, day=day)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]

    def ended() -> bool:
        status = graphql(address, STATUS, id=run_id)["runOrError"]["status"]
        assert status not in ("FAILURE", "CANCELED")
        return bool(status == "SUCCESS")

    wait_until(ended, 120, "the end of the run", *logs)


def _store(place: PostgresSettings, *entries: LogEntry) -> None:
    with open_connection(place) as connection:
        assert set(append(connection, entries)) == {"stored"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_whole(name: str) -> None:
    """What it waits for exists and can be waited for; its volumes are declared; it is looked after."""
    service = SERVICES[name]
    for other, wait in service.get("depends_on", {}).items():
        assert wait["condition"] == "service_completed_successfully" or "healthcheck" in SERVICES[other]
    for volume in service.get("volumes", []):
        assert volume.split(":")[0] in COMPOSE["volumes"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "Dagster has no login, PostgreSQL here no TLS"
    assert name == "schema" or ("healthcheck" in service and service["restart"] == "unless-stopped")


def test_every_setting_can_be_made_without_editing_the_file() -> None:
    """In deploy/.env; what the file itself sets is a place inside, or asks the same variable."""
    inside = {"AUDIT_ALERTS_FILE", "AUDIT_CELERY_URL"}
    ours = {name: service for name, service in SERVICES.items() if "AUDIT_TIMEZONE" in service.get("environment", {})}
    assert set(ours) == {"schema", "code", "webserver", "daemon", "worker"}
    for service in ours.values():
        assert service["env_file"] == [{"path": ".env", "required": False}]
        for name, value in service["environment"].items():
            assert name in inside or not name.startswith("AUDIT_") or value.startswith(f"${{{name}:-")
        assert service["configs"] == [{"source": "alerts", "target": service["environment"]["AUDIT_ALERTS_FILE"]}]


def test_the_rules_of_the_alerts_are_ones_that_are_read() -> None:
    assert alert_config(Settings.load({"AUDIT_ALERTS_FILE": str(_rules())})) == alert_config(Settings.load({}))


def test_the_image_has_what_the_services_ask_for() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    words = json.dumps([service.get("command", []) for service in SERVICES.values()])
    for name in ("workspace.yaml", "celery.yaml"):
        assert f"/srv/dagster/{name}" in words and name in text
    extras = {"audit-dagster", "dagster", "dagster-webserver", "dagster-daemon", "dagster-celery", "redis-server"}
    assert {service["command"][0] for service in SERVICES.values() if "command" in service} == extras
