"""What is due is announced once, within the window, and again when its mark runs out."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.workers.record.conftest import Record, together
from tests.worlds import order
from workers.record.status import State

ANNOUNCE_S = {"main": 120.0, "other": 60.0}


def announce(record: Record, *, window: int = 100, batch_id: str = "") -> list[int]:
    found = record.due.announce(
        record.clock.now(), window=window, announce_s=ANNOUNCE_S, batch_id=batch_id
    )
    return [one.payout_id for one in found]


def test_queued_payouts_are_announced_once(record: Record) -> None:
    ids = record.queue(order(), order())
    assert announce(record) == ids
    assert announce(record) == []


def test_a_message_is_worthless_when_its_mark_runs_out(record: Record) -> None:
    one, two = record.queue(order(), order(account="other"))
    found = record.due.announce(record.clock.now(), window=9, announce_s=ANNOUNCE_S)
    expires = {each.payout_id: each.expires_at for each in found}
    assert expires == {one: _after(record, 120), two: _after(record, 60)}
    assert {each: record.row(each).announced_until for each in (one, two)} == expires


def _after(record: Record, seconds: float) -> datetime:
    return record.clock.now() + timedelta(seconds=seconds)


def test_no_more_than_the_window_is_out_at_a_time(record: Record) -> None:
    ids = record.queue(*(order() for _ in range(5)))
    assert announce(record, window=2) == ids[:2]
    assert announce(record, window=2) == []
    assert announce(record, window=3) == ids[2:3]
    record.take(ids[0])
    assert announce(record, window=3) == ids[3:4]


def test_an_account_that_may_make_few_calls_has_fewer_out(record: Record) -> None:
    mine = record.queue(*(order() for _ in range(3)))
    others = record.queue(*(order(account="other") for _ in range(3)))
    found = record.due.announce(
        record.clock.now(), window=9, announce_s=ANNOUNCE_S, narrower={"main": 2, "other": 30}
    )
    assert {one.payout_id for one in found} == {*mine[:2], *others}


def test_a_mark_that_runs_out_is_announced_again(record: Record) -> None:
    ids = record.queue(order())
    announce(record)
    record.clock.sleep(120)
    assert announce(record) == []
    record.clock.sleep(1)
    assert announce(record) == ids


def test_forgotten_announcements_are_made_again(record: Record) -> None:
    ids = record.queue(order())
    announce(record)
    record.due.forget_announcements()
    assert announce(record) == ids


def test_the_longest_due_are_announced_first(record: Record) -> None:
    late, early = record.queue(order(), order())
    record.due.postpone(late, record.clock.now() + timedelta(seconds=10))
    record.clock.sleep(11)
    assert announce(record) == [early, late]


def test_nothing_is_announced_before_it_is_due(record: Record) -> None:
    (one,) = record.queue(order())
    record.due.postpone(one, record.clock.now() + timedelta(seconds=5))
    assert announce(record) == []
    record.clock.sleep(6)
    assert announce(record) == [one]


def test_only_the_asked_for_batch_is_announced(record: Record) -> None:
    (one,) = record.queue(order())
    record.queue(order())
    assert announce(record, batch_id=record.row(one).batch_id) == [one]


def test_accounts_that_this_process_does_not_know_are_left_to_others(record: Record) -> None:
    one, _ = record.queue(order(), order(account="other"))
    found = record.due.announce(record.clock.now(), window=9, announce_s={"main": 120})
    assert [each.payout_id for each in found] == [one]


def test_a_claimed_payout_is_not_announced(record: Record) -> None:
    (one,) = record.queue(order())
    record.take(one)
    record.clock.sleep(60)
    assert announce(record) == []


def test_a_dead_workers_create_is_the_sweeps_alone(record: Record) -> None:
    (one,) = record.queue(order())
    record.take(one)
    record.clock.sleep(91)
    assert announce(record) == []
    record.store.expire_creates(record.clock.now())
    assert announce(record) == [one]


def test_a_dead_workers_read_is_announced_when_its_claim_runs_out(record: Record) -> None:
    (one,) = record.queue(order())
    record.clock.move_to(record.created(one).due_at)
    record.take(one)
    record.clock.sleep(90)
    assert announce(record) == []
    record.clock.sleep(1)
    assert announce(record) == [one]


@pytest.mark.parametrize("decision", ["paused", "cancelled"])
def test_a_stopped_batch_sends_nothing_but_reads_on(record: Record, decision: str) -> None:
    sent, queued = record.queue(order(), order())
    due_at = record.created(sent).due_at
    record.sql("UPDATE batches SET decision = :d", d=decision)
    record.clock.move_to(due_at)
    assert announce(record) == [sent]
    assert record.state(queued) is State.QUEUED


@pytest.mark.parametrize(("kind", "reads"), [("fault", 0), ("outage", 0), ("balance", 1)])
def test_a_paused_account_is_still_read_unless_it_cannot_answer(
    record: Record, kind: str, reads: int
) -> None:
    sent, _ = record.queue(order(), order())
    record.clock.move_to(record.created(sent).due_at)
    record.book.pause("main", kind, "why", record.clock.now())
    assert announce(record) == [sent][:reads]


def test_a_blocked_account_waits_until_its_time(record: Record) -> None:
    (one,) = record.queue(order())
    until = record.clock.now() + timedelta(seconds=30)
    record.sql("UPDATE accounts SET blocked_until = :u WHERE name = 'main'", u=_naive(record, 30))
    assert announce(record) == []
    record.clock.move_to(until)
    assert announce(record) == [one]


def _naive(record: Record, seconds: float) -> object:
    """A time as the database's own column takes it."""
    at = record.clock.now() + timedelta(seconds=seconds)
    return at.strftime("%Y-%m-%d %H:%M:%S.%f") if record.database.is_sqlite else at


def test_announcers_at_the_same_time_share_the_rows_without_overlap(record: Record) -> None:
    ids = record.queue(*(order() for _ in range(60)))
    others = [record.again() for _ in range(4)]
    found = together([lambda r=r: announce(r, window=1000) for r in [record, *others] * 2])
    for other in others:
        other.close()
    assert [one for one in found if isinstance(one, Exception)] == []
    announced = [payout_id for some in found for payout_id in some]
    # What a look met locked is left for the next one.
    announced += announce(record, window=1000)
    assert sorted(announced) == ids


def test_a_claimed_payout_is_not_postponed(record: Record) -> None:
    (one,) = record.queue(order())
    record.take(one)
    before = record.row(one)
    record.due.postpone(one, record.clock.now() + timedelta(days=1))
    assert record.row(one) == before


def test_a_postponed_payout_is_announced_anew_when_due(record: Record) -> None:
    (one,) = record.queue(order())
    announce(record)
    record.due.postpone(one, record.clock.now() + timedelta(seconds=1))
    record.clock.sleep(2)
    assert announce(record) == [one]


def test_what_waits_longest_is_what_a_worker_could_have_taken_first(record: Record) -> None:
    both = ["main", "other"]
    first = record.clock.now()
    assert record.due.longest_due(both, first) is None
    [one] = record.queue(order())
    record.clock.sleep(60)
    record.queue(order(account="other"))
    now = record.clock.now()
    assert record.due.longest_due(both, now) == first
    assert record.due.longest_due(["other"], now) == now
    # An announcement is only a message; a claim takes it off the list, a pause its account.
    announce(record)
    assert record.due.longest_due(both, now) == first
    record.take(one)
    assert record.due.longest_due(both, now) == now
    record.book.pause("other", "fault", "401", now)
    assert record.due.longest_due(both, now) is None
