"""A database and a folder of reports that a whole module of tests shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from audit_dagster.report_service import ReportService
from audit_dagster.settings import PostgresSettings, Settings
from audit_dagster.store.connect import open_connection
from audit_dagster_tests.conftest import TEMPLATE


class Lab(NamedTuple):
    """`reports` is the folder of all documents that `service` writes."""

    service: ReportService
    connection: psycopg.Connection[Any]
    environment: dict[str, str]
    reports: Path


@contextmanager
def lab(server: PostgresSettings, folder: Path, name: str, zone: str = "UTC") -> Iterator[Lab]:
    """A database of that name with the schema, and its reports in `folder`; the database is dropped at the end."""
    with open_connection(server._replace(db="postgres")) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    place = server._replace(db=name)
    reports = folder / name
    folders = {"AUDIT_STATE_DIR": str(folder / f"{name}_state"), "AUDIT_REPORTS_DIR": str(reports)}
    environment = {**place.as_environment(), **folders, "AUDIT_TIMEZONE": zone}
    with open_connection(place) as connection:
        yield Lab(ReportService(Settings.load(environment)), connection, environment, reports)
    with open_connection(server._replace(db="postgres")) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
