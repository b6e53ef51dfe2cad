"""A network between the drainer and the server that can be made bad: a TCP proxy in a process of its own.

Run as `python proxy.py HOST PORT LISTEN_PORT MODE`, it prints the port on which it listens, then reads further modes
from stdin, one a line, and ends with it. A connection that was accepted in the dark stays dark.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from types import TracebackType

from audit_dagster.settings import PostgresSettings

GOOD = "good"
DARK = "dark"  # accepts and reads, never answers
SLOW = "slow"  # 1 kB/s each way
LATE = "late"  # an answer takes 2 s
FALLS_DARK = "falls dark"  # good until the server is asked to append: that answer and all later ones are lost
CUT = "cut"  # ends all connections, then good
_BYTES_PER_SECOND = 1000
_LATE_SECONDS = 2.0


class Proxy:
    """The proxy's process, seen from the test. `place` is where the server seems to be."""

    def __init__(self, server: PostgresSettings, mode: str, port: int = 0) -> None:
        command = [sys.executable, __file__, server.host, str(server.port), str(port), mode]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.place = server._replace(host="127.0.0.1", port=int(self._process.stdout.readline()))

    def become(self, mode: str) -> None:
        """The network is like this from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n")
        self._process.stdin.flush()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._process.communicate(timeout=10)
        finally:
            self._process.kill()


class _Network:
    def __init__(self, host: str, port: int, mode: str) -> None:
        self._host, self._port, self.mode = host, port, mode
        self._writers: set[asyncio.StreamWriter] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            if self.mode == DARK:
                await reader.read(-1)
            else:
                await self._connect(reader, writer)
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, asks = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, asks}
        silence = asyncio.Event()
        try:
            await asyncio.gather(self._ask(reader, asks, silence), self._answer(answers, writer, silence))
        finally:
            self._writers -= {writer, asks}
            asks.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silence: asyncio.Event) -> None:
        async for chunk in self._chunks(reader):
            if self.mode == FALLS_DARK and b"audit_append" in chunk:
                silence.set()
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silence: asyncio.Event) -> None:
        async for chunk in self._chunks(reader):
            if self.mode == LATE:
                await asyncio.sleep(_LATE_SECONDS)
            if not silence.is_set():
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def _chunks(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        while chunk := await reader.read(_BYTES_PER_SECOND // 10 if self.mode == SLOW else 65536):
            if self.mode == SLOW:
                await asyncio.sleep(len(chunk) / _BYTES_PER_SECOND)
            yield chunk


async def main(host: str, port: int, listen_port: int, mode: str) -> None:
    """Serve until stdin ends."""
    network = _Network(host, port, mode)
    server = await asyncio.start_server(network.connect, "127.0.0.1", listen_port)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        network.mode = line.strip()
        if network.mode == CUT:
            network.mode = GOOD
            network.cut()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
