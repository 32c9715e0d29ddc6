"""The account of the eComCharge simulator: decimals, codes and what a resolution asks for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from workers.simulator.ecomcharge_account import (
    DECIMALS,
    WORDS,
    EcomchargeOptions,
    code_of,
    leg_of,
    message_of,
)
from workers.simulator.ledger import Step

from .ecomcharge_world import shop


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [
        ("USD", 2),
        ("JPY", 0),
        ("IDR", 0),
        ("IQD", 0),
        ("MOP", 1),
        ("KWD", 3),
        ("IRR", 0),
        ("XXY", 2),
    ],
)
def test_decimals_are_the_php_clients(currency: str, decimals: int) -> None:
    assert EcomchargeOptions().exponent(currency) == decimals


def test_php_clients_table_is_whole() -> None:
    counted = {each: list(DECIMALS.values()).count(each) for each in (0, 1, 3)}
    assert counted == {0: 28, 1: 1, 3: 6}


@pytest.mark.parametrize(
    ("decimals", "currency", "amount"),
    [
        ({}, "USD", "25.5"),
        ({}, "JPY", "2550"),
        ({}, "KWD", "2.55"),
        ({}, "IDR", "2550"),
        ({"IDR": 2}, "IDR", "25.5"),
        ({"USD": 0}, "USD", "2550"),
    ],
)
def test_minor_units_are_paid_by_the_accounts_own_decimals(
    decimals: dict[str, int], currency: str, amount: str
) -> None:
    with shop(decimals=decimals) as driver:
        paid = driver.paid(currency=currency)
        assert (paid["amount"], paid["currency"]) == (2550, currency)
        (invoice,) = driver.invoices()
        assert Decimal(invoice["amount"]) == Decimal(amount)


@pytest.mark.parametrize(
    ("status", "resolution", "code", "message"),
    [
        ("successful", "ok", "S.0000", "Successfully processed"),
        ("pending", "ok", "P.0001", "Waiting"),
        ("initial", "ok", "P.0001", "Waiting"),
        ("incomplete", "ok", "P.0001", "Waiting"),
        ("failed", "ok", "F.0999", "Unknown reason"),
        ("failed", "F_0114", "F.0114", "Insufficient funds"),
        ("failed", "F_0100", "F.0100", "Declined"),
        ("failed", "form", "F.0999", "Unknown reason"),
        ("brand_new", "ok", "P.9999", "Status unknown"),
    ],
)
def test_code_is_what_the_resolution_says_or_the_status_means(
    status: str, resolution: str, code: str, message: str
) -> None:
    step = Step(0, status, resolution)
    assert (code_of(step), message_of(step)) == (code, message)


def test_leg_is_the_status_unless_the_resolution_says_otherwise() -> None:
    assert leg_of(Step(0, "failed", "F_0114")) == "failed"
    assert leg_of(Step(0, "failed", "leg_successful")) == "successful"


def test_every_final_status_of_the_page_ends_a_payout() -> None:
    assert WORDS.final == {"successful", "failed", "expired", "error", "deleted"}
