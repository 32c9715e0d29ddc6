"""Redis as kombu speaks to it, with two things mended.

A closed channel says that it is closed. A worker acknowledges a message after its work, and by then
its connection may have been closed and made anew. kombu 5.7.0 then fails with an AttributeError,
which no caller takes for a lost connection, and the whole worker ends: one restart of Redis could
end all of them. As a connection error it is logged, and the message comes back, which the table
makes harmless.

And a channel keeps its client: kombu makes a new one for every command, which costs more than to
carry the command out. A client has no state but its pool of connections.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ConnectionError as RedisConnectionError


class Channel(redis.Channel):
    """A channel that can be used, or says why not."""

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the channel's connection is closed")
        return super()._connparams(asynchronous)  # type: ignore[no-untyped-call]  # kombu's own

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            # Each of these has a connection of its own: what it waits for is read by the loop.
            return super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        pool, client = self.pool, getattr(self, "_client", None)
        if client is None or client.connection_pool is not pool:
            client = self._client = super()._create_client()  # type: ignore[no-untyped-call]
        return client


class Transport(redis.Transport):
    """kombu's transport, with these channels."""

    Channel = Channel


def use() -> None:
    """Have addresses that begin with `redis://` or `rediss://` mean this transport."""
    here = f"{__name__}:Transport"
    TRANSPORT_ALIASES.update(redis=here, rediss=here)
