"""Every pair of crash points: each fault, and then each fault at each boundary that is met later.

Of kinds that `test_crash_points` has shown to be alike, one is taken; `--all-kinds` takes them all,
which takes long. The simulators take a second create of a reference id for a second payout, so
nothing but our own look-ups stands between a payout and a double.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.workers.crash_classes import BASES, REPEATED, classes, judge
from tests.workers.crash_world import FAULTS, CrashWorld
from tests.workers.kinds import KINDS, Kind


def faults(kind: Kind, boundary: str, *, all_kinds: bool) -> Sequence[str]:
    alike = classes(kind, boundary)
    return FAULTS[boundary] if all_kinds else [each[0] for each in alike if each[0] not in REPEATED]


@pytest.mark.parametrize(
    ("world", "at", "alike"),
    [
        pytest.param(name, at, alike, id=f"{name}-{at}-{boundary}-{alike[0]}")
        for name, base in BASES.items()
        for at, boundary in enumerate(base)
        for alike in classes(KINDS[name], boundary)
    ],
    indirect=["world"],
)
def test_every_pair_of_faults(
    world: CrashWorld,
    at: int,
    alike: Sequence[str],
    record_property: Callable[[str, object], None],
    pytestconfig: pytest.Config,
) -> None:
    all_kinds = bool(pytestconfig.getoption("--all-kinds"))
    pairs = 0
    for first in alike if all_kinds else set(alike[:1]) - REPEATED:
        met = world.live({at: first}).script.met
        for later in range(at + 1, len(met)):
            for second in faults(world.kind, met[later], all_kinds=all_kinds):
                life = world.live({at: first, later: second})
                judge(life, world.policy, world.kind)
                assert len(life.script.struck) == 2, life.told()
                pairs += 1
    record_property(f"pairs of faults, {world.kind.name}", pairs)
