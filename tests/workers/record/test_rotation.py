"""A rotation closes everything anew under running workers, and makes nothing right that is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.worlds import KEY, MAKER, USD, order, stored
from workers.errors import VaultError
from workers.record import rotation
from workers.record.batches import BatchBook, NewRow
from workers.record.fingerprints import repeats
from workers.record.keybook import checked, keys_of
from workers.record.model import Notice, Order
from workers.record.money import Money
from workers.record.rotation import Rotated, Rotation, counted
from workers.record.status import Outcome, State, Step
from workers.record.store import Store
from workers.record.tables import webhooks
from workers.record.tokens import TokenBook
from workers.record.vault import Vault, key_id_of
from workers.record.webhooks import WebhookBook, place_of

from .conftest import Record
from .test_fingerprints import found_by, of_payouts
from .test_vault import OTHER_KEY

OLD, NEW = Vault.from_text(KEY), Vault.from_text(OTHER_KEY)
BOTH_KEYS = Vault.from_text(OTHER_KEY, KEY)
PAGE = 7


@pytest.fixture(autouse=True)
def small_pages(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few rows, and a record that has the old key."""
    monkeypatch.setattr(rotation, "PAGE_ROWS", PAGE)
    checked(record.database, OLD)


def rotating(record: Record, vault: Vault = BOTH_KEYS) -> Rotation:
    made = Rotation(record.database, vault, NEW.key_id, record.clock)
    made.begin()
    return made


def rotate(record: Record) -> Rotated:
    shown: list[int] = []
    done = rotating(record).run(shown.append)
    assert sum(shown) == done.rows
    return done


def only_new(record: Record) -> bool:
    """Whether the record needs the new key alone."""
    with record.database.read() as connection:
        known = keys_of(connection)
    assert known is not None
    assert known.all == (NEW.key_id,)
    return {one.key_id for one in counted(record.database)} <= {NEW.key_id.hex()}


def with_new(record: Record) -> Store:
    return Store(record.database, NEW)


def test_everything_closed_opens_with_the_new_key_alone(record: Record) -> None:
    orders = [order(customer={"n": number}) for number in range(3 * PAGE + 1)]
    ids = record.queue(*orders)
    draft = order()
    drafts = stored(record.batches, [draft], now=record.clock.now())
    now = record.clock.now()
    WebhookBook(record.database, OLD).keep(
        "main", [Notice(key="k", reference_id="r")], b"told", now
    )
    tokens = TokenBook(record.database, OLD)
    tokens.lease("main", "access", now, now - timedelta(seconds=1))
    tokens.keep("main", "access", "t-1", now + timedelta(hours=1))

    done = rotate(record)

    assert done == Rotated(rows=len(orders) + 3)
    assert only_new(record)
    for payout_id, one in zip(ids, orders, strict=True):
        row = record.row(payout_id)
        assert (row.seal, row.fingerprint) == (NEW.seal(one), NEW.fingerprint(one))
    assert set(found_by(record)) == of_payouts(record)
    for payout_id, one in zip(ids, orders, strict=True):
        claim = with_new(record).claim(payout_id, record.policies, record.clock.now())
        assert claim is not None
        assert claim.order == one
    [drafted] = record.batches.each(drafts)
    assert drafted.seal is None
    assert with_new(record).order_of(drafted) == draft
    with record.database.read() as connection:
        delivery = connection.execute(select(webhooks)).one()
    assert NEW.open_secret(delivery.sealed_body, place_of("main", "k")) == b"told"
    kept = TokenBook(record.database, NEW).read("main", "access")
    assert kept == ("t-1", now + timedelta(hours=1))


def test_a_rotation_again_and_a_new_record_have_nothing_to_do(record: Record) -> None:
    assert rotate(record) == Rotated()
    assert only_new(record)
    assert rotate(record) == Rotated()
    assert only_new(record)


