"""Pairs of crash points: each fault, and then each fault at each boundary that is met later.

Of kinds that `test_crash_points` has shown to be alike, one is taken; and of first faults those are
left out that leave a life which is walked anyhow. `--all-kinds` takes all of both, which takes
long. The simulators take a second create of a reference id for a second payout, so nothing but our
own look-ups stands between a payout and a double.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.workers.crash_classes import BASES, REPEATED, TOKEN, classes, judge
from tests.workers.crash_world import FAULTS, CrashWorld
from tests.workers.kinds import KINDS, Kind

# Whose pairs begin with those of a token too: it is leased, fetched and kept in the same way for
# every provider that has one.
TOKENS_OF = "echelon"


def faults(kind: Kind, boundary: str, *, all_kinds: bool) -> Sequence[str]:
    alike = classes(kind, boundary)
    return FAULTS[boundary] if all_kinds else [each[0] for each in alike if each[0] not in REPEATED]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    all_kinds = bool(metafunc.config.getoption("--all-kinds"))
    cases = list(firsts(all_kinds=all_kinds))
    metafunc.parametrize(("world", "at", "alike"), cases, indirect=["world"])


def firsts(*, all_kinds: bool) -> Iterator[Any]:
    """First faults that are alike, and where."""
    for name, base in BASES.items():
        begin = next(
            (at for at in range(len(base)) if tuple(base[at : at + 3]) == TOKEN), len(base)
        )
        of_token = range(begin, begin + len(TOKEN))
        for at, boundary in enumerate(base):
            for alike in classes(KINDS[name], boundary):
                # A worker that died before it had done anything has changed nothing.
                same = alike[0] in REPEATED or (at, alike[0]) == (0, "die-before")
                if not all_kinds and (same or (at in of_token and name != TOKENS_OF)):
                    continue
                yield pytest.param(name, at, alike, id=f"{name}-{at}-{boundary}-{alike[0]}")


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
            for second in faults(world.kind, met[later], all_kinds=all_kinds):
                life = world.live({at: first, later: second})
                judge(life, world.policy, world.kind)
                assert len(life.script.struck) == 2, life.told()
                pairs += 1
    record_property(f"pairs of faults, {world.kind.name}", pairs)
