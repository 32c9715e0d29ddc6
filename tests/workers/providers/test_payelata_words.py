"""Payelata's words: every status, every resolution, exact values, and what differs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from workers.providers import payelata_words as words
from workers.providers.port import Order, Reply
from workers.record.money import Currency, Money
from workers.record.status import Outcome

USD = Currency.of("USD")
ORDER = Order(
    reference_id="r-1",
    account="main",
    amount=Money(2550, USD),
    service="card",
    fields={"card_number": "4000000000000002", "name": "Jane Roe", "country": "USA"},
    customer={"address": {"city": "Denver"}},
)


def reply(order: Order | None = ORDER, *, service: Any = "card", **attributes: Any) -> Reply:
    facts = {
        "status": "created", "resolution": "ok", "amount": Decimal("25.5"), "currency": "USD",
        "reference_id": "r-1", "test_mode": True, **attributes,
    }  # fmt: skip
    related = {"payout-service": {"data": {"type": "payout-services", "id": service}}}
    data = {
        "type": "payout-invoices", "id": "cpoi_1", "attributes": facts, "relationships": related
    }  # fmt: skip
    invoice = words.read_invoice(data)
    assert invoice is not None
    return words.reply(invoice, test_mode=True, order=order)


STATUSES = {
    "created": Outcome.CREATED,
    "processing": Outcome.PROCESSING,
    "process_pending": Outcome.PROCESSING,
    "process_error": Outcome.PROCESSING,
    "processed": Outcome.PAID,
    "partially_processed": Outcome.PARTLY_PAID,
    "process_failed": Outcome.REFUSED,
    "expired": Outcome.REFUSED,
    "terminated": Outcome.REFUSED,
    "canceling": Outcome.PAID,
    "cancel_pending": Outcome.PAID,
    "cancel_error": Outcome.PAID,
    "canceled": Outcome.RETURNED,
    "partially_canceled": Outcome.PAID,
    "cancel_failed": Outcome.PAID,
}
WARNED = {"process_error", "canceling", "cancel_pending", "cancel_error", "partially_canceled"}


def test_the_table_of_statuses_is_the_pages() -> None:
    assert {status: outcome for status, (outcome, _) in words.STATES.items()} == STATUSES


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_that_a_person_should_see_warns(status: str) -> None:
    assert bool(reply(status=status).warning) is (status in WARNED)


@pytest.mark.parametrize("status", ["teleported", "PROCESSED", "processed ", "Created"])
def test_an_unlisted_status_is_open_and_shown(status: str) -> None:
    answer = reply(status=status)
    assert answer.outcome is Outcome.PROCESSING
    assert (answer.warning or "").startswith("unlisted status")


RESOLUTIONS = {
    "ok": {"ok"},
    "not decided": {
        "connection_error", "provider_internal_error", "connection_timeout_error",
        "general_error", "unknown",
    },
    "recipient": {
        "invalid_details", "recipient_not_found", "invalid_recipient", "invalid_amount",
        "invalid_method", "limit_violation",
    },
    "funds": {"insufficient_funds"},
    "setup": {
        "invalid_credentials", "forbidden_ip", "signature_error", "access_error", "access_denied",
        "invalid_request", "request_error",
    },
    "duplicate": {"duplicated_id"},
    "refused": {
        "antifraud_error", "declined_error", "general_fatal_error", "internal_error",
        "operation_expired", "processing_error",
    },
}  # fmt: skip
PAIRS = [(group, code) for group, codes in RESOLUTIONS.items() for code in sorted(codes)]


def test_the_table_of_resolutions_is_the_pages() -> None:
    assert {code: told.group for code, told in words.RESOLUTIONS.items()} == {
        code: group for group, code in PAIRS
    }


@pytest.mark.parametrize(("group", "code"), PAIRS)
def test_a_resolution_explains_a_failure_in_any_case(group: str, code: str) -> None:
    for written in (code, code.upper()):
        answer = reply(status="process_failed", resolution=written)
        assert answer.outcome is Outcome.REFUSED
        assert answer.code == ("process_failed" if group == "ok" else written)
        assert answer.reason
        assert bool(answer.account_fault) is (group in ("funds", "setup"))
        assert answer.low_balance is (group == "funds")
        assert bool(answer.differs) is (group == "duplicate")
        assert bool(answer.warning) is (group == "duplicate")


@pytest.mark.parametrize(("_group", "code"), PAIRS)
@pytest.mark.parametrize("status", STATUSES)
def test_a_resolution_never_changes_the_outcome(status: str, _group: str, code: str) -> None:
    answer = reply(status=status, resolution=code)
    assert answer.outcome is STATUSES[status]
    if answer.outcome is not Outcome.REFUSED:
        assert answer.account_fault is None
        assert answer.differs == ()
    if answer.outcome in (Outcome.PAID, Outcome.CREATED):
        assert answer.code is None


def test_an_unlisted_resolution_is_shown() -> None:
    answer = reply(status="process_failed", resolution="moon_phase")
    assert (answer.code, answer.account_fault) == ("moon_phase", None)
    assert "moon_phase" in (answer.warning or "")


def test_a_part_is_named() -> None:
    partly = reply(status="partially_processed", processed_amount="10.00")
    assert partly.processed == Money(1000, USD)
    assert "10.00 USD of 25.50 USD" in (partly.reason or "")
    back = reply(status="partially_canceled", processed_amount="10.00")
    assert "10.00 USD of 25.50 USD" in (back.warning or "")


def test_fee_rate_and_processed_are_exact() -> None:
    answer = reply(
        fee="0.50", processed_fee=Decimal("0.75"), exchange_rate=Decimal("1.23E-7"),
        processed_amount=25,
    )  # fmt: skip
    assert answer.fee == Money(75, USD)
    assert answer.exchange_rate == "0.000000123"
    assert answer.processed == Money(2500, USD)
    assert reply(fee="0.50", processed_fee=0).fee == Money(50, USD)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"test_mode": False}, "test_mode: false, sent: true"),
        ({"test_mode": 0}, "test_mode"),
        ({"test_mode": "true"}, "test_mode"),
        ({"service": "pix"}, "service: pix, sent: card"),
        ({"amount": Decimal("25.505")}, "amount: 25.505 USD"),
        ({"amount": True}, "amount"),
        ({"amount": "25,50"}, "amount"),
        ({"amount": Decimal("1e999999999")}, "amount"),
        ({"amount": float("nan")}, "amount"),
        ({"currency": "usd"}, "amount"),
        ({"currency": None}, "amount"),
    ],
)
def test_each_fact_that_is_not_what_was_sent_is_told(attributes: dict[str, Any], word: str) -> None:
    answer = reply(**attributes)
    assert len(answer.differs) == 1
    assert word in answer.differs[0]


def test_what_is_equal_or_not_said_does_not_differ() -> None:
    assert reply(test_mode=1, amount="25.50", service=None).differs == ()
    assert reply(test_mode=None).differs == ()
    assert reply(service="pix").differs == ("service: pix, sent: card",)
    assert reply(None, service="pix").differs == ()
    absent = reply(amount=None, currency=None)
    assert (absent.amount, absent.differs) == (None, ())


@pytest.mark.parametrize(
    ("account", "overdraft", "minor"),
    [
        ({"active_balance": "1250.40"}, True, 125040),
        ({"active_balance": "10", "overdraft_limit": "5.5", "balance_lower_limit": None}, True,
         1550),
        ({"active_balance": "10", "overdraft_limit": "5.5"}, False, 1000),
        ({"active_balance": "10", "balance_lower_limit": "3"}, True, 700),
        ({"active_balance": "10", "balance_lower_limit": "13"}, True, -300),
        ({"active_balance": "10.009"}, True, 1000),
        ({"active_balance": "-10.001"}, True, -1001),
        ({"active_balance": "x"}, True, None),
        ({"active_balance": "10", "balance_lower_limit": "x"}, True, None),
        ([], True, None),
    ],
)  # fmt: skip
def test_spendable_is_never_more_than_there_is(
    account: Any, overdraft: bool, minor: int | None
) -> None:
    expected = None if minor is None else Money(minor, USD)
    assert words.spendable(account, USD, overdraft=overdraft) == expected
