"""The values that server and provider deal in."""

from __future__ import annotations

from decimal import Decimal

import pytest
import simplejson
from hypothesis import given
from hypothesis import strategies as st

from workers.simulator.port import Call, answer, number


@pytest.mark.parametrize(
    ("value", "written"),
    [("25.50", b"25.5"), ("25", b"25"), ("25.00", b"25"), ("1E+3", b"1000"), ("0.01", b"0.01")],
)
def test_amount_is_written_as_a_plain_number(value: str, written: bytes) -> None:
    assert answer(200, number(Decimal(value))).body == written


@given(st.decimals(min_value=0, max_value=10**14, places=4))
def test_amount_survives_the_wire_exactly(value: Decimal) -> None:
    body = answer(200, {"amount": number(value)}).body
    assert simplejson.loads(body, use_decimal=True)["amount"] == value
    assert b"E" not in body


@pytest.mark.parametrize("query", ["filter[reference_id]=a", "filter%5Breference_id%5D=a"])
def test_brackets_are_read_raw_and_encoded(query: str) -> None:
    assert Call("GET", "/", query, {}, b"", 0.0).arguments() == {"filter[reference_id]": "a"}
