"""What Ecart Pay's payouts, tokens and balances say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.carriers import answered_by
from tests.workers.providers.ecart_world import EMAIL, MXN, Server, config, jwt, order, payout
from workers.providers import ecart_words as words
from workers.providers import wire
from workers.providers.ecart import Ecart
from workers.providers.port import Reply
from workers.providers.tokens import Fetch, Token
from workers.providers.transport import Answer
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# RFC 9110's form of 2031-01-02 12:00:00 UTC, when the sample payout was created.
CREATED_DATE = "Thu, 02 Jan 2031 12:00:00 GMT"


def read(*, two_step: bool = True, date: str = CREATED_DATE, **changes: Any) -> Reply:
    body = json.dumps(payout(**changes)).encode()
    answer = Answer(200, {"date": date} if date else {}, body)
    facts = words.read_payout(answer.json())
    assert facts is not None
    return words.reply(facts, answer, order(), states=Ecart.states, two_step=two_step)


# A pending payout: does it wait for us?


@pytest.mark.parametrize(
    ("two_step", "told", "outcome", "warning"),
    [
        (True, True, Outcome.CREATED, None),
        (True, None, Outcome.CREATED, None),
        (True, False, Outcome.PROCESSING, "pending: it needs no confirmation, and is not paid yet"),
        (False, False, Outcome.PROCESSING,
         "pending: it needs no confirmation, and is not paid yet"),
        (False, None, Outcome.PROCESSING, "pending: it needs no confirmation, and is not paid yet"),
        (False, True, Outcome.PROCESSING,
         "pending: it waits for a confirmation, and two_step = false sends none"),
    ],
)  # fmt: skip
def test_a_pending_payout_waits_for_us_only_if_it_was_created_so(
    two_step: bool, told: bool | None, outcome: Outcome, warning: str | None
) -> None:
    reply = read(two_step=two_step, require_confirmation=told)
    assert (reply.outcome, reply.warning) == (outcome, warning)


LATER = "2031-01-05T15:00:00.000Z"


@pytest.mark.parametrize(
    ("changes", "scheduled"),
    [
        ({}, False),
        ({"available_at": "2031-01-02T12:01:00.891Z"}, False),
        ({"available_at": "2031-01-02T12:01:00.892Z"}, True),
        ({"available_at": LATER}, True),
        ({"available_at": "2031-01-05T15:00:00.000"}, True),
        # Any clock of the provider's may say that the time has come.
        ({"available_at": LATER, "date": "Sun, 05 Jan 2031 15:00:00 GMT"}, False),
        ({"available_at": LATER, "updated_at": LATER}, False),
        ({"available_at": LATER, "date": "", "updated_at": None}, True),
        ({"available_at": LATER, "date": "", "updated_at": None, "created_at": "x"}, False),
        ({"available_at": LATER, "date": "yesterday"}, True),
        ({"available_at": "soon"}, False),
        ({"available_at": 7}, False),
        ({"available_at": None}, False),
    ],
)
def test_a_payout_that_is_available_later_is_released_by_itself(
    changes: dict[str, Any], scheduled: bool
) -> None:
    reply = read(**changes)
    assert reply.outcome is (Outcome.PROCESSING if scheduled else Outcome.CREATED)
    warning = "pending: it is scheduled for a later time" if scheduled else None
    assert reply.warning == warning


# Fee, rate, amount, and what is otherwise than sent.


@pytest.mark.parametrize(
    ("changes", "fee", "rate", "warning"),
    [
        ({}, 0, "1", None),
        ({"fee": "0.00", "exchange": 1.0}, 0, "1.0", None),
        ({"fee": None, "exchange": None}, None, None, None),
        ({"fee": 3.5}, 350, "1", "fee: 3.50 MXN, expected: none"),
        ({"fee": 3.555}, None, "1", "fee: cannot be read, expected: none"),
        ({"exchange": 0.05}, 0, "0.05", "exchange: 0.05, expected: 1"),
        ({"exchange": "x", "fee": 1}, 100, None,
         "fee: 1.00 MXN, expected: none; exchange: cannot be read, expected: 1"),
    ],
)  # fmt: skip
def test_an_unexpected_fee_or_rate_is_paid_and_shown(
    changes: dict[str, Any], fee: int | None, rate: str | None, warning: str | None
) -> None:
    reply = read(status="paid", **changes)
    assert reply.outcome is Outcome.PAID
    assert reply.fee == (None if fee is None else Money(fee, MXN))
    assert (reply.exchange_rate, reply.warning) == (rate, warning)


@pytest.mark.parametrize(
    ("changes", "amount", "differs"),
    [
        ({"amount": "250.50"}, 25050, ()),
        ({"amount": None}, None, ()),
        ({"amount": None, "currency": None}, None, ()),
        ({"amount": None, "currency": "USD"}, None, ("currency: USD, sent: MXN",)),
        ({"amount": 25.505}, None, ("amount: 25.505 MXN cannot be read",)),
        ({"amount": [7]}, None, ("amount: [7] MXN cannot be read",)),
        ({"currency": "XXX"}, None, ("amount: 250.5 XXX cannot be read",)),
        ({"currency": None}, None, ("amount: 250.5 None cannot be read",)),
        ({"email": EMAIL.upper()}, 25050, ()),
        ({"email": "x@example.com"}, 25050, ("fields.email: another one than was sent",)),
    ],
)
def test_what_is_not_as_it_was_sent_is_told(
    changes: dict[str, Any], amount: int | None, differs: tuple[str, ...]
) -> None:
    reply = read(**changes)
    assert reply.amount == (None if amount is None else Money(amount, MXN))
    assert reply.differs == differs


def test_another_currency_is_another_amount() -> None:
    assert read(currency="USD").amount == Money(25050, Currency.of("USD"))


def test_a_reference_id_that_is_too_long_is_never_taken_for_ours() -> None:
    reference_id = read(reference_id="x" * 1000).reference_id
    assert reference_id is not None
    assert len(reference_id) == 256


def test_a_status_is_masked_before_it_is_shown() -> None:
    reply = read(status="paid to 4000000000000002")
    assert (reply.status, reply.warning) == ("paid to ***", "unlisted status: paid to ***")


# Balances.


@given(st.integers(-(10**15), 10**15), st.integers(0, 6))
@settings(deadline=None)
def test_a_balance_is_never_rounded_up(digits: int, places: int) -> None:
    exact = Decimal(digits).scaleb(-places)
    document = wire.read_json(f'{{"MXN": {{"available": {exact:f}}}}}'.encode())
    found = words.spendable(document, "{currency}.available")
    assert found is not None
    assert found[MXN].decimal() <= exact < found[MXN].decimal() + Decimal("0.01")


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"MXN": {"available": 5}}, "{currency}.available"),
        ({"MXN": 5}, "{currency}"),
        ({"a": {"b": {"MXN": {"c": {"d": "5.00"}}}}}, "a.b.{currency}.c.d"),
    ],
)
def test_a_balance_is_found_where_the_path_says(document: Any, path: str) -> None:
    assert words.spendable(document, path) == {MXN: Money(500, MXN)}
    assert words.spendable(document, f"x.{path}") is None


# Tokens.

NOW = datetime(2031, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("token", "end"),
    [
        (jwt(id="a", exp=1925121600, iat=1925118000), datetime(2031, 1, 2, 12, tzinfo=UTC)),
        (jwt(exp="1925121600"), datetime(2031, 1, 2, 12, tzinfo=UTC)),
        (jwt(exp=-1), None),
        (jwt(exp=10**12), None),
        (jwt(iat=5), None),
        (jwt(exp="soon"), None),
        ("opaque", None),
        ("a.b.c", None),
        ("a.!!!!.c", None),
        ("..", None),
    ],
)
def test_a_jwt_tells_its_end(token: str, end: datetime | None) -> None:
    assert words.ends_at(token) == end


@pytest.mark.parametrize(
    ("lasts_s", "usable_s"), [(7200, 3300), (3600, 3300), (3300, 3240), (600, 540), (None, 3300)]
)
def test_a_token_is_used_until_shortly_before_its_end(lasts_s: int | None, usable_s: int) -> None:
    claims = {} if lasts_s is None else {"exp": int(NOW.timestamp()) + lasts_s}
    fetched = fetch(jwt(**claims))
    assert fetched - NOW == timedelta(seconds=usable_s)


def test_how_long_a_token_is_used_is_a_setting() -> None:
    assert fetch("opaque", token_ttl_s=60) - NOW == timedelta(seconds=60)


def fetch(token: str, **changes: Any) -> datetime:
    """Until when the adapter takes that token for good, fetched at NOW."""
    kept: list[Token] = []

    class Keeping:
        def get(self, name: str, fetch: Fetch, *, refused: str | None = None) -> str:
            assert (name, refused) == ("access", None)
            kept.append(fetch(NOW))
            return kept[0].text

    given = [httpx.Response(200, json={"token": token})]
    server = Server([httpx.Response(200, json=payout())], given)
    given_settings = config(**changes)
    transport = answered_by(server, given_settings.base_url)
    Ecart(given_settings, transport, Keeping()).create(order())
    assert server.asked[0].headers["authorization"] == token
    assert token not in repr(kept)
    return kept[0].usable_until
