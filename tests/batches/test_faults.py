"""What may be shown of a cell, and which name was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.faults import FaultKind, mask_cell, nearest


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("fields.iban", "DE89370400440532013000", "********3000"),
        ("fields.name", "Jane Roe", "********"),
        ("fields.pin", "1234", "****"),
        ("fields.name", "Jane Roes", "*****Roes"),
        ("customer.email", "jane@example.org", "********.org"),
        ("context.card.card_holder", "JANE", "****"),
        ("fields.note", "12345678\x00\x1b[1", "********??[1"),
        ("reference_id", "P-1", "P-1"),
        ("reference_id", "4111 1111 1111 1111", "********1111"),
        ("reference_id", "4111-1111-1111-1111", "********1111"),
        ("reference_id", "P-12345678", "P-12345678"),
        ("description", "to DE89370400440532013000 now", "to DE********3000 now"),
        ("description", "a\nb\x07", "a?b?"),
        ("description", "x" * 41, "x" * 39 + "…"),
        ("description", "x" * 40, "x" * 40),
        ("amount", "", ""),
    ],
)
def test_a_cell_is_masked_by_its_column(column: str, value: str, shown: str) -> None:
    assert mask_cell(column, value) == shown


@given(value=st.text())
def test_a_personal_cell_shows_at_most_its_last_four(value: str) -> None:
    shown = mask_cell("fields.x", value)
    assert len(shown) <= 12
    assert shown[: len(shown) - (4 if len(value) >= 9 else 0)].strip("*") == ""


@given(digits=st.text("0123456789", min_size=9, max_size=60), before=st.text("ab -", max_size=50))
def test_no_column_shows_nine_digits_in_a_row(digits: str, before: str) -> None:
    shown = mask_cell("description", before + digits)
    assert sum(char.isdigit() for char in shown) <= 4


@pytest.mark.parametrize(
    ("given_name", "meant"),
    [
        ("Bank_EUR", "bank_eur"),
        ("bank-eur", "bank_eur"),
        ("bank_euro", "bank_eur"),
        ("card", "card_usd"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_name_ignores_case_and_signs(given_name: str, meant: str | None) -> None:
    assert nearest(given_name, ["bank_eur", "card_usd"]) == meant


def test_kinds_are_short_stable_words() -> None:
    assert all(kind.value == kind.name.lower() and kind.isidentifier() for kind in FaultKind)
