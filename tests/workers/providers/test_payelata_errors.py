"""What a 422 and the shapes of errors mean at Payelata."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.providers import payelata_errors as errors
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer
from workers.record.money import Currency, Money
from workers.record.status import Outcome

ORDER = Order(
    reference_id="r-1",
    account="main",
    amount=Money(1, Currency.of("USD")),
    service="card",
    fields={"card_number": "4000000000000002"},
)


def answer(told: Any, status: int = 422) -> Answer:
    return Answer(status, {}, json.dumps({"errors": told}).encode())


def refused(told: Any) -> Reply:
    return errors.refused(
        answer(told),
        ORDER,
        duplicate_words=("reference_id", "already exists"),
        low_balance_words=("insufficient",),
    )


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"amount": "Too small."}, "amount: Too small."),
        ({"amount": ["Too small.", "Not whole."]}, "amount: Too small.; amount: Not whole."),
        ({"fields": {"card_number": {"regexp": "Bad."}}}, "fields.card_number.regexp: Bad."),
        ({"data.attributes.fields[pan]": "Bad."}, "fields.pan: Bad."),
        ({"data": {"attributes": {"amount": "Bad."}}}, "amount: Bad."),
        ([{"status": "Unprocessable Entity", "code": "422"}], "Unprocessable Entity"),
        ([{"code": "422"}], "422"),
        ([{"title": "Wrong", "detail": "Too small.",
           "source": {"pointer": "/data/attributes/amount"}}], "amount: Wrong, Too small."),
        (["Bad."], "Bad."),
        ("Bad.", "Bad."),
        ({"card_number": "4000000000000002 is bad"}, "card_number: *** is bad"),
        ({"fields": {"card_number": "insufficient length"}},
         "fields.card_number: insufficient length"),
        ({"card_number": "insufficient length"}, "card_number: insufficient length"),
        ({"customer": {"reference_id": "Missing."}}, "customer.reference_id: Missing."),
    ],
)  # fmt: skip
def test_a_422_refuses_with_the_words_of_each_field(told: Any, reason: str) -> None:
    reply = refused(told)
    assert (reply.outcome, reply.code, reply.reason) == (Outcome.REFUSED, "422", reason)


@pytest.mark.parametrize(
    "told",
    [
        {"reference_id": "Must be unique."},
        {"data": {"attributes": {"reference_id": ["Taken."]}}},
        {"amount": "Insufficient funds.", "reference_id": "Taken."},
        [{"detail": "Taken.", "source": {"pointer": "/data/attributes/reference_id"}}],
    ],
)
def test_a_422_about_the_reference_id_is_looked_up_first(told: Any) -> None:
    assert refused(told).outcome is Outcome.EXISTS


@pytest.mark.parametrize(
    "told",
    [
        {"base": "The REFERENCE_ID is taken."},
        [{"detail": "Payout already exists"}],
        {},
        [],
        None,
        7,
    ],
)
def test_a_422_that_may_be_about_the_reference_or_says_nothing_is_unknown(told: Any) -> None:
    reply = refused(told)
    assert reply.outcome is Outcome.UNKNOWN
    assert (reply.refusal or "").startswith("422: ")


@pytest.mark.parametrize(
    "told", [{"amount": "Insufficient funds."}, [{"title": "INSUFFICIENT balance"}], "insufficient"]
)
def test_a_422_for_lack_of_money_is_the_accounts(told: Any) -> None:
    reply = refused(told)
    assert (reply.outcome, reply.low_balance) == (Outcome.ACCOUNT_FAULT, True)
    assert reply.account_fault


def test_errors_without_end_are_read_to_a_limit() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [{"data": deep}]
    assert errors.messages(answer(deep)) == []
    many = errors.messages(answer({f"f{n}": "x" for n in range(1000)}))
    assert len(many) == errors.MESSAGES_MAX


def test_equal_refusals_have_equal_texts() -> None:
    first, second = (
        errors.not_done(answer({"amount": "Odd."}, 400), ORDER, judged=True) for _ in range(2)
    )
    assert first.refusal == second.refusal == "400: amount: Odd."
