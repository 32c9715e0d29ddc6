"""Every crash point: whatever ends a commit or a call, and whatever then ends another.

Every kind of fault at every boundary of a payout's life, one at a time, for every provider; kinds
that must be alike are shown to be alike, so that `test_crash_pairs` can take one of each. The
simulators take a second create of a reference id for a second payout, so nothing but our own
look-ups stands between a payout and a double; where they say `strict`, they do with the second what
the provider is believed to do.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.workers.crash_classes import BASES, CLASSES, LOST_DONE, classes, judge
from tests.workers.crash_world import CHANGING_FAULTS, COMMIT_FAULTS, FAULTS, CrashWorld
from tests.workers.kinds import KINDS
from workers import payment
from workers.record.model import Reply
from workers.record.status import Outcome, Step

every_kind = pytest.mark.parametrize("world", KINDS, indirect=True)
POINTS = [(name, at) for name, base in BASES.items() for at in range(len(base))]


@every_kind
def test_a_life_without_faults_is_paid_once_over_known_boundaries(world: CrashWorld) -> None:
    life = world.live({})
    judge(life, world.policy, world.kind)
    assert tuple(life.script.met) == tuple(BASES[world.kind.name])


def test_every_fault_belongs_to_exactly_one_class() -> None:
    for boundary, declared in CLASSES.items():
        named = [fault for alike in declared for fault in alike]
        assert sorted(named) == sorted(FAULTS[boundary])
    assert set(COMMIT_FAULTS) | set(CHANGING_FAULTS) <= {
        fault for faults in FAULTS.values() for fault in faults
    }


@pytest.mark.parametrize(("world", "at"), POINTS, indirect=["world"])
def test_every_single_fault(
    world: CrashWorld, at: int, record_property: Callable[[str, object], None]
) -> None:
    boundary = BASES[world.kind.name][at]
    for alike in classes(world.kind, boundary):
        lives = [world.live({at: fault}) for fault in alike]
        for life in lives:
            judge(life, world.policy, world.kind)
            assert life.script.met == lives[0].script.met, (life.told(), lives[0].told())
    record_property(f"single faults, {world.kind.name}", len(FAULTS[boundary]))


COMMITS = [(name, at) for name, at in POINTS if BASES[name][at] == "commit"]


@pytest.mark.parametrize(("world", "at"), COMMITS, indirect=["world"])
def test_a_commit_that_fails_is_made_again_or_ends_as_with_its_worker(
    world: CrashWorld, at: int
) -> None:
    for fails, done, dead in (("fails", None, "die-before"), ("lost-but-done", *["die-after"] * 2)):
        met = world.live({at: fails}).script.met
        once_more = world.live({at: done} if done else {}).script.met
        assert met in (
            [*once_more[: at + 1], "commit", *once_more[at + 1 :]],
            _met(world, at, dead),
        )


def _met(world: CrashWorld, at: int, fault: str) -> list[str]:
    return world.live({at: fault}).script.met


@pytest.mark.parametrize(("strict_world", "at"), POINTS, indirect=["strict_world"])
def test_every_single_fault_where_the_provider_does_as_it_is_believed_to(
    strict_world: CrashWorld, at: int, record_property: Callable[[str, object], None]
) -> None:
    kind = strict_world.kind
    boundary = BASES[kind.name][at]
    for alike in classes(kind, boundary):
        judge(strict_world.live({at: alike[0]}), strict_world.policy, kind)
    record_property(f"single faults, {kind.name}, as believed", len(classes(kind, boundary)))


@every_kind
def test_without_the_look_up_lost_creates_are_paid_twice(
    world: CrashWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that these tests can fail: with look-ups that always say "not found", exactly the
    creates that were carried out and lost make a second payout, wherever one is sent again at all.
    """
    asked = payment._call

    def blind(step: Step, *more: object) -> Reply:
        if step is Step.LOOK_UP:
            return Reply(outcome=Outcome.NOT_FOUND)
        return asked(step, *more)

    monkeypatch.setattr(payment, "_call", blind)
    at = world.live({}).script.met.index("create")
    doubled = {alike[0] for alike in CLASSES["create"] if world.live({at: alike[0]}).invoices == 2}
    can = world.policy
    expected = {"die-after", LOST_DONE[0], "400:done", "409:done"}
    if not can.refuses_duplicates and can.repeatable_for_s is None:
        expected = set()
    elif can.refused_when_absent:
        # It is not sent again but called refused: as wrong, and not twice.
        expected -= {"400:done"}
    assert doubled == expected
