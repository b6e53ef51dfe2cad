"""Secrets never reach the spool: found by key, by shape, and then by value wherever they turn up again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit_dagster.audit_service import AuditService, log_custom_operation
from audit_dagster.recording.redact import Redactor, is_secret_name
from audit_dagster.settings import Settings


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "DBPASSWORD",
        "--api-key",
        "apiKey",
        "X-Auth-Token",
        "AWS_SECRET_ACCESS_KEY",
        "client_secret",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["author", "tokens", "token_count", "keyboard", "password_file", "token_url", "secret_id", "project", ""]
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:pa55@db/x", "postgresql://ada:${SECRET:URL_PASSWORD}@db/x"),
        ("host=db password=s3cr3t user=ada", "host=db password=${SECRET:PASSWORD} user=ada"),
        ('{"api_key": "a b c", "n": 1}', '{"api_key": "${SECRET:API_KEY}", "n": 1}'),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ${SECRET:AUTHORIZATION}"),
        (f"use ghp_{'a' * 36}!", "use ${SECRET:GITHUB_TOKEN}!"),
        ("error: password=x, token: y", "error: password=${SECRET:PASSWORD}, token: ${SECRET:TOKEN}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "${SECRET:PRIVATE_KEY}"),
        ("pwd: cannot stat token: unexpected end", "pwd: cannot stat token: unexpected end"),
        ("${SECRET:TOKEN} stays", "${SECRET:TOKEN} stays"),
        ("the tokens: 15; see https://example.org/a@b", "the tokens: 15; see https://example.org/a@b"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert Redactor({}).text(text) == shown
    assert Redactor({}).text(shown) == shown


def test_argv() -> None:
    words = [
        "tool",
        "--password",
        "abcdef",
        "--api-key=ghijkl",
        "TOKEN=mnopqr",
        "--user",
        "ada",
        "abcdef",
        "--token",
        "--x",
    ]
    assert Redactor({}).argv(words) == [
        "tool",
        "--password",
        "${SECRET:PASSWORD}",
        "--api-key=${SECRET:API_KEY}",
        "TOKEN=${SECRET:TOKEN}",
        "--user",
        "ada",
        "${SECRET:PASSWORD}",
        "--token",
        "--x",
    ]


def test_values_are_found_again_and_the_environment_is_known() -> None:
    redactor = Redactor({"DB_PASSWORD": "hunter22", "PWD": "/home/ada"})
    value = {"deep": [{"client_secret": 12345678}], "credentials": {"user": "ada", "pin": 9}, "home": "/home/ada"}
    assert redactor.value(value) == {
        "deep": [{"client_secret": "${SECRET:CLIENT_SECRET}"}],
        "credentials": {"user": "${SECRET:CREDENTIALS}", "pin": "${SECRET:CREDENTIALS}"},
        "home": "/home/ada",
    }
    assert redactor.text("login with hunter22 or 12345678 failed") == (
        "login with ${SECRET:DB_PASSWORD} or ${SECRET:CLIENT_SECRET} failed"
    )


@pytest.mark.parametrize("text", ["x" * 200_000, "://" * 60_000, "eyJ" * 60_000, "password" * 20_000, "a=" * 100_000])
def test_no_text_takes_long(text: str) -> None:
    began = time.monotonic()
    Redactor({}).text(text)
    assert time.monotonic() - began < 2


def test_nothing_secret_reaches_the_disk_or_the_database(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, without_drainer: None
) -> None:
    monkeypatch.setenv("LAB_API_TOKEN", "planted-1")
    with pytest.raises(RuntimeError), log_custom_operation("tool", "connect as planted-1") as logger:
        logger.add_parameter("db_password", "planted-2")
        logger.add_parameter("url", "https://ada:planted-3@example.org")
        logger.add_result("session", {"auth_token": "planted-4"})
        logger.add_note("the password: planted-5")
        raise RuntimeError("planted-2 was refused, and planted-4 too")
    code = "import sys; sys.exit('planted-6 is wrong')"
    subprocess.run(
        [sys.executable, "-m", "audit_dagster.cli", "run", "--", sys.executable, "-c", code, "--password", "planted-6"],
        check=False,
        capture_output=True,
    )
    spooled = b"".join(path.read_bytes() for path in Path(settings.spool_dir).rglob("*") if path.is_file())
    stored = json.dumps([entry.to_json() for entry in AuditService().recent_entries()])
    assert b"planted" not in spooled
    assert "planted" not in stored
    assert stored.count("SECRET:DB_PASSWORD") == 4, "the parameter, the message, and the traceback's two"
