"""A channel whose connection is gone is told as a lost connection, not as a bug."""

from __future__ import annotations

from pathlib import Path

import pytest
from kombu import Connection

from tests.workers.cluster_world import redis_url
from workers import redis_broker


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_addresses_of_redis_mean_this_transport(scheme: str) -> None:
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
