"""Servers on real sockets that answer as a test says, and transports that call them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from workers.providers.transport import Transport

Serve = Callable[[socket.socket, "Server"], None]


class Server:
    """Accepts connections; each is served by `serve` in a thread of its own."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.stopping = threading.Event()
        self.connections = 0
        self.requests: list[bytes] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.stopping.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._one, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _one(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, suppress(OSError):
            self._serve(connection, self)

    def stop(self) -> None:
        self.stopping.set()
        # Closing a socket does not wake its accept(); a connection does.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            pass
        self._acceptor.join(10)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def serving() -> Iterator[Callable[[Serve], Server]]:
    servers: list[Server] = []

    def start(serve: Serve) -> Server:
        servers.append(Server(serve))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def connecting() -> Iterator[Callable[..., Transport]]:
    made: list[Transport] = []

    def make(url: str, **options: Any) -> Transport:
        made.append(Transport(url, **{"call_deadline_s": 10, **options}))
        return made[-1]

    yield make
    for each in made:
        each.close()


def read_request(connection: socket.socket, server: Server) -> bytes:
    """One request, whole; empty when the client has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536)
    server.requests.append(head + b"\r\n\r\n" + body)
    return server.requests[-1]


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(answer: bytes) -> Serve:
    def serve(connection: socket.socket, server: Server) -> None:
        while read_request(connection, server):
            connection.sendall(answer)

    return serve


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
