"""Payouts a second, and what they cost, beside other ways to do the same work.

    python -m benchmarks.throughput
    python -m benchmarks.throughput --only paybatch --processes 2 --payouts 6000 --in-flight 32
    python -m benchmarks.throughput --flat

The first measures everybody, with a provider that answers at once and with one that takes 100 ms a
call and settles after 3 s; prints a table and draws docs/throughput.png. Its exit code is 1 if any
could not be measured; which is told at the end. The second prints a line for each of the contenders
that are named. The third asks whether a payout costs the same however many are stored. The machine
should have nothing else to do: what it did is told beside each figure.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import dispatch, figures, flat, profiles, program
from benchmarks.bench import Bench, scenario
from benchmarks.contenders import CONTENDERS, Cluster, Contender
from benchmarks.figures import Measured
from benchmarks.machine import ROOT, postgres_programs, redis_program
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
IN_FLIGHT = {False: (8, 32, 128), True: (32, 128)}
# Enough for some ten seconds; the usual way gets fewer, for it waits its turn with `time.sleep`.
PAYOUTS = 4000
PAYOUTS_IN_FLIGHT = 40
USUAL_PAYOUTS = 1500
USUAL_SLOW_PAYOUTS = 8
# More processes of a hundred megabytes nobody starts on a machine such as this.
USUAL_MAX = 32
# With webhooks.
TOLD_IN_FLIGHT = 32
# What each kind of run can be told, and what it is if nothing is said. A flag of another kind would
# do nothing, so it is refused.
OF_EVERYBODY: Mapping[str, Any] = {"share": 1.0, "amqp": None}
OF_CHOSEN: Mapping[str, Any] = {
    "processes": 2, "payouts": 6000, "in_flight": 32, "slow": False, "window": WINDOW,
    "broker": None, "profile": None,
}  # fmt: skip
OF_FLAT: Mapping[str, Any] = {"stored": [1000, 100_000]}


def plan(slow: bool, share: float) -> Iterator[tuple[Contender, Scenario]]:
    """Everything of the full run with one kind of provider, with this share of the payouts."""
    for in_flight in IN_FLIGHT[slow]:
        for name, processes in EVERYBODY:
            contender = CONTENDERS[name](processes)
            places, payouts = in_flight, _payouts(slow, in_flight, share)
            if name.startswith("usual"):
                # Its processes are its places, so two are the same whatever the limit is.
                if (processes and in_flight != IN_FLIGHT[slow][0]) or in_flight > USUAL_MAX:
                    continue
                places = processes or in_flight
                payouts = max(places, int(USUAL_PAYOUTS * share))
                if slow:
                    payouts = places * USUAL_SLOW_PAYOUTS
            asked = scenario(slow=slow, payouts=payouts, in_flight=places, window=WINDOW)
            yield contender, asked


def _payouts(slow: bool, in_flight: int, share: float) -> int:
    """How many are paid with so many calls at a time, by all but the usual way."""
    full = in_flight * PAYOUTS_IN_FLIGHT if slow else PAYOUTS
    return max(in_flight, int(full * share))


def everything(bench: Bench, repeat: int, share: float, amqp: str | None) -> Sequence[str]:
    """The full run; what of it failed."""
    print(about_the_machine())
    print(about_the_simulator())
    drawn: list[Measured] = []
    failures: list[str] = []
    for slow in (False, True):
        found: dict[tuple[str, int], list[Measured]] = {}
        for _ in range(repeat):
            # One after the other each time: what else the machine does then meets all alike.
            for contender, asked in plan(slow, share):
                one = attempt(bench, contender, asked, failures)
                if one is not None:
                    found.setdefault((one.name, one.scenario.in_flight), []).append(one)
        every = [_middle(each) for each in found.values()]
        print(figures.table(every), flush=True)
        drawn += every
        figures.draw(drawn, PICTURE)
    told = Cluster(2, webhooks=True)
    for slow in (False, True):
        payouts = _payouts(slow, TOLD_IN_FLIGHT, share)
        asked = scenario(slow=slow, payouts=payouts, in_flight=TOLD_IN_FLIGHT, window=WINDOW)
        one = attempt(bench, told, asked, failures)
        if one is not None:
            print(figures.table([one]), flush=True)
    asked = scenario(slow=False, payouts=dispatch.ROWS, in_flight=32, window=WINDOW)
    try:
        with bench.world(asked) as world:
            for line in dispatch.measure(world, amqp):
                print(line, flush=True)
    except SystemExit as failed:
        failures.append(str(failed))
    return failures


def attempt(
    bench: Bench, contender: Contender, asked: Scenario, failures: list[str]
) -> Measured | None:
    """One of the full run. If it fails that is noted: the others are still worth their time."""
    try:
        one = bench.measure(contender, asked)
    except SystemExit as failed:
        kind = "100 ms, 3 s" if asked.is_slow else "no delay"
        failures.append(f"{contender.name}, {kind}, in flight {asked.in_flight}: {failed}")
        print(failures[-1], file=sys.stderr, flush=True)
        return None
    print(one.line(), file=sys.stderr, flush=True)
    return one


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
        subprocess.run(
            [server, "--version"], capture_output=True, text=True, check=True
        ).stdout.split("\n")[0]
        for server in (postgres_programs() / "postgres", redis_program())
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
    flags = read_flags()
    dispatch.require(flags.amqp)
    with Bench.open(flags.folder) as bench:
        if flags.flat:
            for line in flat.measure(bench, flags.stored, flags.repeat):
                print(line, flush=True)
        elif flags.only:
            chosen(bench, flags)
        else:
            return code_of(everything(bench, flags.repeat, flags.share, flags.amqp))
    return 0


def code_of(failures: Sequence[str]) -> int:
    """The exit code of the full run; what failed is told once more."""
    if failures:
        told = "\n  ".join(["These failed, and are in no table:", *failures])
        print(told, file=sys.stderr, flush=True)
    return 1 if failures else 0


def read_flags(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for. It leaves with one sentence where that makes no sense."""
    parser = arguments()
    flags = parser.parse_args(argv)
    if flags.flat and flags.only:
        parser.error("--flat and --only are two kinds of run: give one of them")
    kinds = (
        (OF_EVERYBODY, not (flags.only or flags.flat), "goes with the full run: leave {} out"),
        (OF_CHOSEN, bool(flags.only), "goes with --only NAME, which says who is measured so"),
        (OF_FLAT, flags.flat, "goes with --flat"),
    )
    for others, is_this, where in kinds:
        for name, usual in others.items():
            if getattr(flags, name) is None:
                setattr(flags, name, usual)
            elif not is_this:
                other = "--flat" if flags.flat else "--only"
                parser.error(f"--{name.replace('_', '-')} {where.format(other)}")
    try:
        os.nice(flags.nice)
    except PermissionError:
        parser.error(f"--nice {flags.nice}: only root may run above others")
    return flags


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    add = parser.add_argument
    add("--repeat", type=_count, default=1, metavar="N", help="all in turns, so often")
    add("--nice", type=int, default=0, help="run above others of a busy machine: -10, as root")
    add("--folder", type=Path, help="where PostgreSQL keeps its data")
    add = parser.add_argument_group("of the full run").add_argument
    add("--share", type=float, help="of its payouts, such as 0.25")
    add("--amqp", metavar="URL", help="a RabbitMQ to dispatch to as well")
    add = parser.add_argument_group("of some contenders").add_argument
    add("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    add("--processes", type=_count, help=_usual("processes"))
    add("--payouts", type=_count, help=_usual("payouts"))
    add("--in-flight", type=_count, help=f"in all processes together; {_usual('in_flight')}")
    add("--slow", action="store_true", default=None, help="100 ms a call, settled after 3 s")
    add("--window", type=_count, help=f"messages out and not begun; {_usual('window')}")
    add("--broker", help="of Paybatch, such as amqp://guest:guest@127.0.0.1//")
    add("--profile", type=Path, metavar="DIR", help="have py-spy watch the workers")
    add = parser.add_argument_group("of the cost with many stored").add_argument
    add("--flat", action="store_true", help="with few and with many rows stored")
    add("--stored", type=_count, nargs="+", help="how many; by default 1000 100000")
    return parser


def _usual(name: str) -> str:
    return f"by default {OF_CHOSEN[name]}"


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("expected a whole number, 1 or more")
    return int(text)


if __name__ == "__main__":
    program.run(main)
