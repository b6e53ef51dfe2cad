"""Messages get out: each target its oldest first, and a target that is down holds up no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_dagster.alerts import policy
from audit_dagster.alerts.delivery import DeliveryError, deliver
from audit_dagster.alerts.message import Message
from audit_dagster.store.query import Row, fetch

if TYPE_CHECKING:
    from psycopg import Connection

Clock = Callable[[], datetime]

_TIMEOUT_SECONDS = 4.0
_LEASE = timedelta(minutes=5)  # far above the timeout, or two would send at once
_MOST_ROUNDS = 100


class Sent(NamedTuple):
    """One attempt: `error` is None where the target has the message."""

    target: str
    key: str
    kind: str
    subject: str
    text: str
    error: str | None


class _Claim(NamedTuple):
    target: str
    message: Row
    lease: datetime
    failed_in_a_row: int


def send(connection: Connection[Any], targets: Mapping[str, str], clock: Clock) -> list[Sent]:
    """Send what is due, to all targets at the same time, until nothing is or each that has some failed once.

    Before sending, a message is claimed with a lease and its attempt is counted; afterwards it is marked. Who dies in
    between leaves a message that is sent again when the lease is over, and that says so.
    """
    sent: list[Sent] = []
    with ThreadPoolExecutor(max_workers=min(16, max(1, len(targets)))) as pool:
        for _ in range(_MOST_ROUNDS):
            found = (_claim(connection, target, clock()) for target in targets)
            claims = [claim for claim in found if claim is not None]
            if not claims:
                break
            errors = pool.map(lambda claim: _deliver(claim, targets[claim.target]), claims)
            for claim, error in zip(claims, errors, strict=True):
                _mark(connection, claim, error, clock())
                message = claim.message
                sent.append(
                    Sent(claim.target, message["key"], message["kind"], message["subject"], message["text"], error)
                )
    return sent


def _claim(connection: Connection[Any], target: str, now: datetime) -> _Claim | None:
    with connection.transaction(force_rollback=False) as transaction:
        taken = fetch(connection, "claim_target", target=target, now=now, lease=_LEASE)
        # In a statement of its own, which sees what was marked while the first one waited for the target.
        messages = fetch(connection, "next_message", target=target, now=now) if taken else []
        if messages:
            return _Claim(target, messages[0], taken[0]["busy_until"], taken[0]["failed_in_a_row"])
        from psycopg import Rollback

        raise Rollback(transaction)
    return None


def _deliver(claim: _Claim, address: str) -> str | None:
    row = claim.message
    try:
        deliver(Message(row["key"], row["subject"], row["text"]), address, row["attempts"], _TIMEOUT_SECONDS)
    except DeliveryError as error:
        return str(error)
    except Exception as error:
        return f"the delivery broke off: {type(error).__name__}"
    return None


def _mark(connection: Connection[Any], claim: _Claim, error: str | None, now: datetime) -> None:
    row = claim.message
    if error is None:
        fetch(connection, "mark_message_sent", id=row["id"], target=claim.target, now=now, leased_until=claim.lease)
        return
    aside = policy.steps_aside(row["attempts"])
    fetch(
        connection,
        "mark_message_failed",
        id=row["id"],
        target=claim.target,
        error=error.replace("\0", ""),
        due=None if aside is None else now + aside,
        retry_at=now + policy.retry_after(claim.failed_in_a_row + 1),
        leased_until=claim.lease,
    )
