"""A cluster on this machine: a real Redis, a real Celery worker, a real beat, one folder.

The Redis is the tests' own where `redis-server` is installed, else the one that
PAYBATCH_TEST_REDIS_URL names. Without either the tests are skipped, and say so; in CI they fail.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu import Connection, Queue

from tests.batches.cli_world import TIMEOUT_S, Provider, World, provided, until
from tests.worlds import give_up
from workers.queues import queue_of, queues_of

QUEUE = queue_of("main", to_send=True)


@contextlib.contextmanager
def redis_url(folder: Path) -> Iterator[str]:
    """A Redis that keeps nothing, for as long as the block lasts."""
    program = shutil.which("redis-server")
    if program is None:
        given = os.environ.get("PAYBATCH_TEST_REDIS_URL")
        if given is None:
            give_up("no Redis: install redis-server, or set PAYBATCH_TEST_REDIS_URL")
        yield given
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([program, "--port", str(port), *quiet], stdout=log, stderr=log)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        until(lambda: _answers(url))
        yield url
    finally:
        end(process)


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process of ours, and wait until it is gone."""
    process.kill()
    process.wait(TIMEOUT_S)


class Cluster:
    """A world whose payouts are paid by whatever workers are started."""

    def __init__(self, world: World, provider: Provider, url: str) -> None:
        self.world, self.provider = world, provider
        self.redis = redis.Redis.from_url(url)
        world.env["PAYBATCH_BROKER_URL"] = url
        world.env["PAYBATCH_HEARTBEAT_FOLDER"] = str(world.folder)
        world.env["PAYBATCH_DATABASE_URL"] = f"sqlite:///{world.folder}/paybatch.db"
        self.url = url
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `celery -A workers.app ...` in the folder."""
        plain = {name: text for name, text in os.environ.items() if "PAYBATCH" not in name}
        name = self.world.screens / f"{arguments[0]}.{len(self._processes)}"
        with name.open("wb") as screen, name.with_suffix(name.suffix + ".err").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "workers.app", *arguments],
                cwd=self.world.folder,
                env=plain | self.world.env,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def start_worker(self, *options: str) -> subprocess.Popen[bytes]:
        quick = ("-l", "INFO", "--without-gossip", "--without-mingle")
        return self.start("worker", "-P", "threads", "-c", "8", *quick, *options)

    def start_beat(self) -> subprocess.Popen[bytes]:
        return self.start("beat", "-S", "celery.beat:Scheduler")

    def publish(self, *arguments: object, times: int = 1) -> None:
        """Send messages as anybody could who reaches the broker."""
        quorum = {"x-queue-type": "quorum", "x-delivery-limit": 20}
        of_rabbitmq = quorum if self.url.startswith("amqp:") else None
        queue = Queue(QUEUE, routing_key=QUEUE, queue_arguments=of_rabbitmq)
        with Celery(broker=self.url, set_as_current=False) as app:
            for _ in range(times):
                app.send_task("workers.tasks.pay", arguments, queue=queue, ignore_result=True)

    def messages(self) -> list[int]:
        """The payouts whose messages wait in Redis to be sent."""
        waiting = [json.loads(message) for message in self.redis.lrange(QUEUE, 0, -1)]
        return [json.loads(base64.b64decode(one["body"]))[0][0] for one in waiting]

    def use_broker(self, url: str) -> None:
        """Have everything that is started from now on use that broker, with nothing in it."""
        self.url = self.world.env["PAYBATCH_BROKER_URL"] = url
        with Connection(url) as connection:
            for queue in queues_of(["main"]):
                connection.default_channel.queue_delete(queue)

    def queue_type(self, queue: str) -> str:
        """What RabbitMQ says against taking that queue for a classic one."""
        classic = {"x-queue-type": "classic"}
        with Connection(self.url) as connection:
            channel = connection.default_channel
            with pytest.raises(connection.channel_errors) as refused:
                channel.queue_declare(queue, durable=True, auto_delete=False, arguments=classic)
        return str(refused.value)

    def states(self, batch_id: str) -> list[str]:
        rows = self.world.query(
            "SELECT state FROM payouts WHERE batch_id = ? ORDER BY row", batch_id
        )
        return [state for (state,) in rows]

    def ids(self, batch_id: str) -> list[int]:
        rows = self.world.query("SELECT id FROM payouts WHERE batch_id = ? ORDER BY row", batch_id)
        return [number for (number,) in rows]

    def submit(self, name: str, *options: str) -> str:
        return str(self.world.paybatch("submit", name, *options, "--json").json["batch_id"])

    def until_paid(self, batch_id: str) -> None:
        until(lambda: set(self.states(batch_id)) == {"paid"})

    def close(self) -> None:
        for process in self._processes:
            end(process)
        self.redis.close()


@contextlib.contextmanager
def clustered(folder: Path, *flags: str) -> Iterator[Cluster]:
    """A cluster with nothing started in it yet but its Redis and its provider, with these flags."""
    with redis_url(folder) as url, provided(folder, *flags) as (world, provider):
        cluster = Cluster(world, provider, url)
        try:
            yield cluster
        finally:
            cluster.close()
