"""Every pair of crash points: each fault, and then each fault at each boundary that is met later.

Of kinds that `test_crash_points` has shown to be alike, one is taken; `--all-kinds` takes them all,
which takes long. The simulator takes a second create of a reference id for a second payout, so
nothing but our own look-ups stands between a payout and a double.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.workers.crash_classes import BASE, CLASSES, judge
from tests.workers.crash_world import FAULTS, CrashWorld


def kinds(boundary: str, *, all_kinds: bool) -> Sequence[str]:
    return FAULTS[boundary] if all_kinds else [alike[0] for alike in CLASSES[boundary]]


@pytest.mark.parametrize(
    ("at", "alike"),
    [
        pytest.param(at, alike, id=f"{at}-{boundary}-{alike[0]}")
        for at, boundary in enumerate(BASE)
        for alike in CLASSES[boundary]
    ],
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
    for first in alike if all_kinds else alike[:1]:
        met = world.live({at: first}).script.met
        for later in range(at + 1, len(met)):
            for second in kinds(met[later], all_kinds=all_kinds):
                life = world.live({at: first, later: second})
                judge(life)
                assert len(life.script.struck) == 2, life.told()
                pairs += 1
    record_property("pairs of faults", pairs)