def test_duplicates_are_found_before_during_and_after(record: Record) -> None:
    orders = [order(fields={"account": f"11{number:07}"}) for number in range(2 * PAGE)]
    record.queue(*orders)
    since = record.clock.now() - timedelta(days=1)
    made = rotating(record)

    def found() -> set[str]:
        payees = [one.payee() for one in orders]
        wanted = [each for several in BOTH_KEYS.fingerprints_of(payees) for each in several]
        return set(repeats(record.database, wanted, since).values())

    seen = []
    made.run(lambda _: seen.append(found()))
    everything = {one.reference_id for one in orders}
    assert len(seen) == 2
    assert all(one == everything for one in [*seen, found()])
    after = [NEW.fingerprint(one) for one in orders]
    assert set(repeats(record.database, after, since).values()) == everything


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_rotation_that_was_cut_off_is_carried_on(record: Record, times: int) -> None:
    orders = [order() for _ in range(4 * PAGE)]
    ids = record.queue(*orders)
    pages = []

    class CutOff(Exception):
        pass

    def cut(number: int) -> None:
        pages.append(number)
        if len(pages) > times:
            raise CutOff

    with pytest.raises(CutOff):
        rotating(record).run(cut)
    by_key = {one.key_id: one.number for one in counted(record.database)}
    assert by_key[NEW.key_id.hex()] == PAGE * (times + 1)
    # Who has both keys goes on paying, whichever a row is closed with.
    store = Store(record.database, BOTH_KEYS)
    for payout_id in (ids[0], ids[-1]):
        assert store.claim(payout_id, record.policies, record.clock.now()) is not None
    record.clock.sleep(100)
    assert rotate(record).rows == PAGE * (3 - times)
    assert only_new(record)


def test_another_key_is_refused_while_one_is_on_its_way(record: Record) -> None:
    record.queue(order())
    rotating(record)
    third = Vault.from_text("dGhlIHRoaXJkIGtleSBpcyAzMiBieXRlcyBsb25nISE=", OTHER_KEY, KEY)
    with pytest.raises(VaultError, match=f"a change to key {NEW.key_id.hex()} is under way"):
        Rotation(record.database, third, third.key_id, record.clock).begin()
    with pytest.raises(VaultError, match="is not known here"):
        Rotation(record.database, OLD, NEW.key_id, record.clock)


# --- what is not right stays so ---


@pytest.mark.parametrize(
    "change",
    [
        "amount_minor = amount_minor + 1",
        "description = 'more'",
        "service = 'other'",
        "seal = '00'",
    ],
)
def test_a_row_that_was_edited_is_not_blessed(record: Record, change: str) -> None:
    good, bad = record.queue(order(), order())
    record.sql(f"UPDATE payouts SET {change} WHERE id = :id", id=bad)
    before = record.row(bad)
    done = rotate(record)
    assert done.rows == 2
    assert done.broken == {before.reference_id}
    assert only_new(record)
    row = record.row(bad)
    assert row.seal == before.seal
    store = with_new(record)
    assert store.claim(bad, record.policies, record.clock.now()) is None
    assert record.state(bad) is State.HELD
    assert store.claim(good, record.policies, record.clock.now()) is not None


