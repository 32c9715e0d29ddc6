"""The HTTP transport over real sockets: one answer within one deadline, or whether it was sent."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.workers.providers.socket_world import (
    Serve,
    Server,
    always,
    connecting,
    free_port,
    read_request,
    reset,
    response,
    serving,
)
from workers.providers import transport as transport_module
from workers.providers.connection import BODY_BYTES_MAX
from workers.providers.transport import (
    IDLE_S_MAX,
    NOT_SENT_ERRORS,
    Answer,
    Lost,
    lost,
)
from workers.record.status import Outcome

__all__ = ["connecting", "serving"]

# What a call may take beyond its deadline on a busy machine.
SLACK_S = 5.0


def drip(head: bytes, byte: bytes) -> Serve:
    """A byte every 20 ms, for ever: no single wait is ever long."""

    def serve(connection: socket.socket, server: Server) -> None:
        read_request(connection, server)
        connection.sendall(head)
        while not server.stopping.wait(0.02):
            connection.sendall(byte)

    return serve


# The deadline and other limits.


@pytest.mark.parametrize(
    ("head", "byte"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b""),
    ],
    ids=["header", "body", "chunks", "interim", "silence"],
)
def test_the_deadline_holds_however_slowly_the_answer_drips(
    serving: Any, connecting: Any, head: bytes, byte: bytes
) -> None:
    server = serving(drip(head, byte))
    client = connecting(server.url, call_deadline_s=0.3, read_timeout_s=30)
    started = time.monotonic()
    answer = client.call("GET", "/")
    assert time.monotonic() - started < 0.3 + SLACK_S
    assert isinstance(answer, Lost)
    assert (answer.outcome, answer.code) == (Outcome.UNKNOWN, "ReadTimeout")


def test_the_read_timeout_holds_within_the_deadline(serving: Any, connecting: Any) -> None:
    client = connecting(serving(drip(b"", b"")).url, read_timeout_s=0.2, call_deadline_s=60)
    answer = client.call("GET", "/")
    assert isinstance(answer, Lost)
    assert answer.code == "ReadTimeout"


def test_a_deadline_of_one_call_is_not_the_next_ones(serving: Any, connecting: Any) -> None:
    first, second = serving(drip(b"", b"")), serving(always(response(b"{}")))
    client = connecting(first.url, call_deadline_s=0.5)
    assert isinstance(client.call("GET", "/"), Lost)
    assert isinstance(client.call("GET", "/", base_url=second.url), Answer)


@pytest.mark.parametrize("told", [True, False])
def test_an_answer_that_is_too_long_is_cut_off(serving: Any, connecting: Any, told: bool) -> None:
    def serve(connection: socket.socket, server: Server) -> None:
        read_request(connection, server)
        length = f"Content-Length: {100 * BODY_BYTES_MAX}\r\n" if told else ""
        connection.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode())
        while not server.stopping.is_set():
            connection.sendall(b"x" * 65536)

    answer = connecting(serving(serve).url).call("GET", "/")
    assert isinstance(answer, Lost)
    assert (answer.outcome, answer.code) == (Outcome.UNKNOWN, "too_large")


def test_the_longest_answer_that_is_expected_is_read(serving: Any, connecting: Any) -> None:
    answer = connecting(serving(always(response(b"x" * BODY_BYTES_MAX))).url).call("GET", "/")
    assert isinstance(answer, Answer)
    assert len(answer.body) == BODY_BYTES_MAX


# Requests and answers.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(serving: Any, connecting: Any, status: int) -> None:
    server = serving(always(response(b"", f"{status} Elsewhere", "Location: /other")))
    answer = connecting(server.url).call("POST", "/here", content=b"{}")
    assert isinstance(answer, Answer)
    assert (answer.status, len(server.requests)) == (status, 1)


def test_one_call_is_one_request_as_it_was_asked_for(serving: Any, connecting: Any) -> None:
    server = serving(always(response(b'{"amount": 25.10}', "201 Created", "X-Thing: a")))
    answer = connecting(server.url + "/api").call(
        "POST", "/x", params={"filter[reference_id]": "a&b"}, headers={"X-Own": "1"}, content=b"{}"
    )
    assert isinstance(answer, Answer)
    assert (answer.status, answer.headers["x-thing"]) == (201, "a")
    assert answer.json() == {"amount": Decimal("25.10")}
    (request,) = server.requests
    assert request.startswith(b"POST /api/x?filter%5Breference_id%5D=a%26b HTTP/1.1\r\n")
    assert b"x-own: 1" in request.lower()
    assert request.endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe\xff", b"[" * 100_000, b'{"a":'])
def test_a_body_that_is_no_json_is_none(body: bytes) -> None:
    assert Answer(200, {}, body).json() is None


def test_no_environment_leads_a_call_elsewhere(
    serving: Any, connecting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = serving(always(response(b"{}")))
    assert isinstance(connecting(server.url).call("GET", "/"), Answer)


# Connections.


def test_a_connection_is_used_again(serving: Any, connecting: Any) -> None:
    server = serving(always(response(b"{}")))
    client = connecting(server.url)
    for _ in range(20):
        assert isinstance(client.call("GET", "/"), Answer)
    assert (server.connections, len(server.requests)) == (1, 20)


def test_a_connection_that_the_server_closed_is_not_used_again(
    serving: Any, connecting: Any
) -> None:
    closed = threading.Semaphore(0)

    def serve(connection: socket.socket, server: Server) -> None:
        read_request(connection, server)
        connection.sendall(response(b"{}"))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        closed.release()

    server = serving(serve)
    client = connecting(server.url)
    for number in range(1, 6):
        assert isinstance(client.call("POST", "/", content=b"{}"), Answer)
        assert closed.acquire(timeout=10)
        assert (server.connections, len(server.requests)) == (number, number)


def test_connections_that_idled_too_long_are_dropped(
    serving: Any, connecting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serving(always(response(b"{}")))
    client = connecting(server.url)
    client.call("GET", "/")

    class Later:
        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + IDLE_S_MAX + 1

    monkeypatch.setattr(transport_module, "time", Later)
    assert isinstance(client.call("GET", "/"), Answer)
    assert server.connections == 2


def test_a_lost_call_does_not_leave_its_connection_to_the_next(
    serving: Any, connecting: Any
) -> None:
    # A late answer to the first request must never be read as the second's.
    def serve(connection: socket.socket, server: Server) -> None:
        first = not server.requests
        read_request(connection, server)
        if first:
            server.stopping.wait(0.6)
            connection.sendall(response(b'"first"'))
        else:
            connection.sendall(response(b'"second"'))

    server = serving(serve)
    client = connecting(server.url, call_deadline_s=0.3)
    assert isinstance(client.call("GET", "/1"), Lost)
    answer = client.call("GET", "/2")
    assert isinstance(answer, Answer)
    assert answer.json() == "second"


def test_threads_get_their_own_answers(serving: Any, connecting: Any) -> None:
    def serve(connection: socket.socket, server: Server) -> None:
        while request := read_request(connection, server):
            path = request.split(b" ")[1].decode()
            connection.sendall(response(json.dumps(path).encode()))

    client = connecting(serving(serve).url)

    def ask(number: int) -> bool:
        answer = client.call("GET", f"/{number}")
        return isinstance(answer, Answer) and answer.json() == f"/{number}"

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(400)))


# Lost calls.


def test_a_refused_connection_was_not_sent(connecting: Any) -> None:
    answer = connecting(f"http://127.0.0.1:{free_port()}").call("POST", "/", content=b"{}")
    assert isinstance(answer, Lost)
    assert (answer.outcome, answer.code) == (Outcome.NOT_SENT, "ConnectError")


def test_a_name_that_does_not_resolve_was_not_sent(
    connecting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    answer = connecting("http://nowhere.example.test").call("POST", "/", content=b"{}")
    assert isinstance(answer, Lost)
    assert (answer.outcome, answer.code) == (Outcome.NOT_SENT, "ConnectError")
    assert "nowhere" not in answer.reason


def test_a_failed_handshake_was_not_sent(serving: Any, connecting: Any) -> None:
    server = serving(lambda connection, _: connection.sendall(b"this is no TLS\r\n"))
    answer = connecting(f"https://127.0.0.1:{server.port}").call("POST", "/", content=b"{}")
    assert isinstance(answer, Lost)
    assert answer.outcome is Outcome.NOT_SENT
    assert server.requests == []


@pytest.mark.parametrize(
    "begun",
    [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
     b"this is no HTTP\r\n\r\n"],
)  # fmt: skip
@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_what_ends_after_sending_is_unknown(
    serving: Any, connecting: Any, begun: bytes, end: Callable[[socket.socket], None]
) -> None:
    def serve(connection: socket.socket, server: Server) -> None:
        read_request(connection, server)
        connection.sendall(begun)
        end(connection)

    server = serving(serve)
    answer = connecting(server.url).call("POST", "/", content=b"{}")
    assert isinstance(answer, Lost)
    assert answer.outcome is Outcome.UNKNOWN
    assert len(server.requests) == 1


# Every class of httpx is decided here by hand: a new one fails until somebody has thought about it.
DECIDED_UNKNOWN = {
    httpx.HTTPError, httpx.RequestError, httpx.TransportError, httpx.TimeoutException,
    httpx.ReadTimeout, httpx.WriteTimeout, httpx.NetworkError, httpx.ReadError, httpx.WriteError,
    httpx.CloseError, httpx.ProxyError, httpx.ProtocolError, httpx.LocalProtocolError,
    httpx.RemoteProtocolError, httpx.DecodingError, httpx.TooManyRedirects, httpx.HTTPStatusError,
}  # fmt: skip
DECIDED_NOT_SENT = {
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol
}  # fmt: skip


def family(kind: type[Any]) -> set[type[Any]]:
    return {kind}.union(*(family(child) for child in kind.__subclasses__()))


def test_every_error_of_httpx_is_decided() -> None:
    ours = {kind for kind in family(httpx.HTTPError) if kind.__module__.startswith("httpx")}
    assert ours == DECIDED_UNKNOWN | DECIDED_NOT_SENT
    assert set(NOT_SENT_ERRORS) == DECIDED_NOT_SENT


@pytest.mark.parametrize("kind", sorted(DECIDED_UNKNOWN | DECIDED_NOT_SENT, key=str))
def test_an_error_is_not_sent_only_if_it_cannot_have_been(kind: type[httpx.HTTPError]) -> None:
    error = kind.__new__(kind)
    expected = Outcome.NOT_SENT if kind in DECIDED_NOT_SENT else Outcome.UNKNOWN
    assert (lost(error).outcome, lost(error).code) == (expected, kind.__name__)
