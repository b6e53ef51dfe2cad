"""Real receivers: an SMTP server, and an HTTP server that can misbehave in every way a network has."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class Call(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Web:
    """Answers `status`, or as `mode` says: hang, drip, drip-body, close, half, nonsense."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.status = 200
        self.mode = ""
        self.location: str | None = None
        self.over = threading.Event()
        self.ended = threading.Semaphore(0)  # one for each handler that came to its end
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True
        finally:
            self._web.ended.release()

    def do_POST(self) -> None:
        web = self._web
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        web.calls.append(Call(self.command, self.path, dict(self.headers), body))
        self.close_connection = True
        match web.mode:
            case "":
                self._answer()
            case "hang":
                web.over.wait(30)
            case "drip":
                self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000)
            case "drip-body":
                self._drip(b"x" * 10_000, b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
            case "half":
                self.wfile.write(b"HTTP/1")
            case "nonsense":
                self.wfile.write(b"\x00\xffSSH-2.0\r\n\r\n")

    do_GET = do_POST  # noqa: N815 - theirs

    @property
    def _web(self) -> Web:
        found: Web = self.server.web  # type: ignore[attr-defined]
        return found

    def _answer(self) -> None:
        self.send_response(self._web.status)
        if self._web.location:
            self.send_header("Location", self._web.location)
        self.end_headers()

    def _drip(self, data: bytes, first: bytes = b"") -> None:
        self.wfile.write(first)
        for number in range(len(data)):
            self.wfile.write(data[number : number + 1])
            self.wfile.flush()
            if self._web.over.wait(0.05):
                return

    def log_message(self, *args: Any) -> None:
        """Not on the terminal."""


@contextmanager
def web_server() -> Iterator[Web]:
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.web = web  # type: ignore[attr-defined]
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Mail:
    """Takes mail; `refusal` is what it answers instead."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.recipients: list[list[str]] = []
        self.refusal: str | None = None
        self.address = ""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refusal:
            return self.refusal
        content = envelope.content
        self.got.append(content if isinstance(content, bytes) else (content or "").encode())
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"


@contextmanager
def mail_server(port: int | None = None) -> Iterator[Mail]:
    mail = Mail()
    port = port or free_port()
    controller = Controller(mail, hostname="127.0.0.1", port=port)
    controller.start()
    mail.address = f"mailto://127.0.0.1:{port}/?from=audit@example.org&to=ada@example.org"
    try:
        yield mail
    finally:
        controller.stop()


@contextmanager
def silent_server(port: int) -> Iterator[list[socket.socket]]:
    """Takes every connection, and never says a word."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", port)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connections.append(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield connections
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
