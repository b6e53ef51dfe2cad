"""HTTP with an end: one request that is over after its timeout, whatever the server does."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, urlsplit

from audit_dagster.entry import utc_text
from audit_dagster.errors import AuditError

if TYPE_CHECKING:
    from audit_dagster.alerts.message import Message

_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
WEBHOOK = "webhook+"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")  # a key that stands there by mistake is most often none
_Result = TypeVar("_Result")


class DeliveryError(AuditError):
    """A message did not get out, or nobody knows whether it did."""


class LateError(Exception):
    """What was to be done is not done yet."""


def within(seconds: float, work: Callable[[], _Result]) -> _Result:
    """What `work` gives, or raises, if it is over in time, else LateError.

    In a thread that ends with the process: a socket's own timeout ends neither a name lookup nor an answer that comes
    byte by byte.
    """
    outcome: Future[_Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True, name="alert-delivery").start()
    if not wait([outcome], seconds).done:
        raise LateError
    return outcome.result()


def request(method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> None:
    """Send one request, at most `timeout` seconds in all; 2xx is success, and no redirect is followed.

    Raises DeliveryError, which names the host and never the rest of the URL: that may be a credential.
    """
    parts = _parts(url)
    connection = _CONNECTIONS[parts.scheme](parts.hostname or "", parts.port, timeout=timeout)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def ask() -> int:
        try:
            connection.request(method, path, body, dict(headers))
            status: int = connection.getresponse().status
            return status
        finally:
            connection.close()

    try:
        status = within(timeout, ask)
    except (LateError, TimeoutError):  # ours or the socket's, whichever comes first
        _break_off(connection.sock)
        raise DeliveryError(f"{parts.hostname} did not answer within {timeout:g} seconds") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DeliveryError(f"{parts.hostname} {_what_went_wrong(error)}") from None
    if not 200 <= status < 300:
        where = ": give the address that it leads to" if 300 <= status < 400 else ""
        raise DeliveryError(f"{parts.hostname} answered {status}{where}")


def post_signed(message: Message, target: str, attempt: int, timeout: float) -> None:
    """POST a message to `webhook+https://host/path#NAME`, signed with the key in the environment variable NAME.

    The signature is HMAC-SHA256 over the time stamp, a dot and the body. Raises DeliveryError.
    """
    url, _, name = target.removeprefix(WEBHOOK).partition("#")
    key = os.environ.get(name, "") if _VARIABLE.fullmatch(name) else ""
    if not key:
        raise DeliveryError(
            f"the environment variable {name} has no key for the webhook: set it to the key that the receiver knows"
            if _VARIABLE.fullmatch(name)
            else "a webhook's address ends in #NAME: give the name, in capitals, of the variable that has the key"
        )
    now = datetime.now(UTC)
    form = {**message._asdict(), "attempt": attempt, "sent_at": utc_text(now)}
    body = json.dumps(form).encode()
    stamp = str(int(now.timestamp()))
    signature = hmac.new(key.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": message.key,
        "X-Audit-Timestamp": stamp,
        "X-Audit-Signature": f"sha256={signature}",
    }
    request("POST", url, body, headers, timeout)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _CONNECTIONS and parts.hostname and parts.port != 0 and url.isascii()
    except ValueError:
        usable = False
    if not usable or any(character <= " " for character in url):
        raise DeliveryError("an address to call is no URL: give it as https://host/path, in ASCII and without spaces")
    if parts.username is not None:
        raise DeliveryError(f"the address of {parts.hostname} holds a user: give it without one")
    return parts


def _break_off(connected: socket.socket | None) -> None:
    if connected is not None:
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)


def _what_went_wrong(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection"
    if isinstance(error, OSError) and not isinstance(error, http.client.HTTPException):
        return f"cannot be reached: {error.strerror or type(error).__name__}"
    return "gave no HTTP answer"
