"""A row opens as the order that was written and approved, or says why it does not."""

from __future__ import annotations

import pytest

from tests.worlds import order
from workers.errors import VaultError
from workers.record.orders import approved_order, order_of

from .conftest import Record


def test_a_row_opens_as_the_order_that_was_approved(record: Record) -> None:
    one = order(description="March", customer={"name": "Ann"})
    [payout_id] = record.queue(one)
    row = record.row(payout_id)
    assert order_of(row, record.store.vault) == one
    assert approved_order(row, record.store.vault) == one


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("seal = NULL", "seal is broken"),
        ("amount_minor = 1001", "seal is broken"),
        ("metadata = '[]'", "metadata was changed"),
        ("sealed_data = ''", "another key"),
        ("purged_at = '2026-05-06 07:08:09'", r"removed on 2026-05-06 \(`paybatch purge`\)"),
    ],
)
def test_a_row_that_was_changed_says_why_it_does_not_open(
    record: Record, change: str, why: str
) -> None:
    [payout_id] = record.queue(order())
    record.sql(f"UPDATE payouts SET {change}")
    with pytest.raises(VaultError, match=why):
        approved_order(record.row(payout_id), record.store.vault)
