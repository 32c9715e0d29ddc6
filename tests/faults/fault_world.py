"""A cluster of real processes behind bad networks, the batches it pays, and what became of them.

Everything of the product reaches Redis, PostgreSQL and the providers through proxies; the tests
look at them directly.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tests.batches.cli_world import TIMEOUT_S, Row, World
from tests.conftest_servers import PostgresCluster, PostgresServer, installed_postgres
from tests.faults.oracle import Event, Evidence, Line
from tests.faults.proxy import Network, Proxy, network
from tests.faults.servers import RedisServer, echelon, payelata
from tests.worlds import KEY, give_up
from workers.record.status import OPEN

WORKERS = 3
BEATS = 2
WORKER = ("-A", "workers.app", "worker", "-P", "threads", "-c", "8", "-l", "INFO")
BEAT = ("-A", "workers.app", "beat", "-S", "celery.beat:Scheduler")
TASKS = "workers.tasks."
# In the order that the settings ask for; long enough for a busy machine, and short enough for each
# to run out many times in a scenario.
BUDGETS: Mapping[str, float] = {
    "call_deadline_s": 1.5,
    "connect_timeout_s": 1,
    "read_timeout_s": 1.2,
    "claim_s": 3,
    "announce_s": 4,
    "lookup_grace_s": 6,
    "lookup_first_s": 0.3,
    "poll_first_s": 0.1,
    "poll_max_s": 2,
    "process_repeat_s": 1.5,
    "rate_per_s": 0,
    "in_flight_max": 8,
    # A row may meet every fault of a scenario; its tries must not run out for that.
    "attempts_max": 80,
    "process_tries_max": 80,
}
ACCOUNTS: Mapping[str, Mapping[str, Any]] = {
    "main": {
        "provider": "payelata",
        "account_id": "coma_Demo0000Demo0001",
        "api_key": "demo-api-key",
        "public_key": "pk_test_demo",
        "signing_key": "sk_test_demo",
        "test_mode": True,
    },
    "second": {
        "provider": "echelon",
        "merchant_code": "M-4711",
        "secret": "s3cret",
        "test_mode": True,
    },
}


class Process(Protocol):
    """A process of the cluster."""

    @property
    def pid(self) -> int: ...

    def send(self, number: int) -> None: ...

    @property
    def has_ended(self) -> bool: ...

    def wait(self) -> Any: ...


class _Fresh:
    """A process that is not forked from one which has imported everything already."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        return self._process.wait(TIMEOUT_S)


@dataclass(frozen=True)
class Batch:
    """A batch that was submitted, and what its file said."""

    id: str
    prefix: str
    file: Sequence[Row]
    expected: Mapping[str, str]


