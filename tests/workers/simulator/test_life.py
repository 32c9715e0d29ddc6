"""The way through the statuses and the flow of money on the account."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Driver

FULL, LESS = "10000000.00", "9999974.50"


def walk(driver: Driver, invoice_id: str, *, settle_s: int) -> list[str]:
    """Each status in turn, read every two seconds."""
    seen: list[str] = []
    for _ in range(settle_s // 2 + 1):
        status = driver.read(invoice_id)["status"]
        if status not in seen[-1:]:
            seen.append(status)
        driver.advance(2)
    return seen


@pytest.mark.parametrize(
    ("simulate", "expected"),
    [
        ("", ["processing", "processed"]),
        ("status=process_failed", ["processing", "process_failed"]),
        ("status=expired", ["processing", "expired"]),
        ("status=terminated", ["processing", "terminated"]),
        ("status=partially_processed", ["processing", "partially_processed"]),
        ("status=process_pending", ["processing", "process_pending"]),
        ("status=half_baked", ["processing", "half_baked"]),
        (
            "path=process_pending>processed",
            ["processing", "process_pending", "processed"],
        ),
        ("path=process_error>processed", ["processing", "process_error", "processed"]),
        ("path=processed>canceled", ["processing", "processed", "canceled"]),
        (
            "path=processed>canceling>cancel_failed",
            ["processing", "processed", "canceling", "cancel_failed"],
        ),
        ("release=3", ["created", "processing", "processed"]),
        ("returned=4", ["processing", "processed", "canceled"]),
    ],
)
def test_invoice_walks_the_way_it_was_told(
    driver: Driver, simulate: str, expected: list[str]
) -> None:
    invoice_id = driver.created(simulate=f"settle=6 {simulate}")
    assert driver.read(invoice_id)["status"] == "created"
    driver.process(invoice_id)
    assert walk(driver, invoice_id, settle_s=12) == expected


def test_nothing_happens_without_a_process_call(driver: Driver) -> None:
    invoice_id = driver.created()
    driver.advance(80_000)
    assert driver.read(invoice_id)["status"] == "created"
    assert driver.ledger()["invoices"][0]["releases"] == []
    assert driver.balance() == (FULL, "0.00")


@pytest.mark.parametrize(
    ("simulate", "during", "after"),
    [
        ("", (LESS, "25.50"), (LESS, "0.00")),
        ("status=process_failed", (LESS, "25.50"), (FULL, "0.00")),
        ("status=expired", (LESS, "25.50"), (FULL, "0.00")),
        ("status=partially_processed", (LESS, "25.50"), ("9999987.30", "0.00")),
        ("status=process_pending", (LESS, "25.50"), (LESS, "25.50")),
        ("status=half_baked", (LESS, "25.50"), (LESS, "25.50")),
        ("path=processed>canceled", (LESS, "25.50"), (FULL, "0.00")),
        ("path=processed>cancel_failed", (LESS, "25.50"), (LESS, "0.00")),
    ],
)
def test_money_moves_with_the_status(
    driver: Driver, simulate: str, during: tuple[str, str], after: tuple[str, str]
) -> None:
    invoice_id = driver.created(simulate=f"settle=9 {simulate}")
    assert driver.balance() == (FULL, "0.00")
    driver.process(invoice_id)
    assert driver.balance() == during
    driver.advance(10)
    assert driver.balance() == after


def test_fee_leaves_with_the_amount(driver: Driver) -> None:
    fields = {
        "account_number": "12345678",
        "bank_code": "ABC",
        "account_type": "checking",
        "beneficiary_document_type": "ID",
        "beneficiary_document_id": "55667788",
    }
    invoice_id = driver.created(service="bank_transfer_usd", fields=fields, amount=100)
    driver.process(invoice_id)
    assert driver.balance() == ("9999898.50", "101.50")
    read = driver.read(invoice_id)
    assert (read["amount"], read["fee"], read["writeoff"]) == (100, 1.5, 101.5)


@pytest.mark.parametrize(
    ("simulate", "resolution"),
    [
        ("", "ok"),
        ("status=process_failed", "declined_error"),
        ("status=process_failed resolution=invalid_details", "invalid_details"),
        ("status=expired", "operation_expired"),
        ("path=process_error>processed", "ok"),
    ],
)
def test_resolution_tells_why(driver: Driver, simulate: str, resolution: str) -> None:
    invoice_id = driver.created(simulate=f"settle=1 {simulate}")
    driver.process(invoice_id)
    driver.advance(1)
    assert driver.read(invoice_id)["resolution"] == resolution


def test_part_that_was_paid_is_named(driver: Driver) -> None:
    invoice_id = driver.created(simulate="status=partially_processed")
    driver.process(invoice_id)
    driver.advance(1)
    assert driver.read(invoice_id)["processed_amount"] == 12.7  # half, rounded down at one decimal


def test_whole_currency_is_paid_in_whole_parts(driver: Driver) -> None:
    fields = {
        "account_number": "12345678",
        "bank_code": "ABCDEFGH",
        "beneficiary_full_name": "Jane Roe",
    }
    invoice_id = driver.created(
        service="swift_jpy",
        currency="JPY",
        amount=101,
        fields=fields,
        simulate="status=partially_processed",
    )
    driver.process(invoice_id)
    driver.advance(1)
    assert driver.read(invoice_id)["processed_amount"] == 50


def test_account_habits_are_the_default(start: Callable[..., Driver]) -> None:
    driver = start(settle_s=4, release_delay_s=3)
    invoice_id = driver.created()
    assert driver.process(invoice_id).json()["data"]["attributes"]["status"] == "created"
    driver.advance(2)
    assert driver.read(invoice_id)["status"] == "created"
    driver.advance(1)
    assert driver.read(invoice_id)["status"] == "processing"
    driver.advance(4)
    assert driver.read(invoice_id)["status"] == "processed"
