"""What eComCharge's answers to a create mean that name no payout of ours."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.workers.providers.ecomcharge_world import ACCOUNT, HTML, ask, order
from workers.providers.ecomcharge_errors import messages
from workers.providers.ecomcharge_words import CODES, Means
from workers.record.status import Outcome

OUTCOMES = {
    Means.DONE: Outcome.UNKNOWN,
    Means.OPEN: Outcome.UNKNOWN,
    Means.ABSENT: Outcome.UNKNOWN,
    Means.DUPLICATE: Outcome.EXISTS,
    Means.FUNDS: Outcome.ACCOUNT_FAULT,
    Means.SETUP: Outcome.ACCOUNT_FAULT,
}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("code", CODES)
def test_a_listed_code_decides(code: str, status: int) -> None:
    for more in ({}, {"errors": {"currency": ["can't be blank"]}}):
        document = {"code": code, "message": "Some words", **more}
        reply = ask("create", httpx.Response(status, json=document))
        assert reply.outcome is OUTCOMES.get(CODES[code], Outcome.REFUSED)
        assert reply.low_balance is (CODES[code] is Means.FUNDS)
        assert reply.refusal is None
        if reply.outcome is Outcome.REFUSED:
            assert reply.code == code


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (
            {"message": "Unprocessable entity",
             "errors": {"request": {"amount": ["is missing"], "method": {"type": ["is bad"]}}}},
            "amount: is missing; method.type: is bad",
        ),
        (
            {"message": "x", "errors": {"amount": ["must be greater than 0"], "base": ["Odd."]}},
            "amount: must be greater than 0; Odd.",
        ),
        ({"response": {"message": "x", "errors": {"amount": "is odd"}}}, "amount: is odd"),
        ({"code": "E.1025", "message": "x", "errors": {"currency": ["can't be blank"]}},
         "currency: can't be blank"),
        ({"code": "E.7777", "errors": [{"type": ["is missing"]}]}, "type: is missing"),
        ({"errors": "is odd"}, "is odd"),
    ],
)  # fmt: skip
def test_errors_of_fields_refuse_the_payout_in_the_platforms_words(
    document: Any, reason: str, status: int
) -> None:
    reply = ask("create", httpx.Response(status, json=document))
    assert (reply.outcome, reply.reason) == (Outcome.REFUSED, reason)
    assert reply.code == document.get("code", str(status))


@pytest.mark.parametrize(
    ("document", "refusal"),
    [
        ({"message": "Odd."}, "422: Odd."),
        ({"code": "E.7777", "friendly_message": "Odd."}, "422: E.7777: Odd."),
        ({"code": "F.5555", "errors": {"amount": ["is odd"]}}, "422: F.5555: amount: is odd"),
        ({"errors": {"amount": []}}, "422: no message"),
        (
            {"response": {"message": "x", "errors": {"gateway": "is temporarily unavailable"}}},
            "422: gateway: is temporarily unavailable",
        ),
        ({"errors": {"system": ["System error."]}}, "422: system: System error."),
        ({"transaction": {"status": "error", "message": "Bad body"}}, "error: Bad body"),
    ],
)
def test_what_no_table_lists_is_looked_up_and_remembered(document: Any, refusal: str) -> None:
    reply = ask("create", httpx.Response(422, json=document))
    assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, refusal)


def test_which_errors_say_nothing_of_the_payout_is_a_setting() -> None:
    document = {"errors": {"system": ["System error."]}}
    reply = ask("create", httpx.Response(422, json=document), unsure_fields=())
    assert reply.outcome is Outcome.REFUSED


@pytest.mark.parametrize("status", [200, 202, 400, 422])
def test_an_error_without_an_id_is_looked_up_unless_set_otherwise(status: int) -> None:
    answer = httpx.Response(status, json={"transaction": {"status": "error", "message": "Bad"}})
    reply = ask("create", answer)
    assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, "error: Bad")
    final = ask("create", answer, error_is_refusal=True)
    assert (final.outcome, final.code, final.reason) == (Outcome.REFUSED, "error", "Bad")


def test_another_status_without_an_id_is_no_refusal() -> None:
    for status in (200, 422):
        answer = httpx.Response(status, json={"transaction": {"status": "failed"}})
        reply = ask("create", answer, error_is_refusal=True)
        assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize(
    "errors",
    [
        {"base": ["Duplicate payout within 30 seconds"]},
        {"tracking_id": ["has already been taken"]},
        "such a payout already exists",
    ],
)
def test_a_duplicate_is_looked_up_and_never_failed(errors: Any) -> None:
    reply = ask("create", httpx.Response(422, json={"errors": errors}))
    assert (reply.outcome, reply.refusal) == (Outcome.EXISTS, None)


WORDS_OF_A_REPEAT = (
    "Request is being processed", "RequestID has already been used", "Payout in progress",
    "Duplicate request",
)  # fmt: skip


@pytest.mark.parametrize("words", WORDS_OF_A_REPEAT)
@pytest.mark.parametrize("status", [400, 402, 408, 409, 412, 422, 423, 425, 451])
def test_words_of_a_repeat_are_looked_up_wherever_they_stand(status: int, words: str) -> None:
    fault = {"amount": ["is odd"]}
    for document in (
        {"message": words},
        {"code": "E.1025", "friendly_message": words, "errors": fault},
        {"message": words, "errors": fault},
        {"response": {"message": words, "errors": fault}},
        {"errors": {"base": [words.upper()]}},
        {"transaction": {"status": "error", "message": words}},
    ):
        reply = ask("create", httpx.Response(status, json=document), error_is_refusal=True)
        assert (reply.outcome, reply.refusal) == (Outcome.EXISTS, None), document


def test_a_rate_limit_in_words_of_a_repeat_is_looked_up_and_still_waits() -> None:
    answer = httpx.Response(429, json={"message": "in progress"}, headers={"Retry-After": "7"})
    reply = ask("create", answer)
    assert (reply.outcome, reply.code, reply.retry_after_s) == (Outcome.EXISTS, "429", 7)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_words_of_a_repeat_make_nothing_of_the_accounts_fault(status: int) -> None:
    answer = httpx.Response(status, json={"message": "A review of the shop is in progress"})
    assert ask("create", answer).outcome is Outcome.ACCOUNT_FAULT


def test_which_words_are_of_a_repeat_is_a_setting_and_the_beneficiarys_are_not() -> None:
    answer = httpx.Response(422, json={"errors": {"amount": ["in progress of Ann"]}})
    assert ask("create", answer, duplicate_words=()).outcome is Outcome.REFUSED
    sent = order(customer={"last_name": "in progress of Ann"})
    assert ask("create", answer, sent).outcome is Outcome.REFUSED


def test_an_accepted_error_in_words_of_a_repeat_is_no_refusal() -> None:
    document = {"transaction": {"status": "error", "message": "Request is being processed"}}
    reply = ask("create", httpx.Response(200, json=document), error_is_refusal=True)
    assert (reply.outcome, reply.refusal) == (Outcome.EXISTS, None)


def test_a_409_is_looked_up_and_keeps_its_words() -> None:
    reply = ask("create", httpx.Response(409, json={"message": "Request is running"}))
    assert (reply.outcome, reply.reason) == (Outcome.EXISTS, "Request is running")


def test_lack_of_money_is_the_accounts_fault() -> None:
    answer = httpx.Response(422, json={"errors": {"base": ["Insufficient funds."]}})
    reply = ask("create", answer)
    assert (reply.outcome, reply.low_balance) == (Outcome.ACCOUNT_FAULT, True)
    assert "Insufficient funds." in (reply.account_fault or "")
    assert ask("create", answer, low_balance_words=()).outcome is Outcome.REFUSED


def test_a_shop_without_the_right_is_the_accounts_fault() -> None:
    reply = ask("create", httpx.Response(422, json={"code": "E.1065", "message": "No H2H"}))
    assert (reply.outcome, reply.low_balance) == (Outcome.ACCOUNT_FAULT, False)
    assert "E.1065: No H2H" in (reply.account_fault or "")


def test_the_beneficiary_is_masked_in_the_words() -> None:
    sent = order(customer={"first_name": "Jane", "city": "Springfield"})
    errors = {"method": {ACCOUNT: [f"{ACCOUNT} of jane, Springfield, is closed"]}}
    reply = ask("create", httpx.Response(422, json={"errors": errors}), sent)
    assert reply.reason == "method.***: *** of ***, ***, is closed"


def test_an_unlisted_refusal_by_another_status_is_remembered_too() -> None:
    reply = ask("create", httpx.Response(402, json={"message": "Odd."}))
    assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, "402: Odd.")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (300, "answered 300, not followed"),
        (399, "answered 399, not followed"),
        (400, "answered 400"),
        (503, "answered 503"),
    ],
)
def test_what_nobody_explains_is_told_by_its_status(status: int, reason: str) -> None:
    headers = {"location": "/x", "retry-after": "9"}
    reply = ask("poll", httpx.Response(status, content=HTML, headers=headers))
    assert (reply.outcome, reply.reason, reply.retry_after_s) == (Outcome.UNKNOWN, reason, 9)


def test_only_an_error_is_read_for_its_words() -> None:
    document = {"message": "Odd."}
    assert ask("poll", httpx.Response(400, json=document)).reason == "Odd."
    moved = ask("poll", httpx.Response(302, json=document, headers={"location": "/x"}))
    assert moved.reason == "answered 302, not followed"


def test_a_300_accepts_nothing() -> None:
    answer = httpx.Response(300, json={"transaction": {"status": "error", "message": "Bad"}})
    assert ask("create", answer, error_is_refusal=True).outcome is Outcome.UNKNOWN


def test_what_is_no_text_is_no_message() -> None:
    assert messages({"errors": {"amount": ["", 7, None, True]}}) == []


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]])
def test_errors_are_read_eight_levels_deep(wrap: Any) -> None:
    deep: Any = "x"
    for _ in range(8):
        deep = wrap(deep)
    assert [message.words for message in messages({"errors": deep})] == ["x"]
    assert messages({"errors": wrap(deep)}) == []


def test_errors_end_somewhere() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = {"a": deep}
    assert messages({"errors": deep}) == []
    assert len(messages({"errors": ["x"] * 1000})) == 50
