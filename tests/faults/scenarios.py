"""What is done to a cluster while it pays: each scenario, and the acts that it is made of.

An act is one disturbance from its beginning to its end. It is called again and again while the
batch is being paid, with the scenario's own chance; what it leaves broken is mended at the end.
"""

from __future__ import annotations

import ast
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from tests.faults.fault_world import BUDGETS, TASKS, FaultWorld, wait_for
from tests.faults.files import HARSH_WORDS, LATE_WORDS, WORDS
from tests.faults.proxy import Proxy
from tests.workers.cluster_world import QUEUE

SKEW_S = 1200
SHIFTED_TIME = Path(__file__).parent / "shifted_time"


@dataclass(frozen=True)
class Size:
    """How much of everything: the short form and the long one."""

    payouts: int
    acts: int
    # How long something is gone.
    outage_s: float
    # After the last act.
    limit_s: float
    # A paused account waits for its own probes.
    patient: bool


SHORT = Size(payouts=120, acts=2, outage_s=3, limit_s=180, patient=False)
LONG = Size(payouts=2000, acts=12, outage_s=60, limit_s=600, patient=True)

Act = Callable[[FaultWorld, random.Random, Size], None]
Beside = Callable[[FaultWorld, random.Random], AbstractContextManager[object]]


def _nothing_beside(world: FaultWorld, rng: random.Random) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True)
class Scenario:
    """A batch that is paid while the acts happen, in turn."""

    name: str
    acts: Sequence[Act]
    words: Mapping[str, str]
    # What goes on all the time beside it.
    beside: Beside
    # How often there is an act at most: something that takes a minute is not done twelve times.
    acts_max: int
    # So many acts at the same time, drawn by chance; 0: one after another, in turn.
    at_once: int
    # It takes minutes, whatever the number of payouts.
    only_long: bool


def scenario(
    name: str,
    *acts: Act,
    words: Mapping[str, str] = WORDS,
    beside: Beside = _nothing_beside,
    acts_max: int = 1000,
    at_once: int = 0,
    only_long: bool = False,
) -> Scenario:
    return Scenario(name, acts, words, beside, acts_max, at_once, only_long)


# --- workers and beats ---


def kill_a_worker(world: FaultWorld, rng: random.Random, size: Size) -> None:
    world.kill(world.one_of(world.workers, rng))
    world.done["kill"] += 1
    time.sleep(rng.uniform(0, 0.5))
    world.staff()


