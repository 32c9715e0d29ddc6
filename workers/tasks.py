"""The Celery tasks: an id in, one call. They may be lost, doubled or late; the table decides."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from celery import Task
from celery.signals import celeryd_after_setup, worker_shutdown, worker_shutting_down
from celery.worker.request import Request
from kombu.exceptions import BatchPublishError, OperationalError
from kombu.utils.uuid import uuid
from sqlalchemy.exc import DBAPIError

from workers import payment, redis_broker
from workers import sweep as sweeping
from workers.app import app
from workers.errors import BrokerUnreachable, DeveloperError
from workers.queues import accounts_in, queue_of
from workers.record.due import Due, Message
from workers.record.groups import is_away
from workers.runtime import Runtime, settings_of
from workers.settings import Settings

log = logging.getLogger(__name__)

PUBLISH_MAX = 500
# A broker that does not take a connection in so long does not answer.
CONNECT_S = 5
# How often a sweep tells that it went all the way through.
TELL_S = 5
# Ticks nearer to each other than this find nothing new.
TICK_S_MIN = 0.1

Told = TypeVar("Told")
Asked = ParamSpec("Asked")

_runtime: list[Runtime] = []
_lock = threading.Lock()
_stopping = threading.Event()
# How many threads this worker has for which accounts; empty: not a worker that shares any.
_threads: dict[str, Any] = {}


class _Request(Request):  # type: ignore[misc]  # Celery ships no types
    """A message, whose time is told by the record's clock."""

    # Found out from the settings for each message otherwise. All times here have a zone.
    _tzlocal = UTC

    def __init__(self, message: Any, **given: Any) -> None:
        # A tenth of what Celery's own reading of times takes.
        super().__init__(message, maybe_iso8601=datetime.fromisoformat, **given)

    def maybe_expire(self) -> bool:
        """Never by this machine's clock: a wrong one would throw every message away. A message
        that comes late finds its payout due, or nothing to claim.
        """
        return False


class ById(Task):  # type: ignore[misc]  # Celery ships no types
    """A task whose message may come late, and finds what there is to do in the record."""

    Request = _Request


