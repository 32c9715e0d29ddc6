"""The proxy is the bad network that it says it is; else the scenarios would prove nothing."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.batches.cli_world import until
from tests.faults.proxy import DRIP_BYTES, DRIP_PAUSE_S, Network, Proxy, network

RNG = random.Random(1)


class Echo:
    """A server that says everything again, and keeps what it heard."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self._start(self._accept)

    def close(self) -> None:
        for each in (self._listener, *self._connections):
            each.close()

    def _start(self, target: object, *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._echo, connection)

    def _echo(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(1000):
                self.heard += data
                connection.sendall(data)
        except OSError:
            return
        finally:
            connection.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture
def proxy(net: Network, echo: Echo) -> Proxy:
    return net.proxy(echo.port)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as made:
        assert said(made, b"hello") == b"hello"
        yield made


def connect(proxy: Proxy) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def said(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return client.recv(len(data))


def is_reset(client: socket.socket) -> bool:
    """Whether the connection has ended hard: with RST, not with FIN."""
    try:
        assert client.recv(1) == b"", "there was an answer"
    except ConnectionResetError:
        return True
    return False


def is_silent(client: socket.socket) -> bool:
    client.settimeout(0.3)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)
    return False


def test_it_passes_everything_on(client: socket.socket) -> None:
    data = random.Random(2).randbytes(300_000)
    threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
    heard = b""
    while len(heard) < len(data):
        heard += client.recv(100_000)
    assert heard == data


def test_a_delay_holds_back_both_ways(proxy: Proxy, client: socket.socket) -> None:
    proxy.delay(0.2)
    before = time.monotonic()
    assert said(client, b"x") == b"x"
    assert time.monotonic() - before >= 0.4


def test_it_cuts_what_is_connected_and_nothing_new(proxy: Proxy, client: socket.socket) -> None:
    proxy.cut()
    assert is_reset(client)
    assert proxy.cuts == 1
    with connect(proxy) as other:
        assert said(other, b"x") == b"x"


def test_it_refuses_until_it_is_mended(proxy: Proxy, client: socket.socket) -> None:
    port = proxy.port
    proxy.refuse()
    assert is_reset(client)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.mend()
    assert proxy.port == port
    with connect(proxy) as other:
        assert said(other, b"x") == b"x"


def test_half_open_nothing_arrives_not_even_later(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    proxy.swallow()
    with connect(proxy) as other:
        for each in (client, other):
            each.sendall(b"lost")
            assert is_silent(each)
        proxy.mend()
        assert is_reset(client)
        assert is_reset(other)
    assert echo.heard == b"hello"


def test_stranded_ones_are_not_told_and_others_pass(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    assert proxy.strand() == 1
    client.sendall(b"lost")
    assert is_silent(client)
    with connect(proxy) as other:
        assert said(other, b"x") == b"x"
    assert is_silent(client)
    assert echo.heard == b"hellox"


def test_it_drips(proxy: Proxy, client: socket.socket) -> None:
    proxy.drip()
    before = time.monotonic()
    client.sendall(b"x" * DRIP_BYTES * 3)
    heard = 0
    while heard < DRIP_BYTES * 3:
        got = len(client.recv(1000))
        assert got <= DRIP_BYTES
        heard += got
    assert time.monotonic() - before >= 2 * DRIP_PAUSE_S


def test_cut_before_a_message_the_server_never_hears_it(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    proxy.cut_at(b"COMMIT", "before", chance=1, rng=RNG)
    assert said(client, b"other") == b"other"
    client.sendall(b"COMMIT")
    assert is_reset(client)
    assert echo.heard == b"helloother"


def test_cut_after_a_message_the_server_has_heard_it(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    proxy.cut_at(b"COMMIT", "after", chance=1, rng=RNG)
    client.sendall(b"COMMIT")
    assert is_reset(client)
    assert echo.heard == b"helloCOMMIT"


def test_cut_at_the_next_message_the_first_is_answered(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    proxy.cut_at(b"BEGIN", "next", chance=1, rng=RNG)
    assert said(client, b"BEGIN") == b"BEGIN"
    client.sendall(b"UPDATE")
    assert is_reset(client)
    assert echo.heard == b"helloBEGIN"


def test_a_chance_of_nothing_cuts_nothing(proxy: Proxy, client: socket.socket) -> None:
    proxy.cut_at(b"COMMIT", "before", chance=0, rng=RNG)
    assert said(client, b"COMMIT") == b"COMMIT"


def test_what_the_server_ends_is_ended_for_the_client(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    echo.close()
    client.sendall(b"x")
    until(lambda: _ended(client))


def _ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
