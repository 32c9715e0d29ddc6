"""What every adapter must do, as one list of scenarios over the real payment steps.

A scenario is run by each adapter that declares what it needs; an adapter that declares what it does
not do fails it. The simulator is the judge: its ledger says how often money was committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.workers.kinds import KINDS
from tests.workers.provider_world import ProviderWorld
from tests.worlds import Post
from workers import sweep
from workers.providers.port import Capabilities, DryRunner, Verifier
from workers.record.money import Currency
from workers.record.status import Outcome, State

World = ProviderWorld


@dataclass(frozen=True)
class Scenario:
    """One thing that must hold."""

    name: str
    run: Callable[[World], None]
    # Whether an adapter with these capabilities has to.
    needed: Callable[[Capabilities], bool]
    # Against a simulator that takes a second create for a second payout.
    harsh: bool


SCENARIOS: list[Scenario] = []


def scenario(
    needed: Callable[[Capabilities], bool] = lambda _: True, *, harsh: bool = True
) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Put a function on the list."""

    def listed(run: Callable[[World], None]) -> Callable[[World], None]:
        SCENARIOS.append(Scenario(run.__name__, run, needed, harsh))
        return run

    return listed


def may_repeat(can: Capabilities) -> bool:
    return can.refuses_duplicates or can.repeatable_for_s is not None


def paid_once(world: World, payout_id: int) -> None:
    assert world.settle(payout_id) is State.PAID, world.told(payout_id)
    assert world.releases(payout_id) == 1, world.told(payout_id)


def one(world: World, **changes: Any) -> int:
    (payout_id,) = world.queue(world.kind.an_order(**changes))
    return payout_id


# --- the ways of one payout ---


@scenario()
def accepted_and_paid_once(world: World) -> None:
    payout_id = one(world)
    paid_once(world, payout_id)
    row = world.row(payout_id)
    assert row.provider_payout_id
    assert row.provider_status
    assert row.attempts == 1
    (invoice,) = world.ledger(payout_id)["invoices"]
    assert invoice["currency"] == world.kind.currency


@scenario()
def a_failed_payout_is_failed_with_a_reason(world: World) -> None:
    payout_id = one(world)
    word = FAILED_WORDS[world.kind.name]
    world.faults(f"status={word}", world.row(payout_id).reference_id)
    assert world.settle(payout_id) is State.FAILED, world.told(payout_id)
    row = world.row(payout_id)
    assert (row.provider_status, bool(row.failure_code or row.failure_reason)) == (word, True)


@scenario()
def a_word_that_no_table_lists_is_still_open_and_shown(world: World) -> None:
    payout_id = one(world)
    word = WORDS_OF_CASE[world.kind.name]("half_baked")
    way = f"path={word}>{PAID_WORDS[world.kind.name]} settle=600"
    world.faults(way, _reference(world, payout_id))
    for _ in range(60):
        if world.step() == 0:
            world.pass_time(payout_id)
        if world.row(payout_id).provider_status == word:
            break
    assert world.row(payout_id).provider_status == word, world.told(payout_id)
    assert world.state(payout_id) in (State.PROCESSING, State.CREATED)
    paid_once(world, payout_id)


@scenario()
def money_that_comes_back_is_returned(world: World) -> None:
    payout_id = one(world)
    world.faults("returned=3600", _reference(world, payout_id))
    paid_once(world, payout_id)
    for _ in range(10):
        world.pass_time(payout_id)
        world.step()
        if world.state(payout_id) is State.RETURNED:
            return
    raise AssertionError(world.told(payout_id))


# --- answers that do not come, or say little ---


def _struck(world: World, spec: str, *, lost: bool) -> None:
    """A create that ends like that is paid once all the same, or waits for a person unpaid.

    Args:
        lost: it was not carried out, and nobody can know.
    """
    paid_once(world, one(world))  # a list that shows nothing at all proves nothing
    payout_id = one(world)
    world.faults(spec, _reference(world, payout_id))
    if lost and not may_repeat(world.can):
        assert world.settle(payout_id) is State.HELD, world.told(payout_id)
        assert world.releases(payout_id) == 0
    else:
        paid_once(world, payout_id)


@scenario(lambda can: can.look_up)
def a_create_that_was_stored_and_answered_5xx_is_found(world: World) -> None:
    _struck(world, "create:503-after", lost=False)


@scenario(lambda can: can.look_up)
def a_create_that_was_stored_and_never_answered_is_found(world: World) -> None:
    _struck(world, "create:hang-after", lost=False)


@scenario(lambda can: can.look_up)
def a_create_whose_connection_broke_after_storing_is_found(world: World) -> None:
    _struck(world, "create:reset-after", lost=False)


