"""Messages get out to real servers, or the error says why not, and neither holds a credential."""

from __future__ import annotations

import email
import email.policy
import hashlib
import hmac
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import apprise
import pytest
from markdown_it import MarkdownIt

from audit_dagster.alerts.delivery import DeliveryError, deliver, target_name
from audit_dagster.alerts.message import Message
from audit_dagster.escaping import visible
from audit_dagster_tests.alerts.servers import Mail, Web, free_port, mail_server, web_server
from audit_dagster_tests.alerts.texts import HOSTILE, Page, message_about, spaced
from audit_dagster_tests.reports.hostile_texts import HOSTILE as DOCUMENT_TEXTS

DOCS = Path(__file__).parents[2] / "docs" / "alerts.md"
MESSAGE = Message(
    "2023-06-15T194001Z-0a1b", "sensing-data extract failed: °C 日本 🧪", "## One\n- **Error**: a\\~b °C\n"
)
TIMEOUT = 5.0
SHORT = 0.5
HEADERS = {"content-type", "mime-version", "x-application", "subject", "from", "to", "message-id", "date"}


@pytest.fixture(scope="module", autouse=True)
def _apprise_is_loaded() -> None:
    """It loads all of its services at its first delivery, 0.8 s, which some tests do not have."""
    with pytest.raises(DeliveryError):
        deliver(MESSAGE, "nosuch://x", 1, 60)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server


@pytest.fixture(scope="module")
def _mail() -> Iterator[Mail]:
    with mail_server() as server:
        yield server


@pytest.fixture
def mail(_mail: Mail) -> Mail:
    _mail.got.clear()
    _mail.recipients.clear()
    _mail.refusal = None
    return _mail


