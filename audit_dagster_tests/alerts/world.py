"""A receiver of messages, a clock that is moved by hand, and what the tables say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

KEY_VARIABLE = "ALERT_TEST_KEY"


class Receiver:
    """A real HTTP server. `mode`: `take`, `fail` (500), `hang`, or `keep` (take, and hang)."""

    def __init__(self) -> None:
        self.mode = "take"
        self.got: list[dict[str, Any]] = []
        self._release = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.mode == "keep":
                    receiver.got.append(body)
                if receiver.mode in ("hang", "keep"):
                    receiver._release.wait(60)
                    self.close_connection = True
                    return
                if receiver.mode == "take":
                    receiver.got.append(body)
                self.send_response(200 if receiver.mode == "take" else 500)
                self.end_headers()

            def do_GET(self) -> None:
                receiver.got.append({"path": self.path})
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self._handler = Handler
        self._serve(0)

    def _serve(self, port: int) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self._handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reopen(self) -> None:
        """At the same address, after `close`."""
        self._serve(self.server.server_port)

    @property
    def url(self) -> str:
        return f"webhook+http://127.0.0.1:{self.server.server_port}/alerts#{KEY_VARIABLE}"

    def close(self) -> None:
        self._release.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def keys(self) -> list[str]:
        return [message["key"] for message in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


class HandClock:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **length: float) -> None:
        self.now += timedelta(**length)


def one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


class Stopwatch:
    """The longest of several steps, in seconds."""

    longest = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.longest = max(self.longest, time.monotonic() - start)
