"""What was measured, as numbers, as lines of a table, and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from benchmarks.contenders import Life, Scenario, Watch
from benchmarks.machine import KINDS

LINE = (
    "{name}, in flight {in_flight}: {per_s}/s | CPU ms: {cpu} | calls {calls}"
    " | dispatch to final p50 {p50} p99 {p99} ms | begun to final p50 {b50} p99 {b99} ms"
    " | simulator {simulator} of a core | load {load}"
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One contender in one scenario."""

    name: str
    scenario: Scenario
    per_s: float
    # Milliseconds of processor a payout, by kind of process.
    cpu_ms: Mapping[str, float]
    calls: float
    # Milliseconds from the publishing of its message, and from the begin of its work, to its end.
    p50: float
    p99: float
    b50: float
    b99: float
    # What the simulator used of one core, which is all it can use.
    simulator: float
    load: float

    @classmethod
    def of(cls, name: str, scenario: Scenario, watch: Watch, lives: Sequence[Life]) -> Self:
        published = sorted((one.final_at - one.published_at) * 1000 for one in lives)
        begun = sorted((one.final_at - one.begun_at) * 1000 for one in lives)
        first = min(one.published_at for one in lives)
        seconds = max(one.final_at for one in lives) - first
        return cls(
            name=name,
            scenario=scenario,
            per_s=len(lives) / seconds,
            cpu_ms={kind: 1000 * used / len(lives) for kind, used in watch.cpu_s.items()},
            calls=watch.calls / len(lives),
            p50=statistics.median(published),
            p99=published[int(len(published) * 0.99)],
            b50=statistics.median(begun),
            b99=begun[int(len(begun) * 0.99)],
            simulator=watch.cpu_s.get("simulator", 0) / watch.seconds,
            load=watch.load,
        )

    @property
    def cpu_ms_all(self) -> float:
        """Of all processes but the simulator's."""
        return sum(used for kind, used in self.cpu_ms.items() if kind != "simulator")

    def shown(self) -> Mapping[str, Any]:
        cpu = [f"{kind} {self.cpu_ms[kind]:.2f}" for kind in KINDS if kind in self.cpu_ms]
        return {
            "name": self.name,
            "in_flight": self.scenario.in_flight,
            "per_s": f"{self.per_s:.1f}" if self.per_s < 100 else f"{self.per_s:.0f}",
            "cpu": ", ".join(cpu),
            "calls": f"{self.calls:.2f}",
            "p50": f"{self.p50:.0f}",
            "p99": f"{self.p99:.0f}",
            "b50": f"{self.b50:.0f}",
            "b99": f"{self.b99:.0f}",
            "simulator": f"{self.simulator:.0%}",
            "load": f"{self.load:.1f}",
        }
