"""Every document of a seeded month, letter for letter: small ones as files, charts and all others by their SHA-256.

`AUDIT_UPDATE_GOLDEN=1 pytest …` writes the golden files anew; the tests that wrote some fail, so that they are looked
at. With AUDIT_TEST_PROFILE=nightly the long day has 100,000 operations, and golden digests of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from audit_dagster.settings import PostgresSettings
from audit_dagster.store.query import append
from audit_dagster_tests.bench.world import fill
from audit_dagster_tests.reports.lab import Lab, lab
from audit_dagster_tests.reports.month import ODD_TOOL, ZONE, local, month

GOLDEN = Path(__file__).parent / "golden_month"
DAYS = [date(2023, 11, 1) + timedelta(days=offset) for offset in range(29)]
MONDAYS = [date(2023, 10, 30) + timedelta(weeks=offset) for offset in range(5)]
LONG_DAY, OF_LONG_DAY = date(2023, 11, 30), MONDAYS[-1]
LONG = 100_000 if os.environ.get("AUDIT_TEST_PROFILE") == "nightly" else 5_000
SCRIPTED = DAYS[:9]
WHOLE = re.compile(
    r"index\.html|daily/2023-11-0[1-7]\.\w+|search/2023-11-0[1-7]\.js|scripts/2023-11-03\.sh"
    r"|weekly/2023-W4[45]\.\w+|weekly/2023-W44-(days|durations)\.svg|tools/.*/2023-W4[45](\.\w+|-durations\.svg)"
)
SHARED = re.compile(rb"<(svg|style|script)\b.*?</\1>", re.DOTALL)
GENERATED = re.compile(r"^# Reproduction script generated on .*", re.MULTILINE)


@pytest.fixture
def lab_of_the_month(server: PostgresSettings, tmp_path: Path) -> Iterator[Lab]:
    with lab(server, tmp_path, "month", ZONE.key) as made:
        assert set(append(made.connection, month())) == {"stored"}
        yield made


def documents(made: Lab) -> dict[str, bytes]:
    """What lies in the folder of reports, but for the moment at which a script was written."""
    files = sorted(path for path in made.reports.rglob("*") if path.is_file())
    found = {path.relative_to(made.reports).as_posix(): path.read_bytes() for path in files}
    for name in found:
        if name.endswith(".sh"):
            found[name] = GENERATED.sub("# Reproduction script generated on …", found[name].decode()).encode()
    return found


def digest(name: str, content: bytes) -> str:
    return f"{name} {len(content)} bytes {len(content.splitlines())} lines {hashlib.sha256(content).hexdigest()}"


def without_bulk(content: bytes) -> bytes:
    """A page that people can read, with the digests of its charts, style and script, which are most of it."""
    return SHARED.sub(lambda part: f"<{part[1].decode()}> {digest('of it', part[0])}".encode(), content)


def kept_files() -> set[str]:
    """The golden files' names, but for those of the long day."""
    names = {path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith("digests_")}


def compare(golden: dict[str, bytes]) -> None:
    """With the files of those names in the golden folder, which are written anew if that was asked for."""
    if os.environ.get("AUDIT_UPDATE_GOLDEN") == "1":
        for name, content in golden.items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_bytes(content)
        pytest.fail("the golden files were written anew: look at them, then run without AUDIT_UPDATE_GOLDEN")
    for name, content in golden.items():
        path = GOLDEN / name
        assert path.is_file(), name
        assert content.decode().split("\n") == path.read_bytes().decode().split("\n"), name


def test_the_documents_of_a_month(lab_of_the_month: Lab) -> None:
    service, connection = lab_of_the_month.service, lab_of_the_month.connection
    for day in DAYS:
        service.write_daily_report(connection, day)
    for day in SCRIPTED:
        service.write_day_script(connection, day)
    for monday in MONDAYS:
        service.write_weekly_summary(connection, monday)
    service.write_tool_report(connection, MONDAYS[0], "sensing-data")
    service.write_tool_report(connection, MONDAYS[1], ODD_TOOL)
    service.write_site(connection)
    found = documents(lab_of_the_month)
    whole = {name: content for name, content in found.items() if WHOLE.fullmatch(name)}
    whole |= {name: without_bulk(content) for name, content in whole.items() if name.endswith(".html")}
    lines = [digest(name, content) for name, content in found.items() if name not in whole]
    if os.environ.get("AUDIT_UPDATE_GOLDEN") == "1":
        for path in kept_files() - {"digests.txt", *whole}:
            (GOLDEN / path).unlink()
    compare({**whole, "digests.txt": ("\n".join(lines) + "\n").encode()})
    assert kept_files() == {"digests.txt", *whole}


def test_the_documents_of_a_long_day(lab_of_the_month: Lab) -> None:
    service, connection = lab_of_the_month.service, lab_of_the_month.connection
    fill(connection, LONG, 2 * LONG, local(30, 23))
    assert service.write_daily_report(connection, LONG_DAY).operations == LONG
    assert service.write_weekly_summary(connection, OF_LONG_DAY).operations > LONG
    service.write_tool_report(connection, OF_LONG_DAY, "sensing-data")
    lines = [digest(name, content) for name, content in documents(lab_of_the_month).items()]
    compare({f"digests_{LONG}.txt": ("\n".join(lines) + "\n").encode()})
