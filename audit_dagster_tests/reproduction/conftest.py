from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_dagster_tests.reproduction.lab import Repository


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    path = tmp_path / "lab repo"
    path.mkdir()
    made = Repository(path)
    made.git("init", "--quiet", "--initial-branch", "feature/analysis")
    return made


@pytest.fixture(autouse=True)
def nothing_escapes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The tests' git looks at no configuration of the machine, and the scripts' work folders are the tests' own."""
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "work"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    yield


@pytest.fixture
def lab(repository: Repository) -> Repository:
    """A repository with a stash, uncommitted changes and something staged, which nothing may touch."""
    repository.commit(code="A", other="x")
    repository.commit(code="B")
    (repository.path / "code").write_text("stashed")
    repository.git("stash")
    (repository.path / "other").write_text("changed")
    (repository.path / "staged").write_text("staged")
    repository.git("add", "staged")
    return repository
