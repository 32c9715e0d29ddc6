"""One connection: it sends one request, and what it reads is that request's answer alone."""

from __future__ import annotations

import gzip
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.workers.providers.socket_world import (
    Server,
    always,
    connecting,
    free_port,
    read_request,
    response,
    serving,
)
from workers.providers import connection
from workers.providers.connection import BODY_BYTES_MAX, HEAD_BYTES_MAX, Origin, Target, target_of
from workers.providers.transport import Answer, Lost, Transport
from workers.record.status import Outcome

__all__ = ["connecting", "serving"]


def answered(answer: Answer | Lost) -> Answer:
    assert isinstance(answer, Answer), answer
    return answer


# Requests.


@pytest.mark.parametrize(
    "headers", [{"X-Own": "a\r\nX-Other: b"}, {"X-Own": "a\nb"}, {"X\r\nY": "a"}, {"X-Own": "雪"}]
)
def test_a_header_with_a_line_break_is_not_sent(
    serving: Any, connecting: Any, headers: Mapping[str, str]
) -> None:
    server = serving(always(response(b"{}")))
    lost = connecting(server.url).call("POST", "/", headers=headers, content=b"{}")
    assert isinstance(lost, Lost)
    assert (lost.code, server.requests) == ("LocalProtocolError", [])


@pytest.mark.parametrize("path", ["/a b", "/a\r\nHost: other", "/ä"])
def test_a_path_that_would_be_another_request_is_not_sent(
    serving: Any, connecting: Any, path: str
) -> None:
    server = serving(always(response(b"{}")))
    assert isinstance(connecting(server.url).call("GET", path), Lost)
    assert server.requests == []


@pytest.mark.parametrize(
    ("method", "content", "told"),
    [("GET", None, None), ("POST", None, b"0"), ("POST", b"{}", b"2"), ("DELETE", None, None)],
)
def test_a_request_tells_its_length_where_it_may_have_a_body(
    serving: Any, connecting: Any, method: str, content: bytes | None, told: bytes | None
) -> None:
    server = serving(always(response(b"{}")))
    answered(connecting(server.url).call(method, "/", content=content))
    lines = server.requests[0].partition(b"\r\n\r\n")[0].split(b"\r\n")
    lengths = [line for line in lines if line.lower().startswith(b"content-length:")]
    assert [line.split(b": ")[1] for line in lengths] == ([] if told is None else [told])


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://api.example.test", Target(Origin(True, "api.example.test", 443),
                                            "api.example.test", "")),
        ("https://api.example.test:443/v1", Target(Origin(True, "api.example.test", 443),
                                                   "api.example.test", "/v1")),
        ("http://api.example.test:8080/a/b", Target(Origin(False, "api.example.test", 8080),
                                                    "api.example.test:8080", "/a/b")),
        ("http://[::1]:81", Target(Origin(False, "::1", 81), "[::1]:81", "")),
        ("https://bücher.example", Target(Origin(True, "xn--bcher-kva.example", 443),
                                          "xn--bcher-kva.example", "")),
    ],
)  # fmt: skip
def test_a_base_url_leads_where_it_says(url: str, target: Target) -> None:
    assert target_of(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a",
        "a",
        "",
        "https://",
        "file:///etc/hosts",
        "https://a:99999",
        "https://a:b",
        "https://[::1",
        f"https://{'ü' * 64}.example",
    ],
)
def test_a_base_url_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        target_of(url)
    lost = Transport(url).call("GET", "/")
    assert isinstance(lost, Lost)
    assert lost.outcome is Outcome.NOT_SENT


# Connecting.


@pytest.fixture
def addresses() -> Iterator[Callable[..., None]]:
    """Has `many.test` stand for these ports of this machine."""
    with pytest.MonkeyPatch.context() as patch:

        def named(*ports: int) -> None:
            of_tcp = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            found = [(*of_tcp, ("127.0.0.1", port)) for port in ports]
            patch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

        yield named


