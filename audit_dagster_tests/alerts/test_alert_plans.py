"""The queries of the alerts are served by an index: only tables of a handful of rows are read whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from audit_dagster.settings import PostgresSettings
from audit_dagster.store.connect import open_connection
from audit_dagster.store.query import sql
from audit_dagster_tests.alerts import plans
from audit_dagster_tests.bench.world import fill
from audit_dagster_tests.conftest import TEMPLATE, _new_database
from audit_dagster_tests.store.test_plans import _nodes, _parameters

HANDFUL = {"alert_state", "alert_targets", "alert_mutes"}


@pytest.fixture(scope="module")
def year(server: PostgresSettings) -> Iterator[psycopg.Connection[Any]]:
    with _new_database(server, TEMPLATE) as place, open_connection(place) as connection:
        fill(connection, 50_000, 137, plans.NOW)
        connection.execute("UPDATE alert_outbox SET sent_at = now() WHERE operation_id::text > '02'")
        plans.fill(connection)
        yield connection


@pytest.mark.parametrize("name", plans.NAMES)
def test_an_index_serves(year: psycopg.Connection[Any], name: str) -> None:
    given = plans.EXAMPLES
    row = year.execute(b"EXPLAIN (FORMAT JSON) " + sql(name), {key: given[key] for key in _parameters(name)}).fetchone()
    assert row is not None
    nodes = list(_nodes(row[0][0]["Plan"]))
    whole = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan" and "Relation Name" in node}
    assert whole <= HANDFUL, nodes
