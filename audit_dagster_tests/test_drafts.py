"""A document that is written in pieces is at its place, whole, or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from audit_dagster.documents import draft, place, read_text, write_document
from audit_dagster.errors import AuditError


@pytest.mark.parametrize("url", ["", "memory://drafts"])
def test_pieces_come_together_at_the_end(url: str, tmp_path: Path) -> None:
    path = place(url or str(tmp_path)) / "daily" / "a.md"
    write_document(path, "old", 0, 0)
    with draft(path) as made:
        for number in range(300_000):
            made.write(f"{number}\r\n")
        assert read_text(path) == "old"
    text = "".join(f"{number}\r\n" for number in range(300_000))
    assert path.read_bytes().decode() == text
    assert made.beginning() == text[: text.rindex("\n", 0, 200_000) + 1] + "…\n"


@pytest.mark.parametrize("url", ["", "memory://drafts"])
def test_an_error_in_between_leaves_the_old_one(url: str, tmp_path: Path) -> None:
    path = place(url or str(tmp_path)) / "b.md"
    write_document(path, "old", 0, 0)
    with pytest.raises(ZeroDivisionError), draft(path) as made:
        made.write("x" * 2_000_000)
        made.write(str(1 // 0))
    assert read_text(path) == "old"
    assert url or [file.name for file in tmp_path.iterdir()] == ["b.md"]


def test_a_disk_without_room(tmp_path: Path) -> None:
    path = tmp_path / "c.md"
    write_document(path, "old", 0, 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(AuditError, match=r"^cannot write .*c\.md: File too large: choose another folder or file$"):
            write_document(path, "x" * 2000, 0, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["c.md"]
