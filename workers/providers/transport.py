"""HTTP to a provider: one call, one answer, within one deadline.

Nothing is retried and no redirect is followed. A call that ends without an answer is told apart by
whether the request can have reached the provider: that decides between "again" and "look it up".
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import httpx

from workers.providers.connection import (
    Connection,
    Limits,
    Origin,
    Received,
    Request,
    TooLarge,
    target_of,
)
from workers.record.status import Outcome

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
            text = self.body.decode(json.detect_encoding(self.body), "surrogatepass")
            return _EXACT.decode(text)
        except (ValueError, ArithmeticError, RecursionError):
            return None


def _not_a_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


# Made once: `json.loads` makes a decoder anew for every document that is not read its usual way.
_EXACT = json.JSONDecoder(parse_float=Decimal, parse_constant=_not_a_number)


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


class _Carrier(Protocol):
    def exchange(self, request: Request, limits: Limits) -> Received:
        """Send a request and read its answer; raises as `Connection.exchange` does."""
        ...

    def close(self) -> None:
        """Close what is idle."""
        ...


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
        self._connect_s = connect_timeout_s
        self._read_s = read_timeout_s
        self._call_deadline_s = call_deadline_s
        self._gate = gate or OpenGate()
        self._carrier: _Carrier = _Connections() if transport is None else _OverHttpx(transport)

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
            query = f"?{httpx.QueryParams(params)}" if params else ""
            where = base_url or self._base_url
            answer = self._send(method, where, path + query, headers, content)
        finally:
            self._gate.leave(
                answered=isinstance(answer, Answer) and answer.status < 500,
                answer=class_of(answer),
                took_us=int((time.monotonic() - started) * 1_000_000),
            )
        return answer

    def close(self) -> None:
        """Close the idle connections."""
        self._carrier.close()

    def _send(
        self,
        method: str,
        base_url: str,
        path: str,
        headers: Mapping[str, str] | None,
        content: bytes | None,
    ) -> Answer | Lost:
        limits = Limits(time.monotonic() + self._call_deadline_s, self._connect_s, self._read_s)
        try:
            target = target_of(base_url)
            told = {"User-Agent": USER_AGENT, "Accept": _JSON, **(headers or {})}
            request = Request(method, target, target.path + path, told, content)
            return Answer(*self._carrier.exchange(request, limits))
        except TooLarge:
            return Lost(Outcome.UNKNOWN, "too_large", "the answer is longer than any expected")
        except httpx.HTTPError as error:
            return lost(error)


class _Connections:
    """The idle connections, by where they lead. Safe for threads."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[tuple[Connection, float]]] = {}
        self._lock = threading.Lock()

    def exchange(self, request: Request, limits: Limits) -> Received:
        origin = request.target.origin
        connection = self._warmest(origin) or Connection(origin, limits)
        try:
            received = connection.exchange(request, limits)
        finally:
            if connection.is_reusable:
                with self._lock:
                    self._idle.setdefault(origin, []).append((connection, time.monotonic()))
            else:
                connection.close()
        return received

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, {}
        for connection, _ in (one for stack in idle.values() for one in stack):
            connection.close()

    def _warmest(self, origin: Origin) -> Connection | None:
        """The connection that was used last, if it still can be; those idle for too long go."""
        while True:
            with self._lock:
                stack = self._idle.get(origin, [])
                oldest = time.monotonic() - IDLE_S_MAX
                stale = [connection for connection, since in stack if since < oldest]
                del stack[: len(stale)]
                connection = stack.pop()[0] if stack else None
            for old in stale:
                old.close()
            if connection is None or not connection.is_closed_by_peer:
                return connection
            connection.close()


@dataclass(frozen=True, slots=True)
class _OverHttpx:
    """One of httpx's transports, such as its `MockTransport`, in the place of connections."""

    transport: httpx.BaseTransport

    def exchange(self, request: Request, limits: Limits) -> Received:
        origin = request.target.origin
        times = httpx.Timeout(limits.read_s, connect=limits.connect_s).as_dict()
        answer = self.transport.handle_request(
            httpx.Request(
                request.method,
                f"{'https' if origin.is_tls else 'http'}://{request.target.named}{request.path}",
                headers=dict(request.headers),
                content=request.content,
                extensions={"timeout": times},
            )
        )
        answer.read()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Received(answer.status_code, headers, answer.content)

    def close(self) -> None:
        return


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
