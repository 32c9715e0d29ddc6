"""Every crash point: whatever ends a commit or a call, and whatever then ends another.

Every kind of fault at every boundary of a payout's life, one at a time; kinds that must be alike
are shown to be alike, so that `test_crash_pairs` can take one of each. The simulator takes a second
create of a reference id for a second payout, so nothing but our own look-ups stands between a
payout and a double; where it says `strict`, it refuses the second as the provider does.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.workers.crash_classes import BASE, CLASSES, LOST_DONE, judge
from tests.workers.crash_world import CHANGING_FAULTS, COMMIT_FAULTS, FAULTS, CrashWorld
from workers import payment
from workers.record.model import Reply
from workers.record.status import Outcome, Step


def test_a_life_without_faults_is_paid_once_over_known_boundaries(world: CrashWorld) -> None:
    life = world.live({})
    judge(life)
    assert tuple(life.script.met) == BASE


def test_every_fault_belongs_to_exactly_one_class() -> None:
    for boundary, classes in CLASSES.items():
        named = [fault for alike in classes for fault in alike]
        assert sorted(named) == sorted(FAULTS[boundary])
    assert set(COMMIT_FAULTS) | set(CHANGING_FAULTS) <= {
        fault for faults in FAULTS.values() for fault in faults
    }


@pytest.mark.parametrize("at", range(len(BASE)))
def test_every_single_fault(
    world: CrashWorld, at: int, record_property: Callable[[str, object], None]
) -> None:
    boundary = BASE[at]
    for alike in CLASSES[boundary]:
        lives = [world.live({at: fault}) for fault in alike]
        for life in lives:
            judge(life)
            assert life.script.met == lives[0].script.met, (life.told(), lives[0].told())
    record_property("single faults", len(FAULTS[boundary]))


@pytest.mark.parametrize("at", range(len(BASE)))
def test_every_single_fault_where_the_provider_refuses_duplicates(
    strict_world: CrashWorld, at: int, record_property: Callable[[str, object], None]
) -> None:
    boundary = BASE[at]
    for alike in CLASSES[boundary]:
        judge(strict_world.live({at: alike[0]}))
    record_property("single faults, duplicates refused", len(CLASSES[boundary]))


def test_without_the_look_up_lost_creates_are_paid_twice(
    world: CrashWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that these tests can fail: with look-ups that always say "not found", exactly the
    creates that were carried out and lost make a second payout."""
    asked = payment._call

    def blind(step: Step, *more: object) -> Reply:
        if step is Step.LOOK_UP:
            return Reply(outcome=Outcome.NOT_FOUND)
        return asked(step, *more)

    monkeypatch.setattr(payment, "_call", blind)
    at = world.live({}).script.met.index("create")
    doubled = {alike[0] for alike in CLASSES["create"] if world.live({at: alike[0]}).invoices == 2}
    assert doubled == {"die-after", LOST_DONE[0], "400:done", "409:done"}
