"""Redis as kombu speaks to it, with three things mended and three added.

A closed channel says that it is closed. A worker acknowledges a message after its work, and by then
its connection may have been closed and made anew. kombu 5.7.0 then fails with an AttributeError,
which no caller takes for a lost connection, and the whole worker ends: one restart of Redis could
end all of them. As a connection error it is logged, and the message comes back, which the table
makes harmless.

And a channel keeps its client: kombu makes a new one for every command, which costs more than to
carry the command out. A client has no state but its pool of connections.

What a worker has left when its connection closes is put back, if that can be done; else kombu would
write it to a file in the temporary folder, for a person to put back. The table announces it again.

And the message is shown that is taken next; polls are taken before what is to be sent; and messages
are taken as many at a time as there are threads for: to wait for each one was a third of what a
worker did.
"""

from __future__ import annotations

import base64
import json
import logging
from datetime import datetime
from time import monotonic
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, _transport_cache, redis
from kombu.utils.scheduling import round_robin_cycle
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from workers.queues import polls_first

log = logging.getLogger(__name__)

_ID_MAX = 2**63 - 1
# Messages taken beside the one that was waited for: no more, or one worker would have all of a
# small batch; and for how long none is asked for, once there was none.
TAKEN_MAX = 8
ALONE_S = 0.05


class Channel(redis.Channel):
    """A channel that can be used, or says why not."""

    queue_order_strategy = f"{__name__}:PollsFirst"
    _puts_back = True
    _alone_until = 0.0

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

    def _brpop_read(self, **options: Any) -> bool:
        """Deliver the message that was waited for, and what else its queue has for idle threads."""
        super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu's own
        # Unless there is no limit, which says nothing of threads.
        idle = min(self.qos.can_consume_max_estimate() or 0, TAKEN_MAX)
        queues = self._queue_cycle.items
        # A channel that closes reads what it still waited for, when it has no queues any more.
        if queues and not self._closing and idle and monotonic() >= self._alone_until:
            # Whose turn it was is the last one now.
            self._take_more(queues[-1], idle)
        return True

    def _take_more(self, queue: str, number: int) -> None:
        with self.conn_or_acquire() as client:
            taken = client.rpop(queue, number) or []
            if not taken:
                self._alone_until = monotonic() + ALONE_S
            try:
                while taken:
                    self.connection._deliver(json.loads(taken.pop(0)), queue)
            finally:
                if taken:
                    # One of them was no message, which ends this worker.
                    client.rpush(queue, *reversed(taken))

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        if not self._puts_back:
            return
        try:
            super()._restore(message, leftmost)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            if not self._closing:
                raise
            # The others could wait as long for nothing.
            self._puts_back = False
            log.warning("messages not put back", extra={"reason": type(error).__name__})

    def next_of(self, queue: str) -> tuple[int, datetime] | None:
        """Of the message that is taken next the payout, and when it is worthless; None: none waits,
        or it is no payout's.

        Anybody who reaches the broker may have put it there.
        """
        with self.conn_or_acquire() as client:
            # Put in at the one end of its list, and taken from the other.
            message = client.lindex(queue, -1)
        try:
            document = json.loads(message)
            [payout_id], *_ = json.loads(base64.b64decode(document["body"]))
            expires_at = datetime.fromisoformat(document["headers"]["expires"])
        except (TypeError, ValueError, LookupError, RecursionError):
            return None
        named = type(payout_id) is int and 0 < payout_id <= _ID_MAX
        return (payout_id, expires_at) if named and expires_at.tzinfo else None


class PollsFirst(round_robin_cycle):
    """Asks the queues in turns, those of polls before those of payouts to be sent."""

    def consume(self, n: int) -> list[str]:
        return polls_first(super().consume(n))  # type: ignore[no-untyped-call]  # kombu's own


class Transport(redis.Transport):
    """kombu's transport, with these channels."""

    Channel = Channel


def use() -> None:
    """Have addresses that begin with `redis://` or `rediss://` mean this transport, whatever they
    have been used for before.
    """
    here = f"{__name__}:Transport"
    TRANSPORT_ALIASES.update(redis=here, rediss=here)
    for name in ("redis", "rediss"):
        _transport_cache.pop(name, None)
