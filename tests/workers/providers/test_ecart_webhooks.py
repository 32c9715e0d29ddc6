"""Ecart Pay's webhooks: what verifies, what does not, and what a verified one wakes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.providers.ecart_world import (
    HOOK,
    ID,
    REFERENCE,
    STAMP,
    STAMP_MS,
    VECTOR,
    VECTOR_SIGNATURE,
    adapter,
    delivery,
    sign,
)
from workers.providers import ecart_words as words
from workers.providers.port import Delivery, News

BODY = b'{"event":"transfer.created","data":' + VECTOR + b"}"
NEWS = News(
    provider_payout_id=ID, reference_id=REFERENCE, key=f"{HOOK}:transfer.created:{ID}"
)  # fmt: skip


def read(given: Delivery, **changes: Any) -> list[News] | None:
    news = adapter(**changes)[0].read_webhook(given)
    return None if news is None else list(news)


# The signature.


def test_the_vector_of_the_providers_page_verifies() -> None:
    assert sign(VECTOR) == VECTOR_SIGNATURE
    assert read(delivery(BODY, VECTOR_SIGNATURE)) == [NEWS]


@pytest.mark.parametrize(
    "written",
    [VECTOR_SIGNATURE.lower(), VECTOR_SIGNATURE.upper(), VECTOR_SIGNATURE.removeprefix("SHA256="),
     f" {VECTOR_SIGNATURE} "],
)  # fmt: skip
def test_the_signatures_prefix_and_case_do_not_matter(written: str) -> None:
    assert read(delivery(BODY, written)) == [NEWS]


GOOD = delivery(BODY, VECTOR_SIGNATURE)


@pytest.mark.parametrize(
    "forged",
    [
        replace(GOOD, body=BODY.replace(b"250.5", b"250.6")),
        replace(GOOD, body=b""),
        replace(GOOD, body=b"[]"),
        replace(GOOD, body=b"{1:2}"),
        replace(GOOD, body=b'{"event":"transfer.created"}'),
        # Two members of that name: which one is meant depends on the reader.
        replace(GOOD, body=BODY[:-1] + b',"data":' + VECTOR + b"}"),
        replace(GOOD, body=BODY + b"x"),
        replace(GOOD, body=BODY[:-1]),
        replace(GOOD, body=b"[" * 100_000),
        replace(GOOD, body=b"\xff" + BODY),
        *(replace(GOOD, headers={**GOOD.headers, **change}) for change in (
            {"x-pay-signature": ""}, {"x-pay-signature": "SHA256="}, {"x-pay-signature": "ñ"},
            {"x-pay-signature": sign(VECTOR, secret="another")}, {"x-pay-timestamp": ""},
            {"x-pay-timestamp": "1924992000001"}, {"x-pay-timestamp": "-1"},
            {"x-pay-timestamp": "9" * 30}, {"x-pay-timestamp": "1924992000000.0"},
            {"x-pay-webhook-id": "another"}, {"x-pay-webhook-id": ""},
        )),
        replace(GOOD, headers={}),
    ],
)  # fmt: skip
def test_anything_else_does_not_verify(forged: Delivery) -> None:
    for scope in ("data", "body", "both"):
        assert read(forged, webhook_sign_scope=scope) is None


def test_nothing_verifies_without_a_secret() -> None:
    assert read(GOOD, webhook_secret=None) is None
    assert adapter(webhook_secret=None)[0].capabilities.webhooks is False
    assert adapter()[0].capabilities.webhooks is True


@pytest.mark.parametrize(
    ("age_s", "age_s_max", "verifies"),
    [(600, 600, True), (-600, 600, True), (600.001, 600, False), (-600.001, 600, False),
     (60, 59, False), (60, 61, True)],
)  # fmt: skip
def test_a_delivery_has_an_age_both_ways(age_s: float, age_s_max: int, verifies: bool) -> None:
    late = replace(GOOD, received_at=STAMP + timedelta(seconds=age_s))
    assert (read(late, webhook_max_age_s=age_s_max) is not None) is verifies


@pytest.mark.parametrize(
    ("scope", "data", "body"),
    [("data", True, False), ("body", False, True), ("both", True, True)],
)
def test_what_is_signed_is_a_setting(scope: str, data: bool, body: bool) -> None:
    by_data = read(delivery(BODY, sign(VECTOR)), webhook_sign_scope=scope)
    by_body = read(delivery(BODY, sign(BODY)), webhook_sign_scope=scope)
    assert (by_data is not None, by_body is not None) == (data, body)


@pytest.mark.parametrize(
    ("sent", "signed"),
    [
        # As it came, whatever it looks like.
        ('{"a": 10.0,  "b":"\\u00f1"}', '{"a": 10.0,  "b":"\\u00f1"}'),
        # As JSON.stringify writes it.
        ('{"b": 1, "a": [true, null]}', '{"b":1,"a":[true,null]}'),
        ('{"a":"\\u00f1\\/"}', '{"a":"ñ/"}'),
        ('{"a":10.0,"b":2.50,"c":0.000001,"d":0.0,"e":100}',
         '{"a":10,"b":2.5,"c":0.000001,"d":0,"e":100}'),
        ("[1, 2]", "[1,2]"),
        ('"text"', '"text"'),
    ],
)  # fmt: skip
def test_the_data_is_signed_as_it_came_or_as_javascript_writes_it(sent: str, signed: str) -> None:
    body = f' {{ "data" : {sent} , "event": "x" }} '.encode()
    assert read(delivery(body, sign(signed.encode()))) is not None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    before=st.dictionaries(st.text().filter(lambda name: name != "data"), VALUES),
    data=VALUES,
    after=st.dictionaries(st.text().filter(lambda name: name != "data"), VALUES),
    blanks=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
)
@settings(deadline=None)
def test_the_data_member_is_cut_out_of_any_body(
    before: dict[str, Any], data: Any, after: dict[str, Any], blanks: tuple[str, str]
) -> None:
    after = {name: value for name, value in after.items() if name not in before}
    body = json.dumps({**before, "data": data, **after}, separators=blanks).encode()
    assert words._data(body) == json.dumps(data, separators=blanks).encode()


@given(st.binary())
@settings(deadline=None)
def test_no_bytes_break_the_reading(body: bytes) -> None:
    assert words._data(body) is None or b"data" in body
    assert read(delivery(body, sign(body)), webhook_sign_scope="body") == []


# What it is about.


def about(event: str, data: Any) -> list[News] | None:
    body = json.dumps({"event": event, "data": data}, separators=(",", ":")).encode()
    signed = json.dumps(data, separators=(",", ":")).encode()
    return read(delivery(body, sign(signed)))


@pytest.mark.parametrize("event", ["transfer.created", "transactions.paid", "payouts.paid", ""])
def test_an_event_that_may_be_of_a_payout_wakes_it(event: str) -> None:
    news = about(event, {"id": ID, "reference_id": REFERENCE})
    key = f"{HOOK}:{event}:{ID}"
    assert news == [News(provider_payout_id=ID, reference_id=REFERENCE, key=key)]


@pytest.mark.parametrize(
    "event",
    ["billing_information.updated", "billing_information.deleted", "billings.create",
     "subscription.created", "subscription.payment_failed", "orders.confirmation", "orders.update",
     "withdrawals.processing", "withdrawals.paid", "withdrawals.cancelled"],
)  # fmt: skip
def test_other_events_are_about_no_payout(event: str) -> None:
    assert about(event, {"id": ID, "reference_id": REFERENCE}) == []


@pytest.mark.parametrize("data", [{}, [], None, {"id": 5}, {"id": "../x", "reference_id": ""}])
def test_an_event_that_names_nothing_wakes_nothing(data: Any) -> None:
    assert about("transfer.created", data) == []


def test_either_id_is_enough_and_repeats_have_one_key() -> None:
    (first,) = about("transfer.created", {"reference_id": REFERENCE}) or []
    assert (first.provider_payout_id, first.reference_id) == (None, REFERENCE)
    assert first.key == f"{HOOK}:transfer.created:{REFERENCE}"
    (second,) = about("transfer.created", {"id": ID}) or []
    assert (second.provider_payout_id, second.reference_id) == (ID, None)
    later = str(int(STAMP_MS) + 15_000)
    again = delivery(BODY, sign(VECTOR, stamp=later), stamp=later)
    assert read(again) == read(GOOD) == [NEWS]
