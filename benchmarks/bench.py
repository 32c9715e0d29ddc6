"""The servers that all measurements of one run use, one measurement after the other."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from benchmarks.contenders import Contender
from benchmarks.figures import Measured
from benchmarks.machine import (
    Postgres,
    Processes,
    postgres_programs,
    redis,
    redis_program,
    simulator,
)
from benchmarks.world import Scenario, Watch, World

# Settled so soon that one read is enough, and not at once, which would save it.
SOON_S = 0.002
POLL_SOON_S = 0.01
SLOW_S, SETTLED_S = 0.1, 3.0
# One read finds it settled.
POLL_SETTLED_S = 3.1


def scenario(*, slow: bool, payouts: int, in_flight: int, window: int) -> Scenario:
    """A provider that answers at once, or one that takes 100 ms a call and settles after 3 s."""
    return Scenario(
        latency_s=SLOW_S if slow else 0,
        settle_s=SETTLED_S if slow else SOON_S,
        poll_first_s=POLL_SETTLED_S if slow else POLL_SOON_S,
        payouts=payouts,
        in_flight=in_flight,
        window=window,
    )


class Bench:
    """PostgreSQL and Redis of our own, and a folder."""

    def __init__(
        self, folder: Path, processes: Processes, postgres: Postgres, redis_url: str
    ) -> None:
        self._folder = folder
        self._processes = processes
        self._redis_url = redis_url
        self._count = 0
        self.postgres = postgres

    @classmethod
    @contextlib.contextmanager
    def open(cls, where: Path | None = None) -> Iterator[Self]:
        """Everything started, until the block ends.

        Args:
            where: the folder that PostgreSQL's data is to lie in; by default that for temporary
                files.
        """
        # Before anything is started.
        postgres_programs()
        redis_program()
        processes = Processes()
        with tempfile.TemporaryDirectory(dir=where, prefix="paybatch-bench-") as name:
            folder = Path(name)
            # PostgreSQL's own user has to get through.
            folder.chmod(0o711)
            for each in ("postgres", "redis"):
                (folder / each).mkdir(mode=0o700)
            postgres = Postgres(processes, folder / "postgres")
            with postgres.running(), redis(processes, folder / "redis") as url:
                yield cls(folder, processes, postgres, url)

    @contextlib.contextmanager
    def world(
        self, asked: Scenario, *, template: str = "template0", profiles: Path | None = None
    ) -> Iterator[World]:
        """A database, a simulator and a folder for one measurement."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        with (
            self.postgres.database(template) as database,
            simulator(
                self._processes, folder, latency_s=asked.latency_s, settle_s=asked.settle_s
            ) as provider,
        ):
            yield World(
                folder=folder,
                processes=self._processes,
                postgres=self.postgres,
                database=database,
                redis_url=self._redis_url,
                simulator=provider,
                scenario=asked,
                profiles=profiles,
            )
        shutil.rmtree(folder)

    def measure(
        self, contender: Contender, asked: Scenario, *, profiles: Path | None = None
    ) -> Measured:
        """One contender, once.

        Raises:
            SystemExit: not all were paid, or one more than once.
        """
        with self.world(asked, profiles=profiles) as world:
            watch = Watch(self._processes, world.simulator)
            lives = contender.pay(world, watch)
            if len(lives) != asked.payouts or world.simulator.paid_once() != asked.payouts:
                raise SystemExit(f"{contender.name}: {len(lives)} of {asked.payouts} were paid")
        return Measured.of(contender.name, asked, watch, lives)
