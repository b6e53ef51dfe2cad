"""Reports in an object store: a real S3 server, over HTTP, with the usual variables for endpoint and credentials."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import psycopg
import pytest
from botocore.config import Config
from fsspec.registry import _registry
from moto.server import ThreadedMotoServer

from audit_dagster import create_reproduction_script, generate_report
from audit_dagster.definitions import defs
from audit_dagster.defs.assets import daily_report, reproduction_script, tool_stats, weekly_summary
from audit_dagster.documents import local_copies, place, read_text, write_document
from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError, ConfigurationError
from audit_dagster.report_service import ReportService
from audit_dagster.reports.totals import Totals, stated_totals
from audit_dagster.settings import Settings
from audit_dagster.site_rows import pages_in
from audit_dagster_tests.conftest import make_entry

Store = Callable[..., list[LogEntry]]
Connection = psycopg.Connection[Any]
DAY, MONDAY = date(2023, 6, 15), date(2023, 6, 12)
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bucket `lab`, in which AUDIT_REPORTS_DIR is the prefix `audit`."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # each knows the endpoint it was made with
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "ada",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AUDIT_REPORTS_DIR": "s3://lab/audit",
    }.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3").Bucket("lab")
    made.create()
    yield made
    made.objects.all().delete()
    made.delete()


def keys(bucket: Any) -> list[str]:
    return sorted(item.key for item in bucket.objects.all())


def forms(report: str) -> list[str]:
    """A day's report, and what is written beside it."""
    return [f"{report.removesuffix('.md')}.{ending}" for ending in ("html", "json", "md")]


def forms_of_week(report: str) -> list[str]:
    """A report of a week, and what is written beside it."""
    pictures = [f"{report.removesuffix('.md')}-{name}.svg" for name in ("calendar", "days", "durations")]
    return [*pictures, *forms(report)]


def text_of(bucket: Any, key: str) -> str:
    return bucket.Object(key).get()["Body"].read().decode()


def run(*assets: dg.AssetsDefinition, raise_on_error: bool = True, **tags: str) -> dg.ExecuteInProcessResult:
    job = dg.define_asset_job("job", selection=dg.AssetSelection.assets(*assets))
    part = dg.Definitions(defs.assets, asset_checks=defs.asset_checks, jobs=[job], resources=defs.resources)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("tools", ["sensing-data"])
        return part.resolve_job_def("job").execute_in_process(
            run_config=_QUIET, instance=instance, tags=tags, raise_on_error=raise_on_error
        )


