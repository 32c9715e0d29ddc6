"""What a worker does otherwise than Celery, for each of very many quick payouts.

Its events for Flower are told some times a second instead of one by one: Celery sends them as soon
as its loop comes round, which is one message to the broker for each, more work than the payout's
own message. Flower draws them once a second.

And what has ended is acknowledged by the thread that did it, where that sends nothing: Celery has
its loop woken for each.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.concurrency.solo import TaskPool as InTheLoop
from celery.worker.consumer.connection import Connection
from celery.worker.consumer.events import Events

from workers import redis_broker

TELL_S = 0.5
# So many are told at once, whenever they have come together.
EVENTS_MAX = 500


class EventsInBulk(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Sets the consumer's dispatcher of events to tell them in bulk, after each connection."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._timer: Any = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Tell them by the timer, where Celery keeps them at all: with its event loop."""
        dispatcher = consumer.event_dispatcher
        if consumer.hub is None or dispatcher is None:
            return
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = EVENTS_MAX
        self._timer = consumer.timer.call_repeatedly(TELL_S, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        """Have what has come, and what ends while the worker stops, told when its loop closes."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.on_send_buffered = consumer.on_send_event_buffered
            consumer.on_send_event_buffered()


class AcksInPlace(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Has messages from Redis acknowledged by whoever worked on them, after each connection."""

    requires = (Connection,)

    def start(self, consumer: Any) -> None:
        """Set the consumer to do so: to acknowledge is only to note it where any thread may."""
        channel = consumer.connection.default_channel
        if not isinstance(channel, redis_broker.Channel):
            return
        # A pool that works in the loop itself has done with a message when it was taken: with many
        # taken at once, heartbeats and what is asked of the worker would wait for all of them.
        channel.takes_more = not isinstance(consumer.pool, InTheLoop)
        if not channel.ack_emulation:
            # Each connection has a channel of its own. kombu knows a loop, too, but forgets it when
            # a connection is lost.
            channel.qos.loop = consumer.hub
            consumer.call_soon_ack = _here


def _here(ack: Any, *args: Any) -> None:
    ack(*args)
