"""ETpay's logins and tokens: shared, renewed in time, replaced once when refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.workers.providers.etpay_world import (
    ACCESS,
    API_TOKEN,
    CALLS,
    HTML,
    ID,
    PASSWORD,
    Answering,
    adapter,
    answer,
    config,
    error,
    login,
    one,
    order,
)
from workers.errors import AccountFault, ProviderUnreachable
from workers.providers.etpay import ETpay
from workers.providers.tokens import Fetch, NoToken, OwnTokens, Token
from workers.providers.transport import Lost, Transport
from workers.record.status import Outcome


class Kept:
    """Tokens that a test hands out; keeps what was asked for."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.asked: list[tuple[str, str | None]] = []

    def get(self, name: str, fetch: Fetch, *, refused: str | None = None) -> str:
        self.asked.append((name, refused))
        return self.texts.pop(0)


def calling(transport: httpx.BaseTransport) -> Transport:
    return Transport("https://api.example.test", transport=transport)


def with_tokens(tokens: Kept, *answers: Answering) -> ETpay:
    answering = iter(answers)
    transport = httpx.MockTransport(lambda _: next(answering))
    return ETpay(config(), calling(transport), tokens)


def test_one_login_serves_many_calls() -> None:
    etpay, server = adapter(one())
    for call in (etpay.create, etpay.look_up):
        call(order())
    assert (len(server.logged_in), len(server.asked)) == (1, 2)


@pytest.mark.parametrize("call", CALLS)
def test_a_refused_token_is_replaced_once_and_the_same_request_sent_again(call: str) -> None:
    tokens = Kept("old", "new")
    etpay = with_tokens(tokens, error(401, "UNAUTHORIZED"), one())
    arguments = (order(),) if call in ("create", "look_up") else (order(), ID)
    assert getattr(etpay, call)(*arguments).outcome is Outcome.PROCESSING
    assert tokens.asked == [("access", None), ("access", "old")]


def test_the_repeated_create_has_the_same_bytes_and_the_new_token() -> None:
    etpay, server = adapter(error(401), one(), logins=[login("old"), login("new")])
    etpay.create(order())
    first, second = server.asked
    assert first.content == second.content
    assert [r.headers["authorization"] for r in server.asked] == ["old", "new"]


@pytest.mark.parametrize("call", CALLS)
def test_a_second_refusal_stands(call: str) -> None:
    tokens = Kept("old", "new")
    etpay = with_tokens(tokens, error(401), error(401))
    arguments = (order(),) if call in ("create", "look_up") else (order(), ID)
    reply = getattr(etpay, call)(*arguments)
    assert reply.outcome is Outcome.ACCOUNT_FAULT
    assert "access token" in (reply.account_fault or "")


def test_a_create_is_not_repeated_where_a_401_does_not_prove_that_nothing_was_stored() -> None:
    etpay, server = adapter(error(401), one(), not_created_statuses=[403, 404, 405, 429])
    reply = etpay.create(order())
    assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, None)
    assert len(server.asked) == 1


NOW = datetime(2031, 1, 2, 12, 0, tzinfo=UTC)
ENDS = NOW + timedelta(seconds=1000)


@pytest.mark.parametrize(
    ("told", "usable_s"),
    [
        (int(ENDS.timestamp()) * 1000, 1000 - 120),
        (str(int(ENDS.timestamp()) * 1000), 1000 - 120),
        # Not told, not readable, in seconds by mistake, already past: assumed.
        (None, 3600 - 120),
        ("soon", 3600 - 120),
        (int(ENDS.timestamp()), 3600 - 120),
        (int(NOW.timestamp()) * 1000, 3600 - 120),
        (10**25, 3600 - 120),
        (True, 3600 - 120),
    ],
)
def test_a_token_is_used_until_shortly_before_its_end(told: Any, usable_s: int) -> None:
    fetched: list[Token] = []

    class Fetched(OwnTokens):
        def get(self, name: str, fetch: Fetch, *, refused: str | None = None) -> str:
            fetched.append(fetch(NOW))
            return fetched[0].text

    transport = httpx.MockTransport(lambda r: login(ends=told) if "login" in r.url.path else one())
    ETpay(config(), calling(transport), Fetched()).create(order())
    assert fetched == [Token(ACCESS, NOW + timedelta(seconds=usable_s))]


