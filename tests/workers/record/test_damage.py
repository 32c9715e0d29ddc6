"""Rows that were damaged or edited in the database: never sent, never lost, never in an error."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from tests.workers.record.conftest import Record, policy, together
from tests.workers.record.test_due import announce
from tests.workers.record.test_verdict import CREATING, NOW, judge, payout, say
from tests.worlds import KEY, USD, order, stored
from workers.errors import IllegalMove, OperatorError, VaultError
from workers.record.money import Money
from workers.record.rows import payout_of
from workers.record.status import Outcome, State, Step
from workers.record.store import CLAIMS_SILENT_MAX
from workers.record.vault import Vault


@pytest.mark.parametrize("kept", [0, 4, 5, 6, 12, 16, 17, 20, 40])
def test_truncated_data_is_told_as_changed(kept: int) -> None:
    vault, one = Vault.from_text(KEY), order()
    with pytest.raises(VaultError):
        vault.decrypt(vault.encrypt(one)[:kept], account=one.account, reference_id=one.reference_id)


@pytest.mark.parametrize("state", ["queued", "unknown", "created", "processing"])
def test_a_row_whose_data_does_not_open_is_held_wherever_it_stands(
    record: Record, state: str
) -> None:
    (one,) = record.queue(order())
    record.sql(f"UPDATE payouts SET state = '{state}'")
    record.sql("UPDATE payouts SET sealed_data = :data", data=record.row(one).sealed_data[:8])
    assert record.claim(one) is None
    assert record.state(one) is State.HELD


@pytest.mark.parametrize("state", ["queued", "processing"])
@pytest.mark.parametrize("value", ["null", '"x"', "[1]", "[]", '{"a": 1}'])
def test_metadata_that_was_edited_breaks_the_seal(record: Record, value: str, state: str) -> None:
    (one,) = record.queue(order())
    record.sql(f"UPDATE payouts SET state = '{state}', metadata = '{value}'")
    assert record.claim(one) is None
    assert record.state(one) is State.HELD


def test_a_payout_that_ends_its_workers_is_held_in_the_end(record: Record) -> None:
    (one,) = record.queue(order())
    record.sql("UPDATE payouts SET state = 'processing', claims_silent = :n", n=CLAIMS_SILENT_MAX)
    assert record.claim(one) is None
    assert record.state(one) is State.HELD


@pytest.mark.parametrize("state", ["draft", "held", "failed", "cancelled", "returned"])
def test_no_message_wakes_what_waits_for_no_worker(record: Record, state: str) -> None:
    (one,) = record.queue(order())
    record.sql(f"UPDATE payouts SET state = '{state}', due_at = NULL")
    record.due.postpone(one, record.clock.now())
    assert record.row(one).due_at is None
    record.sql("UPDATE payouts SET due_at = created_at")
    assert record.claim(one) is None
    assert announce(record, window=10) == []


def test_a_worker_cannot_move_a_held_payout(record: Record) -> None:
    (one,) = record.queue(order())
    claim = record.claim(one)
    assert claim is not None
    record.sql("UPDATE payouts SET state = 'held'")
    held = payout_of(record.row(one))
    with pytest.raises(IllegalMove):
        record.store.record(held, Step.POLL, say(Outcome.PAID), policy(), record.clock.now())


def test_a_failed_payout_is_replaced_once(record: Record) -> None:
    first, second = order(replaces="T-old"), order(replaces="T-old")
    stored(record.batches, [first], now=record.clock.now())
    with pytest.raises(IntegrityError):
        stored(record.batches, [second], now=record.clock.now())


def test_the_window_holds_for_announcers_at_once(record: Record) -> None:
    record.queue(*(order() for _ in range(60)))
    others = [record.again() for _ in range(7)]
    found = together([lambda one=one: announce(one, window=10) for one in [record, *others]])
    for other in others:
        other.database.close()
    assert sum(map(len, found)) <= 10


def test_a_newer_database_is_refused_in_words(record: Record) -> None:
    record.sql("UPDATE alembic_version SET version_num = '9999'")
    try:
        with pytest.raises(OperatorError, match="newer"):
            record.database.prepare()
    finally:
        record.sql("UPDATE alembic_version SET version_num = '0001'")


def test_a_refused_row_is_not_quoted_in_the_error(record: Record) -> None:
    secret = order(amount=Money(0, USD), description="SECRET", metadata={"a": "SECRET"})
    with pytest.raises(IntegrityError) as refused:
        stored(record.batches, [secret], now=record.clock.now())
    assert "SECRET" not in str(refused.value)
    assert "SECRET" not in str(refused.value.orig)


def test_a_negative_fee_cannot_be_stored(record: Record) -> None:
    record.queue(order())
    with pytest.raises(IntegrityError):
        record.sql("UPDATE payouts SET fee_expected_minor = -1000")


@pytest.mark.parametrize(
    "reply", [say(Outcome.EXISTS), say(Outcome.PAID, reference_id="another")], ids=str
)
def test_a_provider_without_look_up_sends_doubts_to_a_person(reply: object) -> None:
    verdict = judge(CREATING, Step.CREATE, reply, policy(look_up=False), NOW)
    assert verdict.next_step is None
    assert verdict.moves[-1][0] is State.HELD


def test_a_one_step_payout_that_reads_created_is_polled_ever_less_often() -> None:
    here = payout(State.CREATED, polls=3)
    verdict = judge(here, Step.POLL, say(Outcome.CREATED), policy(two_step=False), NOW)
    assert verdict.changes["polls"] == 4
