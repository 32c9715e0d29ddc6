"""HTTP to a provider: one call, one answer, within one deadline.

Nothing is retried and no redirect is followed. A call that ends without an answer is told apart by
whether the request can have reached the provider: that decides between "again" and "look it up".
"""

from __future__ import annotations

import functools
import json
import ssl
import threading
import time
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import httpcore
import httpx

from workers.record.status import Outcome

# An answer about one payout is a few kilobytes, a page of a list some hundred.
BODY_BYTES_MAX = 8 * 1024 * 1024
# Servers close idle connections after 5 s or more; ours are dropped before.
IDLE_S_MAX = 4
USER_AGENT = "paybatch"
_JSON = "application/json"

# httpx's classes, the most specific first. Only what fails before the request leaves us is
# NOT_SENT; everything else may have reached the provider.
NOT_SENT_ERRORS: tuple[type[Exception], ...] = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON with exact numbers; None where it is none."""
        try:
            return json.loads(self.body, parse_float=Decimal, parse_constant=_not_a_number)
        except (ValueError, ArithmeticError, RecursionError):
            return None


def _not_a_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer: NOT_SENT where the request never left us, else UNKNOWN."""

    outcome: Outcome
    # A short word for the record, and a sentence that holds no address, key or person.
    code: str
    reason: str
    # Where our own pace held the call back: how long until there is room.
    retry_after_s: int | None = None


class Paced(Exception):
    """The account's pace leaves no room for a call now."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"no room for another call within {wait_s} s")
        self.wait_s = wait_s


class Gate(Protocol):
    """What stands before every call of an account: its pace and its breaker."""

    def enter(self) -> None:
        """Return when the call may start.

        Raises:
            Paced: it may not start soon.
        """
        ...

    def leave(self, *, answered: bool, answer: str, took_us: int) -> None:
        """Tell how the call went.

        Args:
            answered: the provider answered sensibly (anything but nothing, or 5xx).
            answer: the answer's class, one of a few words: see `class_of`.
            took_us: how long it took, in microseconds, without the wait to begin.
        """
        ...


class OpenGate:
    """A gate that is always open: for the questions a person asks, and for tests."""

    def enter(self) -> None:
        return

    def leave(self, **_: object) -> None:
        return


class Transport:
    """Calls of one account. Safe for threads: each call has a connection of its own, kept in a
    stack so that the warmest is used first."""

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout_s: float = 5,
        read_timeout_s: float = 30,
        call_deadline_s: float = 30,
        gate: Gate | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """
        Args:
            base_url: what the path of every call is joined to.
            call_deadline_s: the whole time of a call, from connecting to the last byte.
            transport: what carries the calls, for tests; by default real connections.
        """
        self._base_url = base_url
        self._timeout = httpx.Timeout(
            read_timeout_s, connect=connect_timeout_s, pool=connect_timeout_s
        )
        self._call_deadline_s = call_deadline_s
        self._gate = gate or OpenGate()
        self._fixed = transport
        self._idle: list[tuple[httpx.Client, float]] = []
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        *,
        base_url: str | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer | Lost:
        """Send one request and read its whole answer.

        Args:
            path: joined to the base URL as it stands; begin it with a slash.
            params: the query; percent-encoded, brackets too.
        """
        try:
            self._gate.enter()
        except Paced as paced:
            return Lost(Outcome.NOT_SENT, "paced", str(paced), paced.wait_s)
        answer: Answer | Lost | None = None
        started = time.monotonic()
        try:
            answer = self._send(
                httpx.Request(
                    method,
                    (base_url or self._base_url) + path,
                    params=params,
                    headers={"User-Agent": USER_AGENT, "Accept": _JSON, **(headers or {})},
                    content=content,
                    extensions={"timeout": self._timeout.as_dict()},
                )
            )
        finally:
            self._gate.leave(
                answered=isinstance(answer, Answer) and answer.status < 500,
                answer=class_of(answer),
                took_us=int((time.monotonic() - started) * 1_000_000),
            )
        return answer

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client, _ in idle:
            client.close()

    def _send(self, request: httpx.Request) -> Answer | Lost:
        deadline = time.monotonic() + self._call_deadline_s
        client = self._client(deadline)
        try:
            answer = self._exchange(client, request, deadline)
        except httpx.HTTPError as error:
            client.close()
            return lost(error)
        except BaseException:
            client.close()
            raise
        if isinstance(answer, Lost):
            client.close()
        else:
            with self._lock:
                self._idle.append((client, time.monotonic()))
        return answer

    def _exchange(
        self, client: httpx.Client, request: httpx.Request, deadline: float
    ) -> Answer | Lost:
        _Deadline.of_thread.at = deadline
        response = client.send(request, stream=True, follow_redirects=False)
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if len(body) > BODY_BYTES_MAX:
                response.close()
                return Lost(Outcome.UNKNOWN, "too_large", "the answer is longer than any expected")
        return Answer(response.status_code, response.headers, bytes(body))

    def _client(self, now: float) -> httpx.Client:
        """The warmest idle client, or a new one; those idle for too long are closed."""
        stale: list[httpx.Client] = []
        with self._lock:
            oldest = now - self._call_deadline_s - IDLE_S_MAX
            while self._idle and self._idle[0][1] < oldest:
                stale.append(self._idle.pop(0)[0])
            client = self._idle.pop()[0] if self._idle else None
        for old in stale:
            old.close()
        # Proxies and certificates named by the environment are left alone: where we connect to is
        # told by the settings only.
        return client or httpx.Client(
            transport=self._fixed or _OneConnection(_ssl_context()), trust_env=False
        )


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """Certificates are always verified; reading them takes a while, so once a process."""
    return ssl.create_default_context()


def class_of(answer: Answer | Lost | None) -> str:
    """How a call was answered, in one of a few words: `2xx`, `3xx`, `4xx`, `429`, `5xx`, or where
    no answer came httpx's word for it, such as `ReadTimeout`; None: our own error.
    """
    if answer is None:
        return "error"
    if isinstance(answer, Lost):
        return answer.code
    if answer.status == 429:
        return "429"
    return f"{answer.status // 100}xx" if 200 <= answer.status < 600 else "other"


def lost(error: httpx.HTTPError) -> Lost:
    """The one mapping of httpx's errors: what may have been sent, and what cannot have been."""
    word = type(error).__name__
    if isinstance(error, NOT_SENT_ERRORS):
        return Lost(Outcome.NOT_SENT, word, "no connection to the provider")
    return Lost(Outcome.UNKNOWN, word, "no answer from the provider")


