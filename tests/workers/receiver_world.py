"""The webhook receiver, listening in a thread of the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from workers.runtime import Runtime
from workers.webhooks import application


def listen() -> socket.socket:
    """A free port, held until somebody serves on it."""
    return socket.create_server(("127.0.0.1", 0))


def url_of(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def served(runtime: Runtime, listening: socket.socket | None = None) -> Iterator[str]:
    """Run the receiver for the length of a `with` block; its address."""
    at = listening or listen()
    config = uvicorn.Config(application(runtime), log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    try:
        yield url_of(at)
    finally:
        server.should_exit = True
        thread.join(10)
        at.close()
