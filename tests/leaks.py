"""Looking for secrets: every way a secret may be spelled, and all that a run leaves behind."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, quote_plus, urlsplit

import redis
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

# Shorter ones turn up by chance.
SPELLED_MIN = 9


def spellings(secret: str) -> set[bytes]:
    """The secret plain, backwards, in groups, escaped, and encoded in the usual ways."""
    plain = {
        secret,
        secret[::-1],
        " ".join(re.findall(".{4}", secret)),
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
    }
    data = secret.encode()
    spelled = {each.encode() for each in plain if len(each) >= SPELLED_MIN}
    spelled |= {secret.encode("utf-16-le"), data.hex().encode(), data.hex().upper().encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for ahead in range(3):
            # Inside something longer: without the letters that its neighbours have a part in.
            inside = encode(b"\0" * ahead + data)
            spelled.add(inside[(0, 2, 3)[ahead] : len(inside) // 4 * 4 - 4])
    return {each for each in spelled if len(each) >= SPELLED_MIN}


def found_in(content: bytes, secrets: Iterable[str]) -> list[str]:
    """The secrets that are in it, however they are spelled."""
    return [
        secret for secret in secrets if any(spelled in content for spelled in spellings(secret))
    ]


def check(left: Mapping[str, bytes], secrets: Iterable[str]) -> None:
    """Nothing of what is left behind has any of the secrets."""
    spelled = {secret: spellings(secret) for secret in secrets}
    leaks = [
        f"{secret!r} in {name}"
        for name, content in left.items()
        for secret, ways in spelled.items()
        if any(way in content for way in ways)
    ]
    assert not leaks, leaks


def rows_of(url: str) -> bytes:
    """Every row of every table of a PostgreSQL database as text, bytes in hexadecimal."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).scalars()
        lines = [
            line
            for table in list(tables)
            for line in connection.execute(
                text(f'SELECT row_to_json(t)::text FROM "{table}" t')
            ).scalars()
        ]
    assert lines
    return "\n".join(lines).encode()


def commands_of_processes() -> dict[str, bytes]:
    """The command line of every process of this machine that may be read."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[f"{path}"] = path.read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
    return found


class Monitor:
    """Everything that a Redis is told while it is watched, and what it has at the end."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 0))
        if parts.password:
            self._socket.sendall(f"AUTH {parts.password}\r\n".encode())
            assert self._socket.recv(100).startswith(b"+OK")
        self._socket.sendall(b"MONITOR\r\n")
        self._told = bytearray()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def _listen(self) -> None:
        while part := self._socket.recv(1 << 16):
            self._told += part

    @property
    def told(self) -> bytes:
        # Bytes that are no text are told as \\xHH, and a quote with a backslash before it.
        return bytes(self._told).replace(b'\\"', b'"')

    def kept(self) -> bytes:
        with redis.Redis.from_url(self._url) as client:
            return b"\n".join(_values(client))


def _values(client: redis.Redis) -> Iterator[bytes]:
    read = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    for key in client.scan_iter():
        yield key + b" " + repr(read[client.type(key)](key)).encode()