@scenario(lambda can: can.look_up)
def a_create_whose_answer_cannot_be_read_is_found(world: World) -> None:
    _struck(world, "create:garbage-after", lost=False)


@scenario(lambda can: can.look_up)
def a_create_that_drips_past_its_deadline_is_found(world: World) -> None:
    _struck(world, "create:drip-after", lost=False)


@scenario(lambda can: can.look_up)
def a_create_that_was_lost_before_storing_is_sent_again_where_that_is_safe(world: World) -> None:
    _struck(world, "create:drop", lost=True)


@scenario(lambda can: can.look_up)
def a_create_that_is_seen_late_is_not_sent_twice(world: World) -> None:
    """Look-ups that come too early find nothing; that is no proof yet."""
    paid_once(world, one(world))
    payout_id = one(world)
    world.faults("create:504-after hide=300", _reference(world, payout_id))
    paid_once(world, payout_id)


@scenario(may_repeat, harsh=False)
def a_create_that_was_stored_and_called_not_done_is_paid_once(world: World) -> None:
    """An answer that denies what was done, and look-ups that see it late: the key is all there
    is between the payout and a double.
    """
    for status in ("400", "401", "403", "404", "429"):
        paid_once(world, one(world))
        payout_id = one(world)
        world.faults(f"create:{status}-after hide=1500", _reference(world, payout_id))
        world.settle(payout_id)
        assert len(world.ledger(payout_id)["invoices"]) == 1, (status, world.told(payout_id))


@scenario()
def a_rate_limit_is_waited_out(world: World) -> None:
    payout_id = one(world)
    world.faults("create:429=40", _reference(world, payout_id))
    before = world.clock.now()
    paid_once(world, payout_id)
    assert world.clock.now() - before >= timedelta(seconds=40)


@scenario()
def a_refused_key_pauses_the_account_and_fails_no_row(world: World) -> None:
    payout_id = one(world)
    world.faults("any:403*0")
    world.step()
    assert world.state(payout_id) is State.QUEUED, world.told(payout_id)
    (pause,) = world.runtime.book.pauses()
    assert pause.kind == "fault"
    world.control.delete("faults")
    paid_once(world, payout_id)


@scenario(lambda can: can.look_up)
def an_outage_keeps_the_account_paused_until_it_is_over(world: World) -> None:
    """Also where there is no balance to ask for: then a payout that waits is asked about."""
    ids = world.queue(*(world.kind.an_order() for _ in range(12)))
    world.faults("any:503*0")
    for _ in range(60):
        if world.runtime.book.pauses():
            break
        if world.step() == 0:
            world.pass_time(ids[0])
    (pause,) = world.runtime.book.pauses()
    assert pause.kind == "outage"
    for _ in range(3):
        world.clock.sleep(700)
        sweep.sweep(world.runtime, Post())
        (still,) = world.runtime.book.pauses()
        assert still.since == pause.since
    world.control.delete("faults")
    paid_once(world, ids[0])


@scenario(lambda can: can.balances)
def too_little_money_pauses_the_account_and_keeps_the_rows(world: World) -> None:
    world.control.post("balances", json={world.kind.currency: "0.00"}).raise_for_status()
    payout_id = one(world)
    for _ in range(3):
        world.step()
    state = world.state(payout_id)
    assert state in (State.QUEUED, State.CREATED), world.told(payout_id)
    assert [pause.kind for pause in world.runtime.book.pauses()] == ["balance"]
    world.control.post("balances", json={world.kind.currency: "1000000"}).raise_for_status()
    paid_once(world, payout_id)


# --- declarations ---


@scenario(harsh=False)
def a_second_create_does_what_is_declared(world: World) -> None:
    """Refused or answered with the first where that is declared; never believed otherwise."""
    order = world.kind.an_order()
    first = world.provider.create(order)
    assert first.outcome in (Outcome.CREATED, Outcome.PROCESSING, Outcome.PAID)
    second = world.provider.create(order)
    made = world.control.get(f"ledger/{order.reference_id}").json()["invoices"]
    if may_repeat(world.can):
        assert len(made) == 1
        assert second.outcome is Outcome.EXISTS or (
            second.provider_payout_id == first.provider_payout_id
        )


@scenario(lambda can: can.look_up)
def a_look_up_finds_what_is_there_and_only_that(world: World) -> None:
    order = world.kind.an_order()
    paid_once(world, one(world))
    assert world.provider.look_up(order).outcome is Outcome.NOT_FOUND
    made = world.provider.create(order)
    found = world.provider.look_up(order)
    assert found.outcome not in (Outcome.NOT_FOUND, Outcome.UNKNOWN, Outcome.EXISTS), found
    assert found.provider_payout_id == made.provider_payout_id
    assert found.differs == ()
    longer = world.kind.an_order(reference_id=order.reference_id + "-2")
    assert world.provider.look_up(longer).outcome is Outcome.NOT_FOUND


