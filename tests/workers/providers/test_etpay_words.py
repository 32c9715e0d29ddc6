"""What ETpay's answers and errors mean: the tables of words and codes, and what differs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.workers.providers.etpay_world import (
    CLP,
    HTML,
    ID,
    NUMBER,
    REFERENCE,
    RUT,
    answer,
    ask,
    config,
    error,
    one,
    order,
    payout,
    read,
)
from workers.providers.etpay import ETpay
from workers.providers.etpay_words import Found, Reader, days_before
from workers.providers.transport import Answer
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# Statuses.

STATUSES = {
    Outcome.PROCESSING: ["created", "pending", "processing", "in_progress", "approved"],
    Outcome.PAID: ["completed", "paid", "success", "successful"],
    Outcome.REFUSED: ["rejected", "failed", "error", "cancelled", "canceled"],
    Outcome.RETURNED: ["returned", "reversed", "refunded"],
}
WORDS = [(word, outcome) for outcome, words in STATUSES.items() for word in words]


def test_the_table_of_statuses_is_the_pages() -> None:
    assert dict(ETpay.states) == dict(WORDS)


@pytest.mark.parametrize(("word", "outcome"), WORDS)
def test_a_listed_word_means_the_same_in_every_call_and_in_any_case(
    word: str, outcome: Outcome
) -> None:
    for call in ("create", "poll", "process", "look_up"):
        for spelling in (word, word.upper(), word.title()):
            reply = ask(call, one(status=spelling))
            assert (reply.outcome, reply.status, reply.warning) == (outcome, spelling, None)


@pytest.mark.parametrize("word", ["teleported", "completed ", "paid_out", "12345678 sent"])
def test_an_unlisted_word_is_open_kept_and_shown(word: str) -> None:
    reply = read(payout(status=word))
    assert reply.outcome is Outcome.PROCESSING
    assert reply.warning == f"unlisted status: {reply.status}"
    assert "12345678" not in (reply.status or "")


@pytest.mark.parametrize("word", [None, 7, "", ["paid"], {"paid": True}])
def test_a_payout_that_tells_no_status_is_open(word: Any) -> None:
    reply = read(payout(status=word))
    assert (reply.outcome, reply.warning) == (Outcome.PROCESSING, "it tells no status")


def test_a_refusal_has_the_providers_code_and_masked_words() -> None:
    failed = payout(status="rejected", error_code="R09", error_message=f"{RUT} of Camila Soto no")
    reply = read(failed, order())
    assert (reply.outcome, reply.code, reply.reason) == (Outcome.REFUSED, "R09", "*** of *** no")
    # A list is read without its orders, so that nothing could be masked.
    assert (read(failed).code, read(failed).reason) == ("R09", None)


def test_a_refusal_without_a_code_has_its_status() -> None:
    assert read(payout(status="Rejected"), order()).code == "Rejected"
    assert read(payout(status="returned"), order()).code is None


def test_what_is_paid_has_nothing_to_explain() -> None:
    reply = read(payout(status="paid", error_code="R09", error_message="earlier"), order())
    assert (reply.code, reply.reason) == (None, None)


KNOWN = {
    "low": {"class": "low_balance", "text": "Too little money"},
    "Rights": {"class": "account_fault"},
    "bad": {"class": "validation", "text": "Wrong account"},
    "twin": {"class": "duplicate"},
    "later": {"class": "not_sent"},
}


@pytest.mark.parametrize(
    ("code", "fault", "low"),
    [("LOW", True, True), ("rights", True, False), ("bad", False, False), ("new", False, False)],
)
def test_a_failed_payout_may_show_the_accounts_fault(code: str, fault: bool, low: bool) -> None:
    failed = payout(status="failed", error_code=code, error_message="no")
    reply = read(failed, order(), error_map=KNOWN)
    assert reply.outcome is Outcome.REFUSED
    assert (reply.account_fault is not None, reply.low_balance) == (fault, low)
    still_open = read({**failed, "status": "pending"}, order(), error_map=KNOWN)
    assert (still_open.account_fault, still_open.low_balance) == (None, False)


def test_a_known_codes_own_text_goes_before_the_providers_words() -> None:
    refused = ask("create", error(400, "BAD", "no"), error_map=KNOWN)
    assert refused.reason == "Wrong account; no"
    reply = read(payout(status="failed", error_code="BAD", error_message="no"), order(),
                 error_map=KNOWN)  # fmt: skip
    assert reply.reason == "Wrong account; no"


# What differs.


@pytest.mark.parametrize(
    ("told", "currency", "amount"),
    [
        (45990, "CLP", Money(45990, CLP)),
        ("45990", "clp", Money(45990, CLP)),
        (45990, None, Money(45990, CLP)),
        (45991, "CLP", Money(45991, CLP)),
        (45990, "USD", Money(4599000, Currency.of("USD"))),
        (-45990, "CLP", Money(-45990, CLP)),
        (None, "CLP", None),
    ],
)
def test_the_amount_is_told_exactly(told: Any, currency: Any, amount: Money | None) -> None:
    reply = read(payout(amount=told, currency=currency), order())
    assert (reply.amount, reply.differs) == (amount, ())


def test_an_answer_without_a_place_for_the_currency_is_in_pesos() -> None:
    fields = {"response": {"currency": ""}}
    reply = read(payout(currency="USD"), order(), field_map=fields)
    assert (reply.amount, reply.differs) == (Money(45990, CLP), ())


@pytest.mark.parametrize(
    ("told", "currency"),
    [(45990.5, "CLP"), ("45.990", "CLP"), ("$45990", "CLP"), (True, "CLP"), ([], "CLP"),
     (45990, "pesos"), (45990, 152), (10**30, "CLP"), (None, "pesos")],
)  # fmt: skip
def test_an_amount_that_cannot_be_read_differs(told: Any, currency: Any) -> None:
    reply = ask("poll", one(amount=told, currency=currency))
    assert reply.amount is None
    assert len(reply.differs) == 1
    assert "cannot be read" in reply.differs[0]


def test_the_reference_id_is_told_as_it_stands() -> None:
    assert read(payout(merchant_order_id=17)).reference_id == "17"
    assert read(payout(merchant_order_id="x" * 999)).reference_id == "x" * 256
    assert read(payout(merchant_order_id=None)).differs == ()
    assert read(payout(merchant_order_id=["po-1"])).differs == ("reference id: cannot be read",)


@pytest.mark.parametrize(
    ("echo", "differs"),
    [
        ({"beneficiary": {"rut": "11.111.111-1"}, "account": {"number": NUMBER}}, ()),
        ({"beneficiary": {"rut": 111111111}, "account": {"number": "0012345678"}}, ()),
        ({"account": {"number": "****5678"}}, ()),
        ({"account": {"number": "12**5678"}}, ()),
        ({"account": {"number": None}, "beneficiary": {}}, ()),
        ({"account": "hidden", "beneficiary": []}, ()),
        ({"beneficiary": {"rut": "123456785"}}, ("rut",)),
        ({"account": {"number": "12345679"}}, ("account_number",)),
        ({"account": {"number": "****5679"}}, ("account_number",)),
        ({"account": {"number": "13**5678"}}, ("account_number",)),
        ({"beneficiary": {"rut": "1"}, "account": {"number": "2"}}, ("rut", "account_number")),
        ({"account": {"bank_code": "037"}}, ()),
        ({"account": {"bank_code": "cl_santander"}}, ()),
        ({"account": {"bank_code": "Banco Santander"}}, ()),
        ({"account": {"bank_code": "016"}}, ("bank_code",)),
        ({"account": {"bank_code": "CL_BCI"}}, ("bank_code",)),
    ],
)
def test_a_beneficiary_who_is_not_ours_differs_and_is_not_shown(
    echo: dict[str, Any], differs: tuple[str, ...]
) -> None:
    reply = read(payout(**echo), order())
    assert reply.differs == tuple(f"fields.{name}: another value than was sent" for name in differs)
    assert read(payout(**echo)).differs == ()


def test_an_echo_of_what_the_order_lacks_is_no_difference() -> None:
    ours = order(fields={"rut": None, "account_number": None})
    assert read(payout(beneficiary={"rut": "1"}, account={"number": "2"}), ours).differs == ()


# Refusals of a create.


@pytest.mark.parametrize("status", [400, 402, 409, 422])
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("BAD", Outcome.REFUSED),
        ("Low", Outcome.ACCOUNT_FAULT),
        ("rights", Outcome.ACCOUNT_FAULT),
        ("TWIN", Outcome.EXISTS),
        ("later", Outcome.NOT_SENT),
    ],
)
def test_a_listed_code_is_judged_by_its_class(code: str, outcome: Outcome, status: int) -> None:
    reply = ask("create", error(status, code, "because"), error_map=KNOWN)
    assert reply.outcome is outcome
    assert "because" in (reply.reason or "")
    assert reply.low_balance is (code == "Low")
    assert (reply.account_fault is not None) is (outcome is Outcome.ACCOUNT_FAULT)


def test_an_account_fault_tells_all_that_is_known() -> None:
    reply = ask("create", error(402, "LOW", "no"), error_map=KNOWN)
    assert reply.account_fault == "ETpay answered 402: Too little money; LOW: no"
    reply = ask("create", answer(402, {"code": "rights"}), error_map=KNOWN)
    assert reply.account_fault == "ETpay answered 402: rights"


def test_every_class_of_error_has_its_outcome() -> None:
    assert set(ETpay.errors) == {entry["class"] for entry in KNOWN.values()}


def test_a_refusal_is_the_providers_code_and_masked_words() -> None:
    reply = ask("create", error(422, "PO-INVALID-ACCOUNT", f"account {NUMBER} of Camila Soto"))
    assert (reply.outcome, reply.code) == (Outcome.REFUSED, "PO-INVALID-ACCOUNT")
    assert reply.reason == "account *** of ***"


@pytest.mark.parametrize("status", [400, 402, 406, 410, 413, 415, 422, 451])
def test_an_unlisted_refusal_is_looked_up(status: int) -> None:
    reply = ask("create", error(status, "PO-NEW", "who knows"))
    assert (reply.outcome, reply.code) == (Outcome.UNKNOWN, "PO-NEW")
    assert reply.refusal == f"{status}: PO-NEW: who knows"


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("body", [HTML, b"", b"[]", b'"x"', b'{"error": "Bad Request"}'])
def test_a_refusal_without_words_is_looked_up(status: int, body: bytes) -> None:
    reply = ask("create", httpx.Response(status, content=body))
    assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, f"{status}: no message")


def test_an_unlisted_refusal_can_be_trusted() -> None:
    for status in (400, 422):
        assert ask("create", error(status, "X"), trust_4xx=True).outcome is Outcome.REFUSED
    for status in (402, 408, 410, 500):
        assert ask("create", error(status, "X"), trust_4xx=True).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [408, 425, 500, 503])
@pytest.mark.parametrize("code", ["BAD", "low", "twin", "PO-DUPLICATE", None])
def test_what_is_no_judgement_of_the_payout_stays_unknown(status: int, code: str | None) -> None:
    reply = ask("create", error(status, code, "insufficient funds"), error_map=KNOWN)
    assert (reply.outcome, reply.refusal, reply.low_balance) == (Outcome.UNKNOWN, None, False)


@pytest.mark.parametrize(
    "words", ["Insufficient funds", "saldo  INSUFICIENTE", "the account: insufficient_balance"]
)
@pytest.mark.parametrize("status", [400, 402, 403, 409, 422])
def test_words_about_the_balance_pause_the_account(status: int, words: str) -> None:
    for refused in (error(status, "X", words), error(status, words.replace(" ", "-"))):
        reply = ask("create", refused)
        assert (reply.outcome, reply.low_balance) == (Outcome.ACCOUNT_FAULT, True)
        assert reply.account_fault


def test_the_orders_own_words_never_blame_the_account() -> None:
    said = "field description: Saldo insuficiente 17"
    ours = order(description="Saldo insuficiente 17")
    assert ask("create", error(422, "X", said), an_order=ours).outcome is Outcome.UNKNOWN
    assert ask("create", error(422, "X", said)).outcome is Outcome.ACCOUNT_FAULT
    ours = order(fields={"name": "Saldo Insuficiente"})
    assert ask("create", error(422, "X", said), an_order=ours).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "refused",
    [error(409), error(409, "X", "y"), httpx.Response(409, content=HTML),
     error(400, "PO-DUPLICATE"), error(422, "X", "orden duplicada"), error(402, "X_DUPLICATED"),
     error(422, "X", "order already exists")],
)  # fmt: skip
def test_a_taken_reference_id_is_looked_up(refused: httpx.Response) -> None:
    assert ask("create", refused).outcome is Outcome.EXISTS


@pytest.mark.parametrize("status", [401, 403, 404, 405])
@pytest.mark.parametrize(
    ("code", "words"), [("TWIN", "x"), ("BAD", "x"), ("X", "A session for it already exists")]
)
def test_what_blames_the_account_judges_no_payout(status: int, code: str, words: str) -> None:
    reply = ask("create", error(status, code, words), error_map=KNOWN)
    assert (reply.outcome, reply.refusal) == (Outcome.ACCOUNT_FAULT, None)
    unsure = ask("create", error(status, code, words), error_map=KNOWN, not_created_statuses=[429])
    assert unsure.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [403, 404, 405, 429])
def test_which_statuses_prove_that_nothing_was_stored_can_be_set(status: int) -> None:
    reply = ask("create", error(status, "X"), not_created_statuses=[401])
    assert reply.outcome is Outcome.UNKNOWN
    assert (reply.refusal is None) is (status == 429)


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ({"error": {"code": "A", "message": "one"}, "msg": "error"}, "A", "one"),
        ({"error_code": "B", "message": "two"}, "B", "two"),
        ({"code": "C", "msg": "three"}, "C", "three"),
        ({"code": 42, "message": ["four", "", 5, "six"]}, "42", "four; six"),
        ({"statusCode": 400, "message": "seven", "error": "Bad"}, "400", "seven"),
        ({"error": {"code": None}, "code": "D"}, "D", None),
    ],
)
def test_errors_are_read_leniently(body: Any, code: str, reason: str | None) -> None:
    reply = ask("create", answer(400, body), trust_4xx=True)
    assert (reply.code, reply.reason) == (code, reason)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (answer(202, {"msg": "ok"}), "answered 202"),
        (answer(299, {"msg": "ok"}), "answered 299"),
        (answer(300, {"msg": "moved"}), "answered 300, not followed"),
        (answer(399, {"msg": "moved"}), "answered 399, not followed"),
        (answer(400, {"msg": "bad"}), "bad"),
        (httpx.Response(400, content=HTML), "answered 400"),
        (error(500, "E9", "oops"), "E9: oops"),
        (httpx.Response(502, content=HTML), "answered 502"),
    ],
)
def test_what_is_unknown_says_why(given: httpx.Response, reason: str) -> None:
    assert ask("poll", given).reason == ask("create", given).reason == reason


def test_words_are_one_short_line() -> None:
    reply = ask("create", error(400, "A\nB" + "x" * 99, "a\r\n\tb " + "y" * 999), trust_4xx=True)
    assert len(reply.code or "") == 64
    assert len(reply.reason or "") == 300
    assert (reply.reason or "").startswith("a b y")


# Lists and days.


@pytest.mark.parametrize(
    "document",
    [
        None, [], {}, {"payouts": {}}, {"payouts": None}, {"payout": None}, {"payouts": [None]},
        {"payouts": [{"payout_id": ID}]},
        {"payouts": [{"merchant_order_id": REFERENCE}]},
        {"payouts": [payout(), 7]},
        {"payouts": [], "error": {"code": "E"}},
    ],
)  # fmt: skip
def test_a_body_that_is_no_list_of_payouts_is_none(document: Any) -> None:
    assert Reader(config()).payouts(document) is None


def test_a_payout_made_by_hand_may_have_no_reference_id() -> None:
    by_hand = payout(merchant_order_id=None)
    assert Reader(config()).payouts({"payouts": [by_hand]}) == [Found(ID, None, by_hand)]


def test_a_single_payout_is_no_page_of_a_list() -> None:
    reader = Reader(config())
    assert reader.payouts({"payout": payout()}) is not None
    assert reader.page({"payout": payout()}) is None


def test_a_list_may_be_the_whole_document() -> None:
    reader = Reader(config(field_map={"response": {"payouts": "", "pages": ""}}))
    page = reader.page([payout()])
    assert page is not None
    assert ([found.id for found in page.payouts], page.pages) == ([ID], None)


SANTIAGO = ZoneInfo("America/Santiago")


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where this machine stands must not matter."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("told", "first", "last"),
    [
        # Santiago is three hours behind in summer, four in winter.
        ("Thu, 02 Jan 2031 02:59:59 GMT", date(2030, 12, 29), date(2031, 1, 2)),
        ("Thu, 02 Jan 2031 03:00:00 GMT", date(2030, 12, 30), date(2031, 1, 3)),
        ("Wed, 02 Jul 2031 03:59:59 -0000", date(2031, 6, 28), date(2031, 7, 2)),
        ("Wed, 02 Jul 2031 04:00:00 -0000", date(2031, 6, 29), date(2031, 7, 3)),
        ("Wed, 02 Jul 2031 09:59:59 +0600", date(2031, 6, 28), date(2031, 7, 2)),
        ("Wed, 02 Jul 2031 04:00:00 +0000", date(2031, 6, 29), date(2031, 7, 3)),
    ],
)
@pytest.mark.usefixtures("in_tokyo")
def test_a_look_up_reads_days_in_chile_by_the_providers_clock(
    told: str, first: date, last: date
) -> None:
    assert days_before(Answer(200, {"date": told}, b""), SANTIAGO, 3) == (first, last)


@pytest.mark.parametrize("told", ["", "today", "Fri, 31 Dec 9999 23:00:00 GMT", "1 2 3"])
def test_a_date_that_cannot_be_used_is_none(told: str) -> None:
    assert days_before(Answer(200, {"date": told}, b""), SANTIAGO, 3) is None
    assert days_before(Answer(200, {}, b""), SANTIAGO, 3) is None


@pytest.mark.parametrize(
    ("told", "created"),
    [
        ("2031-01-02T12:00:00Z", datetime(2031, 1, 2, 12, tzinfo=UTC)),
        ("2031-01-02T12:00:00-03:00", datetime(2031, 1, 2, 15, tzinfo=UTC)),
        ("2031-01-02 12:00:00", datetime(2031, 1, 2, 15, tzinfo=UTC)),
        ("yesterday", None),
        (1735819200, None),
        (None, None),
    ],
)
def test_a_time_without_a_zone_is_in_chile(told: Any, created: datetime | None) -> None:
    reader = Reader(config())
    found = reader.payout({"payout": payout(created_at=told)})
    assert found is not None
    assert reader.created_at(found, SANTIAGO) == created
