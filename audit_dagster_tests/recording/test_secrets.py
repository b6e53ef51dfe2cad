"""Fifty secrets are planted in everything that is recorded: none is found in the spool, the database or a document."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from audit_dagster import create_reproduction_script
from audit_dagster.alert_service import send_alerts
from audit_dagster.audit_service import AuditService
from audit_dagster.recording import spool
from audit_dagster.report_service import ReportService
from audit_dagster.reports.windows import monday_of
from audit_dagster.settings import Settings
from audit_dagster.store.drain import drain

Git = Callable[..., str]
LETTERS = "Qw3rTy8uIoPaSdFgH1jKlZxCvBnM5qWeRtYuI0pAsDfGhJkLzXcVbNm27QwErTyUiOp9AsDfGhJ"
HEX = "3fa85f6457174562b3fc2c963f66afa63fa85f6457174562b3fc2c963f66afa6"
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n{0}\n{1}\n-----END OPENSSH PRIVATE KEY-----"


def own(number: int, length: int, letters: str = LETTERS) -> str:
    """Letters like nobody else's."""
    return (letters[number:] + letters)[:length]


# What each secret is, and the name by which its placeholder asks for it.
SECRETS: dict[str, tuple[str, str]] = {
    # in a command
    "flag and word": ("planted-Flag/1+x", "PASSWORD"),
    "flag with equals": ("planted-equals-2", "API_KEY"),
    "assignment": ("planted_assigned_3", "DB_TOKEN"),
    "short": ("p4z", "DB_PASS"),
    "url": ("planted-url-4:p@ss", "URL_PASSWORD"),
    "percent": ("planted%2Durl%205", "URL_PASSWORD"),
    "query": ("plantedquery6", "ACCESS_TOKEN"),
    "signature": ("planted%2Fsignature%2B7abcdef%3D", "URL_SIGNATURE"),
    "bearer": ("planted.bearer.8.abcdef", "AUTHORIZATION"),
    "header": ("planted-header-9", "X_API_KEY"),
    "cookie": ("sid=planted10; theme=planted11", "COOKIE"),
    "JSON": ('planted "quoted" \\ 12', "CLIENT_SECRET"),
    "dotted": ("planted-dotted-13", "DB_PASSPHRASE"),
    "of a known program": ("ada:planted-14", "PASSWORD"),
    "inside a word": ("planted-inside-a-word-15", "PASSWORD"),
    "positional": ("planted-positional-15", "LAB_API_TOKEN"),
    # in the environment
    "environment": ("planted-environment-16", "SERVICE_SECRET"),
    "URL of the environment": ("planted-17-in-a-url", "URL_PASSWORD"),
    "CI": (f"glpat-{own(1, 20)}", "GITLAB_TOKEN"),
    "set inside": ("planted-inside-18", "LATE_PASSWORD"),
    # in git
    "remote": ("planted-remote-19", "URL_PASSWORD"),
    "remote's token": (own(2, 40), "URL_TOKEN"),
    "patch: changed": ("planted-changed-20", "SECRET_KEY"),
    "patch: deleted": ("planted-deleted-21", "OLD_PASSWORD"),
    "patch: untracked": ("planted-untracked-22", "CLIENT_CREDENTIAL"),
    "patch: a file of secrets": ("planted-file-23", ""),
    "patch: binary": ("planted-binary-24", ""),
    "patch: key": (own(3, 60), "PRIVATE_KEY"),
    "patch: a committed file of secrets": ("planted-committed-24", ""),
    "patch: in R": ("planted-in-r-25", "LAB_PASSWORD"),
    "patch: in code": ("planted-code-25", "API_PASSWORD"),
    # in parameters, results, notes and names
    "nested": ("planted nested 26", "PASSWORD"),
    "list": ("planted-list-27", "TOKEN"),
    "number": ("4711004711", "PASSCODE"),
    "hidden input": ("8439", "PIN"),
    "hidden word": ("planted-hidden-28", "ANSWER"),
    "connection": ("planted-connection-29", "PASSWORD"),
    "account key": (f"{own(4, 44)}==", "ACCOUNT_KEY"),
    "key of a mapping": (f"npm_{own(5, 36)}", "NPM_TOKEN"),
    "result": ("planted-result-30", "AUTH_TOKEN"),
    "result's key": (own(6, 64), "PRIVATE_KEY"),
    "note": ("planted-note-31", "PASSWORD"),
    "netrc": ("planted-netrc-32", "PASSWORD"),
    "SQL": ("planted sql 33", "PASSWORD"),
    "tool name": (f"ghp_{own(7, 36)}", "GITHUB_TOKEN"),
    "operation": (f"xoxb-{own(8, 12, HEX)}-{own(9, 24)}", "SLACK_TOKEN"),
    "file name": (f"hf_{own(10, 34)}", "HUGGINGFACE_TOKEN"),
    # in errors
    "message": ("planted-message-34", "PASSWD"),
    "source line": ("planted-source-35", "PASSWORD"),
    "cause": (f"SG.{own(11, 22)}.{own(12, 43)}", "SENDGRID_API_KEY"),
    "stderr": (f"AKIA{own(13, 16, 'QWERTYUIOPASDFGHJKLZXCVBNM234567')}", "AWS_ACCESS_KEY"),
    "basic": (base64.b64encode(b"ada:planted-36").decode(), "LOGIN"),
    # by their shape
    "Google": (f"AIza{own(14, 35)}", "GOOGLE_API_KEY"),
    "PyPI": (f"pypi-{own(15, 60)}", "PYPI_TOKEN"),
    "model": (f"sk-proj-{own(16, 40)}", "API_KEY"),
    "payment": (f"sk_live_{own(17, 24)}", "API_KEY"),
    "JWT": (f"eyJ{own(18, 20)}.eyJ{own(19, 40)}.{own(20, 30)}", "JWT"),
    "bot": (f"1234567890:AA{own(21, 33)}", "TELEGRAM_TOKEN"),
    "Docker": (f"dckr_pat_{own(22, 27)}", "DOCKER_TOKEN"),
    "vault": (f"hvs.{own(23, 30)}", "VAULT_TOKEN"),
    "Databricks": (f"dapi{own(24, 32, HEX)}", "DATABRICKS_TOKEN"),
    "Shopify": (f"shpat_{own(25, 32, HEX)}", "SHOPIFY_TOKEN"),
}

