"""Who is measured: each prepares the same payouts, starts its processes, and pays them.

What is measured of all of them is the same, and is taken by a `Watch`: it starts when the first
message of a payout is published, with every process up, and stops when the last payout is final.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks import ledgers
from benchmarks.files import settings_of, write
from benchmarks.machine import (
    BIN,
    PIPES,
    ROOT,
    Command,
    Postgres,
    Processes,
    Simulator,
    read_line,
    wait_for,
    write_line,
)  # fmt: skip
from benchmarks.rivals import payments
from benchmarks.rivals.payments import Setup

# A measurement in which nothing has moved for so long has failed.
STUCK_S = 60
LOOK_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the provider is like, and how much is to be paid how."""

    latency_s: float
    settle_s: float
    poll_first_s: float
    payouts: int
    # Calls at a time, over all processes.
    in_flight: int
    # Messages that may be out and not begun.
    window: int

    @property
    def is_slow(self) -> bool:
        return self.latency_s > 0


@dataclass(frozen=True)
class Life:
    """When a payout's message was published, when its work began, and when it was final."""

    published_at: float
    begun_at: float
    final_at: float


@dataclass
class Watch:
    """Takes the time, and what every kind of process and the simulator have done meanwhile."""

    processes: Processes
    simulator: Simulator
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    calls: int = 0
    seconds: float = 0.0
    load: float = 0.0
    _before: Mapping[str, float] = field(default_factory=dict)
    _began: float = 0.0

    def start(self) -> None:
        self._before = self.processes.cpu()
        self.calls = -sum(self.simulator.calls().values())
        self._began = time.monotonic()

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._began
        self.load = os.getloadavg()[0]
        self.calls += sum(self.simulator.calls().values())
        after = self.processes.cpu()
        self.cpu_s = {kind: used - self._before.get(kind, 0) for kind, used in after.items()}

    def until_final(self, count: int, finished: Callable[[], int]) -> None:
        """Wait until so many are final. The simulator is asked first, which costs the contender
        nothing: as long as it was asked too little, they cannot be.
        """
        before = self.simulator.calls()["read"]
        found, moved = -1, time.monotonic()
        while found < count:
            time.sleep(LOOK_S)
            read = self.simulator.calls()["read"] - before
            now = finished() if read >= count else read - count
            if now != found:
                found, moved = now, time.monotonic()
            if time.monotonic() - moved > STUCK_S:
                raise SystemExit(f"stuck with {count - max(0, found)} of {count} payouts open")


@dataclass(frozen=True)
class World:
    """The servers and the folder of one measurement."""

    folder: Path
    processes: Processes
    postgres: Postgres
    # The name of this measurement's own database.
    database: str
    redis_url: str
    simulator: Simulator
    scenario: Scenario
    # Where the profiles of the workers go; None: they are not profiled.
    profiles: Path | None = None

    @property
    def dsn(self) -> str:
        return self.postgres.dsn(self.database)

    @property
    def notes(self) -> Path:
        """Where it is noted what was published when."""
        return self.folder / "published"

    def published(self) -> Mapping[int, float]:
        """When the first message of each payout was."""
        found: dict[int, float] = {}
        for line in self.notes.read_text().splitlines():
            at, *ids = line.split()
            for each in ids:
                found.setdefault(int(each), float(at))
        return found

    def lives(self, times: Mapping[int, tuple[float, float]]) -> Sequence[Life]:
        published = self.published()
        return [Life(published[each], *when) for each, when in times.items()]

    @contextlib.contextmanager
    def workers(
        self,
        command: Command,
        env: Mapping[str, str],
        *,
        ready: str,
        count: int = 1,
    ) -> Iterator[None]:
        """Worker processes, up when the block begins.

        Args:
            ready: what each writes into its log when it is.
        """
        with contextlib.ExitStack() as stack:
            for number in range(1, count + 1):
                log = self.folder / f"worker-{number}.log"
                named = [str(part).replace("NUMBER", str(number)) for part in command]
                heartbeat = self.folder / f"heartbeat-{number}"
                heartbeat.mkdir(exist_ok=True)
                own = {**os.environ, **env, "PAYBATCH_HEARTBEAT_FOLDER": str(heartbeat)}
                started = self.processes.started("worker", named, log=log, env=own, cwd=ROOT)
                process = stack.enter_context(started)
                self._wait(log, ready, process)
                if self.profiles is not None:
                    stack.enter_context(self._profiled(process.pid, number))
            # What they do right after they are up is not in the measurement.
            time.sleep(1)
            yield

    def _wait(self, log: Path, ready: str, process: subprocess.Popen[bytes]) -> None:
        def up() -> bool:
            if process.poll() is not None:
                raise SystemExit(f"a worker ended at once:\n{log.read_text()[-2000:]}")
            return ready in log.read_text(errors="replace")

        wait_for(up, f"{ready!r} in the log of {process.args!r}")

    @contextlib.contextmanager
    def _profiled(self, pid: int, number: int) -> Iterator[None]:
        """py-spy watches a worker from outside, so the worker is as it always is."""
        assert self.profiles is not None
        self.profiles.mkdir(parents=True, exist_ok=True)
        path = self.profiles / f"worker-{number}.speedscope.json"
        command = [str(BIN / "py-spy"), "record", "--pid", str(pid), "--subprocesses", "--gil"]
        command += ["--rate", "200", "--format", "speedscope", "--output", str(path)]
        # It ends with what it watches, or is told to, and writes then.
        with self.processes.started(
            "profiler", command, log=self.folder / "profiler.log", stop=signal.SIGINT
        ):
            yield

    @contextlib.contextmanager
    def publisher(self, module: str, env: Mapping[str, str]) -> Iterator[Callable[[], None]]:
        """A rival's publisher, up when the block begins; what lets it begin."""
        window = str(self.scenario.window)
        command: Command = [sys.executable, "-m", module, window, self.notes]
        with self.asked_to_begin("dispatch", command, env) as begin:
            yield begin

    @contextlib.contextmanager
    def asked_to_begin(
        self, kind: str, command: Command, env: Mapping[str, str]
    ) -> Iterator[Callable[[], None]]:
        """A program that says when it is ready, and waits for a line."""
        own = {**os.environ, **env}
        log = self.folder / "publisher.log"
        with self.processes.started(kind, command, log=log, env=own, cwd=ROOT, **PIPES) as one:
            read_line(one)
            yield lambda: write_line(one)


