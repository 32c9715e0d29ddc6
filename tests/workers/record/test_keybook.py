"""Which key closes what is new is a fact of the database; who lacks it writes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.worlds import CHECKER, KEY, order, stored
from workers.errors import VaultError
from workers.record.batches import BatchBook
from workers.record.keybook import checked, keys_of, lacking, writing
from workers.record.model import Notice
from workers.record.status import State
from workers.record.store import KEY_WAIT_S, Store
from workers.record.tokens import TokenBook
from workers.record.vault import Vault, key_id_of
from workers.record.webhooks import WebhookBook

from .conftest import Record
from .test_vault import OTHER_KEY

OLD, NEW = Vault.from_text(KEY), Vault.from_text(OTHER_KEY)
BOTH_KEYS = Vault.from_text(OTHER_KEY, KEY)


def begin(record: Record) -> None:
    """A record with the old key, on its way to the new one."""
    checked(record.database, OLD)
    record.sql("UPDATE installation SET next_key_id = :new", new=NEW.key_id.hex())


def end(record: Record) -> None:
    new = NEW.key_id.hex()
    record.sql("UPDATE installation SET key_id = :new, next_key_id = NULL", new=new)


def test_a_new_record_takes_the_key_and_keeps_it(record: Record) -> None:
    with record.database.read() as connection:
        assert keys_of(connection) is None
        assert lacking(connection, OLD) is None
    assert checked(record.database, OLD).key_id == OLD.key_id
    with pytest.raises(VaultError, match="put the right key back") as refused:
        checked(record.database, NEW)
    assert OLD.key_id.hex() in str(refused.value)
    assert NEW.key_id.hex() in str(refused.value)


def test_who_has_both_keys_closes_with_the_old_one_until_a_rotation_begins(record: Record) -> None:
    checked(record.database, OLD)
    opened = checked(record.database, BOTH_KEYS)
    assert opened.key_id == OLD.key_id
    begun = []
    for change in (lambda _: None, begin, end):
        change(record)
        with record.database.write() as connection:
            begun.append(writing(connection, opened).key_id)
    assert begun == [OLD.key_id, NEW.key_id, NEW.key_id]


def test_who_lacks_the_new_key_is_refused_at_start_and_told_what_to_do(record: Record) -> None:
    begin(record)
    with pytest.raises(VaultError, match=r"is being changed to .* keep the old one in"):
        checked(record.database, OLD)
    with pytest.raises(VaultError, match="put the right key back, in encryption_keys_old"):
        checked(record.database, NEW)
    assert checked(record.database, BOTH_KEYS).key_id == NEW.key_id


@pytest.mark.parametrize("how_far", [begin, end])
def test_who_lacks_the_new_key_stores_nothing(record: Record, how_far: Any) -> None:
    checked(record.database, OLD)
    now = record.clock.now()
    draft = stored(record.batches, [order()], now=now)
    batch = record.batches.get(draft)
    assert batch is not None
    how_far(record)
    with pytest.raises(VaultError, match="nothing was changed"):
        stored(record.batches, [order()], now=now)
    with pytest.raises(VaultError, match="nothing was changed"):
        record.batches.approve(batch, actor=CHECKER, now=now, spendable={}, approvals_seen={})
    with pytest.raises(VaultError, match="nothing was changed"):
        WebhookBook(record.database, OLD).keep(
            "main", [Notice(key="k", reference_id="r")], b"", now
        )
    assert record.batches.get(draft) == batch
    assert record.batches.counts(draft) == {State.DRAFT: 1}
    assert record.sql("DELETE FROM webhooks") == 0


def test_a_token_of_who_lacks_the_new_key_is_kept_from_the_others(record: Record) -> None:
    begin(record)
    now = record.clock.now()
    book = TokenBook(record.database, OLD)
    assert book.lease("main", "access", now + timedelta(seconds=30), now)
    book.keep("main", "access", "t-1", now + timedelta(hours=1))
    assert book.read("main", "access") is None
    # The lease is let go: others need not wait for it.
    other = TokenBook(record.database, BOTH_KEYS)
    assert other.lease("main", "access", now + timedelta(seconds=30), now)
    other.keep("main", "access", "t-2", now + timedelta(hours=1))
    assert book.read("main", "access") is None
    assert other.read("main", "access") == ("t-2", now + timedelta(hours=1))


@pytest.mark.parametrize("how_far", [begin, end])
@pytest.mark.parametrize("what", ["data", "seal"])
def test_a_payout_under_a_key_that_a_worker_lacks_is_left_to_others(
    record: Record, how_far: Any, what: str
) -> None:
    checked(record.database, OLD)
    one = order()
    [payout_id] = record.queue(one)
    how_far(record)
    sealed = BOTH_KEYS.encrypt(one) if what == "data" else record.row(payout_id).sealed_data
    assert key_id_of(BOTH_KEYS.encrypt(one)) == NEW.key_id
    record.sql(
        "UPDATE payouts SET sealed_data = :data, seal = :seal", data=sealed, seal=NEW.seal(one)
    )
    assert record.claim(payout_id) is None
    row = record.row(payout_id)
    assert (row.state, row.attempts, row.claim_no) == (State.QUEUED, 0, 0)
    record.clock.sleep(KEY_WAIT_S)
    both = Store(record.database, BOTH_KEYS)
    claim = both.claim(payout_id, record.policies, record.clock.now())
    assert claim is not None
    assert claim.order == one


def test_a_payout_under_a_key_that_nobody_has_is_held(record: Record) -> None:
    checked(record.database, OLD)
    one = order()
    [payout_id] = record.queue(one)
    record.sql("UPDATE payouts SET sealed_data = :data", data=NEW.encrypt(one))
    assert record.claim(payout_id) is None
    assert record.state(payout_id) is State.HELD
    assert NEW.key_id.hex() in record.events(payout_id)[-1].cause


def test_a_broken_payout_is_held_by_who_has_all_keys_though_a_rotation_is_under_way(
    record: Record,
) -> None:
    checked(record.database, OLD)
    [payout_id] = record.queue(order())
    begin(record)
    record.sql("UPDATE payouts SET amount_minor = amount_minor + 1")
    store = Store(record.database, BOTH_KEYS)
    assert store.claim(payout_id, record.policies, record.clock.now()) is None
    assert record.state(payout_id) is State.HELD


def test_what_is_stored_and_approved_during_a_rotation_is_closed_with_the_new_key(
    record: Record,
) -> None:
    begin(record)
    store = Store(record.database, BOTH_KEYS.closing_with(OLD.key_id))
    one = order()
    batch_id = stored(BatchBook(store), [one], now=record.clock.now())
    batch = BatchBook(store).get(batch_id)
    assert batch is not None
    assert BatchBook(store).approve(
        batch, actor=CHECKER, now=record.clock.now(), spendable={}, approvals_seen={}
    )
    [row] = record.batches.each(batch_id)
    assert key_id_of(row.sealed_data) == NEW.key_id
    assert row.seal == NEW.seal(one)
    assert row.fingerprint == NEW.fingerprint(one)
