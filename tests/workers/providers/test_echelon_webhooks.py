"""Echelon Pay's callbacks: unsigned, so only one that comes to a payout's own address wakes it."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.providers.echelon_world import (
    HTML,
    NOW,
    REFERENCE,
    SECRET,
    adapter,
    document,
    order,
    taken,
)
from workers.providers.echelon import Echelon
from workers.providers.port import Delivery, News

URL = "https://pay.example/webhooks/main"
OURS = [News(reference_id=REFERENCE, provider_payout_id=REFERENCE)]


def tail(payout_id: str = REFERENCE, secret: str = SECRET) -> str:
    key = hmac.new(secret.encode(), b"paybatch callback", hashlib.sha256).digest()
    return hmac.new(key, payout_id.encode(), hashlib.sha256).hexdigest()


def delivery(body: Any, at: str | None = None) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(tail=tail() if at is None else at, body=raw, received_at=NOW)


def test_the_address_that_a_create_names_is_the_one_that_verifies() -> None:
    echelon, server = adapter(taken(), callback_url=URL)
    echelon.create(order())
    assert server.sent["callbackUrl"] == f"{URL}/{tail()}"
    at = server.sent["callbackUrl"].removeprefix(f"{URL}/")
    assert echelon.read_webhook(delivery({"idEntity": REFERENCE}, at)) == OURS


def test_every_payout_has_an_address_of_its_own_under_every_secret() -> None:
    made = {tail(payout_id, secret) for payout_id in ("a", "b") for secret in ("x", "y")}
    assert len(made) == 4
    for secret, expected in ((SECRET, OURS), ("other", None)):
        echelon = adapter(secret=secret)[0]
        assert echelon.read_webhook(delivery({"idEntity": REFERENCE})) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"idEntity": REFERENCE},
        {"idPayout": REFERENCE},
        {"idPayment": REFERENCE},
        document(process={"status": "FAILED", "isTest": False}),
        {"idEntity": "another", "idPayout": REFERENCE},
        {"idEntity": 7, "idPayment": REFERENCE},
    ],
)
def test_the_id_is_found_where_the_page_says_and_nothing_else_is_believed(body: Any) -> None:
    assert adapter()[0].read_webhook(delivery(body)) == OURS


def test_the_places_of_the_id_are_a_setting() -> None:
    echelon = adapter(callback_id_paths=("data.order.id",))[0]
    assert echelon.read_webhook(delivery({"data": {"order": {"id": REFERENCE}}})) == OURS
    assert echelon.read_webhook(delivery({"idEntity": REFERENCE})) is None


@pytest.mark.parametrize(
    "body",
    [
        b"", HTML, b"[]", b"null", b"\xff", b'{"idEntity": "\\ud800"}', {}, {"idEntity": None},
        {"idEntity": [REFERENCE]}, {"idEntity": "PO-2031-000018"}, {"idEntity": ""},
        {"id": REFERENCE}, {"idEntity": REFERENCE + " "},
    ],
)  # fmt: skip
def test_what_names_no_payout_of_that_address_does_not_verify(body: Any) -> None:
    assert adapter()[0].read_webhook(delivery(body)) is None


@pytest.mark.parametrize(
    "at",
    [
        "", tail("PO-2031-000018"), tail().upper(), tail() + "0", tail()[:-1], tail() + "/x",
        f"{tail()}\n", "\u00e9", "\ud800", tail(secret=""),
        hmac.new(SECRET.encode(), REFERENCE.encode(), hashlib.sha256).hexdigest(),
    ],
)  # fmt: skip
def test_another_address_does_not_verify(at: str) -> None:
    assert adapter()[0].read_webhook(delivery({"idEntity": REFERENCE}, at)) is None


@given(body=st.binary(max_size=200), at=st.text(max_size=70))
def test_nothing_that_anyone_makes_up_verifies(body: bytes, at: str) -> None:
    echelon = adapter()[0]
    assert echelon.read_webhook(delivery(body, at)) is None
    assert echelon.read_webhook(delivery({"idEntity": at}, at)) is None


def test_a_repeated_callback_is_told_apart_by_its_body() -> None:
    found = adapter()[0].read_webhook(delivery({"idEntity": REFERENCE}))
    assert found is not None
    assert [news.key for news in found] == [""]


def test_without_an_address_of_ours_none_is_named_and_old_ones_still_verify() -> None:
    echelon, server = adapter(taken())
    echelon.create(order())
    assert "callbackUrl" not in server.sent
    assert echelon.read_webhook(delivery({"idEntity": REFERENCE})) == OURS


def test_a_callback_is_answered_as_the_page_says() -> None:
    assert Echelon.webhook_answers.taken == (200, b"{}")
    assert Echelon.webhook_answers.forged == (404, b"")


@pytest.mark.parametrize(
    ("sender", "taken_"),
    [
        ("192.0.2.7", True),
        ("198.51.100.9", True),
        ("198.51.101.9", False),
        ("", False),
        ("x", False),
    ],
)
def test_callbacks_may_be_kept_to_known_addresses(sender: str, taken_: bool) -> None:
    echelon, _ = adapter(callback_allowed_ips=["192.0.2.7", "198.51.100.0/24"])
    told = Delivery(
        tail=tail(), body=b'{"idEntity": "%s"}' % REFERENCE.encode(), sender=sender, received_at=NOW
    )
    assert echelon.read_webhook(told) == (OURS if taken_ else None)