def days(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def checked(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_each_document_is_an_object(bucket: Any, store: Store, connection: Connection) -> None:
    store(make_entry(command=["true"]), make_entry(success=False, tool_name="A/../b"))
    service = ReportService()
    service.write_daily_report(connection, DAY)
    service.write_weekly_summary(connection, MONDAY)
    service.write_tool_report(connection, MONDAY, "A/../b")
    script, _ = service.write_day_script(connection, DAY)
    assert keys(bucket) == [
        *forms("audit/daily/2023-06-15.md"),
        "audit/scripts/2023-06-15.sh",
        "audit/search/2023-06-15.js",
        *forms_of_week("audit/tools/~41~2f..~2fb/2023-W24.md"),
        *forms_of_week("audit/weekly/2023-W24.md"),
    ]
    assert str(script.path) == "s3://lab/audit/scripts/2023-06-15.sh"
    assert text_of(bucket, "audit/scripts/2023-06-15.sh") == script.text == read_text(script.path)
    store(make_entry())
    assert service.write_daily_report(connection, DAY).operations == 3
    assert stated_totals(text_of(bucket, "audit/daily/2023-06-15.md")) == Totals(3, 1)


def test_the_site_sees_what_others_wrote_to_the_store(bucket: Any, store: Store, connection: Connection) -> None:
    store(make_entry())
    service = ReportService()
    service.write_daily_report(connection, DAY)
    service.write_tool_report(connection, MONDAY, "sensing-data")
    document, pages = service.write_site(connection)
    assert str(document.path) == "s3://lab/audit/index.html"
    assert pages == pages_in(document.path.parent, ["sensing-data"])
    assert (pages.days, pages.weeks, pages.tools) == ({DAY}, set(), {"sensing-data": {"2023-W24"}})
    bucket.Object("audit/daily/2023-06-16.html").put(Body=b"by another machine")
    text = service.write_site(connection)[0].text
    assert 'href="daily/2023-06-16.html"' in text
    assert text_of(bucket, "audit/index.html") == text


def test_extra_pages_of_a_longer_day_are_removed(bucket: Any, store: Store, connection: Connection) -> None:
    store(make_entry())
    for number in (2, 3):
        bucket.Object(f"audit/daily/2023-06-15-{number}.html").put(Body=b"an earlier, longer day")
    ReportService().write_daily_report(connection, DAY)
    assert keys(bucket) == [*forms("audit/daily/2023-06-15.md"), "audit/search/2023-06-15.js"]


def test_a_file_is_the_same_in_a_folder_and_in_a_store(bucket: Any, tmp_path: Path) -> None:
    text = "# été\r\nno newline translated\n\x85 \u2028 ~" + "x" * 6_000_000
    here, there = tmp_path / "a.md", place("s3://lab/deep/er/a.md")
    for path in (here, there):
        write_document(path, "old", 0, 0)
        write_document(path, text, 0, 0)
    with local_copies([here, there, place("s3://lab/none")]) as (same, copy, absent):
        assert same == here
        assert copy.read_bytes() == here.read_bytes() == text.encode()
        assert not absent.exists()
    assert not copy.exists()
    assert keys(bucket) == ["deep/er/a.md"]
    assert read_text(here) == read_text(there)


def test_dagster_writes_and_checks(bucket: Any, store: Store) -> None:
    store(*(make_entry(timestamp=datetime(2023, 6, 1, 12, tzinfo=UTC) + timedelta(days=n)) for n in range(30)))
    result = run(daily_report, **days("2023-06-01", "2023-06-30"))
    assert checked(result) == {"daily_totals_equal_the_database": True, "enough_operations_succeed": True}
    reports = [f"audit/daily/2023-06-{day:02}.md" for day in range(1, 31)]
    searched = [f"audit/search/2023-06-{day:02}.js" for day in range(1, 31)]
    assert keys(bucket) == [*(key for report in reports for key in forms(report)), *searched]
    written = result.asset_materializations_for_node("daily_report")
    assert sorted(made.metadata["path"].value for made in written) == [f"s3://lab/{key}" for key in reports]
    assert checked(run(reproduction_script, **days("2023-06-14", "2023-06-15"))) == {"script_is_sound": True}
    week = days("2023-06-12", "2023-06-12")
    assert checked(run(weekly_summary, **week)) == {"weekly_totals_equal_the_database": True}
    week_tool = {"dagster/partition/week": "2023-06-12", "dagster/partition/tool": "sensing-data"}
    assert checked(run(tool_stats, **week_tool)) == {"tool_totals_equal_the_database": True}


def test_checks_see_what_is_wrong_in_the_store(bucket: Any, store: Store, connection: Connection) -> None:
    store(make_entry())
    service = ReportService()
    service.write_daily_report(connection, DAY)
    service.write_day_script(connection, DAY)
    bucket.Object("audit/scripts/2023-06-15.sh").put(Body=b"#!/bin/bash\nif then\n")
    bucket.Object("audit/daily/2023-06-15.md").delete()
    job = dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())
    part = dg.Definitions(defs.assets, asset_checks=defs.asset_checks, jobs=[job], resources=defs.resources)
    with dg.DagsterInstance.ephemeral() as instance:
        for asset in (daily_report, reproduction_script):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset.key, partition=str(DAY)))
        result = part.resolve_job_def("checks").execute_in_process(run_config=_QUIET, instance=instance)
    found = {check.check_name: check.description for check in result.get_asset_check_evaluations() if not check.passed}
    assert found.keys() == {"daily_totals_equal_the_database", "script_is_sound"}
    absent = "report cannot read s3://lab/audit/daily/2023-06-15.md: No such file or directory, database 1 operations"
    assert absent in str(found["daily_totals_equal_the_database"])
    assert "2023-06-15.sh: line 2: syntax error" in str(found["script_is_sound"])


