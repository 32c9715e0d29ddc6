"""A channel whose connection is gone is told as a lost connection, not as a bug."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kombu import Connection, Message, Queue
from kombu.asynchronous import Hub
from kombu.transport import TRANSPORT_ALIASES
from redis import Redis
from redis.exceptions import RedisError

from tests.workers.cluster_world import redis_url
from workers import redis_broker
from workers.queues import SWEEP, queue_of


def fill(connection: Connection, name: str, bodies: Iterable[object]) -> None:
    """Have these messages, and no others, wait in a queue."""
    queue = connection.SimpleQueue(name)
    queue.clear()
    for body in bodies:
        queue.put(body)
    queue.close()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_addresses_of_redis_mean_this_transport(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("redis", "rediss"):
        monkeypatch.setitem(TRANSPORT_ALIASES, name, "kombu.transport.redis:Transport")
    # Somebody was there before.
    Connection(f"{scheme}://127.0.0.1/0").get_transport_cls()
    redis_broker.use()
    assert Connection(f"{scheme}://127.0.0.1/0").get_transport_cls() is redis_broker.Transport


def test_a_message_acknowledged_after_its_connection_closed_is_a_lost_connection(
    tmp_path: Path,
) -> None:
    redis_broker.use()
    with redis_url(tmp_path) as url:
        connection = Connection(url)
        queue = connection.SimpleQueue("late")
        queue.put({})
        message = queue.get(timeout=5)
        channel = message.channel
        connection.collect()
        # As a reset of its socket leaves it.
        channel._disconnect_pools()
        # What a worker does with a message whose work is done.
        with pytest.raises(connection.connection_errors):
            channel.basic_ack(message.delivery_tag)
        # The same connection, made anew, works again.
        again = connection.SimpleQueue("late")
        again.put({})
        assert again.get(timeout=5).payload == {}
        connection.release()


EXPIRES = {"expires": "2026-03-01T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("body", "headers", "is_told"),
    [
        ([[7], {}, {}], EXPIRES, True),
        ([[7], {}, {}], {"expires": "2026-03-01T12:00:00"}, False),
        ([[7], {}, {}], {"expires": "soon"}, False),
        ([[7], {}, {}], {"expires": 7}, False),
        ([[7], {}, {}], {}, False),
        ([["7"], {}, {}], EXPIRES, False),
        ([[True], {}, {}], EXPIRES, False),
        ([[2**63], {}, {}], EXPIRES, False),
        ([[], {}, {}], EXPIRES, False),
        ({}, EXPIRES, False),
    ],
)
def test_the_message_that_is_taken_next_is_shown_whoever_put_it_there(
    tmp_path: Path, body: object, headers: dict[str, object], is_told: bool
) -> None:
    redis_broker.use()
    with redis_url(tmp_path) as url, Connection(url) as connection:
        queue, channel = connection.SimpleQueue("shown"), connection.default_channel
        queue.clear()
        assert channel.next_of("shown") is None
        queue.put(body, headers=headers)
        queue.put([[8], {}, {}], headers=EXPIRES)
        at = datetime(2026, 3, 1, 12, tzinfo=UTC)
        assert channel.next_of("shown") == ((7, at) if is_told else None)
        queue.get(timeout=5).ack()
        assert channel.next_of("shown") == (8, at)
        queue.clear()


def test_what_is_no_message_at_all_is_not_shown(tmp_path: Path) -> None:
    redis_broker.use()
    with redis_url(tmp_path) as url, Connection(url) as connection, Redis.from_url(url) as client:
        for text in ("no message", "[]", "7", '{"body": "%"}'):
            client.lpush("odd", text)
            assert connection.default_channel.next_of("odd") is None
            client.delete("odd")


UNLISTED = {"ack_emulation": False, "socket_connect_timeout": 5}


@contextlib.contextmanager
def opened(tmp_path: Path) -> Iterator[tuple[Connection, Redis]]:
    """A worker's connection, and the Redis that it is to."""
    redis_broker.use()
    with (
        redis_url(tmp_path) as url,
        Redis.from_url(url) as client,
        Connection(url, transport_options=UNLISTED) as connection,
    ):
        yield connection, client


