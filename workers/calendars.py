"""When a schedule's runs are due: business dates and UTC instants, from settings and `now` alone.

A local time that a clock change leaves out is the first instant after the gap; one that comes twice
is the first of the two. So each business date has exactly one instant, and they come in order.
Pure functions: nothing here knows a database or reads the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from workers.schedules import Schedule, holidays_of

# Beyond this a schedule has no business dates any more.
LOOK_AHEAD_DAYS = 400
# Runs that were missed longer ago are not told of any more.
LOOK_BACK_DAYS = 366
_DAY = timedelta(days=1)
_MIDNIGHT = time(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """One run of a schedule, as its settings have it."""

    business_date: date
    due_at: datetime
    # What is in the inbox by then is taken and paid on this date.
    takes_until: datetime
    # Until then the inbox is looked at: longer, where late files are put before a person.
    watched_until: datetime


def instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The UTC instant of a local time: the first of two, or the first after a gap."""
    # Without a fold this is the first of two, and in a gap what the clock would have shown had it
    # not been put forward: an instant after the change.
    utc = datetime.combine(day, at, zone).astimezone(UTC)
    if utc.astimezone(zone).replace(tzinfo=None) == datetime.combine(day, at):
        return utc
    before = datetime.combine(day, at, zone).replace(fold=1).astimezone(UTC)
    return _change(before, utc, zone)


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first second of the new offset, between an instant of the old one and one of the new."""
    old = before.astimezone(zone).utcoffset()
    seconds_low, seconds_high = 0, int((after - before).total_seconds())
    while seconds_low < seconds_high:
        middle = (seconds_low + seconds_high) // 2
        here = (before + timedelta(seconds=middle)).astimezone(zone)
        if here.utcoffset() == old:
            seconds_low = middle + 1
        else:
            seconds_high = middle
    return before + timedelta(seconds=seconds_low)


def is_business_date(day: date, schedule: Schedule) -> bool:
    """Whether a run belongs to that local date."""
    if day.weekday() not in schedule.business_days or day in schedule.holidays:
        return False
    if schedule.calendar is not None and day in holidays_of(schedule.calendar, day.year):
        return False
    # A place that moves across the date line leaves a whole date out: nobody is at work on it.
    zone = schedule.zone
    return instant(day, _MIDNIGHT, zone) < instant(day + _DAY, _MIDNIGHT, zone)


def business_dates(schedule: Schedule, first: date, last: date) -> Iterator[date]:
    """The business dates from `first` to `last`, both included, in order."""
    day = first
    while day <= last:
        if is_business_date(day, schedule):
            yield day
        day += _DAY


def occasion(day: date, schedule: Schedule) -> Occasion:
    """The run of a business date."""
    zone = schedule.zone
    due_at = instant(day, schedule.time, zone)
    ahead = business_dates(schedule, day + _DAY, day + timedelta(days=LOOK_AHEAD_DAYS))
    following = next(ahead, day + _DAY)
    next_at = instant(following, schedule.time, zone)
    takes_until = watched_until = next_at
    if schedule.cut_off is not None:
        cut_off = instant(day, schedule.cut_off, zone)
        if cut_off <= due_at:
            # Both fell into a gap: the run still gets its time.
            wall = datetime.combine(day, schedule.cut_off) - datetime.combine(day, schedule.time)
            cut_off = due_at + wall
        takes_until = watched_until = min(cut_off, next_at)
        if schedule.after_cut_off == "person":
            midnight = instant(day + _DAY, _MIDNIGHT, zone)
            watched_until = min(max(midnight, takes_until), next_at)
    return Occasion(
        business_date=day, due_at=due_at, takes_until=takes_until, watched_until=watched_until
    )


def due(
    schedule: Schedule, *, after: date | None, since: datetime, now: datetime
) -> list[Occasion]:
    """The runs that are due and not known yet, oldest first.

    Args:
        after: the last business date that is known; None: none is.
        since: runs that were due before this instant are nobody's.
    """
    zone = schedule.zone
    first = max(since, now - timedelta(days=LOOK_BACK_DAYS)).astimezone(zone).date() - _DAY
    if after is not None:
        first = max(first, after + _DAY)
    found = []
    for day in business_dates(schedule, first, now.astimezone(zone).date()):
        one = occasion(day, schedule)
        if since <= one.due_at <= now:
            found.append(one)
    return found


def following(schedule: Schedule, now: datetime) -> Occasion | None:
    """The next run that is due after `now`; None: the schedule has no business dates any more."""
    today = now.astimezone(schedule.zone).date()
    last = today + timedelta(days=LOOK_AHEAD_DAYS)
    ahead = (occasion(day, schedule) for day in business_dates(schedule, today - _DAY, last))
    return next((one for one in ahead if one.due_at > now), None)
