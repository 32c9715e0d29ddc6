"""What was measured, as numbers, as lines of a table, and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.machine import KINDS
from benchmarks.world import Life, Scenario, Watch

COLUMNS = (
    "provider", "in flight", "who", "payouts", "payouts/s", *(f"{kind} ms" for kind in KINDS),
    "calls", "p50 ms", "p99 ms", "begun p50 ms", "begun p99 ms", "simulator", "others",
)  # fmt: skip
COLOURS = ("#1f5a8c", "#7fb0d6", "#c98b2d", "#b5443c", "#6f5aa8", "#c9c9c9")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One contender in one scenario."""

    name: str
    scenario: Scenario
    # How many were paid.
    payouts: int
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
    # What others used of the machine's cores meanwhile: it makes all of this worse.
    others: float

    @classmethod
    def of(cls, name: str, scenario: Scenario, watch: Watch, lives: Sequence[Life]) -> Self:
        published = sorted((one.final_at - one.published_at) * 1000 for one in lives)
        begun = sorted((one.final_at - one.begun_at) * 1000 for one in lives)
        first = min(one.published_at for one in lives)
        seconds = max(one.final_at for one in lives) - first
        return cls(
            name=name,
            scenario=scenario,
            payouts=len(lives),
            per_s=len(lives) / seconds,
            cpu_ms={kind: 1000 * used / len(lives) for kind, used in watch.cpu_s.items()},
            calls=watch.calls / len(lives),
            p50=statistics.median(published),
            p99=published[int(len(published) * 0.99)],
            b50=statistics.median(begun),
            b99=begun[int(len(begun) * 0.99)],
            simulator=watch.cpu_s.get("simulator", 0) / watch.seconds,
            others=watch.others,
        )

    @property
    def cpu_ms_all(self) -> float:
        """Of all processes but the simulator's."""
        return sum(self.cpu_ms.get(kind, 0) for kind in KINDS if kind != "simulator")

    def line(self) -> str:
        """In one line, for a person who waits."""
        cpu = [f"{kind} {self.cpu_ms[kind]:.2f}" for kind in KINDS if kind in self.cpu_ms]
        return (
            f"{self.name}, {self.provider}, in flight {self.scenario.in_flight}:"
            f" {self.payouts:,} payouts, {_rate(self.per_s)}/s"
            f" | CPU ms: {', '.join(cpu)} | calls {self.calls:.2f}"
            f" | dispatch to final p50 {self.p50:.0f} p99 {self.p99:.0f} ms"
            f" | begun to final p50 {self.b50:.0f} p99 {self.b99:.0f} ms"
            f" | simulator {self.simulator:.0%} of a core | others {self.others:.0%} of the machine"
        )

    @property
    def provider(self) -> str:
        return "100 ms, 3 s" if self.scenario.is_slow else "no delay"

    def cells(self) -> Sequence[str]:
        """Those of `COLUMNS`."""
        cpu = (f"{self.cpu_ms[kind]:.2f}" if kind in self.cpu_ms else "" for kind in KINDS)
        times = (f"{each:,.0f}" for each in (self.p50, self.p99, self.b50, self.b99))
        return (
            self.provider, str(self.scenario.in_flight), self.name, f"{self.payouts:,}",
            _rate(self.per_s), *cpu, f"{self.calls:.2f}", *times, f"{self.simulator:.0%}",
            f"{self.others:.0%}",
        )  # fmt: skip


def _rate(per_s: float) -> str:
    return f"{per_s:.1f}" if per_s < 100 else f"{per_s:.0f}"


def table(every: Sequence[Measured]) -> str:
    """As Markdown."""
    rule = ["---" if name in ("provider", "who") else "---:" for name in COLUMNS]
    rows = [COLUMNS, rule, *(one.cells() for one in every)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def draw(every: Sequence[Measured], path: Path) -> None:
    """Payouts a second, and what one costs, with either kind of provider."""
    import matplotlib as mpl  # noqa: PLC0415 - only who draws needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    sorts = [[one for one in every if one.scenario.is_slow is slow] for slow in (False, True)]
    height = 2 + 0.24 * max(len(each) for each in sorts)
    figure, axes = plt.subplots(2, 2, figsize=(15, 2 * height), layout="constrained")
    for row, measured in zip(axes, sorts, strict=True):
        if not measured:
            continue
        names = list(dict.fromkeys(one.name for one in measured))
        # From the bottom up.
        ordered = sorted(
            measured, key=lambda one: (-names.index(one.name), -one.scenario.in_flight)
        )
        labels = [f"{one.name} ({one.scenario.in_flight})" for one in ordered]
        rates = row[0].barh(labels, [one.per_s for one in ordered], color=COLOURS[0])
        row[0].bar_label(rates, [_rate(one.per_s) for one in ordered], padding=3, fontsize=8)
        row[0].set_title(f"Payouts a second, provider: {measured[0].provider} (in flight)")
        left = [0.0] * len(ordered)
        for kind, colour in zip(KINDS, COLOURS, strict=True):
            used = [one.cpu_ms.get(kind, 0.0) for one in ordered]
            row[1].barh(labels, used, left=left, label=kind, color=colour)
            left = [a + b for a, b in zip(left, used, strict=True)]
        row[1].set_title("Milliseconds of processor a payout")
        row[1].legend(fontsize=8)
        for each in row:
            each.tick_params(labelsize=8)
            each.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