def test_the_facade_and_the_command_line_take_urls(bucket: Any, store: Store) -> None:
    store(make_entry(command=["true"]), make_entry(timestamp=datetime(2023, 6, 16, tzinfo=UTC), command=["true"]))
    assert generate_report("2023-06-01", "2023-06-30", "s3://lab/elsewhere/") == [
        "s3://lab/elsewhere/2023-06-15.md",
        "s3://lab/elsewhere/2023-06-16.md",
    ]
    made = create_reproduction_script("s3://lab/elsewhere", "s3://lab/again.sh")
    assert (made["script_path"], made["operation_count"]) == ("s3://lab/again.sh", 2)
    dates = ["--start-date", "2023-06-15", "--end-date", "2023-06-15"]
    told = command("report", *dates, "--output-dir", "s3://lab/cli")
    assert told.stdout.splitlines()[0] == "s3://lab/cli/2023-06-15.md"
    assert command("reproduce", "--logs-dir", "s3://lab/cli").returncode == 0
    assert "s3://lab/x.sh is a URL: give a local path" in command("reproduce", "s3://lab/x.sh").stderr
    written = ["cli/2023-06-15.md", "elsewhere/2023-06-15.md", "elsewhere/2023-06-16.md"]
    assert keys(bucket) == ["again.sh", *(key for report in written for key in forms(report))]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("s3://nowhere/x", "cannot write s3://nowhere/x: The specified bucket does not exist: correct the address,"),
        ("s3:///x", "s3:///x cannot be used: give a folder, s3://BUCKET/… or gs://BUCKET/…"),
        ("s3://lab", "cannot write s3://lab/: Parameter validation failed"),
        ("ftps://host/x", "ftps://host/x cannot be used: give a folder, s3://BUCKET/… or gs://BUCKET/…"),
        ("gs://b/x", "gs://b/x needs a package that is not installed: pip install 'audit-dagster[gs]'"),
    ],
)
def test_errors_are_one_sentence(bucket: Any, monkeypatch: pytest.MonkeyPatch, url: str, error: str) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(_registry, "gs", raising=False)  # where another test has used it
    with pytest.raises(AuditError) as caught:
        write_document(place(url), "text", 0, 0)
    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_server_that_is_away(bucket: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    store(make_entry())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    told = command("report", "--start-date", "2023-06-15", "--end-date", "2023-06-15", "--output-dir", "s3://lab/x")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith(
        "Error: cannot write s3://lab/x/2023-06-15.html: Could not connect to the endpoint URL"
    )
    assert told.stderr.count("\n") == 1
    result = run(daily_report, raise_on_error=False, **days("2023-06-15", "2023-06-15"))
    assert not result.success
    failure = result.failure_data_for_node("daily_report").user_failure_data
    assert "1 of 1 could not be made: 2023-06-15: cannot write s3://lab/audit/daily/" in failure.description


def test_access_denied(endpoint: str, bucket: Any) -> None:
    import s3fs

    client = boto3.client("s3", config=Config(signature_version="s3v4"))
    policy = '{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}]}'
    client.put_bucket_policy(Bucket="lab", Policy=policy)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(AuditError, match=r"cannot write s3://lab/x: .*(Denied|Forbidden)"):
        write_document(place("s3://lab/x"), "text", 0, 0)


def test_other_stores_and_addresses(tmp_path: Path) -> None:
    path = place("memory://lab") / "daily" / "x.md"
    assert read_text(write_document(path, "text", 0, 0).path) == "text"
    assert place(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert place("a/b") == Path("a/b")
    with pytest.raises(AuditError, match=r"^cannot read memory://lab/none: No such file or directory$"):
        read_text(place("memory://lab/none"))


def test_the_setting_is_read_without_loading_fsspec(settings: Settings) -> None:
    program = (
        "import sys; from audit_dagster.settings import Settings; found = Settings.load();"
        "print(found.reports, found.given['AUDIT_REPORTS_DIR'], sorted({'fsspec', 'upath', 's3fs'} & set(sys.modules)))"
    )
    environment = {**settings.child_environment(), "AUDIT_REPORTS_DIR": "s3://lab/audit"}
    read = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert read.stdout.strip() == "s3://lab/audit s3://lab/audit []"
    with pytest.raises(ConfigurationError, match="nosuch://x cannot be used"):
        _ = settings._replace(reports="nosuch://x").reports_dir


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "audit_dagster.cli", *words], capture_output=True, text=True, check=False
    )
