"""The sums of a report are those of its parts."""

from __future__ import annotations

from batches.settlement_facts import Total
from workers.record.money import Currency, Money
from workers.record.status import State


def test_a_total_is_the_sum_of_its_states() -> None:
    usd = Currency.of("USD")
    states = {State.PAID: (2, Money(300, usd)), State.HELD: (1, Money(50, usd))}
    total = Total(account="main", currency=usd, states=states)
    assert total.given == (3, Money(350, usd))
    assert total.of(State.PAID, State.FAILED) == (2, Money(300, usd))
    assert total.of(State.FAILED) == (0, Money(0, usd))
