"""Payouts a second, and what they cost, beside other ways to do the same work.

    python -m benchmarks.throughput
    python -m benchmarks.throughput --only paybatch --processes 2 --payouts 6000 --in-flight 32
    python -m benchmarks.throughput --flat

The first measures everybody, with a provider that answers at once and with one that takes 100 ms a
call and settles after 3 s; prints a table and draws docs/throughput.png. The second prints a line
for each of the contenders that are named. The third asks whether a payout costs the same however
many are stored. The machine should have nothing else to do: what it did is told beside each figure.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import dispatch, figures, flat, profiles
from benchmarks.bench import Bench, scenario
from benchmarks.contenders import CONTENDERS, Cluster, Contender
from benchmarks.figures import Measured
from benchmarks.machine import ROOT
from benchmarks.simulator import measure as load_of
from benchmarks.world import Scenario

PICTURE = ROOT / "docs" / "throughput.png"
WINDOW = 2000
# Who is measured in the full run, with how many processes. The bare loop over httpcore was the
# quickest of the three that httpx can be replaced by.
EVERYBODY: Sequence[tuple[str, int]] = (
    ("paybatch", 1), ("paybatch", 2), ("embedded", 1), ("usual", 2), ("usual-many", 0),
    ("dramatiq", 2), ("procrastinate", 2), ("bare-httpx", 1), ("bare-httpcore", 1),
)  # fmt: skip
IN_FLIGHT = {False: (8, 16, 32), True: (32, 128)}
# Enough for some ten seconds; the usual way gets fewer, for it waits its turn with `time.sleep`.
PAYOUTS = 4000
PAYOUTS_IN_FLIGHT = 40
USUAL_PAYOUTS = 1500
USUAL_SLOW_PAYOUTS = 8
# More processes of a hundred megabytes nobody starts on a machine such as this.
USUAL_MAX = 32


def plan(slow: bool, share: float) -> Iterator[tuple[Contender, Scenario]]:
    """Everything of the full run with one kind of provider, with this share of the payouts."""
    for in_flight in IN_FLIGHT[slow]:
        for name, processes in EVERYBODY:
            contender = CONTENDERS[name](processes)
            places, payouts = in_flight, in_flight * PAYOUTS_IN_FLIGHT if slow else PAYOUTS
            if name.startswith("usual"):
                # Its processes are its places, so two are the same whatever the limit is.
                if (processes and in_flight != IN_FLIGHT[slow][0]) or in_flight > USUAL_MAX:
                    continue
                places = processes or in_flight
                payouts = places * USUAL_SLOW_PAYOUTS if slow else USUAL_PAYOUTS
            if not (slow and name.startswith("usual")):
                payouts = max(places, int(payouts * share))
            asked = scenario(slow=slow, payouts=payouts, in_flight=places, window=WINDOW)
            yield contender, asked


def everything(bench: Bench, repeat: int, share: float, amqp: str) -> None:
    """The full run."""
    print(about_the_machine())
    print(about_the_simulator())
    drawn: list[Measured] = []
    for slow in (False, True):
        found: dict[tuple[str, int], list[Measured]] = {}
        for _ in range(repeat):
            # One after the other each time: what else the machine does then meets all alike.
            for contender, asked in plan(slow, share):
                try:
                    one = bench.measure(contender, asked)
                except SystemExit as failed:
                    # The others are still worth their time.
                    print(f"{contender.name}: {failed}", file=sys.stderr, flush=True)
                    continue
                print(one.line(), file=sys.stderr, flush=True)
                found.setdefault((one.name, one.scenario.in_flight), []).append(one)
        every = [_middle(each) for each in found.values()]
        print(figures.table(every), flush=True)
        drawn += every
        figures.draw(drawn, PICTURE)
    told = Cluster(2, webhooks=True)
    for slow in (False, True):
        payouts = int(PAYOUTS * share)
        asked = scenario(slow=slow, payouts=payouts, in_flight=32, window=WINDOW)
        print(figures.table([bench.measure(told, asked)]), flush=True)
    asked = scenario(slow=False, payouts=dispatch.ROWS, in_flight=32, window=WINDOW)
    with bench.world(asked) as world:
        for line in dispatch.measure(world, amqp):
            print(line, flush=True)


def chosen(bench: Bench, flags: argparse.Namespace) -> None:
    """Those that are named, in turns."""
    found: dict[str, list[Measured]] = {}
    for _ in range(flags.repeat):
        for name in flags.only:
            asked = scenario(
                slow=flags.slow,
                payouts=flags.payouts,
                in_flight=flags.in_flight,
                window=flags.window,
            )
            contender = CONTENDERS[name](flags.processes)
            if flags.broker and isinstance(contender, Cluster):
                contender = Cluster(contender.processes, flags.broker, contender.webhooks)
            one = bench.measure(contender, asked, profiles=flags.profile)
            print(one.line(), flush=True)
            found.setdefault(one.name, []).append(one)
    if flags.profile is not None:
        print("\n".join(profiles.summary(flags.profile)))
    if flags.repeat > 1:
        first = statistics.median(one.per_s for one in found[next(iter(found))])
        for name, each in found.items():
            rate = statistics.median(one.per_s for one in each)
            cpu = statistics.median(one.cpu_ms_all for one in each)
            print(
                f"median of {name}: {rate:.0f}/s ({rate / first:.2f} of the first),"
                f" {cpu:.2f} ms CPU without the simulator's"
            )


def _middle(of_one: Sequence[Measured]) -> Measured:
    return sorted(of_one, key=lambda one: one.per_s)[len(of_one) // 2]


def about_the_machine() -> str:
    versions = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
        for command in (["postgres", "--version"], ["redis-server", "--version"])
    ]
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions[0]},"
        f" {' '.join(versions[1].split()[:3])}; load average before: {load}\n"
    )


def about_the_simulator() -> str:
    """What it can do at most: what uses less of its core than all was not held back by it."""
    load = load_of(5, 32, "--settle", "0.002")
    per_s = load.requests / load.cpu_s
    return (
        f"The simulator, asked by a loop over bare sockets: {load.requests / load.seconds:,.0f}"
        f" calls/s with {load.cpu_s / load.seconds:.0%} of a core, so {per_s / 3:,.0f} payouts/s of"
        " three calls are the most that it can do with a core of its own.\n"
    )


def main() -> int:
    flags = arguments().parse_args()
    os.nice(flags.nice)
    with Bench.open(flags.folder) as bench:
        if flags.flat:
            for line in flat.measure(bench, flags.stored, flags.repeat):
                print(line, flush=True)
        elif flags.only:
            chosen(bench, flags)
        else:
            everything(bench, flags.repeat, flags.share, flags.amqp)
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    add = parser.add_argument
    add("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    add("--processes", type=int, default=2)
    add("--payouts", type=int, default=6000)
    add("--in-flight", type=int, default=32, help="calls at a time, in all processes together")
    add("--slow", action="store_true", help="100 ms a call, settled after 3 s")
    add("--window", type=int, default=WINDOW, help="messages that may be out and not begun")
    add("--broker", help="of Paybatch, such as amqp://guest:guest@127.0.0.1//")
    add("--repeat", type=int, default=1, metavar="N", help="all in turns, so often")
    add("--share", type=float, default=1, help="of the payouts of the full run, such as 0.25")
    add("--profile", type=Path, metavar="DIR", help="have py-spy watch the workers")
    add("--flat", action="store_true", help="the cost with few and with many rows stored")
    add("--stored", type=int, nargs="+", default=[1000, 100_000], help="with --flat")
    add("--amqp", default=dispatch.AMQP, help="a RabbitMQ to dispatch to")
    add("--nice", type=int, default=0, help="run above others of a busy machine: -10, as root")
    add("--folder", type=Path, help="where PostgreSQL keeps its data")
    return parser


if __name__ == "__main__":
    # So that what was started is ended also when this is told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
