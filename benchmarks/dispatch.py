"""How many messages a second are dispatched for queued rows, with nobody who takes them.

    python -m benchmarks.dispatch [--rows 20000] [--amqp amqp://guest:guest@127.0.0.1:5672//]

The rows are approved and lie in PostgreSQL. Announcing them is measured as a worker does it on a
tick: so many are marked and published at a time, to Redis, and to the RabbitMQ that is named. The
queue there is `pay.bench`, which is deleted in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kombu.connection import Connection
from kombu.exceptions import OperationalError

from benchmarks import program
from benchmarks.bench import Bench, scenario
from benchmarks.contenders import Cluster, submitted
from benchmarks.machine import ROOT
from benchmarks.program import held
from benchmarks.world import World
from workers import sweep, tasks
from workers.queues import queue_of
from workers.record.due import Due, Message
from workers.runtime import Runtime, settings_of
from workers.settings import Settings

ACCOUNT = "bench"
ROWS = 20_000
AT_A_TIME = (500, 2000, 10_000)


class _Timed:
    """The broker, which notes how long publishing takes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def publish(self, due: Sequence[Due]) -> None:
        began = time.perf_counter()
        tasks.broker.publish(due)
        self.seconds += time.perf_counter() - began

    def waiting(self, queue: str) -> int:
        return tasks.broker.waiting(queue)

    def next_of(self, queue: str) -> Message | None:
        return tasks.broker.next_of(queue)


def announce_all(rows: int, at_a_time: int) -> Mapping[str, float]:
    """Announce all rows, so many at a time, in this process."""
    settings = Settings.load(settings_of)
    runtime = Runtime.open(settings)
    broker = _Timed()
    # The first connection, and everything else that is made once, is no dispatching.
    sent = _announce(runtime, broker, window=100)
    broker.seconds, first = 0.0, sent
    began, cpu = time.perf_counter(), time.process_time()
    while sent < rows:
        sent += _announce(runtime, broker, window=sent + at_a_time)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    runtime.close()
    return {
        "per_s": (sent - first) / seconds,
        "cpu_us": 1e6 * cpu_s / (sent - first),
        "publishing": broker.seconds / seconds,
    }


def _announce(runtime: Runtime, broker: _Timed, *, window: int) -> int:
    # Nobody takes what is out, so the window has to grow.
    settings = runtime.settings.model_copy(update={"dispatch_window": window})
    return sweep.announce(replace(runtime, settings=settings), broker)


def measure(world: World, amqp: str | None) -> Iterator[str]:
    """The lines of the table.

    Args:
        amqp: a RabbitMQ to publish to as well.

    Raises:
        SystemExit: one could not be measured.
    """
    rows = world.scenario.payouts
    settings = _renamed(Cluster(1).settings(world))
    submitted(world, settings)
    brokers = {"Redis": f"{world.redis_url}/0"}
    if amqp is not None:
        brokers["RabbitMQ, confirmed"] = amqp
    yield "| broker | at a time | messages/s | CPU us each | of it publishing |"
    yield "|---|---:|---:|---:|---:|"
    for name, url in brokers.items():
        env = {**os.environ, **settings, "PAYBATCH_BROKER_URL": url}
        try:
            for at_a_time in AT_A_TIME:
                world.postgres.execute("UPDATE payouts SET announced_until = NULL", world.database)
                world.postgres.execute("VACUUM ANALYZE payouts", world.database)
                found = _announced(rows, at_a_time, env)
                yield (
                    f"| {name} | {at_a_time:,} | {found['per_s']:,.0f} | {found['cpu_us']:.0f}"
                    f" | {found['publishing']:.0%} |"
                )
        finally:
            _forget(url)


def _announced(rows: int, at_a_time: int, env: Mapping[str, str]) -> Mapping[str, float]:
    """What `announce_all` says in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.dispatch", "--rows", str(rows)]
    command += ["--announce", str(at_a_time)]
    done = subprocess.run(
        command, cwd=ROOT, env=env, check=False, stdout=subprocess.PIPE, start_new_session=True
    )
    if done.returncode:
        raise SystemExit(f"dispatching {at_a_time:,} at a time ended with {done.returncode}")
    found: Mapping[str, float] = json.loads(done.stdout)
    return found


def _renamed(env: Mapping[str, str]) -> dict[str, str]:
    """With an account of another name: the queues of a RabbitMQ that others use are apart."""
    return {name.replace("__MAIN__", f"__{ACCOUNT.upper()}__"): text for name, text in env.items()}


def require(amqp: str | None) -> None:
    """See that the RabbitMQ that is named answers.

    Raises:
        SystemExit: it does not.
    """
    if amqp is None:
        return
    with _connection(amqp) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=2)
        except (OperationalError, *connection.connection_errors) as error:
            raise SystemExit(
                f"--amqp {connection.as_uri()}: no RabbitMQ answers there ({error}). Start one, or"
                " leave --amqp out: then Redis alone is measured."
            ) from None


def _connection(url: str) -> Connection:
    return Connection(url, connect_timeout=2)  # type: ignore[no-untyped-call]  # kombu has no types


def _forget(url: str) -> None:
    """Delete what was published, whatever became of it."""
    with held(), _connection(url) as connection, connection.channel() as channel:
        channel.queue_delete(queue_of(ACCOUNT, to_send=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--amqp", metavar="URL", help="a RabbitMQ to dispatch to as well")
    parser.add_argument("--announce", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.announce:
        print(json.dumps(announce_all(flags.rows, flags.announce)))
        return 0
    require(flags.amqp)
    asked = scenario(slow=False, payouts=flags.rows, in_flight=32, window=flags.rows)
    with Bench.open() as bench, bench.world(asked) as world:
        for line in measure(world, flags.amqp):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    program.run(main)
