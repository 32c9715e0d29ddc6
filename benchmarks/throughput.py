"""Payouts a second, and what they cost, beside other ways to do the same work.

    python -m benchmarks.throughput
    python -m benchmarks.throughput --only paybatch --processes 2 --payouts 6000 --in-flight 32

The first measures everybody, with a provider that answers at once and with one that takes 100 ms a
call and settles after 3 s, and writes a table and a picture.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Contender, Scenario, Watch, World
from benchmarks.figures import LINE, Measured
from benchmarks.machine import Postgres, Processes, redis, simulator

# Settled so soon that one read is enough, and not at once, which would save it.
SOON_S = 0.002
POLL_SOON_S = 0.01
SLOW_S, SETTLED_S = 0.1, 3.0
# One read finds it settled.
POLL_SETTLED_S = 3.1


def scenario(*, slow: bool, payouts: int, in_flight: int, window: int) -> Scenario:
    return Scenario(
        latency_s=SLOW_S if slow else 0,
        settle_s=SETTLED_S if slow else SOON_S,
        poll_first_s=POLL_SETTLED_S if slow else POLL_SOON_S,
        payouts=payouts,
        in_flight=in_flight,
        window=window,
    )


class Bench:
    """The servers that all measurements use one after the other."""

    def __init__(self, folder: Path, processes: Processes, postgres: Postgres, redis_url: str):
        self._folder = folder
        self._processes = processes
        self._postgres = postgres
        self._redis_url = redis_url
        self._count = 0

    @classmethod
    @contextlib.contextmanager
    def open(cls, where: Path | None) -> Iterator[Bench]:
        processes = Processes()
        with tempfile.TemporaryDirectory(dir=where, prefix="paybatch-bench-") as name:
            folder = Path(name)
            # PostgreSQL's user has to get through.
            folder.chmod(0o711)
            for each in ("postgres", "redis"):
                (folder / each).mkdir(mode=0o700)
            postgres = Postgres(processes, folder / "postgres")
            with postgres.running(), redis(processes, folder / "redis") as url:
                yield cls(folder, processes, postgres, url)

    def measure(
        self, contender: Contender, asked: Scenario, *, profiles: Path | None = None
    ) -> Measured:
        """One contender, once, on an empty database and with a new simulator."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        with (
            self._postgres.database() as database,
            simulator(
                self._processes, folder, latency_s=asked.latency_s, settle_s=asked.settle_s
            ) as provider,
        ):
            world = World(
                folder, self._processes, self._postgres, database, self._redis_url, provider,
                asked, profiles,
            )  # fmt: skip
            watch = Watch(self._processes, provider)
            lives = contender.pay(world, watch)
            if len(lives) != asked.payouts or provider.paid_once() != asked.payouts:
                raise SystemExit(f"{contender.name}: {len(lives)} of {asked.payouts} were paid")
        shutil.rmtree(folder)
        return Measured.of(contender.name, asked, watch, lives)


def main() -> int:
    flags = arguments().parse_args()
    os.nice(flags.nice)
    asked = scenario(
        slow=flags.slow, payouts=flags.payouts, in_flight=flags.in_flight[0], window=flags.window
    )
    chosen = [CONTENDERS[name](flags.processes) for name in flags.only]
    with Bench.open(flags.folder) as bench:
        found: dict[str, list[Measured]] = {}
        for _ in range(flags.repeat):
            # One after the other each time: what else the machine does then meets all alike.
            for contender in chosen:
                one = bench.measure(contender, asked, profiles=flags.profile)
                print(LINE.format(**one.shown()), flush=True)
                found.setdefault(contender.name, []).append(one)
        if flags.repeat > 1:
            for name, each in found.items():
                rate = statistics.median(one.per_s for one in each)
                cpu = statistics.median(one.cpu_ms_all for one in each)
                print(f"{name}: median {rate:.0f}/s, {cpu:.2f} ms CPU a payout")
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    add("--processes", type=int, default=2)
    add("--payouts", type=int, default=6000)
    add("--in-flight", type=int, nargs="+", default=[32], help="calls at a time, in all processes")
    add("--slow", action="store_true", help="100 ms a call, settled after 3 s")
    add("--window", type=int, default=2000, help="messages that may be out and not begun")
    add("--repeat", type=int, default=1, metavar="N")
    add("--profile", type=Path, metavar="DIR", help="have py-spy watch the workers")
    add("--nice", type=int, default=0, help="run above others of a busy machine: -10, as root")
    add("--folder", type=Path, help="where PostgreSQL keeps its data")
    return parser


if __name__ == "__main__":
    # So that what was started is ended also when this is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
