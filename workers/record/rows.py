"""A row of the payouts table as values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from workers.record.model import Change, Payout
from workers.record.money import Currency, Money
from workers.record.status import State

_MADE = ("amount", "state", "looks_first", "untold")
_FIELDS = frozenset(Payout.__dataclass_fields__)
_SAME_NAMES = tuple(name for name in Payout.__dataclass_fields__ if name not in _MADE)


def payout_of(row: Row[Any]) -> Payout:
    """The table's row as a value."""
    return Payout(
        amount=money_of(row),
        state=State(row.state),
        **{name: getattr(row, name) for name in _SAME_NAMES},
    )


def moved(payout: Payout, change: Change, *, untold: Change | None = None) -> Payout:
    """The payout as a change leaves it; `untold` where it is not stored yet."""
    told = {name: value for name, value in change.values.items() if name in _FIELDS}
    return replace(payout, **told, untold=untold)


def money_of(row: Row[Any]) -> Money:
    """The row's amount."""
    return Money(row.amount_minor, Currency(row.currency, row.currency_exponent))
