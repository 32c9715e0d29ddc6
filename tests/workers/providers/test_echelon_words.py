"""What Echelon Pay's answers mean: codes, reasons of failure, what differs, and what is masked."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.workers.providers.echelon_world import (
    ACCOUNT,
    CALLS,
    HOLDER,
    HTML,
    IDR,
    READS,
    SECRET,
    ask,
    document,
    error,
    jwt,
    read,
)
from workers.providers.echelon import Echelon
from workers.providers.echelon_words import BLAMES
from workers.record.money import Money
from workers.record.status import Outcome

# Codes of errors. What each kind leads to on a create that was answered 422, and on a read.

ON_CREATE = {
    "validation": Outcome.REFUSED,
    "duplicate": Outcome.EXISTS,
    "absent": Outcome.UNKNOWN,
    "low_balance": Outcome.ACCOUNT_FAULT,
    "limit": Outcome.ACCOUNT_FAULT,
    "account": Outcome.ACCOUNT_FAULT,
    "temporary": Outcome.UNKNOWN,
    "unlisted": Outcome.UNKNOWN,
}


def test_the_table_of_codes_is_the_page_s() -> None:
    by_kind: dict[str, set[str]] = {}
    for code, kind in Echelon.errors.items():
        by_kind.setdefault(kind, set()).add(code)
    assert by_kind == {
        "duplicate": {"ENTITY_DUPLICATED"},
        "absent": {"ENTITY_NOT_FOUND"},
        "low_balance": {"BALANCE_INSUFFICIENT"},
        "limit": {"CHANNEL_LIMIT"},
        "account": {
            "CREDENTIALS_INVALID", "IP_DENIED", "MERCHANT_UNAVAILABLE", "SIGNATURE_INVALID"
        },
        "temporary": {"CHANNEL_UNAVAILABLE", "CONNECTION_ERROR", "SYSTEM"},
    }  # fmt: skip


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(("code", "kind"), Echelon.errors.items())
def test_a_listed_code_decides_a_refused_create(code: str, kind: str, status: int) -> None:
    reply = ask("create", error(status, code, "No, because of that"))
    assert reply.outcome is ON_CREATE[kind]
    assert reply.low_balance is (kind in ("low_balance", "limit"))
    # "Not there" refuses something on a create; a temporary fault refuses nothing.
    assert (reply.refusal is not None) is (kind == "absent")
    if kind in BLAMES:
        assert reply.account_fault == (f"Echelon Pay answered {status}: {BLAMES[kind]} ({code})")
    else:
        assert (reply.code, reply.reason) == (code, "No, because of that")


@pytest.mark.parametrize(("kind", "outcome"), ON_CREATE.items())
def test_the_settings_go_on_top_of_the_codes(kind: str, outcome: Outcome) -> None:
    for code in ("E17", "ENTITY_DUPLICATED"):
        reply = ask("create", error(422, code, "No"), error_map={code: kind})
        assert reply.outcome is outcome
        refused = kind in ("absent", "unlisted")
        assert reply.refusal == (f"422: {code}: No" if refused else None)
    assert ask("create", error(422, "SYSTEM"), error_map={"E17": kind}).refusal is None


@pytest.mark.parametrize("status", [400, 422])
def test_an_unlisted_refusal_is_looked_up_and_keeps_its_words(status: int) -> None:
    reply = ask("create", error(status, "ATTRIBUTE_REQUIRED", "emailAddress is missing"))
    assert reply.outcome is Outcome.UNKNOWN
    assert reply.refusal == f"{status}: ATTRIBUTE_REQUIRED: emailAddress is missing"
    assert (reply.code, reply.reason) == ("ATTRIBUTE_REQUIRED", "emailAddress is missing")


@pytest.mark.parametrize("status", [402, 406, 408, 410, 413, 423, 425])
def test_only_400_and_422_refuse_a_payout(status: int) -> None:
    for changes in ({}, {"error_map": {"E17": "validation"}}):
        reply = ask("create", error(status, "E17", "No"), **changes)
        assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize("code", [*Echelon.errors, "ATTRIBUTE_INVALID"])
@pytest.mark.parametrize("status", [302, 500, 503])
def test_a_code_means_nothing_where_the_payout_may_be_stored(status: int, code: str) -> None:
    for name in CALLS:
        reply = ask(name, error(status, code))
        assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, None)


def test_a_conflict_exists_whatever_its_code() -> None:
    for code in (None, "SYSTEM", "BALANCE_INSUFFICIENT", "E17"):
        assert ask("create", error(409, code)).outcome is Outcome.EXISTS


def test_lack_of_money_is_told_apart_from_a_refused_key() -> None:
    assert ask("create", error(403, "BALANCE_INSUFFICIENT")).low_balance is True
    assert ask("create", error(403, "IP_DENIED")).low_balance is False
    assert ask("create", error(403)).low_balance is False


@pytest.mark.parametrize("code", [code for code, kind in Echelon.errors.items() if kind in BLAMES])
@pytest.mark.parametrize("name", READS)
def test_a_read_that_blames_the_account_is_its_fault_and_not_absence(name: str, code: str) -> None:
    for status in (400, 404):
        assert ask(name, error(status, code)).outcome is Outcome.ACCOUNT_FAULT


# Absence.


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(
    ("code", "message", "outcome"),
    [
        ("ENTITY_NOT_FOUND", "No payout", Outcome.NOT_FOUND),
        ("ENTITY_NOT_FOUND", None, Outcome.NOT_FOUND),
        ("E17", None, Outcome.NOT_FOUND),
        (4040, None, Outcome.NOT_FOUND),
        (None, "Not Found", Outcome.NOT_FOUND),
        (None, None, Outcome.UNKNOWN),
        ("", "", Outcome.UNKNOWN),
        (True, 7, Outcome.UNKNOWN),
        ("SYSTEM", "Try later", Outcome.UNKNOWN),
        ("ENTITY_DUPLICATED", "Twice", Outcome.UNKNOWN),
    ],
)
def test_absence_is_the_platform_s_own_404(
    name: str, code: Any, message: Any, outcome: Outcome
) -> None:
    assert ask(name, error(404, code, message)).outcome is outcome


def test_absence_may_be_made_to_need_its_code() -> None:
    assert ask("poll", error(404, "E17", "No"), absence_needs_code=True).outcome is Outcome.UNKNOWN
    told = error(404, "ENTITY_NOT_FOUND")
    assert ask("poll", told, absence_needs_code=True).outcome is Outcome.NOT_FOUND
    listed = ask("poll", error(404, "E17"), absence_needs_code=True, error_map={"E17": "absent"})
    assert listed.outcome is Outcome.NOT_FOUND


def test_a_code_that_the_settings_take_out_of_the_table_is_like_any_other() -> None:
    told = error(404, "SYSTEM", "No payout")
    reply = ask("poll", told, error_map={"SYSTEM": "unlisted"})
    assert reply.outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize("status", [400, 401, 403, 405, 410, 422, 500])
@pytest.mark.parametrize("name", READS)
def test_no_other_status_means_absence(name: str, status: int) -> None:
    reply = ask(name, error(status, "ENTITY_NOT_FOUND", "No payout"))
    assert reply.outcome in (Outcome.UNKNOWN, Outcome.ACCOUNT_FAULT)


# Where codes and words stand.


@pytest.mark.parametrize(
    "body",
    [
        {"code": "E17", "message": "No"},
        {"errorCode": "E17", "message": "No"},
        {"error": {"code": "E17", "message": "No"}},
        {"failureReasonCode": "E17", "error": "No"},
        {"code": "", "errorCode": "E17", "message": "", "error": "No"},
        {"code": None, "errorCode": "E17", "message": {}, "error": {"message": "No"}},
    ],
)
def test_code_and_words_are_found_where_the_page_says(body: Any) -> None:
    reply = ask("create", httpx.Response(422, json=body))
    assert (reply.code, reply.reason, reply.refusal) == ("E17", "No", "422: E17: No")


def test_a_code_may_be_a_number() -> None:
    reply = ask("create", error(422, 17, "No"), error_map={"17": "validation"})
    assert (reply.outcome, reply.code) == (Outcome.REFUSED, "17")


def test_the_places_of_code_and_words_are_settings() -> None:
    answer = httpx.Response(422, json={"code": "A", "fault": {"id": "E17", "text": "No"}})
    reply = ask(
        "create", answer, error_code_paths=("fault.id",), error_message_paths=("fault.text",)
    )
    assert (reply.code, reply.reason) == ("E17", "No")


def test_of_an_error_that_is_no_json_the_first_500_bytes_are_told() -> None:
    # Blanks are told as one.
    reply = ask("create", httpx.Response(400, content=b"why" + b" " * 495 + b"no more"))
    assert reply.reason == "why no"


# Waiting.


@pytest.mark.parametrize("name", CALLS)
def test_a_429_was_turned_away_and_says_how_long_to_wait(name: str) -> None:
    reply = ask(name, error(429, "SYSTEM", **{"retry-after": "17"}))
    assert (reply.outcome, reply.retry_after_s) == (Outcome.NOT_SENT, 17)


def test_a_429_may_be_made_to_be_looked_up() -> None:
    answer = error(429, **{"retry-after": "17"})
    reply = ask("create", answer, rate_limited_is_not_created=False)
    assert (reply.outcome, reply.retry_after_s) == (Outcome.UNKNOWN, 17)


@pytest.mark.parametrize("name", CALLS)
def test_a_busy_server_s_wait_is_kept(name: str) -> None:
    assert ask(name, error(503, **{"retry-after": "17"})).retry_after_s == 17
    assert ask(name, error(503)).retry_after_s is None


# Reasons of a failure.

ONE = {"failureReasonCode": "CHANNEL_LIMIT", "message": "over the limit", "failedAt": "2031"}
TWO = {"failureReasonCode": "E17", "message": "and closed"}


@pytest.mark.parametrize(
    ("reasons", "code", "reason"),
    [
        (ONE, "CHANNEL_LIMIT", "over the limit"),
        ([ONE], "CHANNEL_LIMIT", "over the limit"),
        ([{}, ONE, 7, TWO], "CHANNEL_LIMIT", "over the limit; and closed"),
        ({"failureReasonCode": "E17"}, "E17", "the processor says BANK-9"),
        ({"message": "closed"}, "FAILED", "closed"),
        (None, "FAILED", "the payout failed"),
        ([], "FAILED", "the payout failed"),
        ("closed", "FAILED", "the payout failed"),
    ],
)
@pytest.mark.parametrize("name", READS)
def test_a_failure_has_code_and_reason(name: str, reasons: Any, code: str, reason: str) -> None:
    process = {"failureReasons": reasons, "processorStatus": "BANK-9"}
    reply = ask(name, read("FAILED", process=process))
    assert (reply.outcome, reply.status) == (Outcome.REFUSED, "FAILED")
    assert (reply.code, reply.reason) == (code, reason)
    assert reply.account_fault is None


@pytest.mark.parametrize(
    ("code", "low_balance"), [("BALANCE_INSUFFICIENT", True), ("MERCHANT_UNAVAILABLE", False)]
)
def test_a_payout_that_failed_for_the_account_pauses_it(code: str, low_balance: bool) -> None:
    reply = ask("poll", read("FAILED", process={"failureReasons": {"failureReasonCode": code}}))
    assert (reply.outcome, reply.low_balance) == (Outcome.REFUSED, low_balance)
    assert reply.account_fault is not None
    assert reply.account_fault.startswith(f"Echelon Pay failed a payout with {code}: the account")


def test_a_failure_as_a_duplicate_is_for_a_person() -> None:
    told = {"failureReasons": {"failureReasonCode": "ENTITY_DUPLICATED"}}
    reply = ask("poll", read("FAILED", process=told))
    assert reply.differs == ("it failed as a duplicate: ENTITY_DUPLICATED",)


def test_an_open_payout_has_no_reason_of_failure() -> None:
    told = {"failureReasons": {"failureReasonCode": "BALANCE_INSUFFICIENT", "message": "x"}}
    reply = ask("poll", read("PENDING", process=told))
    assert (reply.code, reply.reason, reply.account_fault) == (None, None, None)


def test_a_paid_payout_with_a_reason_of_failure_is_paid_and_shown() -> None:
    reply = ask("poll", read("SUCCESS", process={"failureReasons": ONE}))
    assert (reply.outcome, reply.code, reply.reason) == (Outcome.PAID, None, None)
    assert reply.warning == (
        "paid, yet with the reason of a failure: CHANNEL_LIMIT: over the limit"
    )


# What an answer tells beside its status.


def test_the_fee_is_told() -> None:
    fee = {"amount": 2500, "currencyCode": "IDR"}
    assert ask("poll", read("SUCCESS", fee=fee)).fee == Money(2500_00, IDR)
    for none in (None, {}, "2500", {"amount": "x", "currencyCode": "IDR"}):
        assert ask("poll", read("SUCCESS", fee=none)).fee is None


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("told", [True, False, None, "true", 1, 0])
@pytest.mark.parametrize("name", READS)
def test_a_payout_of_the_other_mode_is_not_ours(name: str, told: Any, ours: bool) -> None:
    reply = ask(name, read("SUCCESS", process={"isTest": told}), test_mode=ours)
    same = told is None or told is ours
    assert (reply.differs == ()) is same
    assert same or reply.differs[0].endswith(f", expected: {str(ours).lower()}")


@pytest.mark.parametrize("name", CALLS)
def test_another_way_of_paying_differs(name: str) -> None:
    reply = ask(name, read("SUCCESS", method={"paymentMethodCode": "VAPAY"}))
    assert reply.differs == ("paymentMethodCode: VAPAY, sent: BANK_TRANSFER",)


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        (ACCOUNT, True), ("123 456-7890", True), ("123***7890", True), ("******7890", True),
        ("123*45**7890", True), ("", True), (None, True), (7, True), (ACCOUNT + "1", False),
        ("0123456789", False), ("123***7891", False), ("9***", False),
    ],
)  # fmt: skip
def test_another_account_than_was_sent_differs(shown: Any, same: bool) -> None:
    answer = read("SUCCESS", method={"account": {"accountNumber": shown}})
    reply = ask("look_up", answer)
    assert reply.differs == (() if same else ("accountNumber: another one than was sent",))
    assert ask("look_up", answer, compares_echo=False).differs == ()


def test_another_bank_than_was_sent_differs() -> None:
    answer = read("SUCCESS", method={"paymentOperatorCode": "BNK_000"})
    assert ask("poll", answer).differs == ("paymentOperatorCode: another one than was sent",)
    same = read("SUCCESS", method={"paymentOperatorCode": "BNK_014"})
    assert ask("poll", same).differs == ()


# Nothing that is anyone's business.


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 422, 429, 500])
def test_no_reply_holds_a_beneficiary_a_token_or_the_secret(name: str, status: int) -> None:
    secrets = f"{jwt()} {SECRET}"
    words = f"{HOLDER} {HOLDER.upper()} {ACCOUNT} 12 3456 7890 {secrets if status >= 400 else ''}"
    told = document(
        process={
            "status": "FAILED", "failureReasons": {"failureReasonCode": "X", "message": words}
        },
        method={"account": {"accountNumber": ACCOUNT + "1"}, "paymentOperatorCode": HOLDER},
    )  # fmt: skip
    bodies = (
        json.dumps({**told, "code": "E17", "message": words}).encode(),
        json.dumps({"error": words}).encode(),
        words.encode(),
        HTML,
    )
    for body in bodies:
        shown = repr(ask(name, httpx.Response(status, content=body)))
        for private in (HOLDER, HOLDER.upper(), ACCOUNT, "3456", jwt(), SECRET, "s3cret"):
            assert private not in shown


@pytest.mark.parametrize("name", CALLS)
def test_half_characters_and_deep_documents_are_answers_too(name: str) -> None:
    for body in (b'{"code": "\\ud800", "message": "\\ud800"}', b'{"error":' * 99_999 + b"1"):
        for status in (200, 404, 422):
            assert ask(name, httpx.Response(status, content=body)).outcome in Outcome
