"""How a schedule stands: what is late, missed or waits, without noting anything."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.workers.record.conftest import Record, record, sqlite_template
from workers import calendars
from workers.record.runs import RunBook
from workers.schedules import Schedule
from workers.standing import LATE_S, Standing, standings

__all__ = ["record", "sqlite_template"]

sqlite = pytest.mark.parametrize("record", ["sqlite"], indirect=True)
MONDAY = date(2026, 3, 2)
DUE = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)


def schedule(**changes: Any) -> Schedule:
    values = {"name": "nightly", "time": "02:30", "time_zone": "UTC", "inbox": "inbox", **changes}
    return Schedule.model_validate(values)


def standing(book: RunBook, now: datetime, *, embedded: bool = False, **changes: Any) -> Standing:
    [found] = standings([schedule(**changes)], book, now, embedded=embedded)
    return found


@sqlite
def test_a_schedule_that_nobody_has_looked_at_is_not_late(record: Record) -> None:
    book = RunBook(record.database)
    found = standing(book, DUE + timedelta(days=3))
    assert (found.last, found.overdue_since, found.trouble) == (None, None, None)
    assert found.following is not None
    assert found.following.business_date == date(2026, 3, 6)
    assert book.first_known("nightly") is None


@sqlite
def test_a_run_that_nobody_begins_is_late_from_its_time(record: Record) -> None:
    book = RunBook(record.database)
    book.known_since("nightly", DUE - timedelta(hours=1))
    assert standing(book, DUE - timedelta(seconds=1)).overdue_since is None
    late = standing(book, DUE + timedelta(seconds=LATE_S))
    assert (late.overdue_since, late.trouble) == (DUE, None)
    late = standing(book, DUE + timedelta(seconds=LATE_S + 1))
    assert (late.trouble or "").startswith("a run is late since 2026-03-02 02:30 UTC; is a worker")
    late = standing(book, DUE + timedelta(seconds=LATE_S + 1), embedded=True)
    assert "does the cron job run that calls paybatch settle?" in (late.trouble or "")


@sqlite
@pytest.mark.parametrize(
    ("outcome", "problem", "trouble"),
    [
        ("finished", None, None),
        ("finished", "its report cannot be written: x", "the run of 2026-03-02: its report cannot"),
        ("missed", "nobody was there", "the run of 2026-03-02 was missed: nobody was there; make"),
        ("failed", "no inbox", "the run of 2026-03-02 failed: no inbox; make it with: paybatch"),
        ("open", None, None),
        ("open", "no inbox", "the run of 2026-03-02 is late since 2026-03-02 02:30 UTC: no inbox."),
    ],
)
def test_how_the_last_run_ended_is_told_where_somebody_should_look(
    record: Record, outcome: str, problem: str | None, trouble: str | None
) -> None:
    book = RunBook(record.database)
    book.known_since("nightly", DUE)
    assert book.claim("nightly", DUE, claim_s=60)
    one = calendars.occasion(MONDAY, schedule())
    book.begin("nightly", one, DUE, outcome="open")
    run = book.run("nightly", MONDAY)
    assert run is not None
    book.change(run, outcome=outcome, problem=problem)
    found = standing(book, DUE + timedelta(hours=1))
    if trouble is None:
        assert found.trouble is None
    else:
        assert (found.trouble or "").startswith(trouble)
        # Where somebody has said what is wrong, nobody is asked whether somebody looks.
        assert "is a worker running" not in (found.trouble or "")
    assert found.last is not None


@sqlite
def test_an_open_run_is_late_when_its_time_is_over(record: Record) -> None:
    book = RunBook(record.database)
    book.known_since("nightly", DUE)
    one = calendars.occasion(MONDAY, schedule(cut_off="06:00"))
    book.begin("nightly", one, DUE, outcome="open")
    over = datetime(2026, 3, 2, 6, tzinfo=UTC)
    assert standing(book, over, cut_off="06:00").overdue_since is None
    late = standing(book, over + timedelta(seconds=1), cut_off="06:00")
    assert late.overdue_since == over