class _Deadline:
    """The deadline of the call that this thread is making; read by every socket operation."""

    of_thread: typing.ClassVar[Any] = threading.local()

    @classmethod
    def cap(cls, timeout: float | None) -> float:
        left: float = getattr(cls.of_thread, "at", time.monotonic() + 30) - time.monotonic()
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    """A connection whose every operation ends at the call's deadline.

    httpx's own time-outs start anew at each chunk, so a slow drip would outlive any claim.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _Deadline.cap(timeout)
        if left <= 0:
            raise httpcore.ReadTimeout("call deadline")
        return self._stream.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = _Deadline.cap(timeout)
        if left <= 0:
            raise httpcore.WriteTimeout("call deadline")
        self._stream.write(buffer, left)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _Deadline.cap(timeout)
        if left <= 0:
            raise httpcore.ConnectTimeout("call deadline")
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens connections that keep the deadline."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = _Deadline.cap(timeout)
        if left <= 0:
            raise httpcore.ConnectTimeout("call deadline")
        return _Stream(self._backend.connect_tcp(host, port, left, local_address, socket_options))


class _OneConnection(httpx.BaseTransport):
    """httpx over a pool of one connection: a larger pool is searched through at every call."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=1,
            keepalive_expiry=IDLE_S_MAX,
            network_backend=_Backend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with _httpx_errors():
            response = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(typing.cast("Iterable[bytes]", response.stream)),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The answer's body, with httpcore's errors as httpx's."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class _httpx_errors:  # noqa: N801 - reads as a statement: with _httpx_errors():
    """Raise httpcore's errors as httpx's class of the same name."""

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> None:
        if kind is not None and kind.__module__.startswith("httpcore"):
            ours = getattr(httpx, kind.__name__, httpx.TransportError)
            raise ours(str(error)) from error