TOOL = """
import json, os, sys
from pathlib import Path
from audit_dagster.recording.recorder import Recording, log_custom_operation

planted = json.load(sys.stdin)

def connect(password):
    try:
        raise LookupError(f"no mail without {planted['cause']}")
    except LookupError as cause:
        raise ConnectionError(f"passwd={planted['message']}; {planted['positional']} too") from cause

def analyse(logger):
    logger.add_parameter("db", {"password": planted["nested"], "tokens": 3, "token": [planted["list"]]})
    logger.add_parameter("passcode", int(planted["number"]))
    logger.add_parameter("connection", f"host=db password={planted['connection']} user=ada")
    logger.add_parameter("storage", f"AccountName=lab;AccountKey={planted['account key']};Suffix=x")
    logger.add_parameter(f"about {planted['key of a mapping']}", 1)
    logger.add_result("session", {"auth_token": planted["result"], "key": planted["result's key"]})
    logger.add_result("url", os.environ["DATABASE_URL"])
    logger.add_result("by value", [planted["environment"], planted["URL of the environment"], planted["nested"]])
    logger.add_result("nothing is lost", {"rows": 15420, "site": "Winter Turf"})
    logger.add_result("file", f"out-{planted['file name']}.csv")
    logger.add_note(f"the password: {planted['note']}")
    logger.add_note(f"machine example.org login ada password {planted['netrc']}")
    logger.add_note(f"CREATE ROLE x PASSWORD '{planted['SQL']}'")
    for name in ("Google", "PyPI", "model", "payment", "JWT", "bot", "Docker", "vault", "Databricks", "Shopify"):
        logger.add_note(f"{name}: {planted[name]}.")
    Path(f"out-{planted['file name']}.csv").write_text("1")
    os.environ["LATE_PASSWORD"] = planted["set inside"]
    logger.add_note(f"then came {planted['set inside']}")
    connect(password="planted-source-35")

recording = Recording("lab", "hidden")
recording.parameters.update({"pin": planted["hidden input"], "answer": planted["hidden word"], "code": 5})
recording.secret_parameters |= {"pin", "answer"}
recording.notes.append(f"asked for {planted['hidden word']}")
recording.start(["lab", "--pin", planted["hidden input"], "--answer=" + planted["hidden word"], planted["hidden word"]])
recording.finish(success=True, error_message=None)
with log_custom_operation(f"tool {planted['tool name']}", f"connect as {planted['operation']}") as logger:
    analyse(logger)
"""


class Planted(dict[str, str]):
    """The secrets, and which of them were used."""

    def __init__(self) -> None:
        super().__init__({name: secret for name, (secret, _) in SECRETS.items()})
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.used.add(name)
        return super().__getitem__(name)