def test_a_row_that_is_edited_between_reading_and_storing_is_not_blessed(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    [payout_id] = record.queue(order())
    store = Rotation._store

    def edited(self: Rotation, *arguments: Any) -> int:
        record.sql("UPDATE payouts SET amount_minor = amount_minor + 1")
        return store(self, *arguments)

    monkeypatch.setattr(Rotation, "_store", edited)
    rotate(record)
    assert only_new(record)
    assert with_new(record).claim(payout_id, record.policies, record.clock.now()) is None
    assert record.state(payout_id) is State.HELD


def test_a_row_whose_data_is_changed_meanwhile_is_not_written_over(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = order()
    [payout_id] = record.queue(one)
    store, other = Rotation._store, OLD.encrypt(one)

    def swapped(self: Rotation, *arguments: Any) -> int:
        record.sql("UPDATE payouts SET sealed_data = :data", data=other)
        monkeypatch.setattr(Rotation, "_store", store)
        stored_now = store(self, *arguments)
        assert record.row(payout_id).sealed_data == other
        return stored_now

    monkeypatch.setattr(Rotation, "_store", swapped)
    rotate(record)
    assert only_new(record)
    assert with_new(record).order_of(record.row(payout_id)) == one


def test_a_row_that_no_key_opens_is_told_and_held_and_ends_no_rotation(record: Record) -> None:
    good, bad = record.queue(order(), order())
    spoilt = record.row(bad).sealed_data[:-1] + b"?"
    record.sql("UPDATE payouts SET sealed_data = :data WHERE id = :id", data=spoilt, id=bad)
    done = rotate(record)
    assert done.damaged == {record.row(bad).reference_id}
    assert record.row(bad).sealed_data == spoilt
    with record.database.read() as connection:
        known = keys_of(connection)
    assert known is not None
    assert known.all == (NEW.key_id,)
    store = with_new(record)
    assert store.claim(bad, record.policies, record.clock.now()) is None
    assert record.state(bad) is State.HELD
    assert store.claim(good, record.policies, record.clock.now()) is not None


def test_a_token_that_no_key_opens_is_forgotten(record: Record) -> None:
    now = record.clock.now()
    third = Vault.from_text("dGhlIHRoaXJkIGtleSBpcyAzMiBieXRlcyBsb25nISE=")
    tokens = TokenBook(record.database, OLD)
    tokens.lease("main", "access", now, now - timedelta(seconds=1))
    tokens.keep("main", "access", "t-1", now + timedelta(hours=1))
    record.sql("UPDATE tokens SET sealed_token = :data", data=third.close_secret(b"t", "x"))
    rotate(record)
    assert only_new(record)
    assert TokenBook(record.database, NEW).read("main", "access") is None


# --- beside workers ---


def test_what_is_worked_on_or_announced_is_done_later(record: Record) -> None:
    claimed, announced, free = record.queue(order(), order(), order())
    payout = record.take(claimed)
    record.sql(
        "UPDATE payouts SET announced_until = :until WHERE id = :id",
        until=record.row(claimed).claimed_until
        if not record.database.is_sqlite
        else "2026-03-01 12:01:30.000000",
        id=announced,
    )
    first: dict[int, bytes | None] = {}

    def look(_: int) -> None:
        if not first:
            first.update({each: key_id_of(record.row(each).sealed_data) for each in ids})
            # The worker writes its answer in the middle of it.
            record.answer(payout, Step.CREATE, Outcome.PAID, provider_payout_id="p-1")

    ids = [claimed, announced, free]
    done = rotating(record).run(look)
    assert done.rows == 3
    assert first == {claimed: OLD.key_id, announced: OLD.key_id, free: NEW.key_id}
    assert record.state(claimed) is State.PAID
    assert only_new(record)


def test_a_row_locked_by_another_transaction_is_not_waited_for(record: Record) -> None:
    if record.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    locked, free = record.queue(order(), order())
    again = record.again()
    shown: list[int] = []
    with again.database.write() as connection:
        connection.exec_driver_sql(f"SELECT 1 FROM payouts WHERE id = {locked} FOR UPDATE")
        made = rotating(record)
        with pytest.raises(_Enough):
            made.run(lambda more: shown.append(more) or _stop(shown))
        assert key_id_of(record.row(free).sealed_data) == NEW.key_id
        assert key_id_of(record.row(locked).sealed_data) == OLD.key_id
    again.close()
    rotate(record)
    assert only_new(record)


class _Enough(Exception):
    pass


def _stop(shown: list[int]) -> None:
    if len(shown) == 2:
        raise _Enough


def test_the_old_key_is_not_left_behind_while_somebody_stores_under_it(record: Record) -> None:
    if record.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    slow = record.again()
    book = BatchBook(Store(slow.database, BOTH_KEYS.closing_with(OLD.key_id)))
    begun: list[Future[Rotated]] = []

    def slowly(pool: ThreadPoolExecutor) -> Iterator[Order]:
        for _ in range(3):
            yield order()
        # By now the first are on their way: the rotation has to wait for the last.
        begun.append(pool.submit(rotate, record))
        with pytest.raises(TimeoutError):
            begun[0].result(1)
        yield order()

    with ThreadPoolExecutor(1) as pool:
        batch_id = save(book, slowly(pool), now=slow.clock.now())
        done = begun[0].result(30)
    assert done.rows == len(list(slow.batches.each(batch_id))) == 4
    assert only_new(record)
    slow.close()


def save(book: BatchBook, orders: Iterable[Order], *, now: datetime) -> str:
    fee = Money(0, USD)
    return book.save(
        (
            NewRow(row=number, order=one, provider="payelata", fee=fee)
            for number, one in enumerate(orders, 1)
        ),
        file_name="slow.csv",
        content_hash="c",
        file_hash="f",
        columns=["reference_id"],
        count=4,
        actor=MAKER,
        note=None,
        now=now,
    )
