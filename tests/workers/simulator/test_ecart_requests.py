"""What the Ecart Pay simulator can read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from workers.simulator import ecart_requests as requests
from workers.simulator.ecart_views import moment
from workers.simulator.port import read_json


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2031-01-02T12:00:00.889Z", 1_925_121_600.889),
        ("2031-01-02T12:00:00Z", 1_925_121_600.0),
        ("2031-01-02T12:00:00.889", None),
        ("2031-01-02T12:00:00.889+01:00", None),
        ("2031-01-02 12:00:00.889Z", None),
        ("2031-01-02T25:00:00.000Z", None),
        ("2031-01-02", None),
        ("", None),
        (1_925_121_600, None),
        (None, None),
    ],
)
def test_moment_is_iso_8601_in_utc(text: Any, at: float | None) -> None:
    assert requests.read_moment(text) == at
    assert at is None or moment(at) == text.replace(":00Z", ":00.000Z")


def test_day_is_the_whole_of_it() -> None:
    first = requests.read_bound("2031-01-02", end=False)
    last = requests.read_bound("2031-01-02", end=True)
    assert first is not None
    assert last is not None
    assert last - first == pytest.approx(86_399.999)


def test_fractions_are_read_exactly() -> None:
    assert read_json(b'{"amount":0.1}') == {"amount": Decimal("0.1")}


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b'{"a":Infinity}', b"[" * 100_000])
def test_body_that_is_no_object_is_none(body: bytes) -> None:
    assert read_json(body) is None


@pytest.mark.parametrize(
    "amount", [Decimal("1E+999999"), Decimal("1E-999999"), 10**400, Decimal("0.001")]
)
def test_extreme_amount_is_refused_without_being_written_out(amount: Any) -> None:
    asked = {"email": "luis@example.com", "amount": amount, "currency": "MXN"}
    assert requests.create_fault(asked, decimals=2) == "amount"


def test_items_of_a_create_are_taken() -> None:
    asked = {"email": "luis@example.com", "amount": 1, "currency": "MXN", "items": [{"name": "x"}]}
    assert requests.create_fault(asked, decimals=2) is None