@pytest.fixture
def planted(
    settings: Settings, tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch, without_drainer: None
) -> Planted:
    """Real processes have recorded them; what they recorded waits in the spool."""
    planted = Planted()
    monkeypatch.setenv("LAB_API_TOKEN", planted["positional"])
    monkeypatch.setenv("SERVICE_SECRET", planted["environment"])
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ada:{planted['URL of the environment']}@db/x")
    monkeypatch.setenv("MCP_USER", f"bot {planted['CI']}")
    _plant_in_repository(planted, tmp_path / "repository", git, monkeypatch)
    port = os.environ["POSTGRES_PORT"]
    monkeypatch.setenv("POSTGRES_PORT", "1")  # so that no drainer gets through
    _run_command(planted, tmp_path)
    _run_tool(planted, tmp_path)
    monkeypatch.setenv("POSTGRES_PORT", port)
    (settings.spool_dir / "drain.backoff").unlink(missing_ok=True)
    return planted


def _plant_in_repository(planted: Planted, folder: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "--quiet", folder)
    monkeypatch.chdir(folder)
    Path("config.ini").write_text(f"[lab]\nold_password = {planted['patch: deleted']}\nsecret_key = x\nkept = 1\n")
    Path("client.py").write_text("print('client')\n")
    Path("lab.env").write_text("X=1\n")
    git("add", ".")
    git("commit", "--quiet", "--message=careless")
    Path("lab.env").write_text(f"X={planted['patch: a committed file of secrets']}\n")
    Path("analysis.R").write_text(f'lab_password <- "{planted["patch: in R"]}"\n')
    git("remote", "add", "origin", f"https://ada:{planted['remote']}@git.example.org/lab.git")
    Path("config.ini").write_text(f"[lab]\nsecret_key = {planted['patch: changed']}\nkept = 2\n")
    Path("client.py").write_text(f'api_password = "{planted["patch: in code"]}"\n')
    Path("notes.yaml").write_text(f"client_credential: {planted['patch: untracked']}\n")
    Path(".env.local").write_text(f"X={planted['patch: a file of secrets']}\n")
    Path("state.dat").write_bytes(b"\0\1token=" + planted["patch: binary"].encode() + b"\n")
    git("add", "state.dat")
    Path("deploy.txt").write_text(f"key:\n{PRIVATE_KEY.format(planted['patch: key'], own(30, 60))}\n")


def _run_command(planted: Planted, folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "curl").write_text(
        f"#!/bin/sh\necho 'key {planted['stderr']}, Basic {planted['basic']}' >&2\nexit 7\n"
    )
    (folder / "bin" / "curl").chmod(0o755)
    subprocess.run(["git", "init", "--quiet", folder / "bin"], check=True)
    remote = "https://{}@git.example.org/bin.git".format(planted["remote's token"])
    subprocess.run(["git", "-C", folder / "bin", "remote", "add", "origin", remote], check=True)
    words = [
        *("--password", planted["flag and word"], f"--api-key={planted['flag with equals']}"),
        *(f"DB_TOKEN={planted['assignment']}", f"DB_PASS={planted['short']}", planted["short"]),
        *(f"postgresql://ada:{planted['url']}@db/x", f"--url=https://ada:{planted['percent']}@example.org"),
        f"https://example.org/x?access_token={planted['query']}&site=4",
        f"https://lab.blob.example.org/x?sv=2023&sig={planted['signature']}",
        *("-H", f"Authorization: Bearer {planted['bearer']}", f"--header=X-Api-Key: {planted['header']}"),
        *("-H", f"Cookie: {planted['cookie']}", "--data", json.dumps({"client_secret": planted["JSON"], "n": 1})),
        *("--set", f"db.passphrase={planted['dotted']}", "-u", planted["of a known program"]),
        *("--then", f"sudo mysql -p{planted['inside a word']} -e x; true"),
        *(planted["positional"], "--site", "Winter Turf"),
    ]
    run = [sys.executable, "-m", "audit_dagster.cli", "run", "--note", f"with {planted['positional']}", "--"]
    done = subprocess.run([*run, str(folder / "bin" / "curl"), *words], check=False, capture_output=True)
    assert (done.returncode, planted["stderr"].encode() in done.stderr) == (7, True), "the tool's own output is its own"


def _run_tool(planted: Planted, folder: Path) -> None:
    (folder / "tool.py").write_text(TOOL)
    given = {name: planted[name] for name in SECRETS}
    given["result's key"] = PRIVATE_KEY.format(given["result's key"], own(31, 60))
    assert given["source line"] in TOOL
    command = [sys.executable, folder / "tool.py"]
    done = subprocess.run(command, input=json.dumps(given), check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"ConnectionError: passwd={given['message']}" in done.stderr


def _forms(secret: str) -> set[str]:
    """As it is, and as it is written in JSON, Python, a URL, and where letters' cases are lost."""
    forms = {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret), quote(secret, safe="")}
    return {form for form in {*forms, *(form.lower() for form in forms)} if len(form) > 4}


def _found(text: str) -> list[str]:
    lowered = text.lower()
    return [
        name
        for name, (secret, _) in SECRETS.items()
        if any(form in text or form.lower() in lowered for form in _forms(secret)) or _short_words(secret, text)
    ]