class FaultWorld:
    """The cluster. `heal` makes it whole, from the start or after whatever was done to it."""

    def __init__(self, folder: Path, net: Network, postgres: PostgresCluster, url: str) -> None:
        self.world = World(folder)
        self.redis = RedisServer(folder)
        self.postgres = postgres
        self.providers = {"main": payelata(folder), "second": echelon(folder)}
        self.to_redis = net.proxy(self.redis.port)
        self.to_postgres = net.proxy(make_url(url).port or 0)
        self.to_provider = {
            name: net.proxy(provider.port) for name, provider in self.providers.items()
        }
        # What was done to it, by kind.
        self.done: Counter[str] = Counter()
        self.workers: list[Process] = []
        self.beats: list[Process] = []
        self.workers_wanted = WORKERS
        self._engine = create_engine(url, poolclass=NullPool)
        self._count = 0
        # For acts that happen at the same time.
        self.lock = threading.RLock()
        self.world.env = _environment(self.to_redis, self.to_postgres, self.to_provider, url)

    @property
    def proxies(self) -> Sequence[Proxy]:
        return [self.to_redis, self.to_postgres, *self.to_provider.values()]

    # --- processes ---

    def start_worker(self, **env: str) -> Process:
        process = self._start(*WORKER, "-n", f"w{self._count}@%h", **env)
        self.workers.append(process)
        return process

    def start_beat(self) -> Process:
        process = self._start(*BEAT)
        self.beats.append(process)
        return process

    def one_of(self, processes: Sequence[Process], rng: random.Random) -> Process:
        """One of the workers or the beats; while there are none, there soon are."""
        with self.lock:
            if not processes:
                self.staff()
            return rng.choice(processes)

    def kill(self, process: Process) -> None:
        """SIGKILL, and wait until it is gone; whoever comes second finds it gone."""
        with self.lock:
            for processes in (self.workers, self.beats):
                if process in processes:
                    processes.remove(process)
                    process.send(signal.SIGKILL)
                    process.wait()

    def heal(self) -> None:
        """Everything there is, alive, awake and well connected."""
        with self.lock:
            self.redis.start()
            if not self.postgres.is_running:
                self.postgres.start()
            for provider in self.providers.values():
                provider.start()
            # The other's are its own, by flags.
            self.providers["main"].control("DELETE", "faults")
            for proxy in self.proxies:
                proxy.mend()
            for process in [*self.workers, *self.beats]:
                process.send(signal.SIGCONT)
            self.staff()

    def staff(self) -> None:
        """As many workers and beats as there should be."""
        with self.lock:
            for processes in (self.workers, self.beats):
                for process in [each for each in processes if each.has_ended]:
                    processes.remove(process)
                    process.wait()
            while len(self.workers) < self.workers_wanted:
                self.start_worker()
            while len(self.beats) < BEATS:
                self.start_beat()

    def close(self) -> None:
        left = [*self.workers, *self.beats]
        for process in left:
            process.send(signal.SIGKILL)
        for process in left:
            # After Ctrl-C nobody is left who could tell how it ended.
            with contextlib.suppress(ValueError):
                process.wait()
        for server in (self.redis, *self.providers.values()):
            server.kill()
        self.redis.client.close()

    def _start(self, *arguments: str, **env: str) -> Process:
        self._count += 1
        if not env:
            return self.world.start(*arguments, program="celery")
        with (self.world.screens / f"{self._count:02}.fresh").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments],
                cwd=self.world.folder,
                env={**_plain_environ(), **self.world.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return _Fresh(process)

    # --- batches ---

    def submit(self, prefix: str, file: Sequence[Row], expected: Mapping[str, str]) -> Batch:
        """Submit and approve a file, as a person does."""
        self.world.write(file, f"{prefix}.csv")
        arguments = (f"{prefix}.csv", "--approve", "--allow-repeats", "--json")
        answer = self.world.paybatch("submit", *arguments).json
        return Batch(str(answer["batch_id"]), prefix, file, expected)

    def open_count(self, batch: Batch | None = None) -> int | None:
        """How many payouts go on by themselves; None: the database cannot be asked."""
        try:
            [[count]] = self.query(f"SELECT count(*) FROM payouts {_open(batch)}")
        except DBAPIError:
            return None
        return int(count)

    def until_ended(self, batch: Batch, limit_s: float, *, patient: bool) -> str:
        """Wait until nothing of the batch is open; what is known of it where that takes too long.

        Args:
            patient: let a paused account's probes come when they come, after 30 s and more; else
                they are brought forward.
        """
        ends = time.monotonic() + limit_s
        while self.open_count(batch) != 0:
            if time.monotonic() > ends:
                return f"not within {limit_s} s:\n{self.stuck(batch)}"
            if not patient:
                self.hasten_probes()
            time.sleep(0.2)
        return ""

    def stuck(self, batch: Batch | None = None) -> str:
        """What is known of the payouts that are still open."""
        rows = self.query(
            "SELECT reference_id, state, due_at - now() AS due, claimed_until - now() AS claimed,"
            " announced_until - now() AS announced, claim_no, claims_silent, attempts, lookups"
            f" FROM payouts {_open(batch)} ORDER BY id LIMIT 20"
        )
        paused = self.query("SELECT name, paused_kind, paused_reason, probe_at FROM accounts")
        found = [*rows, *paused]
        return "\n".join(
            ", ".join(f"{name} {value}" for name, value in one._mapping.items()) for one in found
        )

    def evidence(self, batch: Batch) -> Evidence:
        """All that is known of the batch."""
        self.world.paybatch("results", batch.id, "-o", f"{batch.prefix}.results.csv", "--json")
        lines = [
            Line(
                id=row.id,
                row=row.row,
                reference_id=row.reference_id,
                account=row.account,
                amount=Decimal(row.amount_minor).scaleb(-row.currency_exponent),
                currency=row.currency,
                state=row.state,
            )
            for row in self.query("SELECT * FROM payouts WHERE batch_id = :batch", batch=batch.id)
        ]
        events = [
            Event(row.payout_id, row.from_state, row.to_state, row.cause, row.actor)
            for row in self.query(
                "SELECT e.* FROM payout_events e JOIN payouts p ON p.id = e.payout_id"
                " WHERE p.batch_id = :batch ORDER BY e.id",
                batch=batch.id,
            )
        ]
        ledger = {
            reference_id: known
            for provider in self.providers.values()
            for reference_id, known in provider.ledger().items()
            if reference_id.startswith(f"{batch.prefix}-")
        }
        results = self.world.read(f"{batch.prefix}.results.csv")
        return Evidence(batch.file, batch.expected, lines, events, results, ledger)

    def history(self, reference_id: str) -> str:
        """The journal of one payout, for a person who looks for what went wrong."""
        rows = self.query(
            "SELECT e.at, e.from_state, e.to_state, e.cause, e.actor FROM payout_events e"
            " JOIN payouts p ON p.id = e.payout_id WHERE p.reference_id = :one ORDER BY e.id",
            one=reference_id,
        )
        return "\n".join(f"  {row.at:%H:%M:%S.%f} {' '.join(row[1:])}" for row in rows)

    # --- the record, seen from outside ---

    def query(self, sql: str, **values: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(text(sql), values).all()

    def hasten_probes(self) -> None:
        """Have paused accounts probed by the next sweep."""
        with self._engine.begin() as connection:
            connection.execute(text("UPDATE accounts SET probe_at = now() WHERE probe_at > now()"))


def _open(batch: Batch | None) -> str:
    states = ", ".join(f"'{state}'" for state in sorted(OPEN))
    return f"WHERE state IN ({states})" + (f" AND batch_id = '{batch.id}'" if batch else "")


def _plain_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "PAYBATCH" not in name}


def _environment(
    to_redis: Proxy, to_postgres: Proxy, to_provider: Mapping[str, Proxy], url: str
) -> dict[str, str]:
    """The settings of the cluster's processes, with the proxies' addresses."""
    through = make_url(url).set(port=to_postgres.port)
    env = {
        "PAYBATCH_DATABASE_URL": through.render_as_string(hide_password=False),
        "PAYBATCH_BROKER_URL": f"redis://127.0.0.1:{to_redis.port}/0",
        "PAYBATCH_ENCRYPTION_KEY": KEY,
        # No more than are paid while an announcement lasts.
        "PAYBATCH_DISPATCH_WINDOW": "60",
    }
    for name, values in ACCOUNTS.items():
        at = f"http://127.0.0.1:{to_provider[name].port}"
        addresses = {"base_url": at}
        if name == "main":
            addresses = {"base_url": f"{at}/api", "public_base_url": at}
        for key, value in {**BUDGETS, **values, **addresses}.items():
            env[f"PAYBATCH_ACCOUNTS__{name.upper()}__{key.upper()}"] = str(value)
    return env


@contextlib.contextmanager
def fault_world(folder: Path) -> Iterator[FaultWorld]:
    """A world with nothing started in it yet but its PostgreSQL; its logs are in the folder."""
    binaries = installed_postgres()
    if binaries is None:
        give_up("no PostgreSQL: install initdb and pg_ctl")
    # A folder beside: PostgreSQL runs as somebody else, who cannot look into ours.
    data = Path(tempfile.mkdtemp(prefix="paybatch-postgres-"))
    postgres = PostgresCluster(binaries, data)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        postgres.make()
        stack.callback(postgres.stop)
        port = postgres.start()
        server = PostgresServer(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres")
        net = stack.enter_context(network())
        world = FaultWorld(folder, net, postgres, server.create())
        stack.callback(world.close)
        yield world


def random_of(seed: int, *parts: object) -> random.Random:
    """Chance that can be had again."""
    return random.Random(f"{seed} {' '.join(map(str, parts))}")


def wait_for(condition: Callable[[], Any], limit_s: float) -> bool:
    """Whether the condition came true in time; unlike `until` it need not."""
    ends = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True
