"""ETpay's webhooks: what verifies in each of the three modes, and which payout is woken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.workers.providers.etpay_world import ID, REFERENCE, adapter, config, one, order, payout
from workers.providers.etpay import ETpay
from workers.providers.etpay_webhooks import tail
from workers.providers.port import Delivery, News

SECRET = "demo-webhook-secret"
JWT = {"webhook_auth": "jwt_hs256", "webhook_secret": SECRET}
PATH = {"webhook_auth": "shared_secret_path", "webhook_secret": SECRET}
NOW = datetime(2031, 1, 2, 12, 0, tzinfo=UTC)
DONE = {"payout": payout(status="completed")}
NEWS = [News(provider_payout_id=ID, reference_id=REFERENCE, key=f"{ID}:completed")]


def news(body: Any, *, at: str = "", **changes: Any) -> Any:
    etpay, server = adapter(**changes)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = etpay.read_webhook(Delivery(tail=at, body=raw, received_at=NOW))
    assert server.asked == server.logged_in == []
    return found


def part(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(claims: Any, key: str = SECRET, digest: str = "sha256", **header: Any) -> str:
    body = f"{part({'alg': 'HS256', 'typ': 'JWT', **header})}.{part(claims)}"
    signature = hmac.new(key.encode(), body.encode(), digest).digest()
    return f"{body}.{part(signature)}"


# What a body is about.


@pytest.mark.parametrize(
    "body",
    [
        DONE,
        payout(status="completed"),
        {"jwt": signed(DONE)},
        {"jwt": signed(payout(status="Completed"), key="other")},
    ],
)
def test_by_default_any_body_is_a_hint(body: Any) -> None:
    assert news(body) == NEWS


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"payout_id": ID}, News(provider_payout_id=ID)),
        ({"payout_id": 77, "status": "PAID"}, News(provider_payout_id="77", key="77:paid")),
        ({"merchant_order_id": REFERENCE, "status": "paid"}, News(reference_id=REFERENCE)),
        ({"payout_id": "..", "merchant_order_id": REFERENCE}, News(reference_id=REFERENCE)),
        ({"payout_id": ID, "merchant_order_id": "a b"}, News(provider_payout_id=ID)),
        ({"payout_id": ID, "merchant_order_id": "x" * 65}, News(provider_payout_id=ID)),
        ({"payout_id": ID, "status": "x" * 99},
         News(provider_payout_id=ID, key=f"{ID}:{'x' * 63}…")),
        ({"payout_id": ID, "status": "\ud800a\x00b"}, News(provider_payout_id=ID, key=f"{ID}:a b")),
    ],
)  # fmt: skip
def test_ids_are_read_only_where_they_can_be_ours(facts: Any, expected: News) -> None:
    assert news({"payout": facts}) == [expected]


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"hello", [], 7, None, {}, {"payout": {}}, {"payout": None},
     {"payout": {"payout_id": None}}, {"jwt": "x"}, {"jwt": "a.b.c"}, {"jwt": "a.%%.c"},
     {"jwt": f"a.{part(b'no')}.c"}, {"jwt": f"a.{part(DONE)}"}, {"jwt": "a.\ud800.c"},
     b"[" * 100_000],
)  # fmt: skip
def test_a_body_about_no_payout_wakes_none(body: Any) -> None:
    assert news(body) == []


def test_a_repeat_has_the_same_key_and_another_status_another() -> None:
    keys = [news({"payout": payout(status=word)})[0].key for word in ("paid", "PAID", "returned")]
    assert keys[0] == keys[1] != keys[2]


def test_where_a_body_has_its_ids_can_be_set() -> None:
    response = {"payout": "data", "payout_id": "id", "reference_id": "ref", "status": "s"}
    body = {"data": {"id": "p1", "ref": "r1", "s": "ok"}}
    found = news(body, field_map={"response": response})
    assert found == [News(provider_payout_id="p1", reference_id="r1", key="p1:ok")]


def test_by_default_nothing_is_expected_of_the_address() -> None:
    assert news(DONE, at="anything") == NEWS


# Signed by HS256.


def test_a_signed_token_verifies_with_the_secret() -> None:
    assert news({"jwt": signed(DONE)}, **JWT) == NEWS
    assert news({"jwt": signed(payout(status="completed"))}, **JWT) == NEWS


def tampered() -> list[Any]:
    good = signed(DONE)
    head, body, signature = good.split(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    none = f"{part({'alg': 'none'})}.{body}"
    key = hashlib.sha256(SECRET.encode()).hexdigest()
    return [
        DONE,
        b"",
        {"jwt": None},
        {"jwt": signed(DONE, key="demo-webhook-secreT")},
        {"jwt": signed(DONE, key=key)},
        {"jwt": signed(DONE, key="")},
        {"jwt": f"{head}.{part({'payout': payout(payout_id='pyt_evil')})}.{signature}"},
        {"jwt": f"{part({'alg': 'HS256'})}.{body}.{signature}"},
        {"jwt": f"{head}.{body}.{flipped}"},
        {"jwt": f"{head}.{body}.{signature}="},
        {"jwt": f"{head}.{body}.{signature[:-1]}"},
        {"jwt": f"{head}.{body}."},
        {"jwt": f"{head}.{body}"},
        {"jwt": f"{head}.{body}.ñ"},
        {"jwt": f"{none}."},
        {"jwt": none},
        {"jwt": signed(DONE, alg="none")},
        {"jwt": signed(DONE, alg="hs256")},
        {"jwt": signed(DONE, alg="HS512")},
        {"jwt": signed(DONE, digest="sha512", alg="HS512")},
        {"jwt": signed(DONE, alg=None)},
        {"jwt": signed(DONE, alg=["HS256"])},
        {"jwt": signed(DONE, crit=["exp"])},
        {"jwt": f" {good}"},
        {"jwt": "\ud800.\ud800.\ud800"},
        {"jwt": f"{good}.{signature}"},
    ]


@pytest.mark.parametrize("body", tampered())
def test_what_is_not_signed_with_the_secret_does_not_verify(body: Any) -> None:
    assert news(body, **JWT) is None


def test_a_signed_token_about_no_payout_verifies() -> None:
    for claims in ({}, [], {"payout": {}}, b"not json"):
        assert news({"jwt": signed(claims)}, **JWT) == []


# By an address that nobody can guess.


def test_the_address_holds_a_segment_that_does_not_tell_the_secret() -> None:
    segment = tail(config(**PATH))
    assert len(segment) == 64
    assert segment.isalnum()
    assert SECRET not in segment
    other = {**PATH, "webhook_secret": "demo-webhook-secreT"}
    assert segment != tail(config(**other))
    assert tail(config()) == tail(config(**JWT)) == ""


def test_only_the_right_address_verifies() -> None:
    segment = tail(config(**PATH))
    assert news(DONE, at=segment, **PATH) == NEWS
    assert news(b"hello", at=segment, **PATH) == []
    for wrong in ("", SECRET, segment[:-1], f"{segment}0", segment.upper(), f"{segment}/", "ñ"):
        assert news(DONE, at=wrong, **PATH) is None


@pytest.mark.parametrize("changes", [{}, JWT, PATH])
def test_a_create_names_the_address_that_its_webhook_is_verified_at(changes: Any) -> None:
    callback_url = "https://pay.shop.example/webhooks/main"
    etpay, server = adapter(one(), callback_url=callback_url, **changes)
    etpay.create(order())
    extra = server.sent["webhook_url"].removeprefix(callback_url).removeprefix("/")
    assert extra == tail(config(**changes))
    etpay, server = adapter(one(), **changes)
    etpay.create(order())
    assert "webhook_url" not in server.sent


def test_a_delivery_is_answered_as_etpay_expects() -> None:
    answers = ETpay.webhook_answers
    assert (answers.taken, answers.forged) == ((200, b""), (401, b""))
    assert httpx.codes.is_success(answers.taken[0])
