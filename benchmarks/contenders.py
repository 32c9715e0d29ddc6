"""Who is measured: each prepares the same payouts, starts its processes, and pays them.

What is measured of all of them is the same, and is taken by a `Watch`: it starts when the first
message of a payout is published, with every process up, and stops when the last payout is final.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks import ledgers
from benchmarks.files import settings_of, write
from benchmarks.machine import (
    BIN,
    PIPES,
    ROOT,
    Command,
    listens,
    read_line,
    wait_for,
    write_line,
)  # fmt: skip
from benchmarks.rivals import payments
from benchmarks.rivals.payments import Setup
from benchmarks.world import Life, Watch, World
from tests.conftest_servers import free_port


class Contender(Protocol):
    """One way to pay."""

    @property
    def name(self) -> str: ...

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        """Pay all payouts of the scenario."""
        ...


def workers(processes: int) -> str:
    """So many processes, as they are named."""
    return f"{processes} worker{'s' * (processes > 1)}"


# --- Paybatch ---


def paybatch_settings(world: World, *, url: str, broker: str, processes: int) -> Mapping[str, str]:
    """The environment of every process of Paybatch."""
    scenario, simulator = world.scenario, world.simulator
    address = {"base_url": simulator.base_url, "public_base_url": simulator.public_base_url}
    return {
        **settings_of(address, url),
        "PAYBATCH_BROKER_URL": broker,
        "PAYBATCH_DISPATCH_WINDOW": str(scenario.window),
        "PAYBATCH_ACCOUNTS__MAIN__IN_FLIGHT_MAX": str(max(1, scenario.in_flight // processes)),
        "PAYBATCH_ACCOUNTS__MAIN__POLL_FIRST_S": str(scenario.poll_first_s),
        "BENCH_PUBLISHED": str(world.notes),
    }


def submitted(world: World, env: Mapping[str, str]) -> str:
    """Store and approve the payouts; the id of their batch. The first message that it dispatches
    goes where nobody listens.
    """
    path = world.folder / "payroll.csv"
    write(path, world.scenario.payouts)
    command: Command = [BIN / "paybatch", "submit", path, "--approve", "--json"]
    own = {**os.environ, **env, "PAYBATCH_DISPATCH_WINDOW": "1"}
    if env["PAYBATCH_BROKER_URL"] != "memory://":
        own["PAYBATCH_BROKER_URL"] = f"{world.redis_url}/9"
    # In a session of its own, as all that is started here.
    done = subprocess.run(
        command,
        cwd=world.folder,
        env=own,
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode:
        raise SystemExit(f"submit ended with {done.returncode}:\n{done.stderr.decode()}")
    batch_id: str = json.loads(done.stdout)["batch_id"]
    return batch_id


@dataclass(frozen=True)
class Cluster:
    """Paybatch with so many worker processes, and one beat."""

    processes: int
    # None: the Redis of the measurement.
    broker: str | None = None
    # The provider tells of changes.
    webhooks: bool = False

    @property
    def name(self) -> str:
        return f"Paybatch, {workers(self.processes)}{', webhooks' * self.webhooks}"

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        env = self.settings(world)
        self.store(world, env)
        if not self.webhooks:
            return self.pay_stored(world, watch, env)
        port = str(free_port())
        env = {**env, "PAYBATCH_CALLBACK_BASE_URL": f"http://127.0.0.1:{port}"}
        receiver: Command = [BIN / "paybatch", "webhooks", "--port", port]
        log, own = world.folder / "webhooks.log", {**os.environ, **env}
        with world.processes.started("webhooks", receiver, log=log, env=own, cwd=ROOT):
            wait_for(lambda: listens(int(port)), "the receiver of webhooks")
            return self.pay_stored(world, watch, env)

    @staticmethod
    def store(world: World, env: Mapping[str, str]) -> None:
        """Have the payouts stored and approved, and none of them announced."""
        submitted(world, env)
        world.postgres.execute("UPDATE payouts SET announced_until = NULL", world.database)
        # As autovacuum does a minute later, and as is done for the rivals: see `rival_settings`.
        world.postgres.execute("VACUUM ANALYZE", world.database)

    def settings(self, world: World) -> Mapping[str, str]:
        url = world.dsn.replace("postgresql:", "postgresql+psycopg:")
        broker = self.broker or f"{world.redis_url}/0"
        return paybatch_settings(world, url=url, broker=broker, processes=self.processes)

    def pay_stored(
        self, world: World, watch: Watch, env: Mapping[str, str], *, warm: int = 0, count: int = 0
    ) -> Sequence[Life]:
        """Pay what is approved.

        Args:
            warm: the measurement begins when so many have been read at the provider.
            count: it ends when so many more have; 0: when all are paid.
        """
        # As in docker-compose.yml, but for the number of threads, which is the account's.
        celery: Command = [BIN / "celery", "-A", "benchmarks.watched"]
        worker: Command = [
            *celery, "worker", "-P", "threads", "--without-gossip", "--without-mingle",
            "-E", "-l", "INFO", "-n", "wNUMBER@%h",
        ]  # fmt: skip
        beat: Command = [*celery, "beat", "-S", "celery.beat:Scheduler", "-l", "INFO"]
        beat_log, beat_env = world.folder / "beat.log", {**os.environ, **env}
        with (
            world.workers(worker, env, ready=" ready", count=self.processes),
            world.processes.started("dispatch", beat, log=beat_log, env=beat_env, cwd=ROOT),
        ):
            wait_for(lambda: world.notes.exists() and world.notes.stat().st_size > 0, "a dispatch")
            wait_for(lambda: world.simulator.calls()["read"] >= warm, "the first payouts")
            watch.start()
            if count:
                watch.until_read(count)
            else:
                watch.until_final(world.scenario.payouts, lambda: ledgers.paid(world.dsn))
            watch.stop()
        return world.lives(ledgers.times(world.dsn))


@dataclass(frozen=True)
class Embedded:
    """Paybatch with nothing beside it: one process, SQLite, the broker in memory."""

    name: str = "Paybatch, embedded"

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        path = world.folder / "paybatch.db"
        env = paybatch_settings(world, url=f"sqlite:///{path}", broker="memory://", processes=1)
        batch_id = submitted(world, env)
        command = [sys.executable, "-m", "benchmarks.embedded", batch_id, str(world.notes)]
        with world.asked_to_begin("worker", command, env) as begin:
            begin()
            wait_for(lambda: world.notes.exists() and world.notes.stat().st_size > 0, "a dispatch")
            watch.start()
            watch.until_final(world.scenario.payouts, lambda: ledgers.paid_sqlite(path))
            watch.stop()
        return world.lives(ledgers.times_sqlite(path))


# --- the rivals ---


def rival_settings(world: World) -> Setup:
    """What a rival is told, with its tables made and filled."""
    payments.prepare(world.dsn, world.scenario.payouts)
    world.postgres.execute("VACUUM ANALYZE", world.database)
    return Setup(
        dsn=world.dsn,
        redis_url=f"{world.redis_url}/1",
        base_url=world.simulator.base_url,
        poll_first_s=world.scenario.poll_first_s,
        in_flight=world.scenario.in_flight,
    )


def paid_by(world: World, watch: Watch, begin: Callable[[], None]) -> Sequence[Life]:
    """The lives of a rival's payments, once its publisher may begin."""
    watch.start()
    begin()
    watch.until_final(world.scenario.payouts, lambda: payments.finished(world.dsn))
    watch.stop()
    return world.lives(payments.times(world.dsn))


