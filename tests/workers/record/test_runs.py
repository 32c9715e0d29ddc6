"""The record of schedules: one run a date, one worker a schedule, one batch a file."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from tests.workers.record.conftest import Record, together
from tests.worlds import CHECKER, order, stored
from workers.calendars import Occasion
from workers.errors import StaleState
from workers.record.runs import FIRST_LOOK_S, File, Run, RunBook

DAY = date(2026, 3, 2)
DUE = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
NOW = DUE + timedelta(seconds=5)


def occasion(day: date = DAY) -> Occasion:
    due = DUE + (day - DAY)
    later = due + timedelta(hours=3)
    return Occasion(business_date=day, due_at=due, takes_until=later, watched_until=later)


def claimed(record: Record) -> RunBook:
    book = RunBook(record.database)
    book.known_since("nightly", NOW)
    assert book.claim("nightly", NOW, claim_s=60)
    return book


def begun(book: RunBook, day: date = DAY) -> Run:
    assert book.begin("nightly", occasion(day), NOW, outcome="open")
    run = book.run("nightly", day)
    assert run is not None
    return run


def taken(book: RunBook, run: Run, name: str = "a.csv", content_hash: str = "h") -> File:
    return book.take(run, name, NOW, content_hash=content_hash, stamp="s", bytes=1)


def test_a_business_date_has_one_run_however_many_begin_it(record: Record) -> None:
    claimed(record)
    others = [record.again() for _ in range(4)]
    books = [RunBook(each.database) for each in others]
    calls = [
        lambda book=book: book.begin("nightly", occasion(), NOW, outcome="open")  # type: ignore[misc]
        for book in books
    ]
    assert sorted(together(calls)) == [False, False, False, True]
    assert len(RunBook(record.database).latest("nightly", 10)) == 1
    for each in others:
        each.close()


def test_a_schedule_is_known_since_a_little_before_it_was_first_asked_for(record: Record) -> None:
    others = [record.again() for _ in range(3)]
    books = [RunBook(each.database) for each in others]
    calls = [
        lambda book=book: book.known_since("nightly", NOW)  # type: ignore[misc]
        for book in books
    ]
    since = NOW - timedelta(seconds=FIRST_LOOK_S)
    assert together(calls) == [since] * 3
    later = NOW + timedelta(days=9)
    assert RunBook(record.database).known_since("nightly", later) == since
    for each in others:
        each.close()


def test_one_of_many_workers_gets_a_schedule_until_its_claim_has_run_out(record: Record) -> None:
    RunBook(record.database).known_since("nightly", NOW)
    others = [record.again() for _ in range(4)]
    books = [RunBook(each.database) for each in others]
    calls = [
        lambda book=book: book.claim("nightly", NOW, claim_s=60)  # type: ignore[misc]
        for book in books
    ]
    got = together(calls)
    assert sorted(got) == [False, False, False, True]
    holder = books[got.index(True)]
    other = books[got.index(False)]
    assert holder.renew("nightly", NOW + timedelta(seconds=120))
    assert not other.claim("nightly", NOW + timedelta(seconds=61), claim_s=60)
    assert other.claim("nightly", NOW + timedelta(seconds=121), claim_s=60)
    assert not holder.renew("nightly", None)
    assert other.renew("nightly", None)
    assert holder.claim("nightly", NOW, claim_s=60)
    for each in others:
        each.close()


def test_a_claim_that_was_made_long_is_not_made_shorter_by_its_next_renewal(record: Record) -> None:
    book, other = claimed(record), RunBook(record.database)
    assert book.renew("nightly", NOW + timedelta(seconds=600))
    assert book.renew("nightly", NOW + timedelta(seconds=60))
    assert not other.claim("nightly", NOW + timedelta(seconds=599), claim_s=60)
    assert book.renew("nightly", None)
    assert other.claim("nightly", NOW, claim_s=60)


def test_who_has_no_claim_any_more_notes_nothing(record: Record) -> None:
    first = claimed(record)
    run = begun(first)
    file = taken(first, run)
    second = RunBook(record.database)
    assert second.claim("nightly", NOW + timedelta(seconds=61), claim_s=60)
    with pytest.raises(StaleState, match="schedule nightly: another worker has it by now"):
        first.change(run, outcome="finished")
    with pytest.raises(StaleState):
        first.note(file, fate="refused")
    assert second.change(run, outcome="finished").outcome == "finished"
    assert second.note(file, fate="refused").fate == "refused"


def test_a_file_that_was_begun_keeps_its_row_until_it_is_moved(record: Record) -> None:
    book = claimed(record)
    run = begun(book)
    first = taken(book, run)
    assert taken(book, run, content_hash="other").id == first.id
    moved = book.note(first, fate="refused", place="refused")
    again = taken(book, run)
    assert again.id != moved.id
    # Left over by one date, it is taken by the next.
    tuesday = begun(book, date(2026, 3, 3))
    assert taken(book, tuesday).business_date == date(2026, 3, 3)
    assert [file.id for file in book.of(run)] == [moved.id]


def test_a_batch_belongs_to_one_file(record: Record) -> None:
    book = claimed(record)
    run = begun(book)
    batch_id = stored(record.batches, [order()], now=NOW)
    one, two = taken(book, run, "a.csv"), taken(book, run, "b.csv")
    assert book.owner(batch_id) is None
    book.note(one, batch_id=batch_id, fate="waiting")
    assert book.owner(batch_id) == one.id
    with pytest.raises(IntegrityError):
        book.note(two, batch_id=batch_id, fate="waiting")


def test_a_twin_is_a_file_of_the_same_bytes_whose_batch_was_not_turned_down(
    record: Record,
) -> None:
    book = claimed(record)
    run = begun(book)
    batch_id = stored(record.batches, [order()], now=NOW)
    one, two = taken(book, run, "a.csv"), taken(book, run, "b.csv")
    other = taken(book, run, "c.csv", content_hash="other")
    assert book.twin(two) is None
    book.note(one, batch_id=batch_id, fate="waiting")
    assert (book.twin(two), book.twin(other), book.twin(one)) == (batch_id, None, None)
    record.decisions.reject(batch_id, CHECKER, NOW)
    assert book.twin(two) is None


def test_what_is_left_to_do_is_found_by_fate_and_place(record: Record) -> None:
    book = claimed(record)
    run = begun(book)
    files = {
        name: book.note(taken(book, run, name), fate=fate, place=place)
        for name, fate, place in (
            ("taken", "taken", "inbox"),
            ("storing", "storing", "inbox"),
            ("unmoved", "refused", "inbox"),
            ("moved", "refused", "refused"),
            ("waiting", "waiting", "waiting"),
            ("lost", "approved", "gone"),
        )
    }
    place_of = {"waiting": "waiting", "approved": "done", "refused": "refused"}
    assert {file.name for file in book.unplaced("nightly", place_of)} == {"storing", "unmoved"}
    assert [file.name for file in book.left("nightly")] == ["taken"]
    assert [file.name for file in book.waiting("nightly")] == ["waiting"]
    assert book.waiting_count("nightly") == 1
    assert len(files) == len(book.of(run))


def test_runs_are_listed_by_date(record: Record) -> None:
    book = claimed(record)
    for day in (4, 2, 3):
        begun(book, date(2026, 3, day))
    assert [run.business_date.day for run in book.latest("nightly", 2)] == [4, 3]
    assert [run.business_date.day for run in book.open("nightly")] == [2, 3, 4]
    run = book.open("nightly")[0]
    book.change(run, outcome="finished", report_final=True)
    assert [one.business_date.day for one in book.unreported("nightly")] == [3, 4]
    assert book.latest("other") == []