def _short_words(secret: str, text: str) -> bool:
    """A short one may stand in a random number; not in quotes."""
    return len(secret) <= 4 and any(f"{mark}{secret}{mark}" in text for mark in ("'", '"', "`", " "))


def _bytes_of(folder: Path) -> str:
    return "".join(f"{path}\n{path.read_bytes().decode('latin-1')}\n" for path in folder.rglob("*") if path.is_file())


def _dump(settings: Settings) -> str:
    """Every value in every table, as text."""

    def values() -> Iterator[str]:
        with AuditService(settings).database() as connection:
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            assert ("public", "audit_logs") in tables
            assert ("public", "audit_patches") in tables
            for schema, table in tables:
                for row in connection.execute(f'SELECT t.*, t::text FROM "{schema}"."{table}" t').fetchall():  # noqa: S608
                    for value in row:
                        yield value.decode("latin-1") if isinstance(value, bytes) else str(value)

    return "\n".join(values())


def test_none_of_them_is_anywhere(settings: Settings, planted: Planted, tmp_path: Path) -> None:
    assert len(SECRETS) >= 40
    assert len({secret for secret, _ in SECRETS.values()}) == len(SECRETS)
    assert planted.used == set(SECRETS), "each was planted"
    assert _found("\n".join(f" {secret} " for secret, _ in SECRETS.values())) == list(SECRETS), "each would be found"

    spooled = _bytes_of(settings.spool_dir)
    assert _found(spooled) == []
    assert len(spool.waiting(settings.spool_dir)) == 3
    placeholders = {f"${{SECRET:{name}}}" for _, name in SECRETS.values() if name}
    assert {one for one in placeholders if one not in spooled} == set()

    assert drain(settings).stored == 3
    dump = _dump(settings)
    assert _found(dump) == []
    assert {one for one in placeholders if one not in dump} == set()
    assert os.environ["POSTGRES_PASSWORD"] not in dump
    _look_at_what_stays(dump)

    documents = _documents(settings, tmp_path / "documents")
    assert _found(documents) == []
    for name in ("PASSWORD", "GITHUB_TOKEN", "SLACK_TOKEN", "NPM_TOKEN", "PASSWD", "AWS_ACCESS_KEY"):
        assert f"${{SECRET:{name}}}" in documents or f"SECRET:{name}" in documents


def _look_at_what_stays(dump: str) -> None:
    """What is no secret."""
    for kept in ("Winter Turf", "15420", "site=4", "host=db", "user=ada", "AccountName=lab", "tokens", "sv=2023"):
        assert kept in dump
    for kept in ("+kept = 2", "-old_password = ${SECRET:OLD_PASSWORD}", "+secret_key = ${SECRET:SECRET_KEY}"):
        assert kept in dump
    for left_out in (".env.local: named like a secret", "state.dat: a secret in a binary file"):
        assert left_out in dump


def _documents(settings: Settings, folder: Path) -> str:
    """Reports, the alert, and the scripts made of a report and of the database."""
    service = ReportService(settings)
    today = datetime.now(UTC).date()
    service.generate_report(today, today, folder / "logs")
    service.generate_weekly_reports(today, today, folder / "weekly")
    info = create_reproduction_script(str(folder / "logs"), str(folder / "script.sh"))
    assert info["operation_count"] >= 0
    with service.audit.database() as connection:
        tools = [name for (name,) in connection.execute("SELECT DISTINCT tool_name FROM audit_logs").fetchall()]
        for tool in tools:
            service.write_tool_report(connection, monday_of(today), tool)
        service.write_day_script(connection, today)
        assert send_alerts(connection, settings).failures == 2
    written = _bytes_of(folder) + _bytes_of(settings.reports_dir)
    assert written.count("\n/") > 3 + len(tools)
    return written


def test_half_a_secret_at_the_end_of_what_is_cut(settings: Settings, without_drainer: None) -> None:
    """Where a text is cut, what is left of a token would not be known for one."""
    code = textwrap.dedent("""
        import sys
        from audit_dagster import log_custom_operation
        token = "ghp_" + "HalfATokenHalfATokenHalfATokenHalfAT"
        def text(length):
            return ("word " * length)[: length - 20] + " " + token + " and more" * 10
        with log_custom_operation("tool", "x") as logger:
            logger.add_parameter("long", text(100_000))
            logger.add_note(text(100_000))
            raise ValueError(f"{token} " * 2000)
        """)
    subprocess.run([sys.executable], input=code.encode(), check=False, capture_output=True)
    (path,) = spool.waiting(settings.spool_dir)
    text = path.read_text()
    assert "ghp_" not in text
    assert "HalfAT" not in text
    assert text.count("${SECRET:GITHUB_TOKEN}") > 100
