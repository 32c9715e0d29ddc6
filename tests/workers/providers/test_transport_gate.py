"""The gate before every call: it may refuse one, and hears how each went and how long it took."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from tests.workers.providers.socket_world import (
    Server,
    always,
    connecting,
    free_port,
    read_request,
    reset,
    response,
    serving,
)
from workers.providers.connection import BODY_BYTES_MAX
from workers.providers.transport import Lost, Paced, class_of, lost
from workers.record.status import Outcome

__all__ = ["connecting", "serving"]


class Turnstile:
    """A gate that counts, and refuses when told to."""

    def __init__(self, wait_s: int | None = None) -> None:
        self.wait_s = wait_s
        self.entered = 0
        self.left: list[tuple[bool, str]] = []
        self.took_us: list[int] = []

    def enter(self) -> None:
        if self.wait_s is not None:
            raise Paced(self.wait_s)
        self.entered += 1

    def leave(self, *, answered: bool, answer: str, took_us: int) -> None:
        self.left.append((answered, answer))
        self.took_us.append(took_us)


@pytest.mark.parametrize(
    ("status", "answered", "word"),
    [
        *((200, True, "2xx"), (201, True, "2xx"), (302, True, "3xx"), (404, True, "4xx")),
        *((422, True, "4xx"), (429, True, "429"), (500, False, "5xx"), (503, False, "5xx")),
        (777, False, "other"),
    ],
)
def test_the_gate_hears_of_every_answer(
    serving: Any, connecting: Any, status: int, answered: bool, word: str
) -> None:
    gate = Turnstile()
    client = connecting(serving(always(response(b"", f"{status} X"))).url, gate=gate)
    for _ in range(3):
        client.call("GET", "/")
    assert (gate.entered, gate.left) == (3, [(answered, word)] * 3)


def test_the_gate_hears_of_every_lost_call(serving: Any, connecting: Any) -> None:
    gate = Turnstile()
    connecting(f"http://127.0.0.1:{free_port()}", gate=gate).call("GET", "/")
    # It is reset once it was asked: before that, it may be met while connecting.
    connecting(serving(lambda c, s: (c.recv(1), reset(c))).url, gate=gate).call("GET", "/")
    long = serving(always(response(b"x" * (BODY_BYTES_MAX + 1))))
    connecting(long.url, gate=gate).call("GET", "/")
    assert gate.left == [(False, "ConnectError"), (False, "ReadError"), (False, "too_large")]


def test_the_time_of_a_call_is_that_of_its_whole_answer(serving: Any, connecting: Any) -> None:
    waited = threading.Event()

    def slow(connection: Any, server: Server) -> None:
        read_request(connection, server)
        head, _, body = response(b"{}").partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        waited.wait(0.2)
        connection.sendall(body)

    gate = Turnstile()
    connecting(serving(slow).url, gate=gate).call("GET", "/")
    assert gate.left == [(True, "2xx")]
    assert 200_000 <= gate.took_us[0] < 10_000_000


def test_a_call_without_room_was_not_sent(serving: Any, connecting: Any) -> None:
    server = serving(always(response(b"{}")))
    gate = Turnstile(7)
    answer = connecting(server.url, gate=gate).call("POST", "/", content=b"{}")
    assert isinstance(answer, Lost)
    assert (answer.outcome, answer.code, answer.retry_after_s) == (Outcome.NOT_SENT, "paced", 7)
    assert (server.connections, gate.left) == (0, [])


def test_the_words_for_lost_answers_are_httpxs_and_few() -> None:
    assert class_of(lost(httpx.ReadTimeout("read"))) == "ReadTimeout"
    assert class_of(None) == "error"
