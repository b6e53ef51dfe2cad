"""The hot queries read little however long the log is: a lost index, or a query that no index serves, fails here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from audit_dagster.settings import PostgresSettings
from audit_dagster.store import query
from audit_dagster.store.connect import open_connection
from audit_dagster.store.query import fetch, sql
from audit_dagster_tests.alerts import plans as alert_plans
from audit_dagster_tests.bench.world import fill
from audit_dagster_tests.conftest import TEMPLATE, _new_database

ROWS, PER_DAY = 50_000, 137  # a year
UNTIL = datetime(2024, 6, 30, 23, 59, tzinfo=UTC)
START = datetime(2024, 3, 5, tzinfo=UTC)
DAY = {"start": START, "end": START + timedelta(days=1)}
WEEK = {"start": START, "end": START + timedelta(days=7)}
NINE_WEEKS = {**WEEK, "since": START - timedelta(weeks=1)}
TOOL, ANY_TOOL = {"tool_name": "data-parser"}, {"tool_name": None}
ZONE = {"zone": "America/Chicago"}
LIMIT = {"limit": 20}
SINCE = {"since": UNTIL - timedelta(hours=2)}
MONTH = {"since": UNTIL - timedelta(days=30), "limit": 21}
IDS = {"operation_ids": [UUID(int=number) for number in range(5)]}
PREFIX = {"first": UUID(int=0), "last": UUID(int=1 << 96)}
SEARCH = {"text": "turf", "text_in_json": "turf"}
CONTENTS = {"wanted": ["0" * 64, "1" * 64], "before": [UNTIL, START]}
DAYS = {"days": [START.date()], "opens": [START], "closes": [DAY["end"]]}
MOMENTS = {"tools": ["data-parser"], "operations": ["run"], "moments": [START]}
WEEKS = {"tools": ["plot"], "weeks": [START.date()], "opens": [START], "closes": [WEEK["end"]]}

BY_TIME, BY_TOOL = "audit_logs_timestamp", "audit_logs_tool_timestamp"
BY_ID = "audit_logs_operation_id_key"
BY_OUTPUT, BY_NUMBER = "audit_logs_outputs", "audit_logs_pkey"
BY_ORIGINAL = "audit_logs_replays"
BY_TRANSACTION = "audit_logs_transaction"

PLANS: list[tuple[str, dict[str, Any], set[str]]] = [
    ("recent_logs", {**LIMIT, **ANY_TOOL, "since": None}, {BY_TIME}),
    ("recent_logs", {**LIMIT, **ANY_TOOL, **SINCE}, {BY_TIME}),
    ("recent_logs", {**LIMIT, **TOOL, "since": None}, {BY_TOOL}),
    ("recent_logs", {**LIMIT, **TOOL, **SINCE}, {BY_TOOL}),
    ("recent_logs", {"limit": None, **ANY_TOOL, **SINCE}, {BY_TIME}),
    ("entries_between", {**DAY, **ANY_TOOL}, {BY_TIME}),
    ("entries_between", {**DAY, **TOOL}, {BY_TOOL}),
    ("day_outline", {**DAY, **ANY_TOOL}, {BY_TIME}),
    ("day_outline", {**DAY, **TOOL}, {BY_TOOL}),
    ("first_failures", {**DAY, **LIMIT, **ANY_TOOL}, {BY_TIME}),
    ("first_failures", {**DAY, **LIMIT, **TOOL}, {BY_TOOL}),
    ("window_totals", {**WEEK, **ANY_TOOL}, {BY_TIME}),
    ("window_totals", {**WEEK, **TOOL}, {BY_TOOL}),
    ("days_with_entries", {**WEEK, **ZONE, **ANY_TOOL}, {BY_TIME}),
    ("days_with_entries", {**WEEK, **ZONE, **TOOL}, {BY_TOOL}),
    ("day_versions", DAYS, {BY_TIME, BY_ORIGINAL, BY_ID}),
    ("tool_versions", WEEKS, {BY_TOOL}),
    ("changed_days", {"oldest": "9999999", **ZONE}, {BY_TRANSACTION, BY_ID}),
    ("tool_usage", {**WEEK, **ANY_TOOL}, {BY_TIME}),
    ("tool_usage", {**WEEK, **TOOL}, {BY_TOOL}),
    ("operations_per_day", {**WEEK, **ZONE, **ANY_TOOL}, {BY_TIME}),
    ("operations_per_day", {**WEEK, **ZONE, **TOOL}, {BY_TOOL}),
    ("site_counts", {**WEEK, **ZONE}, {BY_TIME}),
    ("user_activity", {**WEEK, **ANY_TOOL}, {BY_TIME}),
    ("user_activity", {**WEEK, **TOOL}, {BY_TOOL}),
    ("day_usage", {**WEEK, **ZONE, **ANY_TOOL}, {BY_TIME}),
    ("day_usage", {**WEEK, **ZONE, **TOOL}, {BY_TOOL}),
    ("failure_causes", {**WEEK, **LIMIT, **ANY_TOOL}, {BY_TIME}),
    ("failure_causes", {**WEEK, **LIMIT, **TOOL}, {BY_TOOL}),
    ("failure_kinds", {**NINE_WEEKS, **LIMIT, **ANY_TOOL}, {BY_TIME}),
    ("failure_kinds", {**NINE_WEEKS, **LIMIT, **TOOL}, {BY_TOOL}),
    ("slowest_operations", {**WEEK, **LIMIT, **ZONE, **ANY_TOOL}, {BY_TIME}),
    ("slowest_operations", {**WEEK, **LIMIT, **ZONE, **TOOL}, {BY_TOOL, BY_TIME}),
    ("failures_at", {**MOMENTS, **ZONE}, {BY_TIME}),
    ("changed_durations", {**NINE_WEEKS, **LIMIT}, {BY_TIME}),
    ("user_tools", {**WEEK, **LIMIT}, {BY_TIME}),
    ("parameter_values", {**WEEK, **LIMIT, **TOOL, "failing": False}, {BY_TOOL}),
    ("parameter_values", {**WEEK, **LIMIT, **TOOL, "failing": True}, {BY_TOOL}),
    ("duration_buckets", {**WEEK, **TOOL, "bounds": [1.0, 10.0]}, {BY_TOOL}),
    ("code_seen", {**WEEK, **LIMIT, **TOOL}, {BY_TOOL}),
    ("search", {**SEARCH, **LIMIT, **ANY_TOOL}, {BY_TIME}),
    ("search", {**SEARCH, **LIMIT, **TOOL}, {BY_TOOL}),
    ("known_tools", {}, {BY_TOOL}),
    ("span", {}, {BY_TIME}),
    ("entries_by_id", IDS, {BY_ID}),
    ("when_recorded", {"operation_id": UUID(int=1)}, {BY_ID}),
    ("replays_of", {"operation_id": UUID(int=1), **LIMIT}, {BY_ORIGINAL}),
    ("operations_by_prefix", {**PREFIX, **LIMIT}, {BY_ID}),
    ("makers_of_content", CONTENTS, {BY_OUTPUT, BY_NUMBER}),
    ("operations_with_output", {"file": '{"path": "/data/turf.csv"}', "limit": 5}, {BY_OUTPUT}),
    ("patches", {"names": ["0" * 64]}, {"audit_patches_pkey"}),
    ("replays", {**DAY, **ANY_TOOL}, {BY_TIME, BY_ORIGINAL}),
    ("replays", {**DAY, **TOOL}, {BY_TOOL, BY_ORIGINAL}),
    ("reproducibility", {**WEEK, **ZONE}, {BY_TIME, BY_ORIGINAL}),
    ("spool_gaps", {**MONTH, "stored_before": UNTIL}, {BY_TIME}),
    ("outbox_disagreement", MONTH, {BY_TIME, "alert_outbox_pkey"}),
]
# They call a function for what they are given, and EXPLAIN does not see inside a function.
READS_LITTLE_BY_NATURE = {"append_entries", "keep_patch", "may_append", "oldest_open", "site_lock"}
EXAMPLES: dict[str, Any] = {
    **alert_plans.EXAMPLES,
    **DAYS,
    **WEEKS,
    **MOMENTS,
    **WEEK,
    **TOOL,
    **ZONE,
    **LIMIT,
    **SINCE,
    **IDS,
    **CONTENTS,
    **PREFIX,
    **SEARCH,
    "operation_id": UUID(int=1),
    "file": "{}",
    "bounds": [1.0, 10.0],
    "failing": True,
    "oldest": "9999999",
    "stored_before": UNTIL,
    "patch": b"diff",
    "names": ["0" * 64],
    "entries": [],
}

FOLDER = Path(query.__file__).parent / "queries"
NAMES = sorted(path.stem for path in FOLDER.iterdir())


@pytest.fixture(scope="module")
def year(server: PostgresSettings) -> Iterator[psycopg.Connection[Any]]:
    """A year of several tools; of its failures a few are still to be told."""
    with _new_database(server, TEMPLATE) as place, open_connection(place) as connection:
        fill(connection, ROWS, PER_DAY, UNTIL)
        connection.execute("UPDATE alert_outbox SET sent_at = now() WHERE operation_id::text > '02'")
        connection.execute("SELECT audit_keep_patch(n::text::bytea) FROM generate_series(1, 1000) AS n")
        connection.execute("VACUUM ANALYZE alert_outbox, audit_patches")
        yield connection


@pytest.fixture(scope="module")
def empty(server: PostgresSettings) -> Iterator[psycopg.Connection[Any]]:
    """The schema, and no row."""
    with _new_database(server, TEMPLATE) as place, open_connection(place) as connection:
        yield connection


@pytest.mark.parametrize(("name", "bound", "indexes"), PLANS, ids=[f"{name}-{list(given)}" for name, given, _ in PLANS])
def test_an_index_serves(year: psycopg.Connection[Any], name: str, bound: dict[str, Any], indexes: set[str]) -> None:
    row = year.execute(b"EXPLAIN (FORMAT JSON) " + sql(name), bound).fetchone()
    assert row is not None
    nodes = list(_nodes(row[0][0]["Plan"]))
    read_whole = [node for node in nodes if node["Node Type"] == "Seq Scan" and "Relation Name" in node]
    assert not read_whole, nodes
    assert {node["Index Name"] for node in nodes if "Index Name" in node} == indexes, nodes


def test_every_query_has_a_plan_or_a_reason() -> None:
    assert {name for name, *_ in PLANS}.isdisjoint(READS_LITTLE_BY_NATURE)
    alerts = {*alert_plans.NAMES, *alert_plans.SMALL}  # test_alert_plans.py
    assert {name for name, *_ in PLANS} | READS_LITTLE_BY_NATURE | alerts == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_query_says_what_it_is_for_and_what_it_is_given(name: str) -> None:
    lines = sql(name).decode().splitlines()
    header = [line for line in lines if line.startswith("-- ")]
    assert header and lines[: len(header)] == header, "the header comes first"
    assert header[0].endswith((".", "conflict")), "a sentence of purpose"
    for given in _parameters(name):
        assert re.search(rf"\b{given}(, \w+)*: ", "\n".join(header[1:])), f"says what {given} is"


@pytest.mark.parametrize("name", NAMES)
def test_a_query_runs_on_an_empty_database(empty: psycopg.Connection[Any], name: str) -> None:
    with empty.transaction(force_rollback=True):
        rows = fetch(empty, name, **{given: EXAMPLES[given] for given in _parameters(name)})
    one_row = {"window_totals", "span", "keep_patch", "may_append", "oldest_open", "site_lock", *alert_plans.ONE_ROW}
    assert len(rows) == (1 if name in one_row else 0)


def _parameters(name: str) -> list[str]:
    return re.findall(r"%\((\w+)\)s", sql(name).decode())


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
