"""Secrets never reach the spool: found by key, by shape, and then by value wherever they turn up again."""

from __future__ import annotations

import json
import time

import pytest

from audit_dagster.recording.redact import Redactor, is_secret_name
from audit_dagster_tests.conftest import REAL_LOGS, needs_real_logs


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
        "DB_PASS",
        "--pass",
        "app_key",
        "passcode",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "author",
        "tokens",
        "token_count",
        "keyboard",
        "password_file",
        "token_url",
        "secret_id",
        "project",
        "low_pass",
        "pass",
        "passed",
        "primary_key",
        "bypass",
        "",
    ],
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


@pytest.mark.parametrize(
    "text",
    [
        "Compute basic statistics of temperature",
        "Basic analysis-2023 by the bearer instruments",
        "authorization: required; cookie: a small cake",
        "token = ask(); secret: str | None = None; password=args.password; password=None",
        "Enter the password:\nDone",
        "primary key: id, foreign_key = site_id, sort key: time",
        "https://example.org:8080/a@b and ssh://git@example.org/x.git",
        "$PASSWORD, password=$PASSWORD, password=%s, token={token}, --password=***",
        "asia-southeast1, desk-abcdefghijklmnopqrstuvwxyz, the eye of Jupiter",
    ],
)
def test_texts_without_secrets(text: str) -> None:
    assert Redactor({}).text(text) == text


@needs_real_logs
def test_real_logs_have_none() -> None:
    logs = [path for path in REAL_LOGS.rglob("*") if path.is_file()]
    assert len(logs) >= 39
    for path in logs:
        text = path.read_text("utf-8", "replace")
        assert Redactor({}).text(text) == text, path.name


def test_in_code_only_what_stands_in_quotes_is_a_value() -> None:
    text = "token = Token\npassword: Secret = field()\nkey = api_key\n"
    assert Redactor({}).text(text, is_code=True) == text
    assert Redactor({}).text("password = 'hunter22'", is_code=True) == "password = '${SECRET:PASSWORD}'"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["/usr/bin/curl", "-u", "ada:hunter22", "x"], ["/usr/bin/curl", "-u", "${SECRET:PASSWORD}", "x"]),
        (["curl", "-uada:hunter22"], ["curl", "-u${SECRET:PASSWORD}"]),
        (["mysql", "-phunter22", "-p", "lab"], ["mysql", "-p${SECRET:PASSWORD}", "-p", "lab"]),
        (["docker", "run", "-u", "1000:1000"], ["docker", "run", "-u", "1000:1000"]),
        (["tool", "--pin", "1234", "1234", "--pin=5", "--n=1234"], None),
        (["tool", "x?token=hunter22&n=1", "--set=db.password=hunter23"], None),
    ],
)
def test_argv_of_well_known_programs_and_of_named_secrets(words: list[str], shown: list[str] | None) -> None:
    expected = {
        "--pin": ["tool", "--pin", "${SECRET:PIN}", "${SECRET:PIN}", "--pin=${SECRET:PIN}", "--n=1234"],
        "x?token=hunter22&n=1": ["tool", "x?token=${SECRET:TOKEN}&n=1", "--set=db.password=${SECRET:DB_PASSWORD}"],
    }
    assert Redactor({}, ["pin"]).argv(words) == (shown or expected[words[1]])


def test_what_only_the_end_tells_is_replaced_before_it() -> None:
    form = {"note": "used hunter22", "number": 12345678, "error": "password=hunter22 token=12345678", "PIN": [1, "x"]}
    assert Redactor({}, ["pin"]).form(form) == {
        "note": "used ${SECRET:PASSWORD}",
        "number": "${SECRET:TOKEN}",
        "error": "password=${SECRET:PASSWORD} token=${SECRET:TOKEN}",
        "PIN": ["${SECRET:PIN}", "${SECRET:PIN}"],
    }


def test_environments() -> None:
    redactor = Redactor({"DATABASE_URL": "postgresql://ada:hunter22@db/x", "EMPTY_TOKEN": "", "USE_TOKEN": "1"})
    assert redactor.argv(["tool", "", "1", "hunter22"]) == ["tool", "", "1", "${SECRET:URL_PASSWORD}"]
    redactor.learn({"LATE_PASSWORD": 'with "quotes" \\'})
    written = json.dumps({"x": 'with "quotes" \\'})
    assert redactor.text(written) == '{"x": "${SECRET:LATE_PASSWORD}"}'


LONG = ["authorization:", "bearer ", "password=", 'password="', "cookie=a=", "?sig=", "-----BEGIN PRIVATE KEY-----"]


@pytest.mark.parametrize("text", [text * (200_000 // len(text)) for text in LONG])
def test_no_repetition_takes_long(text: str) -> None:
    began = time.monotonic()
    Redactor({}).text(text)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("text", ["x" * 200_000, "://" * 60_000, "eyJ" * 60_000, "password" * 20_000, "a=" * 100_000])
def test_no_text_takes_long(text: str) -> None:
    began = time.monotonic()
    Redactor({}).text(text)
    assert time.monotonic() - began < 2