@scenario(lambda can: can.look_up)
def a_look_up_that_is_not_answered_is_no_absence(world: World) -> None:
    order = world.kind.an_order()
    paid_once(world, one(world))
    for fault in ("503", "html", "302", "reset"):
        world.faults(" ".join(f"{point}:{fault}*0" for point in ("find", "read", "list")))
        outcome = world.provider.look_up(order).outcome
        assert outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT), fault
        world.control.delete("faults")


@scenario()
def two_steps_are_two_calls_and_one_is_one(world: World) -> None:
    payout_id = one(world)
    paid_once(world, payout_id)
    assert (world.ledger(payout_id)["processes"] > 0) == world.can.two_step


@scenario()
def balances_are_told_where_they_are_declared(world: World) -> None:
    balances = world.provider.balances()
    assert (Currency.of(world.kind.currency) in balances) == world.can.balances
    if world.can.balances:
        world.control.post("balances", json={world.kind.currency: "1234"}).raise_for_status()
        money = world.provider.balances()[Currency.of(world.kind.currency)]
        assert money.decimal() == 1234


@scenario()
def services_and_their_rules_take_a_good_order(world: World) -> None:
    order = world.kind.an_order()
    services = world.provider.services(order.amount.currency)
    service = next(each for each in services if each.code == order.service)
    names = {rule.name for rule in service.fields or () if not rule.name.startswith("customer.")}
    required = {rule.name for rule in service.fields or () if rule.required and rule.name in names}
    assert required <= order.fields.keys() <= names
    assert list(world.provider.why_not(order)) == []


@scenario()
def a_list_by_date_is_told_where_it_is_declared(world: World) -> None:
    payout_id = one(world)
    paid_once(world, payout_id)
    now = world.clock.now()
    listed = list(world.provider.list_payouts(now - timedelta(days=2), now + timedelta(days=1)))
    found = [each for each in listed if each.reference_id == world.row(payout_id).reference_id]
    assert len(found) == (1 if world.can.list_payouts else 0)


@scenario()
def optional_abilities_have_their_methods(world: World) -> None:
    assert not world.can.verifies or isinstance(world.provider, Verifier)
    assert not world.can.dry_run or isinstance(world.provider, DryRunner)


@scenario()
def one_token_serves_all_workers(world: World) -> None:
    """However many processes and payouts: one token an account, or one a payout."""
    other = world.open()
    try:
        for payout_id in (one(world), one(world)):
            paid_once(world, payout_id)
        before = world.calls("token")
        found = other.accounts["main"].provider.look_up(world.kind.an_order())
        assert found.outcome in (Outcome.NOT_FOUND, Outcome.UNKNOWN)
        a_payout = before == 2
        assert world.calls("token") == before + (1 if a_payout else 0)
        assert before in (0, 1, 2)
    finally:
        other.close()


@scenario()
def neither_secrets_nor_people_are_logged(world: World) -> None:
    """Whatever happens, at whatever level."""
    records: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(f"{record.getMessage()} {record.__dict__}")

    handler, root = Kept(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        for spec in ("create:422-after", "create:401", "create:reset-after", "create:503"):
            payout_id = one(world)
            world.faults(spec, _reference(world, payout_id))
            world.settle(payout_id)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    logged = " ".join(record for record in records if "aiohttp" not in record)
    secrets = [value for key, value in world.kind.account.items() if "key" in key or "pass" in key]
    secrets += [
        world.kind.account[key] for key in ("secret", "secret_key") if key in world.kind.account
    ]
    people = [str(value) for value in world.kind.order["fields"].values() if len(str(value)) > 4]
    assert any(record.startswith("payout {") and "'batch_id'" in record for record in records)
    for private in [*map(str, secrets), *people]:
        assert private not in logged, private


def _reference(world: World, payout_id: int) -> str:
    return str(world.row(payout_id).reference_id)


FAILED_WORDS = {
    "payelata": "process_failed",
    "ecomcharge": "failed",
    "echelon": "FAILED",
    "ecart": "failed",
    "etpay": "rejected",
}
PAID_WORDS = {
    "payelata": "processed",
    "ecomcharge": "successful",
    "echelon": "SUCCESS",
    "ecart": "paid",
    "etpay": "completed",
}
WORDS_OF_CASE: dict[str, Callable[[str], str]] = {
    name: (str.upper if name == "echelon" else str) for name in KINDS
}


def needed_by(can: Capabilities) -> Sequence[Scenario]:
    """The scenarios that an adapter with these capabilities has to pass."""
    return [each for each in SCENARIOS if each.needed(can)]
