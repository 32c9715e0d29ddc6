"""A bare loop that keeps nothing: what the provider and Python's asyncio allow at best.

    python -m benchmarks.rivals.bare COUNT TRANSPORT

TRANSPORT is `httpx` (its default), `httpx-aiohttp`, `aiohttp`, or `httpcore`. At most `in_flight`
calls are made at a time; the wait for a settlement takes nobody's place.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpcore
import httpx
from httpx_aiohttp import AiohttpTransport

from benchmarks.files import rows_of
from benchmarks.rivals import payments
from benchmarks.rivals.payments import ACCOUNT_ID, API_KEY, FINAL, Setup

Ask = Callable[[str, str, Any], Awaitable[Any]]
TOKEN = base64.b64encode(f"{ACCOUNT_ID}:{API_KEY}".encode()).decode()


@asynccontextmanager
async def by_httpx(setup: Setup, *, aio: bool) -> AsyncIterator[Ask]:
    async with httpx.AsyncClient(
        base_url=setup.base_url,
        headers={"Authorization": f"Basic {TOKEN}"},
        timeout=payments.CALL_S,
        limits=httpx.Limits(max_connections=setup.in_flight),
        transport=AiohttpTransport() if aio else None,
    ) as client:

        async def ask(method: str, path: str, body: Any = None) -> Any:
            answer = await client.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json()

        yield ask


@asynccontextmanager
async def by_aiohttp(setup: Setup) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Basic {TOKEN}"},
        timeout=aiohttp.ClientTimeout(payments.CALL_S),
        connector=aiohttp.TCPConnector(limit=setup.in_flight),
        raise_for_status=True,
    ) as client:

        async def ask(method: str, path: str, body: Any = None) -> Any:
            async with client.request(method, setup.base_url + path, json=body) as answer:
                return await answer.json()

        yield ask


@asynccontextmanager
async def by_httpcore(setup: Setup) -> AsyncIterator[Ask]:
    """A stack of single connections: a pool of many is searched through at each call."""
    parts = urlsplit(setup.base_url)
    origin = httpcore.Origin(
        parts.scheme.encode(), (parts.hostname or "").encode(), parts.port or 80
    )
    host = (b"Host", parts.netloc.encode())
    fixed = [host, (b"Authorization", f"Basic {TOKEN}".encode())]
    fixed += [(b"Content-Type", b"application/json")]
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), payments.CALL_S)
    idle: list[httpcore.AsyncHTTPConnection] = []

    async def ask(method: str, path: str, body: Any = None) -> Any:
        connection = idle.pop() if idle else httpcore.AsyncHTTPConnection(origin)
        content = b"" if body is None else json.dumps(body).encode()
        url = httpcore.URL(
            scheme=origin.scheme, host=origin.host, port=origin.port, target=parts.path + path
        )
        headers = [*fixed, (b"Content-Length", str(len(content)).encode())]
        answer = await connection.request(
            method, url, headers=headers, content=content, extensions={"timeout": timeout}
        )
        idle.append(connection)
        if answer.status >= 300:
            raise SystemExit(f"{method} {path} was answered {answer.status}")
        return json.loads(answer.content)

    yield ask
    for each in idle:
        await each.aclose()


TRANSPORTS = {
    "httpx": lambda setup: by_httpx(setup, aio=False),
    "httpx-aiohttp": lambda setup: by_httpx(setup, aio=True),
    "aiohttp": by_aiohttp,
    "httpcore": by_httpcore,
}


class Places:
    """So many places; whoever is on its way already comes before those who begin."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}

    @asynccontextmanager
    async def one(self, *, begun: bool) -> AsyncIterator[None]:
        if self._free:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting[begun].append(turn)
            await turn
        try:
            yield
        finally:
            waiting = self._waiting[True] or self._waiting[False]
            if waiting:
                waiting.popleft().set_result(None)
            else:
                self._free += 1


async def pay(number: int, row: list[str], setup: Setup, ask: Ask, places: Places) -> str:
    """One payout from its create to its end; a line with its times."""
    async with places.one(begun=False):
        begun = time.time()
        order = payments.document(payments.attributes_of(row))
        created = await ask("POST", "/payout-invoices", order)
        path = f"/payout-invoices/{created['data']['id']}"
        await ask("POST", f"{path}/process", None)
    status, wait_s = "processing", setup.poll_first_s
    while status not in FINAL:
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, payments.POLL_S_MAX)
        async with places.one(begun=True):
            status = (await ask("GET", path, None))["data"]["attributes"]["status"]
    return f"{number} {begun:.6f} {time.time():.6f}"


async def main() -> None:
    count, transport = int(sys.argv[1]), sys.argv[2]
    setup = Setup.read()
    places = Places(setup.in_flight)
    rows = list(rows_of(count))
    async with TRANSPORTS[transport](setup) as ask:
        print("ready", flush=True)
        sys.stdin.readline()
        paid = await asyncio.gather(
            *(pay(number, row, setup, ask, places) for number, row in enumerate(rows, 1))
        )
    print("\n".join(paid), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
