"""Whether the memory of the workers stays what it is while they pay for an hour.

    python -m benchmarks.soak [--minutes 60] [--per-s 20]

Two workers pay one batch at a pace that the account's limit sets, so that it lasts that long. Every
minute it is noted how much each process has; how much the workers have at the end is compared with
what they had after a tenth of the time, when each of their threads had worked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import program
from benchmarks.bench import Bench, scenario
from benchmarks.contenders import Cluster
from benchmarks.world import Watch

CALLS = 3
LOOK_S = 60
MB = 1_000_000
SHOWN = ("worker", "dispatch", "broker", "simulator")


@dataclass
class Memory(Watch):
    """Notes what each kind of process has."""

    noted: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)

    def look(self) -> None:
        at = time.monotonic() - self._began
        if not self.noted or at - self.noted[-1][0] >= LOOK_S:
            self.noted.append((at, self._now()))
            self._tell(*self.noted[-1])

    def _now(self) -> Mapping[str, float]:
        """The most that one process of each kind has in memory now, in megabytes."""
        found: dict[str, float] = {}
        for pid, kind in self.processes.roots.items():
            status = Path(f"/proc/{pid}/status").read_text()
            kilobytes = int(status.partition("VmRSS:")[2].split()[0])
            found[kind] = max(found.get(kind, 0), kilobytes * 1024 / MB)
        return found

    def _tell(self, at: float, found: Mapping[str, float]) -> None:
        cells = " | ".join(f"{found[kind]:.1f}" for kind in SHOWN)
        print(f"| {at / 60:.0f} | {self.simulator.calls()['read']:,} | {cells} |", flush=True)


def soak(bench: Bench, minutes: float, per_s: float) -> str:
    """Pay for so long; what became of the workers' memory."""
    payouts = max(100, round(minutes * 60 * per_s))
    asked = scenario(slow=False, payouts=payouts, in_flight=32, window=1000)
    with bench.world(asked) as world:
        memory = Memory(world.processes, world.simulator)
        cluster = Cluster(2)
        pace = {"PAYBATCH_ACCOUNTS__MAIN__RATE_PER_S": str(CALLS * per_s)}
        env = {**cluster.settings(world), **pace}
        cluster.store(world, env)
        paid = len(cluster.pay_stored(world, memory, env))
        twice_checked = world.simulator.paid_once()
    _, early = min(memory.noted, key=lambda noted: abs(noted[0] - memory.seconds / 10))
    last = memory.noted[-1][1]
    return (
        f"{paid:,} payouts in {memory.seconds / 60:.0f} minutes, {twice_checked:,} at the provider,"
        f" each once; a worker had {early['worker']:.1f} MB after a tenth of it and"
        f" {last['worker']:.1f} MB at the end: {last['worker'] / early['worker']:.3f} times"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--per-s", type=float, default=20, help="payouts a second")
    flags = parser.parse_args()
    print(f"| minute | payouts read | {' MB | '.join(SHOWN)} MB |")
    print("|---:|---:" + "|---:" * len(SHOWN) + "|")
    with Bench.open() as bench:
        print(soak(bench, flags.minutes, flags.per_s))
    return 0


if __name__ == "__main__":
    program.run(main)