@pytest.fixture
def webhook(web: Web, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOOK_KEY", "s3cret-key")
    return f"webhook+{web.url}/hook?a=b#HOOK_KEY"


def parsed(raw: bytes) -> EmailMessage:
    made = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(made, EmailMessage)
    return made


def parts(made: EmailMessage) -> tuple[str, str]:
    plain, html = made.get_body(("plain",)), made.get_body(("html",))
    assert isinstance(plain, EmailMessage)
    assert isinstance(html, EmailMessage)
    return plain.get_content(), html.get_content()


# ---- Mail ----


def test_a_mail_has_subject_and_both_parts(mail: Mail) -> None:
    deliver(MESSAGE, mail.address, 1, TIMEOUT)
    made = parsed(mail.got[0])
    assert made["Subject"] == MESSAGE.subject
    assert (made["To"], mail.recipients) == ("ada@example.org", [["ada@example.org"]])
    plain, html = parts(made)
    assert "Error: a~b °C" in plain
    assert "<strong>Error</strong>: a~b °C" in html


def test_a_repeat_says_that_it_may_be_one(mail: Mail) -> None:
    deliver(MESSAGE, mail.address, 2, TIMEOUT)
    made = parsed(mail.got[0])
    assert made["Subject"] == f"May be a repeat: {MESSAGE.subject}"
    assert all("May be a repeat: a message with the key 2023-06-15T194001Z-0a1b" in part for part in parts(made))


def test_hostile_texts_make_no_header_and_no_element_of_a_mail(mail: Mail) -> None:
    for first in range(0, len(HOSTILE), 8):
        texts = HOSTILE[first : first + 8]
        made = _mailed(mail, message_about(*texts))
        assert {name.lower() for name in made} == HEADERS
        assert len(made.keys()) == len(HEADERS)
        assert mail.recipients[-1] == ["ada@example.org"]
        plain, html = parts(made)
        page, expected = Page(html), Page(MarkdownIt().render(message_about(*["x"] * len(texts)).text))
        assert (page.tags, page.links, page.strange) == (expected.tags, expected.links, []), texts
        seen = spaced(page.text)
        for text in texts:
            assert spaced("User: " + visible(text)[:90]) in seen
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", plain.replace("\r\n", "\n"))


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\n" in text or "\r" in text or "?q?" in text], ids=ascii)
def test_no_line_break_of_a_name_ends_the_subject(mail: Mail, text: str) -> None:
    made = _mailed(mail, message_about(text))
    assert {name.lower() for name in made} == HEADERS
    assert spaced(made["Subject"]) == spaced(message_about(text).subject.replace("=?", "= ?"))
    assert mail.recipients[-1] == ["ada@example.org"]


def _mailed(mail: Mail, message: Message) -> EmailMessage:
    deliver(message, mail.address, 1, TIMEOUT)
    return parsed(mail.got[-1])


def test_a_mail_server_that_refuses_or_is_not_there(mail: Mail) -> None:
    mail.refusal = "554 no thanks, ada:pw"
    with pytest.raises(DeliveryError, match=r"^mailto://127.0.0.1 answered 554$"):
        deliver(MESSAGE, mail.address, 1, TIMEOUT)
    with pytest.raises(DeliveryError, match=r"^mailto://127.0.0.1 cannot be reached: Connection refused$"):
        deliver(MESSAGE, f"mailto://127.0.0.1:{free_port()}/?from=a@example.org&to=b@example.org", 1, TIMEOUT)


# ---- The signed webhook ----


def test_a_webhook_is_signed_json(web: Web, webhook: str) -> None:
    deliver(MESSAGE, webhook, 3, TIMEOUT)
    (call,) = web.calls
    form = json.loads(call.body)
    assert (call.method, call.path) == ("POST", "/hook?a=b")
    assert set(form) == {"key", "subject", "text", "attempt", "sent_at"}
    assert (form["key"], form["attempt"]) == (MESSAGE.key, 3)
    assert form["subject"] == f"May be a repeat: {MESSAGE.subject}"
    assert call.headers["Idempotency-Key"] == MESSAGE.key
    assert call.headers["Content-Type"] == "application/json"
    stamp = call.headers["X-Audit-Timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    expected = hmac.new(b"s3cret-key", f"{stamp}.".encode() + call.body, hashlib.sha256).hexdigest()
    assert call.headers["X-Audit-Signature"] == f"sha256={expected}"


def test_a_webhook_gets_every_hostile_text_and_nothing_hidden(web: Web, webhook: str) -> None:
    """Ten in each: more, a message only names."""
    batches = [DOCUMENT_TEXTS[start : start + 10] for start in range(0, len(DOCUMENT_TEXTS), 10)]
    for texts in batches:
        message = message_about(*texts)
        deliver(message, webhook, 1, TIMEOUT)
        body = web.calls[-1].body
        form = json.loads(body)
        assert (form["subject"], form["text"]) == (message.subject, message.text)
        assert re.fullmatch(rb"[\x20-\x7e]+", body)
    assert len(web.calls) == len(batches) >= 50


def test_the_documented_verification_accepts_only_what_is_ours(web: Web, webhook: str) -> None:
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - it is ours
    verify = names["is_genuine"]
    assert callable(verify)
    deliver(MESSAGE, webhook, 1, TIMEOUT)
    headers, body = web.calls[0].headers, web.calls[0].body
    assert verify(b"s3cret-key", headers, body)
    assert not verify(b"another key", headers, body)
    assert not verify(b"s3cret-key", headers, body + b" ")
    assert not verify(b"s3cret-key", {**headers, "X-Audit-Timestamp": str(int(time.time()) - 3600)}, body)
    old = str(int(time.time()) - 3600)
    signature = hmac.new(b"s3cret-key", f"{old}.".encode() + body, hashlib.sha256).hexdigest()
    assert not verify(b"s3cret-key", {"X-Audit-Timestamp": old, "X-Audit-Signature": f"sha256={signature}"}, body)
    assert not verify(b"s3cret-key", {"X-Audit-Timestamp": "x", "X-Audit-Signature": "é"}, body)
    assert not verify(b"s3cret-key", {}, body)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_success(web: Web, webhook: str, status: int) -> None:
    web.status = status
    deliver(MESSAGE, webhook, 1, TIMEOUT)
    assert len(web.calls) == 1


@pytest.mark.parametrize("status", [199, 300, 400, 404, 429, 500, 503])
def test_any_other_status_is_an_error(web: Web, webhook: str, status: int) -> None:
    web.status = status
    with pytest.raises(DeliveryError, match=rf"^127.0.0.1 (answered {status}|did not answer|gave no HTTP answer)"):
        deliver(MESSAGE, webhook, 1, SHORT)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(web: Web, webhook: str, status: int) -> None:
    with web_server() as elsewhere:
        web.status, web.location = status, f"{elsewhere.url}/other"
        with pytest.raises(DeliveryError, match=f"answered {status}: give the address that it leads to"):
            deliver(MESSAGE, webhook, 1, TIMEOUT)
        assert (len(web.calls), elsewhere.calls) == (1, [])


@pytest.mark.parametrize("mode", ["hang", "drip", "close", "half", "nonsense"])
def test_a_server_that_misbehaves_is_an_error_in_time(web: Web, webhook: str, mode: str) -> None:
    web.mode = mode
    started = time.monotonic()
    with pytest.raises(
        DeliveryError, match=r"^127.0.0.1 (did not answer within 0.5 seconds|gave no HTTP answer|cannot)"
    ):
        deliver(MESSAGE, webhook, 1, SHORT)
    assert time.monotonic() - started < SHORT + 1
    if mode == "drip":  # the connection is cut: the server finds out
        assert web.ended.acquire(timeout=5)


def test_nobody_waits_for_the_body_of_an_answer(web: Web, webhook: str) -> None:
    web.mode = "drip-body"
    started = time.monotonic()
    deliver(MESSAGE, webhook, 1, TIMEOUT)
    assert time.monotonic() - started < TIMEOUT
    assert len(web.calls) == 1


def test_a_refused_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", "k")
    with pytest.raises(DeliveryError, match=r"^127.0.0.1 refuses the connection$"):
        deliver(MESSAGE, f"webhook+http://127.0.0.1:{free_port()}/secret-path#HOOK_KEY", 1, TIMEOUT)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("webhook+http://127.0.0.1/x", "ends in #NAME"),
        ("webhook+http://127.0.0.1/x#", "ends in #NAME"),
        ("webhook+http://127.0.0.1/x#not-a-name", "ends in #NAME"),
        ("webhook+http://127.0.0.1/x#NOT_SET", "the environment variable NOT_SET has no key"),
        ("webhook+ftp://127.0.0.1/x#HOOK_KEY", "is no URL"),
        ("webhook+http://#HOOK_KEY", "is no URL"),
        ("webhook+http://127.0.0.1:99999/#HOOK_KEY", "is no URL"),
        ("webhook+http://[::1/#HOOK_KEY", "is no URL"),
        ("webhook+http://127.0.0.1/a b\r\nX: y#HOOK_KEY", "is no URL"),
        ("webhook+http://ada:pw@127.0.0.1/#HOOK_KEY", "holds a user"),
        ("nosuch://x", "nosuch is no address that Apprise can use"),
        ("nothing", "unknown is no address that Apprise can use"),
        ("", "unknown is no address"),
        ("slack://x", "slack is no address"),
        ("file:///proc/nowhere", "cannot write"),
    ],
)
def test_an_address_that_cannot_be_used(target: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", "k")
    with pytest.raises(DeliveryError, match=error) as raised:
        deliver(MESSAGE, target, 1, TIMEOUT)
    assert len(str(raised.value).splitlines()) == 1


# ---- Apprise over HTTP ----


def test_apprise_gives_text_to_who_takes_text(web: Web) -> None:
    deliver(MESSAGE, web.url.replace("http", "json") + "/in?format=text", 1, TIMEOUT)
    form = json.loads(web.calls[0].body)
    assert form["title"] == MESSAGE.subject
    assert "Error: a~b °C" in form["message"]


def test_apprise_gives_markdown_to_who_takes_it(web: Web) -> None:
    deliver(MESSAGE, web.url.replace("http", "json") + "/in", 1, TIMEOUT)
    assert json.loads(web.calls[0].body)["message"] == MESSAGE.text.strip()


def test_what_is_too_long_for_a_service_is_cut_and_not_refused_for_ever(web: Web) -> None:
    long = MESSAGE._replace(text="x" * 100_000)
    deliver(long, web.url.replace("http", "ntfy") + "/topic", 1, TIMEOUT)
    assert len(web.calls) == 1
    assert 1000 < len(web.calls[0].body) < 20_000


def test_apprise_and_a_status_that_is_none(web: Web) -> None:
    web.status = 503
    with pytest.raises(DeliveryError, match=r"^json://127.0.0.1 answered 503$"):
        deliver(MESSAGE, web.url.replace("http", "json"), 1, TIMEOUT)


@pytest.mark.parametrize("mode", ["hang", "drip", "close", "half", "nonsense"])
def test_apprise_and_a_server_that_misbehaves(web: Web, mode: str) -> None:
    web.mode = mode
    started = time.monotonic()
    with pytest.raises(DeliveryError, match=r"^json://127.0.0.1 (did not answer|did not take|cannot be reached)"):
        deliver(MESSAGE, web.url.replace("http", "json"), 1, SHORT)
    assert time.monotonic() - started < SHORT + 1


@pytest.mark.parametrize("form", ["json", "webhook+http"])
@pytest.mark.parametrize("mode", ["hang", "drip"])
def test_a_delivery_that_was_given_up_does_not_hold_the_process(web: Web, form: str, mode: str) -> None:
    web.mode = mode
    target = web.url.replace("http", form) + "/#HOOK_KEY"
    program = (
        "from audit_dagster.alerts.delivery import *; from audit_dagster.alerts.message import Message\n"
        f"try: deliver(Message('k', 's', 't'), {target!r}, 1, 0.5)\n"
        "except DeliveryError as error: print(error)"
    )
    command, environment = [sys.executable, "-c", program], {**os.environ, "HOOK_KEY": "k"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=15, env=environment)
    assert "did not answer" in done.stdout
    assert done.stderr == ""


def test_apprise_knows_the_documented_addresses() -> None:
    rows = re.findall(r"^\| .* \| (`.*`) \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    addresses = [address for row in rows for address in re.findall("`(.*?)`", row) if "://" in address]
    others = [address for address in addresses if address.startswith(("file", "s3", "webhook"))]
    assert (len(addresses), len(others)) == (10, 3)
    for address in set(addresses) - set(others):
        # Apprise looks at the shape of Slack's tokens.
        real = address.replace("TokenA/TokenB/TokenC", f"T1JJ3T3L2/A1BRTD4JD/{'T' * 24}")
        assert apprise.Apprise.instantiate(real) is not None, address


# ---- Files ----


def test_a_file_is_named_by_the_key_and_written_anew_on_a_repeat(tmp_path: Path) -> None:
    folder = tmp_path / "re ports #1" / "alerts"
    deliver(MESSAGE, folder.as_uri(), 1, TIMEOUT)
    (path,) = folder.iterdir()
    assert path.name == "2023-06-15~54194001~5a-0a1b.md"
    assert path.read_text("utf-8") == f"**Alert**: {MESSAGE.subject}\n\n{MESSAGE.text}"
    deliver(MESSAGE, folder.as_uri(), 2, TIMEOUT)
    assert list(folder.iterdir()) == [path]
    assert "May be a repeat" in path.read_text("utf-8")
    deliver(MESSAGE._replace(key="../../x"), folder.as_uri(), 1, TIMEOUT)
    assert len(list(folder.iterdir())) == 2
    assert {one.name for one in tmp_path.iterdir()} == {"re ports #1"}


def test_a_folder_of_an_object_store() -> None:
    from upath import UPath

    deliver(MESSAGE, "memory://alerts-of-this-test/alerts", 1, TIMEOUT)
    (path,) = UPath("memory://alerts-of-this-test/alerts").iterdir()
    assert MESSAGE.text in path.read_text("utf-8")


# ---- Credentials ----

SECRETS = ("pa55word", "T0ken99", "B0ken99", "xoxSECRET24charsABCDEFGH", "s3cretquery")
WITH_SECRETS = [
    "mailto://ada:pa55word@127.0.0.1:{port}/?from=a@example.org&to=b@example.org",
    "mailtos://ada:pa55word@127.0.0.1:{port}/?from=a@example.org&to=b@example.org",
    "json://ada:pa55word@127.0.0.1:{port}/T0ken99?+X-Key=s3cretquery",
    "xml://127.0.0.1:{port}/T0ken99?-k=s3cretquery",
    "webhook+http://127.0.0.1:{port}/T0ken99?k=s3cretquery#HOOK_KEY",
    "webhook+http://ada:pa55word@127.0.0.1:{port}/T0ken99#HOOK_KEY",
    "webhook+http://127.0.0.1:{port}/T0ken99#pa55word",
    "ntfy://ada:pa55word@127.0.0.1:{port}/T0ken99",
    "ntfy://tk_T0ken99@127.0.0.1:{port}/topic",
    "matrix://ada:pa55word@127.0.0.1:{port}/#T0ken99",
    "mmost://127.0.0.1:{port}/T0ken99T0ken99T0ken99abcd",
    "rocket://ada:pa55word@127.0.0.1:{port}/#T0ken99",
    "gotify://127.0.0.1:{port}/T0ken99",
    "slack://T0ken99/B0ken99/bad",
    "nosuch://ada:pa55word@127.0.0.1/T0ken99",
    "mailto://ada:pa55word:pa55word/T0ken99",
    "json://[T0ken99:pa55word",
    "pa55word",
]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a program's own log gets at its lowest level. (pytest's also listens to loggers that keep theirs inside.)"""
    text = io.StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("form", WITH_SECRETS)
@pytest.mark.parametrize("status", [None, 401])
def test_no_credential_in_errors_labels_and_logs(
    form: str, status: int | None, web: Web, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_KEY", SECRETS[3])
    web.status = status or 200
    port = int(web.url.rpartition(":")[2]) if status else free_port()
    with pytest.raises(DeliveryError) as raised:
        deliver(MESSAGE, form.format(port=port), 1, 2)
    said = f"{raised.value}\n{raised.value.__cause__}\n{target_name(form)}\n{log.getvalue()}"
    assert not [secret for secret in SECRETS if secret.lower() in said.lower()], said
    assert len(str(raised.value).splitlines()) == 1


def test_no_credential_in_the_log_of_a_success(web: Web, log: io.StringIO) -> None:
    deliver(MESSAGE, web.url.replace("http://", "json://ada:pa55word@") + "/T0ken99", 1, TIMEOUT)
    assert web.calls[0].path == "/T0ken99"
    assert "T0ken99" not in log.getvalue()
    assert "pa55word" not in log.getvalue()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("mailto://ada:pw@mail.example.org:587/?to=x@example.org", "mailto://mail.example.org"),
        ("mailtos://ada:p%40w@Mail.example.org", "mailtos://mail.example.org"),
        ("json://ada:pw@host/path", "json://host"),
        ("webhook+https://host/path#NAME", "webhook+https://host"),
        ("slack://A/B/C", "slack"),
        ("tgram://bottoken/chat", "tgram"),
        ("ntfy://topic", "ntfy"),
        ("file:///var/reports/alerts", "file"),
        ("mailto://[bad", "mailto"),
        ("", "unknown"),
        ("a\nb://x", "unknown"),
    ],
)
def test_labels(target: str, name: str) -> None:
    assert target_name(target) == name