def told_here(work: Callable[Asked, None]) -> Callable[Asked, None]:
    """Have what goes wrong told in our own log alone: Celery would send an error's words, which may
    quote a beneficiary, to everybody who listens at the broker.
    """

    @functools.wraps(work)
    def working(*args: Asked.args, **kwargs: Asked.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except Exception as error:
            if isinstance(error, DBAPIError) and is_away(error):
                # Nothing here is wrong, and whoever comes next finds the same work.
                log.warning("database away", extra={"reason": type(error.orig).__name__})
                return
            log.exception("task failed", extra={"payout_id": next(iter(args), None)})
            name = type(error).__name__
            raise DeveloperError(f"{name}; the log of the worker says where") from None

    return working


@app.task(name="workers.tasks.pay", base=ById)
@told_here
def pay(payout_id: int) -> None:
    """Take one payout as far as it goes now."""
    payment.pay(payout_id, runtime())


def one_at_a_time(work: Callable[[], None]) -> Callable[[], None]:
    """Have a tick do its work once at a time in this process, and not when it stops: however long
    the work takes, its ticks keep one thread busy. Those that come meanwhile, as those that waited
    for a worker to start, ask for what is being done.
    """
    under_way = threading.Lock()
    began = -TICK_S_MIN

    @functools.wraps(work)
    def working() -> None:
        nonlocal began
        if _stopping.is_set() or not under_way.acquire(blocking=False):
            return
        try:
            now = time.monotonic()
            if now - began >= TICK_S_MIN:
                began = now
                work()
        finally:
            under_way.release()

    return working


@app.task(name="workers.tasks.sweep", base=ById)
@told_here
@one_at_a_time
def sweep() -> None:
    """Find what is due, lost or left by the dead; beat asks for it every few seconds."""
    record = runtime()
    # A provider that hangs keeps its own account waiting, and not the next sweep.
    sweeping.sweep(record, broker, start=sweeping.in_background)
    record.book.tell_swept(record.clock.now(), every_s=TELL_S)


@app.task(name="workers.tasks.dispatch", base=ById)
@told_here
@one_at_a_time
def dispatch() -> None:
    """Announce what is due; beat asks for it more often than for a sweep."""
    with sweeping.unless_away():
        sweeping.announce(runtime(), broker)


class CeleryBroker:
    """The broker of the settings, by way of Celery."""

    def publish(self, due: Sequence[Due]) -> None:
        """Send one message a payout, in bulk.

        Raises:
            BrokerUnreachable: it is not known which were sent.
        """

        def send() -> None:
            with app.producer_or_acquire() as producer:
                for queue in {queue_of(one.account, to_send=one.to_send) for one in due}:
                    producer.maybe_declare(app.amqp.queues[queue])
                with producer.batch(max_size=PUBLISH_MAX):
                    for one in due:
                        _publish(producer, one)

        _reached(send)

    def waiting(self, queue: str) -> int:
        """How many messages wait in a queue; 0 also for one that is not there.

        Raises:
            BrokerUnreachable: it does not say.
        """

        def count() -> int:
            with app.connection_or_acquire() as connection:
                connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
                try:
                    with connection.channel() as channel:
                        return int(channel.queue_declare(queue=queue, passive=True).message_count)
                except connection.channel_errors:
                    return 0

        return _reached(count)

    def next_of(self, queue: str) -> Message | None:
        """The message that is taken next; None: none is, or this broker does not show it. Only
        Redis needs to: RabbitMQ itself sends again what a killed worker had.

        Raises:
            BrokerUnreachable: it does not answer.
        """

        def look() -> Message | None:
            with app.connection_or_acquire() as connection:
                connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
                with connection.channel() as channel:
                    if isinstance(channel, redis_broker.Channel):
                        shown = channel.next_of(queue)
                        return None if shown is None else Message(*shown)
            return None

        return _reached(look)


broker = CeleryBroker()


def _publish(producer: Any, due: Due) -> None:
    """Send a payout's message, as `pay.apply_async` would: most of what that does is the same for
    every payout, and done here once.
    """
    queue, task_id = queue_of(due.account, to_send=due.to_send), uuid()
    producer.publish(
        ((due.payout_id,), {}, _EMBED),
        exchange="",
        routing_key=queue,
        serializer="json",
        headers={
            **_headers(),
            "id": task_id,
            "root_id": task_id,
            "argsrepr": f"({due.payout_id},)",
            "expires": due.expires_at.isoformat(),
        },
        # Where the broker can throw it away itself.
        expiration=due.lasts_s,
        correlation_id=task_id,
        retry=False,
    )


# What a task asks for beside its arguments: nothing.
# Source: Celery documentation, "Message Protocol", version 2.
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@functools.cache
def _headers() -> Mapping[str, Any]:
    """What Celery puts before every payout's task."""
    headers: Mapping[str, Any] = app.amqp.as_task_v2("", pay.name, (0,), ignore_result=True).headers
    return headers


def _reached(work: Callable[[], Told]) -> Told:
    """The one mapping of what goes wrong on the way to the broker."""
    try:
        return work()
    except _broker_errors() as error:
        raise BrokerUnreachable(f"the broker does not answer: {error}") from error


def _broker_errors() -> tuple[type[BaseException], ...]:
    connection = app.connection_for_write()
    of_transport = (*connection.connection_errors, *connection.channel_errors)
    return (OperationalError, BatchPublishError, OSError, *of_transport)


def runtime() -> Runtime:
    """This process's runtime: the one handed over by `use`, else made from the settings."""
    with _lock:
        if not _runtime:
            opened = Runtime.open(Settings.load(settings_of))
            if _threads:
                opened.share(_threads["number"], among=_threads["accounts"])
            if _stopping.is_set():
                opened.clock.stop()
            _runtime.append(opened)
        return _runtime[0]


def stop() -> None:
    """Begin no more payouts in this process, and let nobody wait: what is not begun is given back.

    Safe in a signal handler.
    """
    _stopping.set()
    for opened in _runtime:
        opened.clock.stop()


def use(given: Runtime | None) -> None:
    """Have this process's tasks work with a runtime that is already open; None: forget it."""
    if given is not None:
        _stopping.clear()
    with _lock:
        _runtime[:] = [given] if given is not None else []


@celeryd_after_setup.connect
def _share_threads(instance: Any, **_: Any) -> None:
    """Note how many threads this worker has, and for which accounts."""
    queues = instance.app.amqp.queues.consume_from
    _threads.update(number=instance.concurrency, accounts=accounts_in(queues))


@worker_shutting_down.connect
def _worker_stops(**_: Any) -> None:
    stop()


@worker_shutdown.connect
def _worker_stopped(**_: Any) -> None:
    """Its calls have ended; what it keeps in memory is stored."""
    with _lock:
        for opened in _runtime:
            opened.close()
        _runtime.clear()
