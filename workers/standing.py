"""How each schedule stands: its last run, its next one, and whether somebody should look.

Only reads; `paybatch schedules`, `paybatch doctor` and the metrics tell the same from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from workers import calendars
from workers.calendars import Occasion
from workers.record.runs import Run, RunBook
from workers.schedules import Schedule

# A run that was not begun or not ended so long after its time is late, whoever should have done it.
LATE_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One schedule at one moment."""

    schedule: Schedule
    last: Run | None
    following: Occasion | None
    # Files whose batches wait for money or a person.
    waiting: int
    # Since when a run should have been begun, or should be over; None: it is in time.
    overdue_since: datetime | None
    # What a person should know; None: nothing.
    trouble: str | None


def standings(
    schedules: Sequence[Schedule], book: RunBook, now: datetime, *, embedded: bool
) -> Sequence[Standing]:
    """Each schedule as it stands; nothing is noted of one that nobody has looked at yet.

    Args:
        embedded: no worker and no beat look, but whoever runs `paybatch settle`.
    """
    return [_standing(schedule, book, now, embedded=embedded) for schedule in schedules]


def _standing(schedule: Schedule, book: RunBook, now: datetime, *, embedded: bool) -> Standing:
    latest = book.latest(schedule.name)
    last = latest[0] if latest else None
    overdue = _overdue_since(schedule, last, book, now)
    return Standing(
        schedule=schedule,
        last=last,
        following=calendars.following(schedule, now),
        waiting=book.waiting_count(schedule.name),
        overdue_since=overdue,
        trouble=_trouble(schedule, last, overdue, now, embedded=embedded),
    )


def _overdue_since(
    schedule: Schedule, last: Run | None, book: RunBook, now: datetime
) -> datetime | None:
    if last is not None and last.outcome == "open":
        # What is in trouble is late from its beginning.
        late = last.caught_up or last.problem is not None
        over_at = last.due_at if late else last.watched_until
        return over_at if now > over_at else None
    since = book.first_known(schedule.name)
    if since is None:
        # Nobody has ever looked: what was due since then is not known to be anybody's.
        return None
    after = last.business_date if last else None
    unknown = calendars.due(schedule, after=after, since=since, now=now)
    return unknown[0].due_at if unknown else None


def _trouble(
    schedule: Schedule,
    last: Run | None,
    overdue: datetime | None,
    now: datetime,
    *,
    embedded: bool,
) -> str | None:
    again = f"make it with: paybatch settle --schedule {schedule.name}"
    if overdue is not None and now - overdue > timedelta(seconds=LATE_S):
        since = f"since {overdue:%Y-%m-%d %H:%M} UTC"
        if last is not None and last.outcome == "open" and last.problem:
            # Somebody looks, and has told what is wrong.
            then = again if embedded else "the next look, in less than a minute, goes on with it"
            return (
                f"the run of {last.business_date} is late {since}: {last.problem}. When that is"
                f" mended, {then}"
            )
        who = "does the cron job run that calls paybatch settle" if embedded else _LOOKERS
        return f"a run is late {since}; {who}? Or {again}"
    if last is None:
        return None
    if last.outcome in ("missed", "failed"):
        return (
            f"the run of {last.business_date} {_WAS[last.outcome]}: {last.problem};"
            f" {again} --date {last.business_date}"
        )
    if last.problem:
        return f"the run of {last.business_date}: {last.problem}"
    return None


_LOOKERS = "is a worker running, and beat"
_WAS = {"missed": "was missed", "failed": "failed"}
