"""The Echelon Pay adapter's tokens: what is asked for, how long one is used, and what follows when
there is none.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.workers.providers.echelon_world import (
    CALLS,
    IN_TEN_MINUTES,
    NOW,
    READS,
    REFERENCE,
    SECRET,
    Keeper,
    adapter,
    ask,
    call,
    error,
    jwt,
    read,
    taken,
    token_answer,
)
from workers.providers.tokens import OwnTokens
from workers.record.status import Outcome

NAME = f"payout {REFERENCE}"


def told(request: httpx.Request) -> Any:
    return json.loads(request.content, parse_float=Decimal)


# What is asked for.


@pytest.mark.parametrize("name", CALLS)
def test_a_token_is_asked_for_by_the_operations_of_one_payout(name: str) -> None:
    keeper = Keeper()
    echelon, server = adapter(read(), keeper=keeper)
    call(echelon, name)
    (request,) = server.asked_tokens
    assert (request.method, str(request.url)) == ("POST", "https://api.example.test/auth-tokens")
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers
    assert told(request) == {
        "merchantCode": "M-4711",
        "secret": SECRET,
        "validitySecs": 600,
        "operations": [f"POST /payouts/{REFERENCE}", f"GET /payouts/{REFERENCE}"],
    }
    assert server.asked[0].headers["authorization"] == f"Bearer {jwt()}"
    assert keeper.asked == [(NAME, None)]


def test_one_token_serves_a_payout_s_create_and_its_reads() -> None:
    keeper = Keeper()
    echelon, server = adapter(read(), keeper=keeper)
    for name in CALLS:
        call(echelon, name)
    assert (len(server.asked), len(server.asked_tokens)) == (4, 1)
    call(echelon, "create", reference_id="PO-2")
    assert told(server.asked_tokens[1])["operations"] == ["POST /payouts/PO-2", "GET /payouts/PO-2"]


def test_by_action_a_create_s_token_is_limited_to_its_money() -> None:
    keeper = Keeper()
    changes = {"token_mode": "action", "payout_action": "PAYOUT_CREATE", "token_validity_s": 300}
    echelon, server = adapter(taken(), keeper=keeper, **changes)
    call(echelon, "create")
    (request,) = server.asked_tokens
    assert request.url.path == "/auth-tokens-by-action"
    assert told(request) == {
        "merchantCode": "M-4711",
        "secret": SECRET,
        "validitySecs": 300,
        "action": "PAYOUT_CREATE",
        "idPayment": REFERENCE,
        "money": {"amount": 10000, "currencyCode": "IDR"},
    }


def test_by_action_the_reads_have_a_token_of_their_own_that_cannot_pay() -> None:
    keeper = Keeper()
    changes = {"token_mode": "action", "payout_action": "PAYOUT_CREATE"}
    echelon, server = adapter(read(), keeper=keeper, **changes)
    for name in CALLS:
        call(echelon, name)
    assert [name for name, _ in keeper.asked] == [f"{NAME} create", NAME, NAME, NAME]
    assert told(server.asked_tokens[1])["operations"] == [f"GET /payouts/{REFERENCE}"]


def test_an_operation_is_not_percent_encoded() -> None:
    echelon, server = adapter(taken())
    call(echelon, "create", reference_id="a b")
    assert server.asked[0].url.raw_path == b"/payouts/a%20b"
    assert told(server.asked_tokens[0])["operations"][0] == "POST /payouts/a b"


# How long one is used.


def kept_until(answer: httpx.Response, **changes: Any) -> datetime:
    keeper = Keeper()
    call(adapter(read(), tokens=(answer,), keeper=keeper, **changes)[0], "poll")
    return keeper.kept[NAME].usable_until


@pytest.mark.parametrize(
    ("exp", "until_s"),
    [
        (IN_TEN_MINUTES, 540),
        (IN_TEN_MINUTES - 100, 440),
        (Decimal("1.5"), None),
        # Longer than was asked for, or not to be read: as long as was asked for.
        (IN_TEN_MINUTES + 3600, 540),
        (10**27, 540),
        (10**40, 540),
        (0, 540),
        (-(10**12), 540),
        ("soon", 540),
        (None, 540),
        (True, 540),
        ([], 540),
    ],
)
def test_a_token_is_used_until_a_minute_before_its_end(exp: Any, until_s: int | None) -> None:
    until = kept_until(token_answer(jwt(str(exp) if isinstance(exp, Decimal) else exp)))
    ends = datetime.fromtimestamp(1, NOW.tzinfo) - timedelta(seconds=60)
    assert until == (ends if until_s is None else NOW + timedelta(seconds=until_s))


@pytest.mark.parametrize(
    "token",
    [
        "opaque", "a.b", "a.b.c", "a.!!.c", "a..c", "a.b.c.d", "...",
        f"a.{base64.urlsafe_b64encode(b'[1]').decode()}.c",
        f"a.{base64.urlsafe_b64encode(bytes([255])).decode()}.c",
    ],
)  # fmt: skip
def test_a_token_that_is_no_jwt_is_used_as_long_as_was_asked_for(token: str) -> None:
    assert kept_until(token_answer(token)) == NOW + timedelta(seconds=540)


def test_validity_and_margin_are_settings() -> None:
    until = kept_until(token_answer("opaque"), token_validity_s=300, token_margin_s=10)
    assert until == NOW + timedelta(seconds=290)


def test_a_token_is_fetched_anew_when_it_is_about_to_end() -> None:
    keeper = Keeper()
    echelon, server = adapter(read(), tokens=(token_answer(), token_answer("new")), keeper=keeper)
    for seconds, fetched in ((0, 1), (539, 1), (540, 2)):
        keeper.now = NOW + timedelta(seconds=seconds)
        call(echelon, "poll")
        assert len(server.asked_tokens) == fetched
    assert server.asked[-1].headers["authorization"] == "Bearer new"


# A token that is refused.


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", CALLS)
def test_a_refused_token_is_replaced_and_the_same_request_sent_once_more(
    name: str, status: int
) -> None:
    keeper = Keeper()
    tokens = (token_answer(), token_answer(jwt(number=2)))
    echelon, server = adapter(error(status), read("SUCCESS"), tokens=tokens, keeper=keeper)
    assert call(echelon, name).outcome is Outcome.PAID
    assert keeper.asked == [(NAME, None), (NAME, jwt())]
    first, second = server.asked
    assert (first.method, first.url, first.content) == (second.method, second.url, second.content)
    assert [request.headers["authorization"] for request in server.asked] == [
        f"Bearer {jwt()}", f"Bearer {jwt(number=2)}"
    ]  # fmt: skip


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", CALLS)
def test_the_second_answer_stands(name: str, status: int) -> None:
    echelon, server = adapter(error(status), tokens=(token_answer(), token_answer("new")))
    reply = call(echelon, name)
    assert (reply.outcome, len(server.asked)) == (Outcome.ACCOUNT_FAULT, 2)
    assert reply.low_balance is False
    assert str(reply.account_fault).startswith(f"Echelon Pay answered {status}: a new token")


def test_a_second_create_that_is_lost_is_unknown() -> None:
    assert ask("create", error(401), httpx.ReadTimeout("x")).outcome is Outcome.UNKNOWN


def test_a_create_whose_new_token_cannot_be_fetched_was_not_sent() -> None:
    tokens = (token_answer(), httpx.ReadTimeout("x"))
    assert ask("create", error(401), tokens=tokens).outcome is Outcome.NOT_SENT
    assert ask("poll", error(401), tokens=tokens).outcome is Outcome.UNKNOWN


# No token.

NONE = {"create": Outcome.NOT_SENT} | dict.fromkeys(READS, Outcome.UNKNOWN)


@pytest.mark.parametrize(("name", "outcome"), NONE.items())
@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("x"), httpx.ConnectError("x"), error(500), error(503), error(400),
        error(422), error(302), error(200), httpx.Response(200, content=b"no"),
        token_answer(""), token_answer(7), token_answer("two words"), token_answer("\u00e9"),
        token_answer("x\r\nHost: y"), token_answer("x" * 9000), token_answer(status=500),
    ],
)  # fmt: skip
def test_without_a_token_nothing_is_sent(name: str, outcome: Outcome, answer: Any) -> None:
    echelon, server = adapter(taken(), tokens=(answer,))
    reply = call(echelon, name)
    assert (reply.outcome, server.asked) == (outcome, [])
    assert reply.code
    assert reply.reason
    assert reply.account_fault is None


@pytest.mark.parametrize("status", [401, 403, 404, 405])
@pytest.mark.parametrize("name", CALLS)
def test_a_refused_token_call_is_the_account_s_fault(name: str, status: int) -> None:
    echelon, server = adapter(taken(), tokens=(error(status, "X", f"bad {SECRET}"),))
    reply = call(echelon, name)
    assert (reply.outcome, server.asked) == (Outcome.ACCOUNT_FAULT, [])
    wrong = "merchant_code or secret" if status in (401, 403) else "base_url"
    assert str(reply.account_fault).startswith(f"Echelon Pay answered {status}: {wrong} is wrong")
    assert SECRET not in repr(reply)


@pytest.mark.parametrize(("name", "outcome"), NONE.items())
def test_a_token_call_too_many_says_how_long_to_wait(name: str, outcome: Outcome) -> None:
    for status in (429, 503):
        reply = ask(name, taken(), tokens=(error(status, **{"retry-after": "17"}),))
        assert (reply.outcome, reply.retry_after_s) == (outcome, 17)


def test_what_was_lost_is_told() -> None:
    reply = ask("create", taken(), tokens=(httpx.ReadTimeout("x"),))
    assert (reply.code, reply.reason) == ("ReadTimeout", "no answer from the provider")


def test_a_token_is_kept_for_its_own_payout_by_the_process_s_own_keeper() -> None:
    echelon, server = adapter(read(), tokens=(token_answer("opaque"),), keeper=None)
    echelon._tokens = OwnTokens()
    for reference_id in ("PO-1", "PO-1", "PO-2"):
        call(echelon, "look_up", reference_id=reference_id)
    assert len(server.asked_tokens) == 2
