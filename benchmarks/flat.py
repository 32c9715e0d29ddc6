"""Whether a payout costs the same with 1,000 and with 100,000 rows stored.

    python -m benchmarks.flat [--stored 1000 100000] [--repeat 5]

The same number is paid out of each, in two shapes: all that is stored waits, or all but 1,000 of it
was paid before. Every measurement starts from a copy of the same database, and they take turns.
Its first payouts do not count: a worker makes its connections with them.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import program
from benchmarks.bench import Bench, scenario
from benchmarks.contenders import Cluster, submitted
from benchmarks.world import Watch

SHAPES = ("the rest paid", "the rest waiting")
# What waits at least, how many of that come first, and how many are measured.
WAITING, WARM, MEASURED = 1000, 250, 500
# Of the rest as it would be had it been paid: its five events too.
_PAY = """
INSERT INTO payout_events (payout_id, at, from_state, to_state, cause, actor)
SELECT id, now(), f, t, 'paid before', 'worker' FROM payouts, (VALUES ('queued', 'creating'),
    ('creating', 'created'), ('created', 'created'), ('created', 'processing'),
    ('processing', 'paid')) AS moves (f, t)
WHERE "row" > {kept};
UPDATE payouts SET state = 'paid', settled_at = now(), sent_at = now(), attempts = 1, claim_no = 1,
    provider_payout_id = 'cpi_' || id, provider_status = 'processed',
    due_at = now() + interval '1 day' WHERE "row" > {kept};
"""
# A copy is a database that wakes up elsewhere, which freezes its accounts.
_AT_HOME = "UPDATE installation SET identity = NULL"


@dataclass(frozen=True)
class Cost:
    """Of one payout."""

    ms: float
    worker_ms: float
    database_ms: float


@contextlib.contextmanager
def filled(bench: Bench, stored: int, shape: str) -> Iterator[str]:
    """The name of a database with so many rows, to be copied."""
    asked = scenario(slow=False, payouts=stored, in_flight=32, window=WAITING)
    with contextlib.ExitStack() as stack:
        with bench.world(asked) as world:
            submitted(world, Cluster(2).settings(world))
            execute = bench.postgres.execute
            execute("UPDATE payouts SET announced_until = NULL", world.database)
            if shape == SHAPES[0]:
                for statement in _PAY.format(kept=WAITING).split(";"):
                    if statement.strip():
                        execute(statement, world.database)
            execute(_AT_HOME, world.database)
            execute("VACUUM ANALYZE", world.database)
            name = stack.enter_context(bench.postgres.database(world.database))
        yield name


def cost(bench: Bench, template: str, stored: int) -> Cost:
    """Pay some of what waits in a copy."""
    asked = scenario(slow=False, payouts=stored, in_flight=32, window=WAITING)
    with bench.world(asked, template=template) as world:
        watch = Watch(world.processes, world.simulator)
        contender = Cluster(2)
        settings = contender.settings(world)
        contender.pay_stored(world, watch, settings, warm=WARM, count=MEASURED)
    # Three calls a payout; a few more than asked for by the time of the last look.
    done = watch.calls / 3
    cpu = {kind: 1000 * used / done for kind, used in watch.cpu_s.items()}
    return Cost(1000 * watch.seconds / done, cpu["worker"], cpu["database"])


def measure(bench: Bench, stored: list[int], repeat: int) -> Iterator[str]:
    """The lines of the table."""
    yield "| rows stored | | ms a payout | worker CPU ms | database CPU ms | as with the fewest |"
    yield "|---:|---|---:|---:|---:|---:|"
    for shape in SHAPES:
        found: dict[int, list[Cost]] = {rows: [] for rows in stored}
        with contextlib.ExitStack() as stack:
            templates = {rows: stack.enter_context(filled(bench, rows, shape)) for rows in stored}
            for _ in range(repeat):
                for rows, template in templates.items():
                    found[rows].append(cost(bench, template, rows))
        fewest = _median(found[min(stored)])
        for rows, costs in found.items():
            one = _median(costs)
            yield (
                f"| {rows:,} | {shape} | {one.ms:.2f} | {one.worker_ms:.2f}"
                f" | {one.database_ms:.2f} | time {one.ms / fewest.ms:.2f}, CPU"
                f" {_cpu(one) / _cpu(fewest):.2f} |"
            )


def _median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(one.ms for one in costs),
        statistics.median(one.worker_ms for one in costs),
        statistics.median(one.database_ms for one in costs),
    )


def _cpu(one: Cost) -> float:
    return one.worker_ms + one.database_ms


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--repeat", type=int, default=5)
    flags = parser.parse_args()
    with Bench.open() as bench:
        for line in measure(bench, flags.stored, flags.repeat):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    program.run(main)
