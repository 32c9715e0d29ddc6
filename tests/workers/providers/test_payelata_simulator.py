"""The Payelata adapter over real HTTP against the simulator: whole lives and each refusal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from workers.errors import AccountFault
from workers.providers.payelata import Payelata, PayelataConfig
from workers.providers.port import Order, Reply
from workers.providers.transport import Transport
from workers.record.money import Currency, Money
from workers.record.status import Outcome
from workers.simulator import payelata as simulator

USD = Currency.of("USD")
CARD = "4000000000000002"
NUMBERS = count(1)
FAR = (datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(2**33, UTC))


@pytest.fixture(scope="module")
def options() -> simulator.PayelataOptions:
    return simulator.PayelataOptions(
        settle_s=0, quiet=True, balances={"USD": Decimal("100000.00"), "JPY": Decimal(50000)}
    )


@pytest.fixture(scope="module")
def connect(options: simulator.PayelataOptions) -> Iterator[Callable[..., Payelata]]:
    made: list[Transport] = []
    with simulator.serve(options) as running:

        def adapter(**changes: Any) -> Payelata:
            config = PayelataConfig(
                **{
                    "base_url": running.base_url,
                    "public_base_url": running.public_base_url,
                    "account_id": options.account_id,
                    "api_key": options.api_key,
                    "public_key": options.public_key,
                    "signing_key": options.signing_key,
                    "test_mode": True,
                    **changes,
                }
            )
            made.append(Transport(config.base_url, call_deadline_s=0.7))
            return Payelata(config, made[-1])

        yield adapter
        for transport in made:
            transport.close()


@pytest.fixture(scope="module")
def payelata(connect: Callable[..., Payelata]) -> Payelata:
    return connect()


def order(faults: str = "", **changes: Any) -> Order:
    return Order(
        **{
            "reference_id": f"sim-{next(NUMBERS):06}",
            "account": "main",
            "amount": Money(2550, USD),
            "service": "payment_card_usd",
            "fields": {"card_number": CARD},
            "metadata": {"simulate": faults} if faults else {},
            **changes,
        }
    )


def settled(payelata: Payelata, sent: Order, payout_id: str) -> Reply:
    """The first answer that is not open; fails after 5 s."""
    until = time.monotonic() + 5
    while True:
        reply = payelata.poll(sent, payout_id)
        if reply.outcome not in (Outcome.CREATED, Outcome.PROCESSING):
            return reply
        assert time.monotonic() < until, reply
        time.sleep(0.01)


def paid_through(payelata: Payelata, sent: Order) -> Reply:
    created = payelata.create(sent)
    assert created.outcome is Outcome.CREATED
    assert created.provider_payout_id
    assert payelata.process(sent, created.provider_payout_id).outcome in (
        Outcome.PROCESSING, Outcome.PAID, Outcome.REFUSED
    )  # fmt: skip
    return settled(payelata, sent, created.provider_payout_id)


def test_a_payout_is_created_released_and_paid(payelata: Payelata) -> None:
    sent = order()
    assert payelata.look_up(sent).outcome is Outcome.NOT_FOUND
    reply = paid_through(payelata, sent)
    assert reply.outcome is Outcome.PAID
    assert (reply.reference_id, reply.amount, reply.differs) == (
        sent.reference_id, sent.amount, ()
    )  # fmt: skip
    assert reply.processed == sent.amount
    found = payelata.look_up(sent)
    assert (found.outcome, found.provider_payout_id) == (Outcome.PAID, reply.provider_payout_id)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("processed", Outcome.PAID),
        ("partially_processed", Outcome.PARTLY_PAID),
        ("process_failed", Outcome.REFUSED),
        ("expired", Outcome.REFUSED),
        ("canceled", Outcome.RETURNED),
    ],
)
def test_each_end_of_a_payout(payelata: Payelata, end: str, outcome: Outcome) -> None:
    sent = order(f"status={end}")
    created = payelata.create(sent)
    assert created.provider_payout_id
    payelata.process(sent, created.provider_payout_id)
    until = time.monotonic() + 5
    while (reply := payelata.poll(sent, created.provider_payout_id)).status != end:
        assert time.monotonic() < until, reply
        time.sleep(0.01)
    assert reply.outcome is outcome


def test_a_second_create_is_refused_and_the_first_is_found(payelata: Payelata) -> None:
    sent = order()
    first = payelata.create(sent)
    assert payelata.create(sent).outcome is Outcome.EXISTS
    assert payelata.look_up(sent).provider_payout_id == first.provider_payout_id


@pytest.mark.parametrize(
    ("fault", "outcome", "stored"),
    [
        ("create:drop", Outcome.UNKNOWN, False),
        ("create:drop-after", Outcome.UNKNOWN, True),
        ("create:reset", Outcome.UNKNOWN, False),
        ("create:reset-after", Outcome.UNKNOWN, True),
        ("create:hang-after", Outcome.UNKNOWN, True),
        ("create:html-after", Outcome.UNKNOWN, True),
        ("create:garbage-after", Outcome.UNKNOWN, True),
        ("create:empty-after", Outcome.UNKNOWN, True),
        ("create:cut-after", Outcome.UNKNOWN, True),
        ("create:400", Outcome.UNKNOWN, False),
        ("create:400-after", Outcome.UNKNOWN, True),
        ("create:500", Outcome.UNKNOWN, False),
        ("create:503-after", Outcome.UNKNOWN, True),
        ("create:302", Outcome.UNKNOWN, False),
        ("create:429=7", Outcome.NOT_SENT, False),
        ("create:401", Outcome.ACCOUNT_FAULT, False),
        ("create:403", Outcome.ACCOUNT_FAULT, False),
        ("create:404", Outcome.ACCOUNT_FAULT, False),
        ("create:405", Outcome.ACCOUNT_FAULT, False),
    ],
)
def test_a_harmed_create_tells_the_truth_and_the_look_up_finds_out(
    payelata: Payelata, fault: str, outcome: Outcome, stored: bool
) -> None:
    sent = order(fault)
    reply = payelata.create(sent)
    assert reply.outcome is outcome
    assert reply.retry_after_s == (7 if "429" in fault else None)
    found = payelata.look_up(sent)
    assert found.outcome is (Outcome.CREATED if stored else Outcome.NOT_FOUND)
    again = payelata.create(sent)
    assert again.outcome is (Outcome.EXISTS if stored else Outcome.CREATED)


@pytest.mark.parametrize("fault", ["drop-after", "hang-after", "500-after", "409", "422", "html"])
def test_a_harmed_release_is_read_before_anything_else(payelata: Payelata, fault: str) -> None:
    sent = order(f"process:{fault}")
    created = payelata.create(sent)
    assert created.provider_payout_id
    assert payelata.process(sent, created.provider_payout_id).outcome is Outcome.UNKNOWN
    read = payelata.poll(sent, created.provider_payout_id)
    assert (read.outcome is Outcome.CREATED) is not fault.endswith("-after")


@pytest.mark.parametrize(
    "fault", ["drop", "500", "302", "html", "garbage-after", "empty-after", "cut-after"]
)
def test_a_harmed_find_is_never_absence(payelata: Payelata, fault: str) -> None:
    sent = order(f"find:{fault}")
    payelata.create(sent)
    assert payelata.look_up(sent).outcome is Outcome.UNKNOWN
    assert payelata.look_up(sent).outcome is Outcome.CREATED


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"fields": {"card_number": "12"}}, "card_number"),
        ({"fields": {}}, "card_number"),
        ({"amount": Money(600_000, USD)}, "amount"),
        ({"customer": {"name": "Jane Roe"}}, "customer.reference_id"),
    ],
)
def test_a_row_that_the_provider_will_not_take_is_refused_in_its_words(
    payelata: Payelata, changes: dict[str, Any], word: str
) -> None:
    sent = order(**changes)
    reply = payelata.create(sent)
    assert (reply.outcome, reply.code) == (Outcome.REFUSED, "422")
    assert word in (reply.reason or "")
    assert payelata.look_up(sent).outcome is Outcome.NOT_FOUND


def test_a_wrong_key_is_the_accounts_fault(connect: Callable[..., Payelata]) -> None:
    wrong = connect(api_key="wrong-key")
    for reply in (wrong.create(order()), wrong.look_up(order()), wrong.poll(order(), "cpoi_x")):
        assert (reply.outcome, reply.code) == (Outcome.ACCOUNT_FAULT, "401")
    with pytest.raises(AccountFault):
        wrong.balances()
    with pytest.raises(AccountFault):
        wrong.services(USD)


def test_a_payout_that_is_not_there_is_not_found(payelata: Payelata) -> None:
    assert payelata.poll(order(), "cpoi_Nowhere").outcome is Outcome.NOT_FOUND


def test_balances_and_services_are_read(payelata: Payelata) -> None:
    balances = payelata.balances()
    assert balances[Currency.of("JPY")] == Money(50000, Currency.of("JPY"))
    services = {service.code: service for service in payelata.services(USD)}
    card = services["payment_card_usd"]
    assert (card.amount_min, card.amount_max) == (Money(100, USD), Money(500_000, USD))
    assert [(rule.name, rule.required, rule.pattern) for rule in card.fields or ()] == [
        ("card_number", True, r"^\d{12,19}$")
    ]
    assert all(service.fields is not None for service in services.values() if service.usable)


def test_the_list_has_every_payout_once(payelata: Payelata) -> None:
    sent = [order() for _ in range(45)]
    for each in sent:
        payelata.create(each)
    listed = [reply.reference_id for reply in payelata.list_payouts(*FAR)]
    assert len(listed) == len(set(listed))
    assert listed[:45] == [each.reference_id for each in reversed(sent)]