def test_what_is_left_when_a_connection_closes_is_put_back(tmp_path: Path) -> None:
    redis_broker.use()
    with redis_url(tmp_path) as url, Redis.from_url(url) as client:
        with Connection(url, transport_options=UNLISTED) as connection:
            queue = connection.SimpleQueue("left")
            queue.clear()
            for number in range(3):
                queue.put(number)
            queue.get(timeout=5).ack()
            assert [queue.get(timeout=5).payload for _ in range(2)] == [1, 2]
            assert client.llen("left") == 0
        assert client.llen("left") == 2
        client.delete("left")


def test_polls_are_taken_before_what_is_to_be_sent(tmp_path: Path) -> None:
    redis_broker.use()
    sent, asked = queue_of("a", to_send=True), queue_of("a", to_send=False)
    taken: list[str] = []
    with redis_url(tmp_path) as url, Connection(url, transport_options=UNLISTED) as connection:
        for name in (sent, asked):
            fill(connection, name, [name] * 3)

        def take(body: str, message: Message) -> None:
            taken.append(body)
            message.ack()

        queues = [Queue(name) for name in (sent, asked)]
        with connection.Consumer(queues, callbacks=[take]):
            while len(taken) < 6:
                connection.drain_events(timeout=5)
    assert taken == [asked] * 3 + [sent] * 3


def test_as_many_are_taken_at_once_as_there_is_room_for(tmp_path: Path) -> None:
    taken: list[Message] = []
    with opened(tmp_path) as (connection, client):
        fill(connection, "many", range(9))
        keep = [lambda _, message: taken.append(message)]
        with connection.Consumer([Queue("many")], callbacks=keep, prefetch_count=4):
            connection.drain_events(timeout=5)
            assert (len(taken), client.llen("many")) == (4, 5)
            for message in taken[:2]:
                message.ack()
            connection.drain_events(timeout=5)
            assert (len(taken), client.llen("many")) == (6, 3)
            taken[2].ack()
            connection.drain_events(timeout=5)
        assert [message.payload for message in taken] == list(range(7))
        client.delete("many")


def test_a_channel_that_closes_puts_back_what_it_still_waited_for(tmp_path: Path) -> None:
    redis_broker.use()
    taken: list[str] = []
    keep = [lambda body, _: taken.append(body)]
    with redis_url(tmp_path) as url, Redis.from_url(url) as client:
        with Connection(url, transport_options=UNLISTED) as connection:
            with (
                connection.Consumer([Queue("ended")], callbacks=keep, prefetch_count=4),
                pytest.raises(TimeoutError),
            ):
                connection.drain_events(timeout=0.01)
            with Connection(url) as other:
                fill(other, "ended", range(3))
        assert taken == []
        assert client.llen("ended") == 3
        client.delete("ended")


def test_what_came_with_something_that_is_no_message_is_put_back(tmp_path: Path) -> None:
    taken: list[int] = []
    with opened(tmp_path) as (connection, client):
        fill(connection, "mixed", [0, 1, "to be no message", 2, 3])
        client.lset("mixed", 2, "no message")
        keep = [lambda body, _: taken.append(body)]
        with connection.Consumer([Queue("mixed")], callbacks=keep):
            connection.default_channel.basic_qos(0, 9, False)
            with pytest.raises(json.JSONDecodeError):
                connection.drain_events(timeout=5)
            while len(taken) < 4:
                connection.drain_events(timeout=5)
        assert taken == [0, 1, 2, 3]
        client.delete("mixed")


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no Redis of the tests' own")
def test_what_cannot_be_put_back_is_left_to_the_table_and_not_written_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    redis_broker.use()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with redis_url(tmp_path) as url:
        before = {path.name for path in tmp_path.iterdir()}
        with Connection(url, transport_options=UNLISTED) as connection:
            queue = connection.SimpleQueue("left")
            for number in range(3):
                queue.put(number)
                queue.get(timeout=5)
            with Redis.from_url(url) as client:
                client.shutdown(nosave=True)
        assert {path.name for path in tmp_path.iterdir()} == before
    said = [record.message for record in caplog.records if record.levelname != "INFO"]
    assert said == ["messages not put back"]


