"""Redis as kombu speaks to it, with four things mended and three added.

A closed channel says that it is closed. A worker acknowledges a message after its work, and by then
its connection may have been closed and made anew. kombu 5.7.0 then fails with an AttributeError,
which no caller takes for a lost connection, and the whole worker ends: one restart of Redis could
end all of them. As a connection error it is logged, and the message comes back, which the table
makes harmless.

And a channel keeps its client: kombu makes a new one for every command, which costs more than to
carry the command out. A client has no state but its pool of connections.

What a worker has left when its connection closes is put back, if that can be done; else kombu would
write it to a file in the temporary folder, for a person to put back. The table announces it again.

Of beat's ticks only the latest are kept. In Redis no message goes by itself when its time is over,
so without a worker they would fill it within hours, and then no worker can start.

And the message is shown that is taken next; polls are taken before what is to be sent; and messages
are taken some at a time: as many as there are idle threads, and, where payouts end quickly, as many
more as will be wanted at once. To wake up and wait for each one was a third of what a worker did,
and all that its loop did for one that ended later near half (docs/performance.md).
"""

from __future__ import annotations

import base64
import json
import logging
from datetime import datetime
from time import monotonic
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, _transport_cache, redis, virtual
from kombu.utils.scheduling import round_robin_cycle
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from workers.queues import SWEEP, polls_first

log = logging.getLogger(__name__)

_ID_MAX = 2**63 - 1
# Messages taken beside the one that was waited for: no more, or one worker would have all of a
# small batch; and for how long none is asked for, once there was none.
TAKEN_MAX = 16
ALONE_S = 0.05
# Taken ahead are as many as have ended in this time lately: no message waits longer for its thread
# because another worker could have had it.
AHEAD_S = 0.05
# Ticks kept, of about 1 kB: two beats send eleven a second, so these are of a minute and a half,
# and some of every kind. What an older one asks for, a later one does, too; and a worker that
# starts has done with them in a second or two.
TICKS_MAX = 1_000


class QoS(virtual.QoS):
    """How many messages may be out: one a thread, and a few ahead where they end quickly.

    Messages may be acknowledged by any thread.
    """

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)  # type: ignore[no-untyped-call]  # kombu's own
        self._ahead = 0
        self._ended, self._since = 0, monotonic()
        # Whether the loop was told that no more may be taken.
        self._is_full = False
        # The loop of the worker that takes messages here; None: whoever does so needs no waking.
        self.loop: Any = None

    def can_consume(self) -> bool:
        """Whether to ask for messages: not for each one, as long as some are left to begin."""
        # Before it is looked at: whoever acknowledges one in between wakes the loop for nothing.
        self._is_full = True
        self._is_full = not self._is_low()
        return not self._is_full

    def can_consume_max_estimate(self) -> int | None:
        """How many may be taken; None: any number."""
        return max(0, self._idle() + self._ahead) if self.prefetch_count else None

    def ack(self, delivery_tag: Any) -> None:
        """Note that a message has ended, and wake the loop where it is to take more."""
        super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu's own
        self._end()

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        """The same, of a message that was not worked on."""
        super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]  # kombu's own
        self._end()

    def look_ahead(self) -> None:
        """Find out how many end in `AHEAD_S` these days."""
        took_s = monotonic() - self._since
        if took_s >= AHEAD_S:
            self._ahead = min(TAKEN_MAX, int(self._ended * AHEAD_S / took_s))
            self._ended, self._since = 0, monotonic()

    def _end(self) -> None:
        # Two threads at once may count one: it is an estimate.
        self._ended += 1
        if self._is_full and self._is_low():
            self._is_full = False
            if self.loop is not None:
                self.loop.call_soon(_nothing)

    def _is_low(self) -> bool:
        return not self.prefetch_count or self._idle() + self._ahead // 4 > 0

    def _idle(self) -> int:
        """Threads that have no message; below zero, messages that have no thread."""
        out: int = len(self._delivered) - len(self._dirty)
        return self.prefetch_count - out


def _nothing() -> None:
    """To be called by a loop that only has to wake up."""


class Channel(redis.Channel):
    """A channel that can be used, or says why not."""

    queue_order_strategy = f"{__name__}:PollsFirst"
    # Whether more messages than the one that was waited for may be taken at a time.
    takes_more = True
    _puts_back = True
    _alone_until = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # kombu's own
        if not self.ack_emulation:
            self.QoS = QoS  # type: ignore[assignment]  # there it is one with a list in Redis

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

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        """Put a message into its queue; into that of ticks, in the place of the oldest."""
        if queue == SWEEP:
            # Before, not after it: a Redis that is full takes nothing, and this makes room.
            keep = ("ltrim", queue, 0, TICKS_MAX - 2)
            batch = options.get("_publish_batch")
            if batch is not None:
                batch.add(*keep)
            else:
                with self.conn_or_acquire() as client:
                    client.execute_command(*keep)
        super()._put(queue, message, **options)  # type: ignore[no-untyped-call]  # kombu's own

    def _brpop_read(self, **options: Any) -> bool:
        """Deliver the message that was waited for, and what else may be taken of its queue."""
        super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu's own
        if not self.takes_more:
            return True
        if isinstance(self.qos, QoS):
            self.qos.look_ahead()
        # Unless there is no limit, which says nothing of threads.
        wanted = min(self.qos.can_consume_max_estimate() or 0, TAKEN_MAX)
        queues = self._queue_cycle.items
        # A channel that closes reads what it still waited for, when it has no queues any more.
        if queues and not self._closing and wanted and monotonic() >= self._alone_until:
            # Whose turn it was is the last one now.
            self._take_more(queues[-1], wanted)
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
