"""Who may open a paused account, and when: each kind of pause by its own rule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batches.reconciliation import Comparison
from batches.recovery import open_account
from tests.workers.kinds import KINDS
from tests.workers.provider_world import ProviderWorld, provider_world
from workers.errors import AccountFault, UsageError
from workers.record.model import Actor

LISTING = ("payelata", "etpay")


@pytest.fixture
def world(kind: str, tmp_path: Path) -> Iterator[ProviderWorld]:
    with provider_world(tmp_path, KINDS[kind]) as made:
        yield made


def opened(world: ProviderWorld, reason: str | None = None, *, unreconciled: bool = False) -> Any:
    runtime = world.runtime
    return open_account(
        runtime.accounts["main"],
        runtime,
        actor=Actor("ann", "a test"),
        reason=reason,
        unreconciled=unreconciled,
    )


def kind_of(world: ProviderWorld) -> str | None:
    return world.runtime.restores.standing("main").paused_kind


def pause(world: ProviderWorld, kind: str) -> None:
    world.runtime.book.pause("main", kind, "why", world.clock.now())


@pytest.mark.parametrize("kind", ["payelata"])
def test_an_open_account_stays_open(world: ProviderWorld) -> None:
    assert opened(world) is None
    assert world.runtime.restores.standing("main").paused_reason is None


@pytest.mark.parametrize("kind", ["payelata"])
@pytest.mark.parametrize("paused", ["fault", "outage", "balance"])
def test_what_the_account_suffered_from_must_be_over(world: ProviderWorld, paused: str) -> None:
    pause(world, paused)
    world.faults("any:503*0")
    with pytest.raises(AccountFault, match="account main stays paused: Payelata was asked"):
        opened(world)
    assert kind_of(world) == paused
    world.control.delete("faults").raise_for_status()
    assert opened(world) == paused
    assert kind_of(world) is None


@pytest.mark.parametrize("kind", ["payelata"])
def test_what_a_person_paused_a_person_opens_and_it_is_kept_who(world: ProviderWorld) -> None:
    pause(world, "person")
    world.faults("any:503*0")
    assert opened(world, "month's end is over") == "person"
    told = world.runtime.restores.standing("main").paused_reason
    assert told == "opened at 2026-03-01T12:00:00+00:00 by ann: month's end is over"


@pytest.mark.parametrize("kind", ["payelata", "echelon"])
def test_unreconciled_is_for_a_frozen_account_only(world: ProviderWorld) -> None:
    pause(world, "person")
    with pytest.raises(UsageError, match="frozen after a restore"):
        opened(world, "x", unreconciled=True)


@pytest.mark.parametrize("kind", LISTING)
def test_a_frozen_account_is_compared_first_and_its_grace_has_passed(
    world: ProviderWorld,
) -> None:
    runtime = world.runtime
    grace_s = runtime.accounts["main"].settings.lookup_grace_s
    runtime.restores.freeze("restored", world.clock.now())
    world.clock.sleep(2 * grace_s)
    with pytest.raises(AccountFault, match=r"stays frozen: .*paybatch reconcile --account main"):
        opened(world, "it will be all right")
    with pytest.raises(UsageError, match="lists its payouts"):
        opened(world, "it will be all right", unreconciled=True)
    # A comparison before the freeze is none.
    runtime.restores.freeze("restored once more", world.clock.now())
    world.clock.sleep(1)
    with Comparison(runtime.accounts["main"], runtime) as comparison:
        comparison.run(world.clock.now() - timedelta(days=1), world.clock.now())
    with pytest.raises(AccountFault, match="stays frozen until 20"):
        opened(world)
    world.clock.sleep(grace_s)
    assert opened(world) == "restore"
    # Compared too early to see everything: looked up first, until it is compared again.
    assert runtime.restores.standing("main").restored_at is not None


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(LISTING)))
def test_where_nothing_can_be_compared_a_person_answers_for_it(world: ProviderWorld) -> None:
    runtime = world.runtime
    runtime.restores.freeze("restored", world.clock.now())
    world.clock.sleep(1)
    with pytest.raises(AccountFault, match=r"no list of payouts; .*--unreconciled"):
        opened(world)
    with pytest.raises(UsageError, match="needs --reason"):
        opened(world, unreconciled=True)
    with pytest.raises(AccountFault, match="stays frozen until 20"):
        opened(world, "compared by hand", unreconciled=True)
    world.clock.sleep(runtime.accounts["main"].settings.lookup_grace_s)
    assert opened(world, "compared by hand", unreconciled=True) == "restore"
    standing = runtime.restores.standing("main")
    assert (standing.paused_kind, standing.restored_at is None) == (None, False)
    assert "opened unreconciled" in (standing.paused_reason or "")
    assert "by ann: compared by hand" in (standing.paused_reason or "")
