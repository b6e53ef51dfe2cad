"""Reports in Google Cloud Storage: a server that speaks its protocol over HTTP, where the client's variable points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from gcp_storage_emulator.server import Server, create_server

from audit_dagster import create_reproduction_script, generate_report
from audit_dagster.documents import place, read_text, remove_series, write_document
from audit_dagster.entry import LogEntry
from audit_dagster.errors import AuditError
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.deploy.processes import free_port

Store = Callable[..., list[LogEntry]]
NOON = datetime(2023, 6, 15, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def google() -> Iterator[Server]:
    """With the bucket `lab`."""
    port = free_port()
    made = create_server("127.0.0.1", port, in_memory=True, default_bucket="lab")
    made.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it would ask Google what kind of bucket this is
        yield made
    made.stop()


def test_an_object_is_written_read_replaced_and_removed(google: Server) -> None:
    path = place("gs://lab/audit") / "daily" / "2023-06-15.md"
    for text in ("ünö", "another"):
        write_document(path, text, 1, 0)
        assert read_text(path) == text
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    remove_series([path])
    assert not path.exists()


def test_the_facade_writes_reports_and_reads_them_for_a_script(google: Server, store: Store) -> None:
    store(make_entry(timestamp=NOON, command=["true"]), make_entry(timestamp=NOON, command=["false"]))
    assert generate_report("2023-06-15", "2023-06-15", "gs://lab/reports") == ["gs://lab/reports/2023-06-15.md"]
    made = create_reproduction_script("gs://lab/reports", "gs://lab/reports/again.sh")
    assert made["operation_count"] == 2
    assert read_text(place(made["script_path"])).startswith("#!")
    names = sorted(found.name for found in place("gs://lab/reports").iterdir())
    assert names == ["2023-06-15.html", "2023-06-15.json", "2023-06-15.md", "again.sh"]


def test_what_cannot_be_written_or_read_is_said_in_one_sentence(google: Server) -> None:
    with pytest.raises(AuditError, match=r"^cannot write gs://absent/x.md: .*: correct the address, or the store's"):
        write_document(place("gs://absent/x.md"), "x", 1, 0)
    with pytest.raises(AuditError, match=r"^cannot read gs://lab/none.md: No such file or directory$"):
        read_text(place("gs://lab/none.md"))
