"""Each business date has exactly one instant, in order, whatever the clocks of its zone do."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers import calendars
from workers.calendars import instant
from workers.schedules import Schedule

EVERY_DAY = "mon tue wed thu fri sat sun"
ZONES = (
    *("Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Kolkata", "UTC"),
    *("Australia/Lord_Howe", "Pacific/Apia", "America/Nuuk", "Africa/Casablanca"),
)


def schedule(**changes: Any) -> Schedule:
    values = {"name": "nightly", "time": "02:30", "time_zone": "UTC", "inbox": "inbox", **changes}
    return Schedule.model_validate(values)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Every quarter of an hour around both changes: the local time, and the UTC instant of its run.
CHANGES = [
    ("Europe/Berlin", "2026-03-29", "01:45", "2026-03-29T00:45"),
    ("Europe/Berlin", "2026-03-29", "02:00", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-03-29", "02:30", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-03-29", "02:59", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-03-29", "03:00", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-03-29", "03:15", "2026-03-29T01:15"),
    ("Europe/Berlin", "2026-10-25", "01:59", "2026-10-24T23:59"),
    ("Europe/Berlin", "2026-10-25", "02:00", "2026-10-25T00:00"),
    ("Europe/Berlin", "2026-10-25", "02:30", "2026-10-25T00:30"),
    ("Europe/Berlin", "2026-10-25", "03:00", "2026-10-25T02:00"),
    ("America/New_York", "2026-03-08", "01:59", "2026-03-08T06:59"),
    ("America/New_York", "2026-03-08", "02:30", "2026-03-08T07:00"),
    ("America/New_York", "2026-03-08", "03:00", "2026-03-08T07:00"),
    ("America/New_York", "2026-11-01", "00:59", "2026-11-01T04:59"),
    ("America/New_York", "2026-11-01", "01:30", "2026-11-01T05:30"),
    ("America/New_York", "2026-11-01", "02:00", "2026-11-01T07:00"),
    # Chile changes at midnight: the hour after it is left out, the hour before it comes twice.
    ("America/Santiago", "2026-09-05", "23:59", "2026-09-06T03:59"),
    ("America/Santiago", "2026-09-06", "00:00", "2026-09-06T04:00"),
    ("America/Santiago", "2026-09-06", "00:30", "2026-09-06T04:00"),
    ("America/Santiago", "2026-09-06", "01:00", "2026-09-06T04:00"),
    ("America/Santiago", "2026-04-04", "23:30", "2026-04-05T02:30"),
    ("America/Santiago", "2026-04-05", "00:00", "2026-04-05T04:00"),
    # Half an hour.
    ("Australia/Lord_Howe", "2026-10-04", "02:10", "2026-10-03T15:30"),
    ("Australia/Lord_Howe", "2026-04-05", "01:40", "2026-04-04T14:40"),
    ("Asia/Kolkata", "2026-03-29", "02:30", "2026-03-28T21:00"),
    ("UTC", "2026-03-29", "02:30", "2026-03-29T02:30"),
]


@pytest.mark.parametrize(("zone", "day", "at", "expected"), CHANGES)
def test_a_time_that_is_left_out_is_the_first_after_the_gap_and_of_two_the_first(
    zone: str, day: str, at: str, expected: str
) -> None:
    found = instant(date.fromisoformat(day), time.fromisoformat(at), ZoneInfo(zone))
    assert found == utc(expected)


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    at=st.times().map(lambda each: each.replace(second=0, microsecond=0)),
    first=st.dates(date(2010, 1, 1), date(2035, 1, 1)),
)
def test_each_business_date_has_one_instant_and_they_come_in_order(
    zone: str, at: time, first: date
) -> None:
    chosen = schedule(time=at, time_zone=zone, business_days=EVERY_DAY)
    days = list(calendars.business_dates(chosen, first, first + timedelta(days=100)))
    instants = [calendars.occasion(day, chosen).due_at for day in days]
    assert all(early < late for early, late in itertools.pairwise(instants))
    # Asked for at any moment, each is found once: as the one that comes, then as one that is due.
    for day, due_at in list(zip(days, instants, strict=True))[::25]:
        just_before = due_at - timedelta(microseconds=1)
        coming = calendars.following(chosen, just_before)
        assert coming is not None
        assert (coming.business_date, coming.due_at) == (day, due_at)
        found = calendars.due(chosen, after=None, since=due_at, now=due_at)
        assert [one.business_date for one in found] == [day]
        assert calendars.due(chosen, after=day, since=due_at, now=due_at) == []


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    at=st.times().map(lambda each: each.replace(second=0, microsecond=0)),
    day=st.dates(date(2010, 1, 1), date(2035, 1, 1)),
    minutes=st.integers(1, 1439),
)
def test_the_time_for_files_begins_with_the_run_and_ends_before_the_next(
    zone: str, at: time, day: date, minutes: int
) -> None:
    wall = datetime.combine(day, at) + timedelta(minutes=minutes)
    cut_off = wall.time() if wall.date() == day else None
    for after in ("next_day", "person") if cut_off else ("next_day",):
        chosen = schedule(
            time=at,
            time_zone=zone,
            business_days=EVERY_DAY,
            cut_off=cut_off,
            after_cut_off=after,
        )
        for each in calendars.business_dates(chosen, day, day + timedelta(days=2)):
            one = calendars.occasion(each, chosen)
            coming = calendars.following(chosen, one.due_at)
            assert coming is not None
            assert one.due_at < one.takes_until <= one.watched_until <= coming.due_at


def test_a_cut_off_is_that_of_the_wall_clock_also_on_the_day_of_a_change() -> None:
    berlin = schedule(time="00:30", time_zone="Europe/Berlin", cut_off="06:00", business_days="sun")
    spring = calendars.occasion(date(2026, 3, 29), berlin)
    assert spring.takes_until - spring.due_at == timedelta(hours=4, minutes=30)
    autumn = calendars.occasion(date(2026, 10, 25), berlin)
    assert autumn.takes_until - autumn.due_at == timedelta(hours=6, minutes=30)


def test_where_the_run_and_its_cut_off_are_both_left_out_there_is_still_time() -> None:
    both = schedule(time="02:15", time_zone="Europe/Berlin", cut_off="02:45", business_days="sun")
    one = calendars.occasion(date(2026, 3, 29), both)
    assert (one.due_at, one.takes_until) == (utc("2026-03-29T01:00"), utc("2026-03-29T01:30"))


def test_without_a_cut_off_there_is_time_until_the_next_run() -> None:
    friday = calendars.occasion(date(2026, 3, 6), schedule())
    assert friday.takes_until == friday.watched_until == utc("2026-03-09T02:30")


def test_late_files_are_watched_for_until_the_end_of_the_date_where_a_person_gets_them() -> None:
    chosen = schedule(cut_off="06:00", after_cut_off="person")
    one = calendars.occasion(date(2026, 3, 2), chosen)
    assert (one.takes_until, one.watched_until) == (
        utc("2026-03-02T06:00"),
        utc("2026-03-03T00:00"),
    )


def test_business_dates_are_weekdays_without_holidays_of_the_calendar_and_ones_own() -> None:
    chosen = schedule(calendar="DE-BY", holidays=[date(2026, 1, 7)])
    days = calendars.business_dates(chosen, date(2026, 1, 1), date(2026, 1, 12))
    # The 1st is a holiday everywhere, the 6th in Bavaria, the 7th by our own list.
    assert [day.day for day in days] == [2, 5, 8, 9, 12]
    bank = schedule(calendar="ECB")
    assert not calendars.is_business_date(date(2026, 4, 3), bank)
    assert not calendars.is_business_date(date(2026, 5, 1), bank)
    assert calendars.is_business_date(date(2026, 10, 30), bank)


def test_a_date_that_a_place_left_out_is_no_business_date() -> None:
    samoa = schedule(time_zone="Pacific/Apia", business_days=EVERY_DAY)
    days = calendars.business_dates(samoa, date(2011, 12, 29), date(2011, 12, 31))
    assert [day.day for day in days] == [29, 31]


def test_what_is_due_is_told_from_a_beginning_and_after_what_is_known() -> None:
    chosen = schedule()
    now = utc("2026-03-05T12:00")
    since = utc("2026-03-02T02:30")
    found = calendars.due(chosen, after=None, since=since, now=now)
    assert [one.business_date.day for one in found] == [2, 3, 4, 5]
    found = calendars.due(chosen, after=None, since=since + timedelta(seconds=1), now=now)
    assert [one.business_date.day for one in found] == [3, 4, 5]
    found = calendars.due(chosen, after=date(2026, 3, 4), since=since, now=now)
    assert [one.business_date.day for one in found] == [5]


def test_after_a_year_of_absence_only_a_years_runs_are_told_of() -> None:
    found = calendars.due(
        schedule(), after=None, since=utc("2020-01-01T00:00"), now=utc("2026-03-05T12:00")
    )
    assert found[0].business_date >= date(2025, 3, 3)


def test_a_schedule_without_any_business_date_ahead_has_no_next_run() -> None:
    never = [date(2026, 1, 1) + timedelta(days=each) for each in range(900)]
    chosen = schedule(holidays=never)
    assert calendars.following(chosen, utc("2026-03-05T12:00")) is None
