"""One HTTP/1.1 connection to a provider: one request at a time, one answer, within one deadline.

Whether a request can have reached the provider decides between "again" and "look it up", so nothing
here is done behind the caller's back: nothing is sent twice, no redirect is followed, no proxy is
used, and a connection that has anything unexpected about it is not used again. What fails raises
the class that httpx has for it. The answer's bytes are read by httptools.
"""

from __future__ import annotations

import functools
import select
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools
import httpx

# An answer about one payout is a few kilobytes, a page of a list some hundred.
BODY_BYTES_MAX = 8 * 1024 * 1024
# The status line and headers, and what there is between the chunks of a body.
HEAD_BYTES_MAX = 64 * 1024
_READ_BYTES = 64 * 1024


class TooLarge(Exception):
    """The answer is longer than any that is expected."""


class Origin(NamedTuple):
    """Where a connection leads."""

    is_tls: bool
    host: str
    port: int


class Target(NamedTuple):
    """A base URL, taken apart."""

    origin: Origin
    # As the Host header has it, and what every path begins with.
    named: str
    path: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: see `Transport.call`."""

    method: str
    target: Target
    # With the query; as it stands on the request line.
    path: str
    headers: Mapping[str, str]
    content: bytes | None

    def head(self) -> bytes:
        """The request line and headers.

        Raises:
            httpx.LocalProtocolError: it would not be one request: a line break in a header, a
                blank in the path.
        """
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {self.target.named}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.content is not None or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(self.content or b'')}")
        plain = all(map(str.isprintable, lines)) and self.path.isascii() and " " not in self.path
        try:
            head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        except UnicodeEncodeError:
            plain = False
        if not plain:
            raise httpx.LocalProtocolError("the request cannot be written as HTTP")
        return head


class Received(NamedTuple):
    """An answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Limits(NamedTuple):
    """How long a call may take."""

    # By the monotonic clock, for all of it.
    deadline: float
    connect_s: float
    # Without a byte.
    read_s: float

    def left(self, most: float, late: type[httpx.TimeoutException]) -> float:
        """The seconds that one operation may take.

        Raises:
            late: none are left.
        """
        left = min(most, self.deadline - time.monotonic())
        if left <= 0:
            raise late("call deadline")
        return left


