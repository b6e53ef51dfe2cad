"""The sign of life is one call, with an end."""

from __future__ import annotations

import time

import pytest

from audit_dagster.alerts.delivery import DeliveryError
from audit_dagster.alerts.heartbeat import beat
from audit_dagster_tests.alerts.servers import free_port, web_server


def test_it_calls_the_address_once() -> None:
    with web_server() as web:
        beat(f"{web.url}/ping/1234?x=y")
        assert [(call.method, call.path, call.body) for call in web.calls] == [("GET", "/ping/1234?x=y", b"")]


@pytest.mark.parametrize("mode", ["hang", "drip", "close", "half"])
def test_a_server_that_misbehaves_is_an_error_in_time(mode: str) -> None:
    with web_server() as web:
        web.mode = mode
        started = time.monotonic()
        with pytest.raises(DeliveryError):
            beat(f"{web.url}/uuid-1234", 0.5)
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("status", [301, 404, 500])
def test_other_answers_are_errors_that_do_not_hold_the_path(status: int) -> None:
    with web_server() as web:
        web.status, web.location = status, "/elsewhere"
        with pytest.raises(DeliveryError, match=f"^127.0.0.1 answered {status}") as raised:
            beat(f"{web.url}/uuid-1234")
        assert "1234" not in str(raised.value)
        assert len(web.calls) == 1


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://host/", "http://", "https://ada:pw@host/", "http://host\n/", "file:///x"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(DeliveryError) as raised:
        beat(url)
    assert "pw" not in str(raised.value)


def test_nobody_there() -> None:
    with pytest.raises(DeliveryError, match=r"^127.0.0.1 refuses the connection$"):
        beat(f"http://127.0.0.1:{free_port()}/")
