"""One cause is one fingerprint, and two causes are two."""

from __future__ import annotations

import pytest

from audit_dagster.failures import fingerprint, wording


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no station 4", "no station 17"),
        ("[Errno 2] No such file or directory: '/data/a.csv'", "[Errno 2] No such file or directory: '/tmp/b c.csv'"),
        ("cannot read /data/2023/06/a.csv: gone", "cannot read /var/lib/b.csv: gone"),
        ("cannot read ~/a.csv", "cannot read ../b/c.csv"),
        ("GET https://example.org/a?b=1 failed", "GET https://example.org/c?d=2 failed"),
        ("<Sensor object at 0x7f90aef66f50> is off", "<Sensor object at 0x1a> is off"),
        ("run 3f2a9c11-1b2c-4d5e-8f90-aabbccddeeff", "run 00000000-0000-4000-8000-000000000001"),
        ("commit abc1234 is gone", "commit 99ffeedd is gone"),
        ("took 1,234.5 s at 2023-06-15 14:30:22", "took 7 s at 2024-01-01 00:00:00"),
        ("a  b\n", "a b"),
        (None, ""),
    ],
)
def test_one_cause(one: str | None, other: str | None) -> None:
    assert wording(one) == wording(other)
    assert fingerprint("failing", "t", "o", one) == fingerprint("failing", "t", "o", other)


def test_two_causes() -> None:
    errors = ("connection refused", "connection reset", "decade is over", "facade", "", "no column 'a'", "key error: b")
    prints = {fingerprint("failing", "t", "o", error) for error in errors}
    prints |= {
        fingerprint("failing", "to", "", ""),
        fingerprint("slow", "t", "o"),
        fingerprint("failing", "", "to", ""),
    }
    assert len(prints) == len(errors) + 3


def test_hostile_errors_take_no_time() -> None:
    for text in (
        "'" * 100_000,
        "/" * 100_000,
        "0x" * 50_000,
        "\ud800" * 10,
        "1-" * 50_000,
        "a://" * 25_000,
        "f" * 10**6,
    ):
        assert len(fingerprint("failing", "t", "o", text)) == 32