FAULTY_LOGINS = (400, 401, 403, 404, 405)
FAILED_LOGINS: list[Answering] = [
    httpx.ConnectError("x"),
    httpx.ReadTimeout("x"),
    error(422, "E1", "bad"),
    httpx.Response(500, content=HTML),
    httpx.Response(302),
    httpx.Response(200, content=HTML),
    httpx.Response(200, json={"auth": {}}),
    httpx.Response(201, json={"auth": {"Authorization": "unexpected"}}),
    login(""),
    login("two\r\nlines"),
    login(" blank"),
    login("ñ"),
]


@pytest.mark.parametrize("status", FAULTY_LOGINS)
@pytest.mark.parametrize("call", CALLS)
def test_a_refused_login_is_the_accounts_fault(call: str, status: int) -> None:
    etpay, server = adapter(one(), logins=[error(status, "E", f"no {PASSWORD} {API_TOKEN}")])
    arguments = (order(),) if call in ("create", "look_up") else (order(), ID)
    reply = getattr(etpay, call)(*arguments)
    assert reply.outcome is Outcome.ACCOUNT_FAULT
    assert f"ETpay answered {status}" in (reply.account_fault or "")
    assert server.asked == []
    with pytest.raises(AccountFault, match=f"ETpay answered {status}"):
        etpay.balances()


@pytest.mark.parametrize("failed", FAILED_LOGINS, ids=repr)
@pytest.mark.parametrize("call", CALLS)
def test_without_a_token_no_payout_was_sent_and_nothing_is_known(
    call: str, failed: Answering
) -> None:
    etpay, server = adapter(one(), logins=[failed])
    arguments = (order(),) if call in ("create", "look_up") else (order(), ID)
    reply = getattr(etpay, call)(*arguments)
    assert reply.outcome is (Outcome.NOT_SENT if call == "create" else Outcome.UNKNOWN)
    assert (reply.reason or "").startswith("no login: ")
    assert reply.code
    assert server.asked == []
    with pytest.raises(ProviderUnreachable):
        etpay.balances()


def test_a_busy_login_says_how_long_to_wait() -> None:
    for headers, wait_s in (({"Retry-After": "17"}, 17), ({}, 5)):
        etpay, _ = adapter(one(), logins=[error(429, **headers)])
        reply = etpay.create(order())
        assert (reply.outcome, reply.retry_after_s) == (Outcome.NOT_SENT, wait_s)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "not understood"),
        (401, "username, password"),
        (403, "username, password"),
        (404, "login_path"),
        (405, "login_path"),
        (418, "the login was refused"),
    ],
)
def test_a_refused_login_says_which_settings_to_look_at(status: int, words: str) -> None:
    etpay, _ = adapter(one(), logins=[error(status)], login_fault_statuses=[status])
    assert words in (etpay.create(order()).account_fault or "")


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        (error(500, "E9", "oops"), "no login: E9: oops"),
        (error(400, "E9", "oops"), "no login: E9: oops"),
        (answer(422, {"code": "E9"}), "no login: E9"),
        (answer(500, {"message": f"is {PASSWORD} right?"}), "no login: is *** right?"),
        (httpx.Response(502, content=HTML), "no login: answered 502, without a token"),
        (httpx.Response(200, json={"msg": "ok"}), "no login: answered 200, without a token"),
    ],
)
def test_a_failed_login_says_why(failed: httpx.Response, reason: str) -> None:
    etpay, _ = adapter(one(), logins=[failed], login_fault_statuses=[])
    reply = etpay.create(order())
    assert (reply.reason, reply.retry_after_s) == (reason, None)


def test_which_logins_are_the_accounts_fault_can_be_set() -> None:
    etpay, _ = adapter(one(), logins=[error(400)], login_fault_statuses=[401])
    assert etpay.create(order()).outcome is Outcome.NOT_SENT
    etpay, _ = adapter(one(), logins=[error(418)], login_fault_statuses=[418])
    assert etpay.create(order()).outcome is Outcome.ACCOUNT_FAULT


def test_a_lost_login_that_our_own_pace_held_back_says_how_long() -> None:
    class Held(Kept):
        def get(self, name: str, fetch: Fetch, *, refused: str | None = None) -> str:
            raise NoToken(Lost(Outcome.NOT_SENT, "paced", "no room", 7))

    etpay = with_tokens(Held())
    reply = etpay.create(order())
    assert (reply.outcome, reply.code, reply.retry_after_s) == (Outcome.NOT_SENT, "paced", 7)
    assert etpay.poll(order(), ID).outcome is Outcome.UNKNOWN
