"""What eComCharge's payouts say: amounts, statuses, codes, what differs, and whose a list is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.providers.ecomcharge_world import (
    CALLS,
    REFERENCE,
    UID,
    USD,
    adapter,
    ask,
    cards,
    config,
    listed,
    order,
    told,
    transaction,
)
from workers.providers import ecomcharge_words as words
from workers.providers.ecomcharge_words import CODES, STATES, Means
from workers.record.money import EXPONENTS, Currency, Money
from workers.record.status import Outcome

# Amounts.

CODE = st.sampled_from(sorted(EXPONENTS))


@given(minor=st.integers(0, 10**18 - 1), code=CODE, decimals=st.integers(0, 4))
def test_an_amount_goes_there_and_comes_back_exactly_or_not_at_all(
    minor: int, code: str, decimals: int
) -> None:
    amount = Money(minor, Currency.of(code))
    theirs = words.to_theirs(amount, {code: decimals})
    if theirs is None:
        assert minor % 10 ** (amount.currency.exponent - decimals) != 0
    else:
        assert Decimal(theirs).scaleb(-decimals) == amount.decimal()
        assert words.to_ours(theirs, amount.currency, {code: decimals}) == amount


@given(theirs=st.integers(0, 10**18), code=CODE, decimals=st.integers(0, 4))
def test_an_amount_of_theirs_is_read_exactly_or_not_at_all(
    theirs: int, code: str, decimals: int
) -> None:
    currency = Currency.of(code)
    ours = words.to_ours(theirs, currency, {code: decimals})
    rest = theirs % 10 ** max(decimals - currency.exponent, 0)
    assert (ours is None) is (rest != 0)
    if ours is not None:
        assert words.to_theirs(ours, {code: decimals}) == theirs


@pytest.mark.parametrize(
    ("code", "decimals", "ours", "theirs"),
    [
        ("USD", 2, 3245, 3245),
        # The platform counts whole rupiah, ISO 4217 hundredths. Source: section 3.
        ("IDR", 0, 1_500_000, 15_000),
        ("IDR", 2, 1_500_000, 1_500_000),
        ("IQD", 0, 25_000, 25),
        ("MOP", 1, 1050, 105),
        ("JPY", 2, 7, 700),
        ("USD", 1, 3245, None),
        ("EUR", None, 3245, None),
    ],
)
def test_decimals_are_those_of_the_settings(
    code: str, decimals: int | None, ours: int, theirs: int | None
) -> None:
    known = {"USD": 2} if decimals is None else {code: decimals}
    amount = Money(ours, Currency.of(code))
    assert words.to_theirs(amount, known) == theirs
    if theirs is not None:
        assert words.to_ours(theirs, amount.currency, known) == amount


@pytest.mark.parametrize(
    "value", [None, True, "25.5", Decimal("25.5"), "2 550", "1e3", [], {}, Decimal("NaN"), 10**40]
)
def test_what_is_no_whole_number_is_no_amount(value: Any) -> None:
    assert words.to_ours(value, USD, {"USD": 2}) is None


@pytest.mark.parametrize("value", [2550, "2550", Decimal("2550.0")])
def test_a_whole_number_may_be_written_as_text(value: Any) -> None:
    assert words.to_ours(value, USD, {"USD": 2}) == Money(2550, USD)


@pytest.mark.parametrize(
    ("theirs", "decimals", "ours"), [(12345, 3, 1234), (-12345, 3, -1235), (12, 0, 1200)]
)
def test_a_balance_is_rounded_down_to_our_minor_unit(theirs: int, decimals: int, ours: int) -> None:
    assert words.spendable(theirs, USD, {"USD": decimals}) == Money(ours, USD)


# Statuses, in every call that may bring one.


def _answer(call: str, **changes: Any) -> httpx.Response:
    return listed(transaction(**changes)) if call == "look_up" else told(**changes)


@pytest.mark.parametrize("status", [*STATES, "teleported"])
@pytest.mark.parametrize("call", CALLS)
def test_status_decides_the_outcome_of_every_call(call: str, status: str) -> None:
    outcome, warning = STATES.get(status, (Outcome.PROCESSING, "unlisted status: teleported"))
    reply = ask(call, _answer(call, status=status, payout={"status": status}))
    assert (reply.outcome, reply.status, reply.warning) == (outcome, status, warning or None)
    assert (reply.provider_payout_id, reply.reference_id) == (UID, REFERENCE)
    assert (reply.amount, reply.differs) == (Money(2550, USD), ())


def test_the_table_of_statuses_is_the_pages() -> None:
    assert {word: outcome for word, (outcome, _) in STATES.items()} == {
        "successful": Outcome.PAID,
        "failed": Outcome.REFUSED,
        "pending": Outcome.PROCESSING,
        "incomplete": Outcome.PROCESSING,
        "initial": Outcome.PROCESSING,
        "expired": Outcome.REFUSED,
        "error": Outcome.PROCESSING,
        "deleted": Outcome.REFUSED,
    }
    assert all(STATES[word][1] for word in ("incomplete", "error", "deleted"))


def test_statuses_are_read_in_any_case_and_may_be_set_otherwise() -> None:
    assert ask("poll", told(status="Successful")).outcome is Outcome.PAID
    assert ask("poll", told(status="expired"), statuses={"expired": "processing"}).outcome is (
        Outcome.PROCESSING
    )
    settled = ask("poll", told(status="settled"), statuses={"settled": "paid"})
    assert (settled.outcome, settled.warning) == (Outcome.PAID, None)


def test_a_payout_without_a_status_is_open_and_shown() -> None:
    reply = ask("create", told(status=None))
    assert (reply.outcome, reply.warning) == (Outcome.PROCESSING, "the answer has no status")


@pytest.mark.parametrize(
    ("status", "leg", "outcome", "differs"),
    [
        ("pending", "successful", Outcome.PROCESSING, False),
        ("pending", "failed", Outcome.PROCESSING, False),
        ("successful", "pending", Outcome.PROCESSING, False),
        ("failed", "pending", Outcome.PROCESSING, False),
        ("failed", "teleported", Outcome.PROCESSING, False),
        ("successful", None, Outcome.PAID, False),
        ("failed", "expired", Outcome.REFUSED, False),
        ("failed", "error", Outcome.REFUSED, False),
        ("failed", "Declined", Outcome.REFUSED, False),
        ("expired", "rejected", Outcome.REFUSED, False),
        ("failed", "canceled", Outcome.REFUSED, False),
        ("successful", "error", Outcome.PROCESSING, False),
        ("pending", "error", Outcome.PROCESSING, False),
        ("failed", "successful", Outcome.REFUSED, True),
        ("successful", "failed", Outcome.PAID, True),
    ],
)
def test_of_two_statuses_an_open_one_wins_and_two_final_ones_need_a_person(
    status: str, leg: str | None, outcome: Outcome, differs: bool
) -> None:
    reply = ask("poll", told(status=status, payout={"status": leg}))
    assert reply.outcome is outcome
    assert reply.differs == ((f"status: {status}, payout.status: {leg}",) if differs else ())
    if leg == "teleported":
        assert reply.warning == "unlisted status: teleported"


@pytest.mark.parametrize("inside", [True, False])
def test_a_payout_that_waits_for_a_form_stays_open_and_is_shown(inside: bool) -> None:
    form = {"action": "https://pay.example.test", "method": "GET", "fields": []}
    document: dict[str, Any] = {"transaction": transaction()}
    (document["transaction"] if inside else document)["form"] = form
    reply = ask("create", httpx.Response(200, json=document))
    assert reply.outcome is Outcome.PROCESSING
    assert "form" in (reply.warning or "")


def test_a_correction_by_hand_is_shown() -> None:
    reply = ask("poll", told(status="failed", manually_corrected_at="2024-01-11T10:00:00Z"))
    assert (reply.outcome, "by hand" in (reply.warning or "")) == (Outcome.REFUSED, True)


# Codes of failed payouts.

OPEN = (Means.OPEN, Means.DONE)


@pytest.mark.parametrize("code", CODES)
def test_a_code_says_whose_matter_a_failed_payout_is(code: str) -> None:
    means = CODES[code]
    reply = ask("poll", told(status="failed", code=code, message=None))
    assert reply.outcome is (Outcome.PROCESSING if means in OPEN else Outcome.REFUSED)
    assert bool(reply.warning) is (means in OPEN)
    assert bool(reply.differs) is (means is Means.DUPLICATE)
    assert bool(reply.account_fault) is (means in (Means.FUNDS, Means.SETUP))
    assert reply.low_balance is (means is Means.FUNDS)
    if means not in OPEN:
        assert (reply.code, reply.reason) == (code, str(means))


def test_an_unlisted_code_is_kept_and_shown_and_the_status_decides() -> None:
    reply = ask("poll", told(status="failed", code="F.0001", message="Declined."))
    assert (reply.outcome, reply.code, reply.reason) == (Outcome.REFUSED, "F.0001", "Declined.")
    assert reply.warning == "unlisted code: F.0001"


def test_a_failure_says_what_the_platform_and_the_gateway_say_once() -> None:
    reply = ask("poll", told(status="failed", friendly_message="Card blocked", message="declined",
                             payout={"status": "failed", "message": "declined"}))  # fmt: skip
    assert reply.reason == "Card blocked; declined"


def test_a_failure_without_words_has_a_code_and_a_reason_all_the_same() -> None:
    reply = ask("poll", told(status="expired", message=None))
    assert (reply.code, reply.reason) == ("expired", "says expired")


@pytest.mark.parametrize("message", ["Duplicate transaction", "It already exists"])
def test_a_failure_as_a_duplicate_needs_a_person(message: str) -> None:
    reply = ask("create", told(status="failed", message=message))
    assert reply.outcome is Outcome.REFUSED
    assert reply.differs == (f"says failed as a duplicate: {message}",)
    assert ask("create", told(status="failed", message=message), duplicate_words=()).differs == ()


def test_a_beneficiary_named_like_a_duplicate_is_none() -> None:
    sent = order(fields={"account_number": "1", "bank": "Duplicate & Sons"})
    answer = told(status="failed", message="Duplicate & Sons: account closed")
    assert ask("create", answer, sent).differs == ()


def test_words_of_lack_of_money_pause_the_account() -> None:
    reply = ask("poll", told(status="failed", message="Insufficient funds at gateway"))
    assert (reply.outcome, reply.low_balance) == (Outcome.REFUSED, True)
    assert reply.account_fault == "eComCharge refuses: Insufficient funds at gateway"


def test_a_paid_payout_with_a_code_of_failure_is_paid_and_shown() -> None:
    reply = ask("poll", told(status="successful", code="F.0114"))
    assert (reply.outcome, reply.warning) == (Outcome.PAID, "code: F.0114")
    assert reply.account_fault is None
    assert ask("poll", told(status="successful", code="S.0000")).warning is None


# What differs.


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"test": False}, "test: false, sent: true"),
        ({"test": "true"}, "test: true, sent: true"),
        ({"type": "payment"}, "type: payment, sent: payout"),
        ({"amount": "25.50"}, "amount: 25.50 USD cannot be read exactly"),
        ({"amount": 25.5}, "amount: 25.5 USD cannot be read exactly"),
        ({"currency": "EUR"}, "amount: 2550 EUR cannot be read exactly"),
        ({"currency": None}, "amount: 2550 None cannot be read exactly"),
        ({"amount": {"a": 1}}, "amount: neither text nor a number USD cannot be read exactly"),
        ({"currency": "EUR", "amount": None}, "currency: EUR, sent: USD"),
        ({"method_type": "visa"}, "method_type: visa, sent: bank_transfer"),
    ],
)
def test_what_is_not_as_it_was_sent_is_told(changes: dict[str, Any], differs: str) -> None:
    assert ask("create", told(**changes)).differs == (differs,)


def test_another_amount_or_reference_is_told_as_it_is() -> None:
    reply = ask("create", told(amount=2551, tracking_id="another"))
    assert (reply.amount, reply.reference_id) == (Money(2551, USD), "another")
    assert ask("create", told(tracking_id="x" * 300)).reference_id == "x" * 256
    other = ask("poll", told(amount=2550, currency="EUR"), currency_decimals={"USD": 2, "EUR": 2})
    assert other.amount == Money(2550, Currency.of("EUR"))


def test_what_an_answer_does_not_say_is_no_difference() -> None:
    silent = {"uid": UID, "status": "pending"}
    reply = ask("create", httpx.Response(200, json={"transaction": silent}))
    assert (reply.outcome, reply.differs) == (Outcome.PROCESSING, ())
    assert (reply.reference_id, reply.amount) == (None, None)


CUSTOMER = {"first_name": "Jané", "phone": "+0 100-0000000", "email": "jane@example.org"}


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        ({"first_name": "JANÉ", "phone": 1000000000}, True),
        ({"first_name": "J***", "phone": "01000000000"}, True),
        ({"first_name": "", "phone": None}, True),
        ({"first_name": True, "phone": False}, True),
        ({"first_name": "John"}, False),
        ({"phone": 1000000001}, False),
    ],
)
def test_a_customer_that_comes_back_otherwise_is_told_without_its_values(
    shown: dict[str, Any], same: bool
) -> None:
    answer = told(billing_address=shown, customer={"email": "jane@example.org"})
    reply = ask("create", answer, order(customer=CUSTOMER))
    name = next(iter(shown))
    assert reply.differs == (() if same else (f"customer.{name}: another value than was sent",))
    assert ask("create", answer, order(customer=CUSTOMER), compares_echo=False).differs == ()


# Shapes of answers, on both hosts.

SHAPES: list[Any] = [
    {"transaction": transaction()},
    {"transactions": [transaction()]},
    [transaction()],
    [{"transaction": transaction()}],
    transaction(),
]


@pytest.mark.parametrize("document", SHAPES)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("settings", [{}, cards()])
def test_every_shape_of_an_answer_is_read_on_both_hosts(
    settings: dict[str, Any], call: str, document: Any
) -> None:
    reply = ask(call, httpx.Response(200, json=document), **settings)
    assert (reply.outcome, reply.provider_payout_id) == (Outcome.PROCESSING, UID)
    assert (reply.amount, reply.differs) == (Money(2550, USD), ())


def test_a_create_answered_with_several_payouts_is_unknown() -> None:
    reply = ask("create", listed(transaction(), transaction(uid="2-b")))
    assert reply.outcome is Outcome.UNKNOWN


# Lists by tracking id.


@pytest.mark.parametrize("document", [[], {"transactions": []}])
def test_an_empty_list_is_not_found(document: Any) -> None:
    assert ask("look_up", httpx.Response(200, json=document)).outcome is Outcome.NOT_FOUND


def test_payments_with_our_id_are_no_payouts() -> None:
    payment = transaction(uid="2-p", type="payment", status="successful")
    assert ask("look_up", listed(payment)).outcome is Outcome.NOT_FOUND
    assert ask("look_up", listed(payment, transaction())).provider_payout_id == UID


def test_a_payment_that_cannot_be_read_hides_no_payout() -> None:
    payment = transaction(uid=None, type="payment")
    assert ask("look_up", listed(payment, transaction())).provider_payout_id == UID


@pytest.mark.parametrize("kind", ["Payout", "PAYOUT"])
def test_a_payouts_type_is_read_in_any_case(kind: str) -> None:
    reply = ask("look_up", listed(transaction(type=kind)))
    assert (reply.provider_payout_id, reply.differs) == (UID, ())
    unreadable = transaction(uid=None, type=kind)
    assert ask("look_up", listed(transaction(), unreadable)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("kind", ["credit", "p2p", "payouts", "", 7, True, ["payout"]])
def test_a_transaction_of_an_unlisted_type_proves_no_absence(kind: Any) -> None:
    strange = transaction(uid="2-s", type=kind, status="successful")
    assert ask("look_up", listed(strange)).outcome is Outcome.UNKNOWN
    failed = transaction(status="failed")
    assert ask("look_up", listed(strange, failed)).outcome is Outcome.UNKNOWN
    assert ask("look_up", listed(strange, transaction())).provider_payout_id == UID
    listed_type = ask("look_up", listed({**strange, "type": "Credit"}), payment_types=["credit"])
    assert listed_type.outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize("payment", ["payment", "Refund", "AUTHORIZATION", "chargeback"])
def test_known_types_of_payments_prove_nothing_of_a_payout(payment: str) -> None:
    assert ask("look_up", listed(transaction(type=payment))).outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    "more", [{"errors": {"system": ["x"]}}, {"errors": "x"}, {"response": {"errors": ["x"]}}]
)
def test_a_list_that_tells_of_errors_proves_nothing(more: dict[str, Any]) -> None:
    answer = httpx.Response(200, json={**more, "transactions": []})
    assert ask("look_up", answer).outcome is Outcome.UNKNOWN
    silent = httpx.Response(200, json={"errors": {}, "transactions": []})
    assert ask("look_up", silent).outcome is Outcome.NOT_FOUND


def test_others_in_the_list_are_no_hits_and_prove_no_absence() -> None:
    other = transaction(uid="2-b", tracking_id=REFERENCE + "0", status="failed")
    assert ask("look_up", listed(other)).outcome is Outcome.UNKNOWN
    assert ask("look_up", listed(other, transaction())).provider_payout_id == UID


@pytest.mark.parametrize("settings", [{}, cards()])
def test_a_full_list_proves_no_absence(settings: dict[str, Any]) -> None:
    most = 10 if settings else 100
    payments = [transaction(uid=f"2-{n}", type="payment") for n in range(most)]
    reply = ask("look_up", listed(*payments), **settings)
    assert (reply.outcome, reply.retry_after_s) == (Outcome.UNKNOWN, 300)
    assert ask("look_up", listed(*payments[1:]), **settings).outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    "broken",
    [{"uid": None}, {"uid": ""}, {"tracking_id": None}, {"type": None}],
)
def test_a_list_with_a_payout_that_cannot_be_read_says_nothing(broken: dict[str, Any]) -> None:
    reply = ask("look_up", listed(transaction(), transaction(**{"uid": "2-b", **broken})))
    assert reply.outcome is Outcome.UNKNOWN


def test_a_payout_without_a_type_is_told_by_its_own_member() -> None:
    reply = ask("look_up", listed(transaction(type=None, payout={"status": "pending"})))
    assert reply.provider_payout_id == UID


def _hit(uid: str, status: str, hour: int = 10, **changes: Any) -> dict[str, Any]:
    return transaction(uid=uid, status=status, created_at=f"2024-01-10T{hour}:00:00Z", **changes)


@pytest.mark.parametrize("status", ["pending", "successful", "error"])
def test_the_only_one_that_did_not_fail_is_ours(status: str) -> None:
    reply = ask("look_up", listed(_hit("2-a", "failed", 12), _hit("2-b", status, 11)))
    assert (reply.provider_payout_id, reply.status) == ("2-b", status)


@pytest.mark.parametrize("status", ["pending", "successful"])
def test_two_that_did_not_fail_call_a_person(status: str) -> None:
    reply = ask("look_up", listed(_hit("2-a", status), _hit("2-b", "failed"), _hit("2-c", status)))
    assert reply.outcome is Outcome.EXISTS
    assert reply.differs == ("2 payouts that did not fail carry this reference id",)
    assert (reply.provider_payout_id, reply.reference_id) == (None, REFERENCE)


def test_one_that_is_listed_twice_is_one() -> None:
    assert ask("look_up", listed(_hit("2-a", "pending"), _hit("2-a", "pending"))).outcome is (
        Outcome.PROCESSING
    )


def test_if_all_failed_the_newest_says_why() -> None:
    reply = ask("look_up", listed(_hit("2-a", "failed", 11), _hit("2-b", "expired", 12)))
    assert (reply.outcome, reply.provider_payout_id) == (Outcome.REFUSED, "2-b")
    undated = [transaction(uid=uid, status="failed", created_at=None) for uid in ("2-a", "2-b")]
    assert ask("look_up", listed(*undated)).provider_payout_id == "2-a"


def test_a_duplicate_whose_original_is_listed_is_the_original() -> None:
    duplicate = _hit("2-b", "failed", 12, code="F.0108")
    assert ask("look_up", listed(duplicate, _hit("2-a", "successful"))).outcome is Outcome.PAID
    assert ask("look_up", listed(duplicate)).differs != ()


def test_the_adapter_shows_its_tables() -> None:
    ecomcharge, _ = adapter()
    assert (ecomcharge.states, ecomcharge.errors) == (STATES, CODES)
    assert config().statuses == {}
