"""deploy/helm-values.yaml asks for what exists here. Its keys were checked by hand against the chart's schema."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import Any

import yaml
from dagster_postgres.utils import get_conn_string

from audit_dagster.defs.storage import storage_url
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster_tests.deploy.processes import DEPLOY

TEXT = (DEPLOY / "helm-values.yaml").read_text("utf-8")
VALUES: dict[str, Any] = yaml.safe_load(TEXT)
DEPLOYMENT: dict[str, Any] = VALUES["dagster-user-deployments"]["deployments"][0]


def test_the_chart_is_of_the_installed_dagster() -> None:
    assert f"--version {version('dagster')} " in TEXT


def test_dagster_finds_the_same_tables_as_elsewhere() -> None:
    """The chart makes its own dagster.yaml: its URL has to be the one of `AuditStorage`."""
    chart, env = VALUES["postgresql"], DEPLOYMENT["env"]
    assert (chart["postgresqlHost"], chart["postgresqlUsername"], chart["postgresqlDatabase"]) == (
        env["POSTGRES_HOST"],
        env["POSTGRES_USER"],
        env["POSTGRES_DB"],
    )
    url = get_conn_string(
        username=chart["postgresqlUsername"],
        password="secret",
        hostname=chart["postgresqlHost"],
        db_name=chart["postgresqlDatabase"],
        port=str(chart["service"]["port"]),
        params=chart["postgresqlParams"],
        scheme=chart["postgresqlScheme"],
    )
    place = PostgresSettings(env["POSTGRES_HOST"], 5432, env["POSTGRES_DB"], env["POSTGRES_USER"], "secret")
    assert url == storage_url(place)


def test_the_environment_is_one_that_the_settings_read() -> None:
    settings = Settings.load(DEPLOYMENT["env"])
    assert settings.postgres and settings.start_date_chosen
    assert str(settings.reports_dir) == DEPLOYMENT["volumeMounts"][0]["mountPath"]
    assert all(isinstance(value, str) for value in DEPLOYMENT["env"].values()), "Kubernetes takes strings only"


def test_it_sets_what_dagster_yaml_sets_elsewhere() -> None:
    """Limits, times and retention, which docs/operations.md calls set."""
    ours = yaml.safe_load((DEPLOY.parent / "dagster.yaml").read_text("utf-8"))
    queue = VALUES["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    limits = {
        "max_concurrent_runs": queue["maxConcurrentRuns"],
        "tag_concurrency_limits": queue["tagConcurrencyLimits"],
    }
    assert limits == ours["concurrency"]["runs"]
    job = VALUES["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["jobSpecConfig"]
    monitored, retried = VALUES["dagsterDaemon"]["runMonitoring"], VALUES["dagsterDaemon"]["runRetries"]
    assert job["active_deadline_seconds"] == ours["run_monitoring"]["max_runtime_seconds"]
    assert monitored["startTimeoutSeconds"] == ours["run_monitoring"]["start_timeout_seconds"]
    assert retried["maxRetries"] == ours["run_retries"]["max_retries"]
    kept = {name: VALUES["retention"][name]["purgeAfterDays"] for name in ("schedule", "sensor", "autoMaterialize")}
    assert list(kept.values()) == [ours["retention"][name]["purge_after_days"] for name in ours["retention"]]


def test_the_alerts_have_their_rules() -> None:
    """From a map of the file that the documentation has, mounted where the variable says."""
    (mount,) = (one for one in DEPLOYMENT["volumeMounts"] if one["name"] == "rules")
    (volume,) = (one for one in DEPLOYMENT["volumes"] if one["name"] == "rules")
    named = DEPLOYMENT["env"]["AUDIT_ALERTS_FILE"]
    assert f"kubectl create configmap {volume['configMap']['name']} --from-file=docs/alerts.yaml" in TEXT
    assert named == f"{mount['mountPath']}/alerts.yaml" and (DEPLOY.parent / "docs" / "alerts.yaml").is_file()


def test_no_password_stands_in_the_file() -> None:
    assert not VALUES["generatePostgresqlPasswordSecret"] and "postgresqlPassword" not in VALUES["postgresql"]
    for secret in (VALUES["global"]["postgresqlSecretName"], DEPLOYMENT["envSecrets"][0]["name"]):
        assert f"kubectl create secret generic {secret} " in TEXT


def test_the_code_location_starts_with_its_arguments() -> None:
    command = [sys.executable, "-m", "dagster", "api", "grpc", *DEPLOYMENT["dagsterApiGrpcArgs"], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