class Contender(Protocol):
    """One way to pay."""

    @property
    def name(self) -> str: ...

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        """Pay all payouts of the scenario."""
        ...


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
    done = subprocess.run(command, cwd=world.folder, env=own, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"submit ended with {done.returncode}:\n{done.stderr.decode()}")
    batch_id: str = json.loads(done.stdout)["batch_id"]
    return batch_id


@dataclass(frozen=True)
class Cluster:
    """Paybatch with so many worker processes, and one beat."""

    processes: int
    broker: str | None = None

    @property
    def name(self) -> str:
        return f"Paybatch, {self.processes} worker{'s' * (self.processes > 1)}"

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        env = self.settings(world)
        submitted(world, env)
        world.postgres.execute("UPDATE payouts SET announced_until = NULL", world.database)
        return self.pay_stored(world, watch, env)

    def settings(self, world: World) -> Mapping[str, str]:
        url = world.dsn.replace("postgresql:", "postgresql+psycopg:")
        broker = self.broker or f"{world.redis_url}/0"
        return paybatch_settings(world, url=url, broker=broker, processes=self.processes)

    def pay_stored(
        self, world: World, watch: Watch, env: Mapping[str, str], *, count: int | None = None
    ) -> Sequence[Life]:
        """Pay what is approved.

        Args:
            count: the measurement ends with so many of them.
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
            watch.start()
            wanted = count or world.scenario.payouts
            watch.until_final(wanted, lambda: ledgers.paid(world.dsn))
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
    """Dramatiq on Redis, threads in two processes."""

    name: str = "Dramatiq, 2 workers"
    processes: int = 2

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
    """Procrastinate, whose queue is PostgreSQL, asyncio in two processes."""

    name: str = "Procrastinate, 2 workers"
    processes: int = 2

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        env = {**rival_settings(world).environ(), "PYTHONPATH": str(ROOT)}
        module = "benchmarks.rivals.procrastinate_way"
        program: Command = [BIN / "procrastinate", "--app", f"{module}.app"]
        own = {**os.environ, **env}
        subprocess.run([*program, "schema", "--apply"], cwd=ROOT, env=own, check=True)
        concurrency = str(max(1, world.scenario.in_flight // self.processes))
        worker: Command = [
            *program, "--verbose", "worker", "--concurrency", concurrency,
            "--fetch-job-polling-interval", "1",
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
    "embedded": lambda _: Embedded(),
    "usual": Usual,
    "usual-many": lambda _: Usual(),
    "bare-httpx": lambda _: Bare("httpx"),
    "bare-httpx-aiohttp": lambda _: Bare("httpx-aiohttp"),
    "bare-aiohttp": lambda _: Bare("aiohttp"),
    "bare-httpcore": lambda _: Bare("httpcore"),
    "dramatiq": lambda processes: Dramatiq(processes=processes),
    "procrastinate": lambda processes: Procrastinate(processes=processes),
}
