"""A provider that asks before it pays is told yes for one payout under one id, and no otherwise.

That holds even where nothing else would stop a double payment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.workers.kinds import KINDS
from tests.workers.provider_world import ProviderWorld, provider_world
from tests.workers.receiver_world import listen, served, url_of
from workers.record.status import State

WAIT_S_MAX = 30


@contextmanager
def asking(folder: Path, *, answered: bool = True) -> Iterator[ProviderWorld]:
    """eComCharge, which forgets its idempotency keys here, asking our receiver."""
    listening = listen()
    with provider_world(
        folder,
        KINDS["ecomcharge"],
        callback_base_url=url_of(listening),
        account={"verification": True},
    ) as world:
        if not answered:
            listening.close()
            yield world
            return
        with served(world.runtime, listening):
            yield world


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def invoices(world: ProviderWorld, payout_id: int) -> list[Any]:
    return list(world.ledger(payout_id)["invoices"])


def settled(world: ProviderWorld, payout_id: int, count: int) -> bool:
    """Whether each of the provider's payouts was paid or declined."""
    found = invoices(world, payout_id)
    waiting = [each for each in found if each["status"] == "pending" and not each["releases"]]
    return len(found) == count and not waiting


def test_a_payout_that_we_make_is_confirmed_and_paid(tmp_path: Path) -> None:
    with asking(tmp_path) as world:
        (payout_id,) = world.queue(world.kind.an_order())
        world.step()
        until(lambda: settled(world, payout_id, 1))
        assert world.settle(payout_id) is State.PAID, world.told(payout_id)
        (invoice,) = invoices(world, payout_id)
        assert len(invoice["releases"]) == 1
        assert world.row(payout_id).confirmed_id == invoice["id"]


def test_a_second_payout_under_the_same_reference_is_declined(tmp_path: Path) -> None:
    """Two creates get through, and money moves once."""
    with asking(tmp_path) as world:
        (payout_id,) = world.queue(world.kind.an_order())
        claim = world.runtime.store.claim(payout_id, world.runtime.policies, world.clock.now())
        assert claim is not None
        first = world.provider.create(claim.order)
        until(lambda: settled(world, payout_id, 1))
        second = world.provider.create(claim.order)
        assert first.provider_payout_id != second.provider_payout_id
        until(lambda: settled(world, payout_id, 2))
        world.clock.sleep(5)
        paid = [each for each in invoices(world, payout_id) if each["releases"]]
        assert [each["id"] for each in paid] == [first.provider_payout_id]


@pytest.mark.parametrize("changed", [{"amount_minor": 999}, {"state": "held"}])
def test_a_payout_that_is_not_what_we_are_making_is_declined(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    with asking(tmp_path) as world:
        (payout_id,) = world.queue(world.kind.an_order())
        claim = world.runtime.store.claim(payout_id, world.runtime.policies, world.clock.now())
        assert claim is not None
        (column, value), *_ = changed.items()
        with world.runtime.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE payouts SET {column} = ?", (value,))
        world.provider.create(claim.order)
        until(lambda: settled(world, payout_id, 1))
        world.clock.sleep(5)
        (invoice,) = invoices(world, payout_id)
        assert (invoice["status"], invoice["releases"]) == ("failed", [])


def test_a_stranger_cannot_have_a_payout_confirmed(tmp_path: Path) -> None:
    with asking(tmp_path) as world:
        (payout_id,) = world.queue(world.kind.an_order())
        claim = world.runtime.store.claim(payout_id, world.runtime.policies, world.clock.now())
        assert claim is not None
        body = {
            "transaction": {
                "uid": "u-forged",
                "type": "payout",
                "amount": 1000,
                "currency": "USD",
                "test": True,
                "tracking_id": claim.order.reference_id,
            }
        }
        url = f"{world.callback_base_url}/webhooks/main/verify"
        for auth in (None, ("4242", "guessed")):
            assert httpx.post(url, json=body, auth=auth).status_code == 401
        assert world.row(payout_id).confirmed_id is None
        answer = httpx.post(url, json=body, auth=("4242", "demo-secret"))
        assert answer.json()["code"] == 0
