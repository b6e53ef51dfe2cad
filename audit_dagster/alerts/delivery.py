"""A message gets out: through Apprise, as a signed webhook, or as a file.

What a target's address holds is never repeated: where it has its credentials differs with each service, so errors and
labels are put together from what is known to be none.
"""

from __future__ import annotations

import logging
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from audit_dagster.alerts.message import Message
from audit_dagster.alerts.web import WEBHOOK, DeliveryError, LateError, post_signed, within
from audit_dagster.documents import place, write_document
from audit_dagster.errors import AuditError
from audit_dagster.escaping import file_name, markdown_text, visible

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["DeliveryError", "deliver", "target_name"]

_FOLDER = re.compile(r"(file|memory|s3a?|gs|gcs|abfss?)://")  # what fsspec knows, and Apprise does not
# Elsewhere what stands in the place of the host is a token or a topic.
_NAMES_ITS_HOST = re.compile(r"(mailtos?|jsons?|xmls?|forms?|webhook\+https?)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
_STATUS = re.compile(r"error=(\d{3})\b|\((\d{3}), b['\"]")
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_TALKATIVE = ("urllib3", "oauthlib", "requests_oauthlib")


def deliver(message: Message, target: str, attempt: int, timeout: float) -> None:
    """Send `message` to `target`, in at most `timeout` seconds; above `attempt` one it says that it may be a repeat.

    Targets: `file:///folder` or an object store's URL, `webhook+https://host/path#NAME_OF_KEY`, or any address that
    Apprise knows. Raises DeliveryError: one sentence, never with a credential.
    """
    if attempt > 1:
        message = _as_repeat(message)
    if _FOLDER.match(target):
        _write(message, target, timeout)
    elif target.startswith(WEBHOOK):
        post_signed(message, target, attempt, timeout)
    else:
        _notify(message, target, timeout)


def target_name(target: str) -> str:
    """A label without credentials, which stays when a password changes: `mailto://mail.example.org`, `slack`."""
    scheme = target.partition(":")[0]
    if not _SCHEME.fullmatch(scheme) or ":" not in target:
        return "unknown"
    try:
        host = urlsplit(target).hostname if _NAMES_ITS_HOST.fullmatch(scheme.lower()) else None
    except ValueError:
        host = None
    return visible(f"{scheme}://{host}"[:100]) if host else scheme


def _as_repeat(message: Message) -> Message:
    hint = f"*May be a repeat: a message with the key {markdown_text(message.key)} was on its way before.*"
    return message._replace(subject=f"May be a repeat: {message.subject}", text=f"{hint}\n\n{message.text}")


def _with_subject(message: Message) -> str:
    return f"**Alert**: {markdown_text(message.subject)}\n\n{message.text}"


def _write(message: Message, target: str, timeout: float) -> None:
    def write() -> None:
        write_document(place(target) / f"{file_name(message.key)}.md", _with_subject(message), 0, 0)

    try:
        within(timeout, write)
    except LateError:
        raise DeliveryError(f"the folder of alerts did not answer within {timeout:g} seconds") from None
    except AuditError as error:
        raise DeliveryError(str(error)) from None


def _notify(message: Message, target: str, timeout: float) -> None:
    apprise = _apprise()
    name = target_name(target)
    try:
        refusal = within(timeout, lambda: _refusal(apprise, message, target, timeout))
    except LateError:
        raise DeliveryError(f"{name} did not answer within {timeout:g} seconds") from None
    except DeliveryError:
        raise
    except Exception as error:  # one of a hundred services' code, and its text may hold the address
        raise DeliveryError(f"{name} cannot be used: Apprise broke off with {type(error).__name__}") from None
    if refusal is not None:
        raise DeliveryError(f"{name} {_what_went_wrong(refusal)}")


def _refusal(apprise: ModuleType, message: Message, target: str, timeout: float) -> str | None:
    """Send; None, or what Apprise says to itself about a failure. Raises DeliveryError for an unknown address."""
    asset = apprise.AppriseAsset(app_id="audit-dagster", app_desc="audit-dagster", async_mode=False, service_timeout=0)
    service = apprise.Apprise.instantiate(target, asset=asset)
    if service is None:
        raise DeliveryError(
            f"{target_name(target)} is no address that Apprise can use: see its list of services for the form"
        )
    given = set(re.findall(r"[?&](cto|rto|overflow)=", target.lower()))
    if "cto" not in given:
        service.socket_connect_timeout = timeout
    if "rto" not in given:
        service.socket_read_timeout = timeout
    if "overflow" not in given:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE  # the first lines get out, rather than nothing ever
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    with sender.notify(**_as_apprise_takes_it(message, service), log_level=logging.DEBUG) as result:
        return None if result else "\n".join(entry.message for entry in result.logs())


def _as_apprise_takes_it(message: Message, service: Any) -> dict[str, Any]:
    """The arguments of `notify`: Markdown where the service takes it, else HTML, from which Apprise makes its text.

    The HTML is ours, since Apprise's shows the backslashes of `\\~` and `\\|`, and lets HTML through.
    """
    from apprise import NotifyFormat

    title, text = message.subject, message.text
    if service.title_maxlen <= 0:  # Apprise would put it before the text as it is
        title, text = "", _with_subject(message)
    title = title.replace("=?", "= ?")  # mail readers would decode `=?utf-8?q?…?=`
    if service.resolve_format(NotifyFormat.MARKDOWN) == NotifyFormat.MARKDOWN:
        return {"title": title, "body": text, "body_format": NotifyFormat.MARKDOWN}
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).render(text)
    return {"title": title, "body": body, "body_format": NotifyFormat.HTML}


@cache
def _apprise() -> ModuleType:
    """Apprise, whose log stays inside: what it says at its lower levels holds addresses with their tokens."""
    import apprise

    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)  # or the result of a delivery lacks the reason
    logger.addHandler(logging.NullHandler())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)
    return apprise


def _what_went_wrong(text: str) -> str:
    if status := _STATUS.search(text):
        return f"answered {status[1] or status[2]}"
    if "timed out" in text:
        return "did not answer in time"
    if number := _ERRNO.search(text):
        return f"cannot be reached: {os.strerror(int(number[1]))}"
    return "did not take the message, or cannot be reached"
