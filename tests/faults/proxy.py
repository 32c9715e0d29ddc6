"""A TCP proxy that can be told to be a bad network: in front of Redis, PostgreSQL and the provider.

    with network() as net:
        proxy = net.proxy(target_port)      # clients connect to `proxy.port`
        proxy.delay(0.3); proxy.refuse(); proxy.swallow(); proxy.drip(); proxy.cut()
        proxy.cut_at(b"COMMIT", "before"); proxy.mend()

All proxies of a network share one thread. Every method may be called from any other thread, and has
taken effect when it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

CHUNK = 65_536
DRIP_BYTES, DRIP_PAUSE_S = 16, 0.2
# Linger on, for no time: closing then sends RST instead of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class _Cut:
    """Where a connection is cut: at a message of the client that has these bytes in it.

    `before`: the server never gets it; `after`: it does, and its answer is lost; `next`: the server
    gets it, and what the client says next is lost.
    """

    needle: bytes
    how: str
    chance: float
    rng: random.Random


@dataclass(eq=False)
class _Link:
    """One client's connection; `server` once it is connected."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    # What it says or is told is thrown away, from a swallowing on until its end.
    dead: bool = False
    # Its next message from the client, or its next answer from the server, ends it.
    cut_next: bool = False
    cut_answer: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                with contextlib.suppress(OSError):
                    connection: socket.socket = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                writer.transport.abort()
        for task in self.tasks:
            task.cancel()


class Proxy:
    """Passes bytes on between its port and the target's, or fails to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target_port: int) -> None:
        self.port = 0
        # How many connections were ended by us.
        self.cuts = 0
        self._loop, self._target_port = loop, target_port
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._delay_s = 0.0
        self._swallowing = self._dripping = False
        self._rule: _Cut | None = None
        self._do(self._listen)

    # --- what it can be told ---

    def delay(self, seconds: float) -> None:
        """Hold every message back so long, in both directions."""
        self._delay_s = seconds

    def drip(self) -> None:
        """Answers come a few bytes at a time."""
        self._dripping = True

    def swallow(self) -> None:
        """Half-open: connections are there and can be made, and nothing passes any more."""

        def swallow() -> None:
            self._swallowing = True
            for link in self._links:
                link.dead = True

        self._call(swallow)

    def strand(self) -> int:
        """Half-open for those that are connected, and for ever; the number. New ones pass."""

        def strand() -> None:
            for link in self._links:
                link.dead = True

        self._call(strand)
        return len(self._links)

    def refuse(self) -> None:
        """Cut all connections, and let nobody connect."""

        async def refuse() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            self._reset_all()

        self._do(refuse)

    def cut(self) -> None:
        """End all connections with RST; new ones pass."""
        self._call(self._reset_all)

    def cut_at(self, needle: bytes, how: str, *, chance: float, rng: random.Random) -> None:
        """Cut each connection at a client's message with these bytes; see `_Cut`."""
        self._rule = _Cut(needle, how, chance, rng)

    def mend(self) -> None:
        """Be a good network again. What was half-open ends now, as a time-out would end it."""

        async def mend() -> None:
            self._delay_s, self._rule = 0.0, None
            self._swallowing = self._dripping = False
            for link in [link for link in self._links if link.dead]:
                self._reset(link)
            if self._listener is None:
                await self._listen()

        self._do(mend)

    def close(self) -> None:
        self.refuse()

    # --- inside, in the network's thread ---

    def _do(self, coroutine: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine(), self._loop).result(10)  # type: ignore[arg-type]

    def _call(self, function: Callable[[], None]) -> None:
        async def call() -> None:
            function()

        self._do(call)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def _reset(self, link: _Link) -> None:
        self.cuts += 1
        self._links.discard(link)
        link.reset()

    def _reset_all(self) -> None:
        for link in list(self._links):
            self._reset(link)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        link = _Link(client, dead=self._swallowing)
        self._links.add(link)
        server_reader = None
        if not link.dead:
            try:
                server_reader, link.server = await asyncio.open_connection(
                    "127.0.0.1", self._target_port
                )
            except OSError:
                self._links.discard(link)
                link.reset()
                return
        link.tasks = {asyncio.ensure_future(self._pass(link, reader, from_client=True))}
        if server_reader is not None:
            task = asyncio.ensure_future(self._pass(link, server_reader, from_client=False))
            link.tasks.add(task)
        await asyncio.wait(link.tasks, return_when=asyncio.FIRST_COMPLETED)
        # One side has ended: so does the other, at once.
        if link in self._links:
            self._links.discard(link)
            for writer in (link.client, link.server):
                if writer is not None:
                    writer.close()
            for task in link.tasks:
                task.cancel()

    async def _pass(self, link: _Link, reader: asyncio.StreamReader, *, from_client: bool) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(CHUNK):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer = link.server if from_client else link.client
                if link.dead or writer is None:
                    continue
                if not (self._from_client if from_client else self._from_server)(link, data):
                    return
                if self._dripping and not from_client:
                    await self._write_slowly(writer, data)
                    continue
                writer.write(data)
                await writer.drain()

    def _from_client(self, link: _Link, data: bytes) -> bool:
        """Whether the message passes; False: the connection is gone."""
        if link.cut_next:
            self._reset(link)
            return False
        rule = self._rule
        if rule is not None and rule.needle in data and rule.rng.random() < rule.chance:
            if rule.how == "before":
                self._reset(link)
                return False
            link.cut_next, link.cut_answer = rule.how == "next", rule.how == "after"
        return True

    def _from_server(self, link: _Link, _data: bytes) -> bool:
        if link.cut_answer:
            self._reset(link)
            return False
        return True

    async def _write_slowly(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for start in range(0, len(data), DRIP_BYTES):
            writer.write(data[start : start + DRIP_BYTES])
            await writer.drain()
            if self._dripping:
                await asyncio.sleep(DRIP_PAUSE_S)


class Network:
    """The thread that all proxies share."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._proxies: list[Proxy] = []

    def proxy(self, target_port: int) -> Proxy:
        made = Proxy(self._loop, target_port)
        self._proxies.append(made)
        return made

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _end_tasks() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    made = Network()
    try:
        yield made
    finally:
        made.close()
