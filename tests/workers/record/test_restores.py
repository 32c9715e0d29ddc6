"""A frozen account: who opens it, when it has been compared, and what is known of what was sent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.workers.record.conftest import Record, together
from tests.worlds import order
from workers.errors import AccountFault
from workers.record.restores import RestoreBook
from workers.record.status import Outcome, State, Step


@pytest.fixture
def restores(record: Record) -> RestoreBook:
    return RestoreBook(record.database)


def test_all_accounts_are_frozen_or_one(record: Record, restores: RestoreBook) -> None:
    now = record.clock.now()
    assert restores.freeze("restored", now, "other") == ["other"]
    assert restores.standing("main").restored_at is None
    record.clock.sleep(5)
    assert restores.freeze("again", record.clock.now()) == ["main", "other"]
    for name in ("main", "other"):
        standing = restores.standing(name)
        assert (standing.paused_kind, standing.paused_reason) == ("restore", "again")
        assert standing.restored_at == record.clock.now()


def test_a_freeze_takes_the_place_of_any_other_pause_and_keeps_its_reason(
    record: Record, restores: RestoreBook
) -> None:
    record.book.pause("main", "person", "month's end", record.clock.now())
    restores.freeze("restored", record.clock.now(), "main")
    (pause,) = record.book.pauses()
    assert pause.kind == "restore"
    assert pause.reason == "restored; paused before (person): month's end"
    # And none other takes its place.
    record.book.pause("main", "fault", "bad key", record.clock.now())
    assert [pause.kind for pause in record.book.pauses()] == ["restore"]


def test_no_probe_opens_a_frozen_account(record: Record, restores: RestoreBook) -> None:
    record.book.pause("main", "fault", "bad key", record.clock.now())
    record.clock.sleep(9_000)
    restores.freeze("restored", record.clock.now())
    assert not record.book.take_probe("main", record.clock.now())
    # One that was begun before the freeze finds the account mended.
    assert record.book.resume("main") is False
    assert len(record.book.pauses()) == 2


def test_only_sending_waits_while_frozen(record: Record, restores: RestoreBook) -> None:
    fresh, open_ = record.queue(order(), order())
    row = record.created(open_)
    restores.freeze("restored", record.clock.now())
    record.clock.move_to(row.due_at)
    announced = record.due.announce(record.clock.now(), window=9, announce_s={"main": 120})
    assert [one.payout_id for one in announced] == [open_]
    assert record.claim(fresh) is None
    record.clock.sleep(60)
    read = record.answer(
        record.take(open_), Step.POLL, Outcome.CREATED, provider_payout_id=f"p{open_}"
    )
    # It still waits for its release, which is not asked for again.
    assert (read.next_step, record.row(open_).releases) == (None, 1)


def test_a_person_opens_what_they_have_seen_and_nothing_newer(
    record: Record, restores: RestoreBook
) -> None:
    restores.freeze("restored", record.clock.now(), "main")
    seen = restores.standing("main")
    record.clock.sleep(1)
    restores.freeze("restored", record.clock.now(), "main")
    with pytest.raises(AccountFault, match="meanwhile"):
        restores.open(seen, "opened by ann")
    restores.open(restores.standing("main"), "opened by ann: compared")
    standing = restores.standing("main")
    assert (standing.paused_kind, standing.paused_reason) == (None, "opened by ann: compared")
    assert standing.restored_at is not None
    assert record.book.pauses() == []


def test_many_at_once_freeze_and_open_without_a_dead_end(
    record: Record, restores: RestoreBook
) -> None:
    now = record.clock.now()
    told = together([lambda: restores.freeze("restored", now)] * 6)
    assert told == [["main", "other"]] * 6


def test_a_comparison_counts_for_the_restore_that_it_has_seen(
    record: Record, restores: RestoreBook
) -> None:
    assert restores.standing("main").is_compared
    restores.freeze("restored", record.clock.now(), "main")
    seen = restores.standing("main")
    assert not seen.is_compared
    record.clock.sleep(10)
    assert not restores.reconciled(seen, record.clock.now(), all_known=False)
    assert restores.standing("main").is_compared
    assert restores.standing("main").restored_at == seen.restored_at
    assert restores.reconciled(seen, record.clock.now(), all_known=True)
    assert restores.standing("main").restored_at is None
    # Put back again while it was being compared.
    restores.freeze("restored", record.clock.now(), "main")
    assert not restores.reconciled(seen, record.clock.now(), all_known=True)
    assert restores.standing("main").restored_at == record.clock.now()


def test_the_newest_entry_before_the_restore_bounds_the_backup(
    record: Record, restores: RestoreBook
) -> None:
    at = record.clock.now()
    assert restores.newest_before(at) is None
    (one,) = record.queue(order())
    record.clock.sleep(50)
    record.unknown(one)
    assert restores.newest_before(record.clock.now()) == at
    record.clock.sleep(50)
    assert restores.newest_before(record.clock.now()) == at + timedelta(seconds=50)


def test_a_reference_id_that_was_withdrawn_before_any_send_is_not_known(
    record: Record, restores: RestoreBook
) -> None:
    one, two = record.queue(order(), order())
    names = [record.row(i).reference_id for i in (one, two)]
    record.sql("UPDATE payouts SET state = 'cancelled' WHERE id = :i", i=one)
    assert set(restores.known("main", names)) == {names[1]}
    assert restores.known("other", names) == {}


def test_what_is_at_the_provider_is_told_page_by_page_of_whole_lives_within_the_times(
    record: Record, restores: RestoreBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.record.restores.PAGE_ROWS", 2)
    since = record.clock.now()
    ids = record.queue(*(order() for _ in range(6)))
    for one in ids[:5]:
        record.created(one)
    record.unknown(ids[5])
    until = record.clock.now() + timedelta(seconds=1)
    found = [row.id for rows in restores.there("main", since, until) for row in rows]
    assert found == ids[:5]
    assert list(restores.there("main", since + timedelta(seconds=1), until)) == []
    assert list(restores.there("main", since - timedelta(days=1), since)) == []


def test_what_the_provider_may_have_is_woken_and_nothing_else(record: Record) -> None:
    created, queued, held, claimed = record.queue(*(order() for _ in range(4)))
    record.created(created)
    record.held(held)
    record.sql("UPDATE payouts SET due_at = NULL WHERE id = :i", i=created)
    record.take(claimed)
    before = {i: record.row(i).due_at for i in (queued, held, claimed)}
    assert record.due.wake([created, queued, held, claimed], record.clock.now()) == 1
    assert record.row(created).due_at == record.clock.now()
    assert {i: record.row(i).due_at for i in (queued, held, claimed)} == before
    assert record.state(created) is State.CREATED
