"""What a worker does otherwise than Celery, seen from outside: real workers on a real Redis."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from kombu import Queue

from tests.batches.cli_world import ROOT, TIMEOUT_S, until
from tests.workers.cluster_world import QUEUE, Cluster, clustered
from tests.workers.held_tasks import BEGUN, GO, WOKEN


class Held:
    """A cluster with a worker whose tasks end when they are told to."""

    def __init__(self, cluster: Cluster) -> None:
        cluster.world.env["PYTHONPATH"] = str(ROOT)
        self._cluster, self.redis = cluster, cluster.redis

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """A worker that takes messages."""
        worker = self._cluster.start_worker("-I", "tests.workers.held_tasks", *options)
        until(self.waiting)
        return worker

    def publish(self, number: int) -> None:
        """So many of them."""
        queue = Queue(QUEUE, routing_key=QUEUE)
        with Celery(broker=self._cluster.url, set_as_current=False) as app:
            for each in range(number):
                app.send_task("held", (each,), queue=queue, ignore_result=True)

    def let_go(self, number: int) -> None:
        for each in range(number):
            self.redis.rpush(GO, each)

    @contextlib.contextmanager
    def heard(self) -> Iterator[Counter[str]]:
        """How many events of each kind a listener like Flower hears of, as they come."""
        kinds: Counter[str] = Counter()
        count = {"*": lambda event: kinds.update([event["type"]])}
        with Celery(broker=self._cluster.url, set_as_current=False) as app, app.connection() as to:
            receiver = app.events.Receiver(to, handlers=count)
            thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
            thread.start()
            try:
                until(self.redis.pubsub_numpat)
                yield kinds
            finally:
                receiver.should_stop = True
                thread.join()

    def begun(self) -> int:
        return self.redis.llen(BEGUN)

    def woken(self) -> int:
        return int(self.redis.get(WOKEN) or 0)

    def waiting(self) -> set[str]:
        """The connections that wait for a message."""
        clients = self.redis.client_list()
        return {one["id"] for one in clients if one["cmd"] == "brpop"}


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[Held]:
    with clustered(folder) as cluster:
        yield Held(cluster)


def test_a_worker_whose_connections_were_lost_is_woken_by_its_threads_as_before(
    tmp_path: Path,
) -> None:
    with holding(tmp_path) as held:
        held.start("-c", "2")

        def work() -> None:
            """Until a thread has woken the loop: it may end before the loop has said it is full."""
            woken = held.woken()

            def wakes() -> bool:
                before = held.begun()
                held.publish(4)
                held.let_go(4)
                until(lambda: held.begun() == before + 4)
                return held.woken() > woken

            until(wakes)

        work()
        for _ in range(2):
            before = held.waiting()
            for each in before:
                held.redis.client_kill_filter(_id=each)
            until(lambda before=before: held.waiting() - before)
            work()


@pytest.mark.parametrize("late", [3, 0])
def test_what_ends_while_a_worker_stops_is_told_to_whoever_listens(
    tmp_path: Path, late: int
) -> None:
    with holding(tmp_path) as held, held.heard() as kinds:
        worker = held.start()
        held.publish(6)
        until(lambda: held.begun() == 6)
        # Told by a worker that goes on, and a moment before it is told to stop.
        held.let_go(1)
        until(lambda: kinds["task-succeeded"] == 1)
        held.let_go(5 - late)
        until(lambda: held.redis.llen(GO) == 0)
        worker.send_signal(signal.SIGTERM)
        until(lambda: kinds["worker-offline"])
        held.let_go(late)
        assert worker.wait(TIMEOUT_S) == 0
        until(lambda: kinds["task-succeeded"] == 6)


def test_a_worker_that_works_in_its_loop_takes_one_message_at_a_time(tmp_path: Path) -> None:
    with holding(tmp_path) as held:
        held.start("-P", "solo", "-c", "8")
        held.publish(6)
        for begun in range(1, 7):
            until(lambda begun=begun: held.begun() == begun)
            # What it has not begun waits for whoever is free.
            assert held.redis.llen(QUEUE) == 6 - begun
            held.let_go(1)
