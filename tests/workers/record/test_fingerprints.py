"""Payouts are found by who is paid how much: the latest that was or may be paid, and no others."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from sqlalchemy import select

from tests.worlds import order, stored
from workers.errors import FileRefused
from workers.record import fingerprints
from workers.record.fingerprints import Found, Looked, forget, repeats, replace
from workers.record.money import Currency, Money
from workers.record.status import Outcome, State, Step
from workers.record.tables import fingerprints as table
from workers.record.tables import payouts

from .conftest import Record, together

USD = Currency.of("USD")


def found_by(record: Record) -> list[Found]:
    """What is found, in the order in which the table has it."""
    with record.database.read() as connection:
        return [Found(*row) for row in connection.execute(select(table))]


def of_payouts(record: Record) -> set[Found]:
    columns = (payouts.c.fingerprint, payouts.c.batch_id, payouts.c.row)
    with record.database.read() as connection:
        rows = connection.execute(select(*columns).where(payouts.c.fingerprint.is_not(None)))
        return {Found(*row) for row in rows}


def test_a_batchs_fingerprints_are_stored_in_their_order(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_CHUNK_ROWS", 7)
    draw = random.Random(5)
    # Some of them pay the same.
    amounts = [Money(draw.randrange(1, 60), USD) for _ in range(100)]
    record.queue(*(order(amount=amount) for amount in amounts))
    found = found_by(record)
    assert set(found) == of_payouts(record)
    assert len(found) == 100
    assert [one.fingerprint for one in found] == sorted(one.fingerprint or 0 for one in found)


def test_of_several_the_latest_that_may_be_paid_is_told(record: Record) -> None:
    queued = []
    for _ in range(3):
        queued += record.queue(order(amount=Money(7, USD)))
        record.clock.sleep(1)
    first, failed, second = queued
    print_ = record.row(first).fingerprint
    record.answer(record.take(failed), Step.CREATE, Outcome.REFUSED)
    since = record.clock.now() - timedelta(days=1)

    def told() -> str | None:
        return repeats(record.database, [print_, print_ + 1], since).get(print_)

    assert told() == record.row(second).reference_id
    record.answer(record.take(second), Step.CREATE, Outcome.REFUSED)
    assert told() == record.row(first).reference_id
    record.answer(record.take(first), Step.CREATE, Outcome.REFUSED)
    assert told() is None
    assert {record.row(each).state for each in (first, failed, second)} == {State.FAILED}


def test_of_batches_that_pay_the_same_at_the_same_time_one_is_stored(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_CHUNK_ROWS", 3)
    others = [record.again() for _ in range(4)]
    since = record.clock.now() - timedelta(days=1)
    before = stored(record.batches, [order(amount=Money(1000, USD))], now=record.clock.now())
    # All have looked, and have met nothing but what was there then.
    looked = Looked(since, record.batches.since(since))
    assert looked.batches == {before}

    def store(one: Record) -> str:
        # The last row pays the same in each.
        amounts = [*(random.randrange(2000, 10**9) for _ in range(8)), 7]
        orders = [order(amount=Money(each, USD)) for each in amounts]
        return stored(one.batches, orders, now=record.clock.now(), looked=looked)

    told = together([lambda one=one: store(one) for one in others])
    [kept] = [one for one in told if isinstance(one, str)]
    refused = [str(one) for one in told if isinstance(one, FileRefused)]
    assert len(refused) == len(others) - 1, told
    for each in refused:
        assert "row 9 pays the same beneficiary and amount as payout" in each
        assert f"of batch {kept}, which was stored a moment ago" in each
    assert record.batches.since(since) == {before, kept}
    # Whom the batch paid that was met was known, and who allows repeats is not kept from them.
    for amount, where in ((1000, looked), (7, None)):
        again = [order(amount=Money(amount, USD))]
        assert stored(record.batches, again, now=record.clock.now(), looked=where)
    for one in others:
        one.close()


def test_payouts_without_a_beneficiary_of_their_own_are_no_repeats(record: Record) -> None:
    since = record.clock.now() - timedelta(days=1)
    looked = Looked(since, frozenset())
    for _ in range(2):
        bare = [order(amount=Money(7, USD), fields={})]
        assert stored(record.batches, bare, now=record.clock.now(), looked=looked)


def test_a_payout_is_found_by_another_fingerprint_or_by_none(record: Record) -> None:
    record.queue(order(amount=Money(1, USD)), order(amount=Money(2, USD)))
    one, other = found_by(record)
    with record.database.write() as connection:
        replace(connection, [(one, 17), (other, other.fingerprint or 0)])
        # One that is not there any more.
        replace(connection, [(one, 18)])
    assert set(found_by(record)) == {one._replace(fingerprint=17), other}
    with record.database.write() as connection:
        forget(connection, [other, other._replace(fingerprint=None)])
    assert found_by(record) == [one._replace(fingerprint=17)]