@functools.lru_cache(256)
def target_of(base_url: str) -> Target:
    """Where a base URL leads.

    Raises:
        httpx.UnsupportedProtocol: it is neither http nor https, or names no host or port.
    """
    try:
        parts = urlsplit(base_url)
        told, host = parts.port, parts.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except ValueError:
        raise httpx.UnsupportedProtocol("the base URL cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise httpx.UnsupportedProtocol("the base URL is neither http nor https")
    is_tls = parts.scheme == "https"
    usual = 443 if is_tls else 80
    port = told or usual
    literal = f"[{host}]" if ":" in host else host
    named = literal if port == usual else f"{literal}:{port}"
    return Target(Origin(is_tls, host, port), named, parts.path)


class Connection:
    """An open connection. Not safe for threads: one call at a time."""

    def __init__(self, origin: Origin, limits: Limits) -> None:
        """Connect.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: nothing was sent.
        """
        self.origin = origin
        self.is_reusable = False
        self._socket = _connected(origin, limits)

    def close(self) -> None:
        self._socket.close()

    @property
    def is_closed_by_peer(self) -> bool:
        """Whether something waits to be read though nothing was asked: its end, or worse."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLERR | select.POLLHUP)
        return bool(poll.poll(0))

    def exchange(self, request: Request, limits: Limits) -> Received:
        """Send a request and read its answer.

        Raises:
            httpx.HTTPError: there is no answer; but for LocalProtocolError it may have been sent.
            TooLarge: it was answered at great length.
        """
        self.is_reusable = False
        head = request.head()
        try:
            self._socket.settimeout(limits.left(limits.read_s, httpx.WriteTimeout))
            self._socket.sendall(head + (request.content or b""))
        except TimeoutError:
            raise httpx.WriteTimeout("the request was not taken in time") from None
        except OSError as error:
            raise httpx.WriteError(type(error).__name__) from error
        reading = _Reading()
        while not reading.is_complete:
            reading.take(self._more(limits))
        self.is_reusable = reading.keeps_alive
        return reading.received()

    def _more(self, limits: Limits) -> bytes:
        try:
            self._socket.settimeout(limits.left(limits.read_s, httpx.ReadTimeout))
            return self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time") from None
        except OSError as error:
            raise httpx.ReadError(type(error).__name__) from error


class _Reading:
    """An answer that is being read; httptools calls what is named `on_`."""

    def __init__(self) -> None:
        self.is_complete = False
        self.keeps_alive = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._bytes = 0
        self._status = 0

    def take(self, part: bytes) -> None:
        """Read on.

        Args:
            part: what came next; nothing: the end.

        Raises:
            httpx.RemoteProtocolError: it is no HTTP, or ends too early.
            TooLarge: it is too long.
        """
        if not part:
            self._end()
            return
        self._bytes += len(part)
        try:
            self._parser.feed_data(part)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if isinstance(error.__context__, TooLarge):
                raise error.__context__ from None
            if not self.is_complete:
                raise httpx.RemoteProtocolError(f"no HTTP: {type(error).__name__}") from None
            self.keeps_alive = False
        # What is neither body nor within a head's size: headers, or chunks without end.
        if self._bytes - len(self._body) > HEAD_BYTES_MAX + len(self._body):
            raise TooLarge

    def received(self) -> Received:
        body = bytes(self._body)
        coding = self._headers.get("content-encoding", "").strip().lower()
        if coding in ("gzip", "deflate"):
            body = _inflated(body, coding)
        return Received(self._status, self._headers, body)

    def _end(self) -> None:
        # An answer of no told length ends with its connection.
        told = self._headers.keys() & {"content-length", "transfer-encoding"}
        if self._status < 200 or told:
            raise httpx.RemoteProtocolError("the connection ended before the answer did")
        self.is_complete = True

    # --- called by httptools ---

    def on_message_begin(self) -> None:
        if self.is_complete:
            # More than was asked for: whatever it is, the next request must not be answered by it.
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_complete:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        if not self.is_complete:
            self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self.is_complete:
            return
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            raise TooLarge

    def on_message_complete(self) -> None:
        if self.is_complete:
            return
        if self._status < 200:
            # "100 Continue" and its like: the answer is still to come.
            self._headers.clear()
            return
        self.is_complete = True
        self.keeps_alive = self._parser.should_keep_alive()


def _inflated(body: bytes, coding: str) -> bytes:
    """A compressed body as it was.

    Raises:
        httpx.DecodingError: it is none.
        TooLarge: it is too long.
    """
    # zlib's word for "gzip or zlib, whichever it is".
    opener = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = opener.decompress(body, BODY_BYTES_MAX + 1)
    except zlib.error:
        raise httpx.DecodingError(f"the body is not {coding}") from None
    if len(plain) > BODY_BYTES_MAX:
        raise TooLarge
    return plain


def _connected(origin: Origin, limits: Limits) -> socket.socket:
    try:
        plain = _opened(origin, limits)
    except TimeoutError:
        raise httpx.ConnectTimeout("no connection in time") from None
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(type(error).__name__) from error
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not origin.is_tls:
        return plain
    try:
        plain.settimeout(limits.left(limits.connect_s, httpx.ConnectTimeout))
        return _ssl_context().wrap_socket(plain, server_hostname=origin.host)
    except TimeoutError:
        plain.close()
        raise httpx.ConnectTimeout("no TLS in time") from None
    except (OSError, ValueError) as error:
        plain.close()
        raise httpx.ConnectError(type(error).__name__) from error
    except httpx.ConnectTimeout:
        plain.close()
        raise


def _opened(origin: Origin, limits: Limits) -> socket.socket:
    """A connection to the first of the host's addresses that takes one, all within the deadline.

    Raises:
        OSError: none does; what the last one said.
        httpx.ConnectTimeout: the deadline has come.
    """
    failed: OSError | None = None
    found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(limits.left(limits.connect_s, httpx.ConnectTimeout))
            plain.connect(address)
        except OSError as error:
            plain.close()
            failed = error
        except BaseException:
            plain.close()
            raise
        else:
            return plain
    raise failed or OSError("no address")


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """Certificates are always verified; reading them takes a while, so once a process."""
    return ssl.create_default_context()