def test_the_first_address_that_takes_a_connection_is_used(
    serving: Any, connecting: Any, addresses: Callable[..., None]
) -> None:
    server = serving(always(response(b"{}")))
    addresses(free_port(), free_port(), server.port)
    client = connecting("http://many.test")
    assert answered(client.call("GET", "/")).json() == {}
    addresses(free_port(), free_port())
    lost = connecting("http://many.test").call("GET", "/")
    assert isinstance(lost, Lost)
    assert (lost.outcome, lost.code) == (Outcome.NOT_SENT, "ConnectError")


def test_addresses_that_do_not_answer_have_one_deadline_together(
    connecting: Any, addresses: Callable[..., None]
) -> None:
    with full() as port:
        addresses(*[port] * 1000)
        client = connecting("http://many.test", call_deadline_s=0.5, connect_timeout_s=0.2)
        lost = client.call("POST", "/", content=b"{}")
    assert isinstance(lost, Lost)
    assert (lost.outcome, lost.code) == (Outcome.NOT_SENT, "ConnectTimeout")


@contextmanager
def full() -> Iterator[int]:
    """The port of somebody who takes no more connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        port: int = listener.getsockname()[1]
        for _ in range(20):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port


# Answers.


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(b'{"a": 1}', mtime=0)),
        ("deflate", zlib.compress(b'{"a": 1}')),
        ("GZIP", gzip.compress(b'{"a": 1}', mtime=0)),
    ],
)
def test_a_packed_body_is_unpacked(
    serving: Any, connecting: Any, coding: str, packed: bytes
) -> None:
    server = serving(always(response(packed, "200 OK", f"Content-Encoding: {coding}")))
    assert answered(connecting(server.url).call("GET", "/")).json() == {"a": 1}


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (b"no gzip at all", "DecodingError"),
        (gzip.compress(b"x" * BODY_BYTES_MAX * 2, mtime=0), "too_large"),
    ],
    ids=["no gzip", "too long"],
)
def test_a_packed_body_that_cannot_be_taken_is_unknown(
    serving: Any, connecting: Any, packed: bytes, code: str
) -> None:
    server = serving(always(response(packed, "200 OK", "Content-Encoding: gzip")))
    lost = connecting(server.url).call("POST", "/", content=b"{}")
    assert isinstance(lost, Lost)
    assert (lost.outcome, lost.code) == (Outcome.UNKNOWN, code)


def test_interim_answers_are_passed_over(serving: Any, connecting: Any) -> None:
    interim = b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    server = serving(always(interim + response(b"{}", "201 Created")))
    answer = answered(connecting(server.url).call("POST", "/", content=b"{}"))
    assert answer.status == 201
    assert "x-interim" not in answer.headers


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_ends_with_its_head(
    serving: Any, connecting: Any, status: str
) -> None:
    server = serving(always(f"HTTP/1.1 {status}\r\n\r\n".encode()))
    client = connecting(server.url)
    assert [answered(client.call("GET", "/")).body for _ in range(3)] == [b""] * 3
    assert server.connections == 1


def test_an_answer_of_no_told_length_ends_with_its_connection(
    serving: Any, connecting: Any
) -> None:
    def serve(connection: socket.socket, server: Server) -> None:
        read_request(connection, server)
        connection.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"a":')
        connection.sendall(b" 1}")
        connection.close()

    server = serving(serve)
    client = connecting(server.url)
    assert [answered(client.call("GET", "/")).json() for _ in range(2)] == [{"a": 1}] * 2
    assert server.connections == 2


def test_chunks_are_joined(serving: Any, connecting: Any) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = serving(always(chunked + b'3\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\n\r\n'))
    client = connecting(server.url)
    assert [answered(client.call("GET", "/")).json() for _ in range(3)] == [{"a": 1}] * 3
    assert server.connections == 1


def test_a_header_that_comes_twice_is_joined(serving: Any, connecting: Any) -> None:
    server = serving(always(response(b"{}", "200 OK", "X-Thing: a", "x-thing: b")))
    assert answered(connecting(server.url).call("GET", "/")).headers["x-thing"] == "a, b"


@pytest.mark.parametrize(
    "more", [response(b'"other"'), b"HTTP/1.1 200", b"junk", b"\x00"], ids=repr
)
def test_what_follows_an_answer_is_never_the_next_ones(
    serving: Any, connecting: Any, more: bytes
) -> None:
    server = serving(always(response(b'"mine"') + more))
    client = connecting(server.url)
    assert [answered(client.call("GET", "/")).json() for _ in range(3)] == ["mine"] * 3
    assert server.connections == 3


def test_a_server_that_wants_to_close_is_not_asked_again(serving: Any, connecting: Any) -> None:
    server = serving(always(response(b"{}", "200 OK", "Connection: close")))
    client = connecting(server.url)
    for _ in range(3):
        answered(client.call("GET", "/"))
    assert server.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ],
    ids=repr,
)
def test_an_answer_that_can_be_read_in_two_ways_is_unknown(
    serving: Any, connecting: Any, answer: bytes
) -> None:
    def serve(connection: socket.socket, server: Server) -> None:
        read_request(connection, server)
        connection.sendall(answer)
        connection.close()

    lost = connecting(serving(serve).url).call("POST", "/", content=b"{}")
    assert isinstance(lost, Lost)
    assert lost.outcome is Outcome.UNKNOWN


def test_endless_headers_are_cut_off(serving: Any, connecting: Any) -> None:
    def serve(connection: socket.socket, server: Server) -> None:
        read_request(connection, server)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        line = b"X-More: " + b"x" * 1000 + b"\r\n"
        while not server.stopping.is_set():
            connection.sendall(line)

    lost = connecting(serving(serve).url).call("POST", "/", content=b"{}")
    assert isinstance(lost, Lost)
    assert (lost.outcome, lost.code) == (Outcome.UNKNOWN, "too_large")
    assert HEAD_BYTES_MAX < BODY_BYTES_MAX


# TLS.


def test_a_certificate_that_nobody_vouches_for_is_refused(
    serving: Any, connecting: Any, tmp_path: Any
) -> None:
    certificate = self_signed(tmp_path)

    def serve(connection: socket.socket, server: Server) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with context.wrap_socket(connection, server_side=True) as secured:
            read_request(secured, server)

    server = serving(serve)
    lost = connecting(f"https://127.0.0.1:{server.port}").call("POST", "/", content=b"{}")
    assert isinstance(lost, Lost)
    assert (lost.outcome, lost.code) == (Outcome.NOT_SENT, "ConnectError")
    assert server.requests == []


def self_signed(folder: Any) -> str:
    """A certificate for this machine, by nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)


@pytest.fixture
def trusted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """What a server needs whose certificate everybody here believes."""
    certificate = self_signed(tmp_path)
    believing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    believing.load_verify_locations(certificate)
    monkeypatch.setattr(ssl, "create_default_context", lambda: believing)
    connection._ssl_context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield context
    connection._ssl_context.cache_clear()


@pytest.mark.parametrize("more", [b"", response(b'"other"')], ids=["nothing", "another answer"])
def test_over_tls_a_connection_is_used_again_unless_something_follows_an_answer(
    serving: Any, connecting: Any, trusted: ssl.SSLContext, more: bytes
) -> None:
    def serve(connection: socket.socket, server: Server) -> None:
        with trusted.wrap_socket(connection, server_side=True) as secured:
            while read_request(secured, server):
                # Each in a record of its own, and all of them at once.
                secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                secured.sendall(response(b'"mine"'))
                if more:
                    secured.sendall(more)
                secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    server = serving(serve)
    client = connecting(f"https://127.0.0.1:{server.port}")
    assert [answered(client.call("GET", "/")).json() for _ in range(3)] == ["mine"] * 3
    assert server.connections == (3 if more else 1)