def freeze_a_worker(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """Longer than any claim of it; others take over; then it goes on as if nothing had been."""
    worker = world.one_of(world.workers, rng)
    worker.send(signal.SIGSTOP)
    world.done["stop"] += 1
    time.sleep(BUDGETS["claim_s"] + rng.uniform(1, 2))
    worker.send(signal.SIGCONT)


def freeze_a_worker_for_long(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """Longer than it takes to prove that its create never arrived."""
    worker = world.one_of(world.workers, rng)
    worker.send(signal.SIGSTOP)
    world.done["stop"] += 1
    time.sleep(BUDGETS["claim_s"] + BUDGETS["lookup_grace_s"] + rng.uniform(1, 3))
    worker.send(signal.SIGCONT)


def restart_all_workers(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """As a deployment does: told to stop, waited for, started again."""
    told = list(world.workers)
    for worker in told:
        worker.send(signal.SIGTERM)
    world.done["term"] += len(told)
    for worker in told:
        if not wait_for(lambda worker=worker: worker.has_ended, 50):
            raise AssertionError("a worker that was told to stop has not ended within 50 s")
    world.staff()


def disturb_a_beat(world: FaultWorld, rng: random.Random, size: Size) -> None:
    beat = world.one_of(world.beats, rng)
    if rng.random() < 0.5:
        world.kill(beat)
        world.done["kill"] += 1
        time.sleep(rng.uniform(0, 2))
        world.staff()
    else:
        beat.send(signal.SIGSTOP)
        world.done["stop"] += 1
        time.sleep(rng.uniform(2, 5))
        beat.send(signal.SIGCONT)


def wrong_clocks(*shifts_s: int) -> Beside:
    """Workers whose clocks are wrong by so many seconds, in place of as many right ones."""

    @contextmanager
    def beside(world: FaultWorld, rng: random.Random) -> Iterator[None]:
        for worker in world.workers[: len(shifts_s)]:
            world.kill(worker)
        skewed = [
            world.start_worker(PYTHONPATH=str(SHIFTED_TIME), FAULTS_CLOCK_SHIFT_S=str(shift_s))
            for shift_s in shifts_s
        ]
        world.done["skewed"] += len(skewed)
        try:
            yield
        finally:
            for worker in skewed:
                world.kill(worker)

    return beside


# --- the broker ---


def flush_redis(world: FaultWorld, rng: random.Random, size: Size) -> None:
    world.redis.client.flushall()
    world.done["flush"] += 1


def restart_redis(world: FaultWorld, rng: random.Random, size: Size) -> None:
    with world.lock:
        world.redis.kill()
        world.done["kill"] += 1
        time.sleep(rng.uniform(0, 1.5))
        world.redis.start()


def lose_redis(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """Out of reach: refused, or swallowed, which nobody notices at once."""
    if rng.random() < 0.5:
        world.to_redis.refuse()
    else:
        world.to_redis.swallow()
    world.done["cut"] += 1
    time.sleep(size.outage_s)
    world.to_redis.mend()


def strand_on_redis(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """Half-open for ever: nobody is told, and nothing but a time-out of one's own can help."""
    world.done["cut"] += world.to_redis.strand()
    if not wait_for(lambda: world.open_count() == 0, size.limit_s):
        raise AssertionError(f"nobody noticed within {size.limit_s} s:\n{world.stuck()}")


@contextmanager
def every_message_twice(world: FaultWorld, rng: random.Random) -> Iterator[None]:
    """Whatever is published to a queue is there once more at once, to the byte."""
    monitor = socket.create_connection(("127.0.0.1", world.redis.port))
    monitor.sendall(b"MONITOR\r\n")

    def copy() -> None:
        ours: Counter[bytes] = Counter()
        with monitor, monitor.makefile("rb") as lines:
            for line in lines:
                for queue, message in _published(line):
                    # What we pushed ourselves is seen as well.
                    if ours[message]:
                        ours[message] -= 1
                        continue
                    ours[message] += 1
                    world.redis.client.lpush(queue, message)
                    world.done["doubled"] += 1

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield
    finally:
        monitor.shutdown(socket.SHUT_RDWR)
        thread.join()


_WORDS = re.compile(rb'"(?:[^"\\]|\\.)*"')


def _published(line: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The queue and the message, where a line of MONITOR is a task's publishing."""
    words = _WORDS.findall(line)
    if len(words) == 3 and words[0].upper() == b'"LPUSH"' and TASKS.encode() in words[2]:
        queue, message = (ast.literal_eval("b" + word.decode()) for word in words[1:])
        yield queue, message


def publish_stale_ids(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """Anybody who reaches the broker may send any id, finished ones too, any number of times."""
    ids = [row.id for row in world.query("SELECT id FROM payouts")]
    url = f"redis://127.0.0.1:{world.redis.port}/0"
    with Celery(broker=url, set_as_current=False) as app:
        for payout_id in rng.sample(ids, min(len(ids), 150)):
            for _ in range(2):
                app.send_task(f"{TASKS}pay", (payout_id,), queue=QUEUE, ignore_result=True)
                world.done["stale"] += 1


# --- the database ---


def restart_postgres(world: FaultWorld, rng: random.Random, size: Size) -> None:
    with world.lock:
        world.postgres.stop()
        world.done["kill"] += 1
        time.sleep(rng.uniform(0, size.outage_s / 4))
        world.postgres.start()


def cut_at_commit(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """The server got the COMMIT, or it did not; the client cannot know."""
    _cut_for_a_while(world, b"COMMIT", rng.choice(["before", "after"]), rng)


def cut_in_mid_transaction(world: FaultWorld, rng: random.Random, size: Size) -> None:
    _cut_for_a_while(world, b"BEGIN", "next", rng)


def cut_all_of_postgres(world: FaultWorld, rng: random.Random, size: Size) -> None:
    before = world.to_postgres.cuts
    world.to_postgres.cut()
    world.done["cut"] += world.to_postgres.cuts - before


def half_open_postgres(world: FaultWorld, rng: random.Random, size: Size) -> None:
    world.to_postgres.swallow()
    time.sleep(rng.uniform(1, min(10, size.outage_s)))
    before = world.to_postgres.cuts
    world.to_postgres.mend()
    world.done["cut"] += world.to_postgres.cuts - before


def _cut_for_a_while(world: FaultWorld, needle: bytes, how: str, rng: random.Random) -> None:
    before = world.to_postgres.cuts
    world.to_postgres.cut_at(needle, how, chance=0.2, rng=rng)
    time.sleep(rng.uniform(0.5, 1.5))
    world.to_postgres.mend()
    world.done["cut"] += world.to_postgres.cuts - before


# --- the provider ---


def a_provider(world: FaultWorld, rng: random.Random) -> tuple[str, Proxy]:
    name = rng.choice(["main", "main", "second"])
    return name, world.to_provider[name]


def provider_outage(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """It dies in mid-call and comes back with what it had written down."""
    name, _ = a_provider(world, rng)
    world.providers[name].kill()
    world.done["kill"] += 1
    time.sleep(rng.uniform(0.5, size.outage_s))
    world.providers[name].start()


def provider_says_wait(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """A storm of 429."""
    provider = world.providers["main"]
    provider.fault("any:429=1")
    world.done["storm"] += 1
    time.sleep(rng.uniform(0.5, 2))
    provider.control("DELETE", "faults")


def provider_far_away(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """Half-open, dripping, slow or cut: what a network does to a provider."""
    _, proxy = a_provider(world, rng)
    before = proxy.cuts
    rng.choice([proxy.swallow, proxy.drip, lambda: proxy.delay(rng.uniform(0.3, 1.2)), proxy.cut])()
    world.done["cut"] += 1
    time.sleep(rng.uniform(0.5, 3))
    proxy.mend()
    world.done["cut"] += proxy.cuts - before


# --- everything ---


def full_stop(world: FaultWorld, rng: random.Random, size: Size) -> None:
    """The power is cut, to all but the provider, and comes back."""
    with world.lock:
        for process in [*world.workers, *world.beats]:
            world.kill(process)
            world.done["kill"] += 1
        world.redis.kill()
        world.postgres.stop()
        world.done["kill"] += 2
        time.sleep(rng.uniform(0, 2))
        # Whoever is there first waits for the others.
        starts = [world.postgres.start, world.redis.start, world.staff]
        rng.shuffle(starts)
        for start in starts:
            start()
            time.sleep(rng.uniform(0, 1.5))


EVERYTHING: Sequence[Act] = (
    *(kill_a_worker, kill_a_worker, freeze_a_worker, restart_all_workers, disturb_a_beat),
    *(flush_redis, restart_redis, lose_redis, publish_stale_ids),
    *(restart_postgres, cut_at_commit, cut_in_mid_transaction, cut_all_of_postgres),
    *(half_open_postgres, provider_outage, provider_says_wait, provider_far_away, full_stop),
)

SCENARIOS: Sequence[Scenario] = (
    scenario("workers-killed", kill_a_worker),
    scenario("worker-frozen", freeze_a_worker, freeze_a_worker_for_long, words=LATE_WORDS),
    scenario("redis-flushed", flush_redis),
    scenario("redis-restarted", restart_redis),
    scenario("redis-unreachable", lose_redis, acts_max=2),
    scenario("redis-half-open", strand_on_redis, acts_max=1, only_long=True),
    scenario("messages-twice", publish_stale_ids, beside=every_message_twice),
    scenario("postgres-restarted", restart_postgres, acts_max=4),
    scenario("postgres-cut", cut_at_commit, cut_in_mid_transaction, cut_all_of_postgres),
    scenario("postgres-half-open", half_open_postgres, acts_max=4),
    scenario("beats-disturbed", disturb_a_beat),
    scenario("clock-behind", words=LATE_WORDS, beside=wrong_clocks(-SKEW_S)),
    scenario("clocks-wrong", words=LATE_WORDS, beside=wrong_clocks(SKEW_S, -SKEW_S)),
    scenario("full-stop", full_stop, acts_max=3),
    scenario("deployment", restart_all_workers, acts_max=4),
    scenario(
        "provider-failing",
        *(provider_says_wait, provider_far_away, provider_outage),
        words=HARSH_WORDS,
    ),
    scenario("everything", *EVERYTHING, words=HARSH_WORDS, at_once=3),
)