@dataclass(frozen=True)
class Usual:
    """Celery's prefork pool; with a process for each payout in flight, or with a few."""

    processes: int | None = None

    @property
    def name(self) -> str:
        many = self.processes or "as many as in flight"
        return f"Usual way, prefork, {many}"

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        env = rival_settings(world).environ()
        module = "benchmarks.rivals.usual"
        count = str(self.processes or world.scenario.in_flight)
        worker: Command = [BIN / "celery", "-A", module, "worker", "-c", count, "-l", "INFO"]
        with (
            world.workers(worker, env, ready=" ready"),
            world.publisher(module, env) as begin,
        ):
            return paid_by(world, watch, begin)


@dataclass(frozen=True)
class Dramatiq:
    """Dramatiq on Redis, threads in a few processes."""

    processes: int = 2

    @property
    def name(self) -> str:
        return f"Dramatiq, {workers(self.processes)}"

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        env = rival_settings(world).environ()
        module = "benchmarks.rivals.dramatiq_way"
        threads = str(max(1, world.scenario.in_flight // self.processes))
        processes = str(self.processes)
        worker: Command = [
            BIN / "dramatiq", module, "--processes", processes, "--threads", threads
        ]  # fmt: skip
        with (
            world.workers(worker, env, ready="is ready for action"),
            world.publisher(module, env) as begin,
        ):
            return paid_by(world, watch, begin)


@dataclass(frozen=True)
class Procrastinate:
    """Procrastinate, whose queue is PostgreSQL, asyncio in a few processes."""

    processes: int = 2

    @property
    def name(self) -> str:
        return f"Procrastinate, {workers(self.processes)}"

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        env = {**rival_settings(world).environ(), "PYTHONPATH": str(ROOT)}
        module = "benchmarks.rivals.procrastinate_way"
        program: Command = [BIN / "procrastinate", "--app", f"{module}.app"]
        own = {**os.environ, **env}
        prepare: Command = [*program, "schema", "--apply"]
        subprocess.run(
            prepare, cwd=ROOT, env=own, check=True, capture_output=True, start_new_session=True
        )
        concurrency = str(max(1, world.scenario.in_flight // self.processes))
        worker: Command = [
            *program, "worker", "--concurrency", concurrency, "--fetch-job-polling-interval", "1",
        ]  # fmt: skip
        with (
            world.workers(worker, env, ready="Starting worker", count=self.processes),
            world.publisher(module, env) as begin,
        ):
            return paid_by(world, watch, begin)


@dataclass(frozen=True)
class Bare:
    """A loop that keeps nothing. A payout is dispatched when its turn has come."""

    transport: str

    @property
    def name(self) -> str:
        return f"Bare loop, {self.transport}"

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        scenario = world.scenario
        env = Setup(
            dsn="",
            redis_url="",
            base_url=world.simulator.base_url,
            poll_first_s=scenario.poll_first_s,
            in_flight=scenario.in_flight,
        ).environ()
        command = [sys.executable, "-m", "benchmarks.rivals.bare", str(scenario.payouts)]
        command += [self.transport]
        own = {**os.environ, **env}
        log = world.folder / "bare.log"
        with world.processes.started("worker", command, log=log, env=own, cwd=ROOT, **PIPES) as one:
            read_line(one)
            watch.start()
            write_line(one)
            lines = [read_line(one)]
            watch.stop()
            assert one.stdout is not None
            lines += one.stdout.read().splitlines()
        lives = [line.decode().split() for line in lines if line.strip()]
        return [Life(float(begun), float(begun), float(final)) for _, begun, final in lives]


# By the names of the command line, with the number of their processes.
CONTENDERS: Mapping[str, Callable[[int], Contender]] = {
    "paybatch": Cluster,
    "webhooks": lambda processes: Cluster(processes, webhooks=True),
    "embedded": lambda _: Embedded(),
    "usual": Usual,
    "usual-many": lambda _: Usual(),
    "bare-httpx": lambda _: Bare("httpx"),
    "bare-httpx-aiohttp": lambda _: Bare("httpx-aiohttp"),
    "bare-aiohttp": lambda _: Bare("aiohttp"),
    "bare-httpcore": lambda _: Bare("httpcore"),
    "dramatiq": Dramatiq,
    "procrastinate": Procrastinate,
}