def test_some_more_are_taken_where_messages_end_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Message] = []
    with opened(tmp_path) as (connection, client):
        fill(connection, "quick", range(2_000))
        keep = [lambda _, message: taken.append(message)]
        with connection.Consumer([Queue("quick")], callbacks=keep, prefetch_count=2):
            qos = connection.default_channel.qos
            while qos.can_consume_max_estimate() == 2:
                connection.drain_events(timeout=5)
                for message in taken:
                    if not message.acknowledged:
                        message.ack()
            quick = len(taken)
            # It is not found out anew.
            monkeypatch.setattr(redis_broker, "AHEAD_S", 3_600)
            connection.drain_events(timeout=5)
            ahead = len(taken) - quick - 2
            assert 0 < ahead <= redis_broker.TAKEN_MAX
            with pytest.raises(TimeoutError):
                # None of them has ended: no more is asked for.
                connection.drain_events(timeout=0.01)
        client.delete("quick")


@pytest.mark.parametrize("number", [1, redis_broker.TICKS_MAX // 2 + 10])
def test_of_ticks_that_nobody_takes_the_latest_are_kept_and_payouts_are_all_kept(
    tmp_path: Path, number: int
) -> None:
    """One by one, or so many at a time."""
    paid, asked = queue_of("a", to_send=True), queue_of("a", to_send=False)
    queues, sent = (SWEEP, paid, asked), redis_broker.TICKS_MAX + 20
    with opened(tmp_path) as (connection, client):
        client.delete(*queues)
        with connection.Producer() as producer:
            for first in range(0, sent, number):
                with producer.batch() if number > 1 else contextlib.nullcontext():
                    for each in range(first, first + number):
                        for queue in queues:
                            producer.publish(each, routing_key=queue)
        told = [json.loads(message)["body"] for message in client.lrange(SWEEP, 0, -1)]
        assert [int(base64.b64decode(body)) for body in told] == [
            *reversed(range(sent - redis_broker.TICKS_MAX, sent))
        ]
        assert (client.llen(paid), client.llen(asked)) == (sent, sent)
        client.delete(*queues)


def test_a_tick_makes_room_in_a_redis_that_is_full_of_them(tmp_path: Path) -> None:
    with opened(tmp_path) as (connection, client), connection.Producer() as producer:
        client.delete(SWEEP)
        for _ in range(20):
            client.lpush(SWEEP, *(["an old one" * 100] * redis_broker.TICKS_MAX))
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        try:
            with pytest.raises(RedisError, match="maxmemory"):
                client.set("full", 1)
            producer.publish(7, routing_key=SWEEP)
        finally:
            client.config_set("maxmemory", before)
        assert client.llen(SWEEP) == redis_broker.TICKS_MAX
        client.delete(SWEEP)


@pytest.mark.parametrize("end", [redis_broker.QoS.ack, redis_broker.QoS.reject])
def test_a_thread_that_ends_a_message_wakes_the_loop_once_more_are_wanted(
    end: Callable[[redis_broker.QoS, str], None],
) -> None:
    loop = Hub()
    try:
        qos = redis_broker.QoS(channel=None, prefetch_count=2)
        qos.loop = loop
        qos.restore_at_shutdown = False
        for tag in "ab":
            assert qos.can_consume()
            qos.append(None, tag)
        assert not qos.can_consume()
        assert not loop._pop_ready()
        thread = threading.Thread(target=end, args=(qos, "a"))
        thread.start()
        thread.join()
        assert loop._pop_ready()
        assert qos.can_consume()
        # It was asked and said so: there is nothing to wake it for.
        end(qos, "b")
        assert not loop._pop_ready()
    finally:
        loop.close()
