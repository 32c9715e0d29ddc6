"""What every provider tells us reaches the record as a reason to ask, and as nothing else.

The simulators post real deliveries to the real receiver.
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
from workers.record.status import State, Step

WAIT_S_MAX = 30
every_kind = pytest.mark.parametrize("name", KINDS)
# An unsigned delivery is a hint to these: a false one only has us ask.
HINTED = {"etpay"}
# Told of by the answer to its confirmation, before any delivery can come.
PAID_AT_ONCE = {"ecart"}


@contextmanager
def told(folder: Path, name: str, **options: Any) -> Iterator[ProviderWorld]:
    """A world whose provider reaches our receiver."""
    listening = listen()
    url = url_of(listening)
    account: dict[str, Any] = {}
    if name == "ecart":
        # It is told its receiver once, not in each create; repeats are known by the id of that.
        options |= {"callback_url": f"{url}/webhooks/main", "webhook_id": "subscription"}
    if name == "ecomcharge":
        # All its simulators in one process sign with one key, which the back office shows.
        with KINDS[name].serve(quiet=True) as running:
            key = httpx.get(f"{running.public_base_url}/__key").text
        account["webhook_public_key"] = key
    with (
        provider_world(
            folder, KINDS[name], callback_base_url=url, account=account, **options
        ) as world,
        served(world.runtime, listening),
    ):
        yield world


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    limit = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def deliveries(world: ProviderWorld) -> list[Any]:
    with world.runtime.database.read() as connection:
        return list(connection.exec_driver_sql("SELECT * FROM webhooks").all())


def sent(world: ProviderWorld, payout_id: int, **asked: Any) -> list[int]:
    """Have the simulator post deliveries of a payout; the answers of our receiver."""
    (invoice,) = world.ledger(payout_id)["invoices"]
    answer = world.control.post("callbacks", json={"id": invoice["id"], **asked})
    answer.raise_for_status()
    return [each["answer"] for each in answer.json()["sent"]]


def begun(world: ProviderWorld) -> int:
    """A payout that its provider is paying, and has told of all that it had to tell so far."""
    (payout_id,) = world.queue(world.kind.an_order())
    world.step()
    until(lambda: _is_quiet(world))
    return payout_id


def _is_quiet(world: ProviderWorld) -> bool:
    delivered = all(each["delivered"] for each in world.control.get("callbacks").json())
    return delivered and not any(row.pending for row in deliveries(world))


@pytest.mark.parametrize("name", sorted(KINDS.keys() - PAID_AT_ONCE))
def test_a_delivery_has_the_payout_read_at_once_and_fewer_polls_made(
    tmp_path: Path, name: str
) -> None:
    polls = {}
    (tmp_path / "quiet").mkdir()
    with provider_world(tmp_path / "quiet", KINDS[name], settle_s=20) as quiet:
        (payout_id,) = quiet.queue(quiet.kind.an_order())
        assert quiet.settle(payout_id) is State.PAID
        polls["asking"] = quiet.ledger(payout_id)["reads"]
    with told(tmp_path, name, settle_s=20) as world:
        payout_id = begun(world)
        heard = len(deliveries(world))
        world.clock.sleep(20)
        until(lambda: len(deliveries(world)) > heard)
        assert world.settle(payout_id) is State.PAID, world.told(payout_id)
        # Not by the first poll, which is later.
        assert (world.clock.now() - world.row(payout_id).sent_at).total_seconds() < 29
        polls["told"] = world.ledger(payout_id)["reads"]
    assert polls["told"] < polls["asking"]


@pytest.mark.parametrize("name", ["payelata"])
def test_news_of_our_own_release_has_nothing_read(tmp_path: Path, name: str) -> None:
    with told(tmp_path, name, settle_s=20) as world:
        payout_id = begun(world)
        (news,) = deliveries(world)
        assert (news.status, news.pending) == ("processing", False)
        assert world.step() == 0
        assert world.ledger(payout_id)["reads"] == 0
        world.clock.sleep(20)
        until(lambda: len(deliveries(world)) == 2)
        assert world.settle(payout_id) is State.PAID, world.told(payout_id)
        assert world.ledger(payout_id)["reads"] == 1


@every_kind
def test_a_forged_delivery_is_refused_and_changes_nothing(tmp_path: Path, name: str) -> None:
    with told(tmp_path, name, settle_s=600) as world:
        payout_id = begun(world)
        before, kept = world.row(payout_id), len(deliveries(world))
        answers = sent(world, payout_id, signature="wrong") + sent(
            world, payout_id, signature="absent"
        )
        if name in HINTED:
            assert answers == [200, 200]
            assert world.row(payout_id).state == before.state
            return
        assert all(answer in (401, 404) for answer in answers), answers
        assert len(deliveries(world)) == kept
        assert world.row(payout_id) == before


@every_kind
def test_doubled_and_swapped_deliveries_move_nothing_and_are_stored_once(
    tmp_path: Path, name: str
) -> None:
    with told(tmp_path, name, settle_s=600) as world:
        payout_id = begun(world)
        events = world.told(payout_id)
        words = WORDS[name]
        answers = sent(world, payout_id, statuses=[words[1], words[0], words[1]], times=3)
        assert set(answers) == {200}
        assert world.told(payout_id) == events
        rows = deliveries(world)
        assert len(rows) <= 3
        assert sum(row.times for row in rows) >= 9


@every_kind
def test_a_lost_delivery_costs_only_time(tmp_path: Path, name: str) -> None:
    with told(tmp_path, name) as world:
        payout_id = begun(world)
        with world.runtime.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM webhooks")
        assert world.settle(payout_id) is State.PAID, world.told(payout_id)


@every_kind
def test_a_delivery_before_our_own_answer_wakes_the_payout_after_it(
    tmp_path: Path, name: str
) -> None:
    with told(tmp_path, name) as world:
        (payout_id,) = world.queue(world.kind.an_order())
        claim = world.runtime.store.claim(payout_id, world.runtime.policies, world.clock.now())
        assert claim is not None
        reply = world.provider.create(claim.order)
        assert set(sent(world, payout_id)) == {200}
        world.step()
        assert world.state(payout_id) is State.CREATING
        policy = world.runtime.accounts["main"].policy

        recorded = world.runtime.store.record(
            claim.payout, Step.CREATE, reply, policy, world.clock.now()
        )
        if recorded.next_step is None:
            world.runtime.webhooks.apply(world.clock.now())
            assert world.row(payout_id).due_at <= world.clock.now()


# A word of a payout on its way, and the one of a paid one.
WORDS = {
    "payelata": ("processing", "processed"),
    "ecomcharge": ("pending", "successful"),
    "echelon": ("PENDING", "SUCCESS"),
    "ecart": ("pending", "paid"),
    "etpay": ("pending", "completed"),
}
