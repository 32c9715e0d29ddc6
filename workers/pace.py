"""An account's pace and its breaker, shared by all workers through the accounts table.

A call waits for its turn only briefly; beyond that the payout is given back. After many failures in
a row the account is paused, and the sweep probes it with one call at a time. How the calls went is
counted here and told to the record now and then.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from workers.clock import Clock
from workers.providers.transport import Paced
from workers.record.accounts import AccountBook
from workers.record.calls import CallBook, Count, Kind, range_of

log = logging.getLogger(__name__)

# Failures in a row (no answer, or 5xx) that open the breaker; refusals never count.
BREAKER_FAILURES = 10
# A call that would wait longer than this is not made now.
WAIT_S_MAX = 20
BURST_US = 1_000_000
# A payout that finds no room comes back when its turn is likely: no sooner and no later than this.
TURN_S_MIN = 0.2
TURN_S_MAX = 30
# The step of a call that is no payout's: a question about the account.
ASK = "ask"
# Counts of calls are told to the record no more often than this.
COUNTS_S = 5
# More threads than this in one process only wait for each other; start another process instead.
THREADS_MAX = 128
KEPT_FIRST_S = 0.1
# How much the latest payout counts in the time that one is expected to take.
_LATEST = 0.2


class Slots:
    """An account's places for payouts in this process: more than it may have calls at a time, which
    its gate sees to. Safe for threads.

    A payout that finds none is told when to come back. Each is told a later time than the one
    before, as far apart as places have become free lately: all of them at once would only find no
    room again.
    """

    def __init__(self, number: int, clock: Clock) -> None:
        self._free = self._number = number
        self._clock = clock
        self._lock = threading.Lock()
        # How long a payout keeps its place, lately (rather short at first: who comes back too early
        # is told again, better); and until when the turns given out reach.
        self._kept_s = KEPT_FIRST_S
        self._booked_until = 0.0

    def limit(self, number: int) -> None:
        """Have so many places; before any is taken."""
        self._free = self._number = number

    def take(self) -> float | None:
        """Take a place; else the seconds after which to come back."""
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            return self._turn()

    def leave(self, kept_s: float) -> None:
        """Give a place back that was kept so long."""
        with self._lock:
            self._free += 1
            self._kept_s += _LATEST * (kept_s - self._kept_s)

    def turn_s(self, apart_s: float) -> float:
        """The seconds after which to come back, for one that waits for something else.

        Args:
            apart_s: how far apart those that wait for that can be served at most.
        """
        with self._lock:
            return self._turn(apart_s)

    def _turn(self, apart_s: float = 0) -> float:
        now = self._clock.monotonic()
        apart_s = max(apart_s, self._kept_s / self._number)
        self._booked_until = max(self._booked_until, now) + apart_s
        return min(TURN_S_MAX, max(TURN_S_MIN, self._booked_until - now))


def room_for(calls: int) -> int:
    """For how many payouts there is room where so many calls may be made at a time. Half of a
    payout's time it is being stored, or waits for others to be stored with it, and must not keep
    another from the provider meanwhile.
    """
    return 2 * calls


def window_at(rate_per_s: float) -> int:
    """How many messages of an account with that many calls a second need be out: more would only be
    told to come back, again and again.
    """
    return math.ceil(rate_per_s * TURN_S_MAX)


def threads_for(calls: Iterable[int]) -> int:
    """How many threads a process needs for accounts that may have so many calls each."""
    return max(1, min(THREADS_MAX, sum(room_for(each) for each in calls)))


def shares(wanted: Mapping[str, int], threads: int) -> Mapping[str, int]:
    """How many of a process's threads each account may use at most, so that together they need no
    more than there are: an account whose every call hangs then leaves the others theirs.

    Args:
        wanted: for how many payouts each account has room.
    """
    in_all = sum(wanted.values())
    if in_all <= threads:
        return wanted
    return {name: max(1, number * threads // in_all) for name, number in wanted.items()}


class AccountGate:
    """What every call of one account passes. Safe for threads."""

    def __init__(
        self,
        account: str,
        rate_per_s: float,
        book: AccountBook,
        clock: Clock,
        *,
        calls_max: int,
    ) -> None:
        """
        Args:
            rate_per_s: calls a second over all processes; 0: no limit.
            calls_max: calls at a time in this process.
        """
        self._account = account
        self._places = threading.BoundedSemaphore(calls_max)
        self._interval_us = int(1_000_000 / rate_per_s) if rate_per_s else 0
        # The burst is one second's calls, and never less than one call.
        self._burst_us = max(BURST_US, self._interval_us)
        self._book = book
        self._clock = clock
        self._failures = 0
        # Until then, by the monotonic clock, the provider asked for no calls.
        self._blocked_until = 0.0
        self._lock = threading.Lock()
        self._calls = threading.local()
        self._counts = _Counts(account, CallBook(book.database), clock)

    @contextmanager
    def no_later_than(self, start_by: float, *, step: str = ASK) -> Iterator[None]:
        """Have this thread's calls begin by then, or not at all.

        Args:
            start_by: seconds of the monotonic clock.
            step: what they are counted as.
        """
        self._calls.start_by, self._calls.step = start_by, step
        try:
            yield
        finally:
            self._calls.start_by, self._calls.step = math.inf, ASK

    def enter(self) -> None:
        """Wait for a place among this process's calls, which `leave` gives back, and for the
        account's next slot.

        Raises:
            Paced: it is too far off, or beyond what `no_later_than` allows.
        """
        self._wait_for_place()
        try:
            self._pass()
        except BaseException:
            self._places.release()
            raise

    def _wait_for_place(self) -> None:
        if self._places.acquire(blocking=False):
            return
        left_s = getattr(self._calls, "start_by", math.inf) - self._clock.monotonic()
        if not self._places.acquire(timeout=max(0, min(WAIT_S_MAX, left_s))):
            raise Paced(WAIT_S_MAX)
        if self._clock.stopping:
            self._places.release()
            raise Paced(1)

    def _pass(self) -> None:
        blocked_s = self._blocked_until - self._clock.monotonic()
        if blocked_s > 0:
            raise Paced(math.ceil(blocked_s))
        self._wait_for_slot()
        # Right before sending: a process that was stopped in between wakes up too late.
        if self._clock.monotonic() > getattr(self._calls, "start_by", math.inf):
            raise Paced(1)

    def _wait_for_slot(self) -> None:
        if not self._interval_us:
            return
        wait_us = self._book.take_slot(
            self._account,
            self._clock.now(),
            interval_us=self._interval_us,
            burst_us=self._burst_us,
            wait_us_max=WAIT_S_MAX * 1_000_000,
        )
        if wait_us is None:
            raise Paced(WAIT_S_MAX)
        if wait_us:
            self._clock.sleep(wait_us / 1_000_000)
            if self._clock.stopping:
                # It was woken before its time.
                raise Paced(1)

    def block(self, seconds: float) -> None:
        """No call of this process for so long: the provider asked for it."""
        self._blocked_until = max(self._blocked_until, self._clock.monotonic() + seconds)

    def leave(self, *, answered: bool, answer: str, took_us: int) -> None:
        """Give its place back. Count it, and failures in a row: enough of them open the breaker."""
        self._places.release()
        with self._lock:
            self._failures = 0 if answered else self._failures + 1
            opened = self._failures == BREAKER_FAILURES
            if opened:
                self._failures = 0
        if opened:
            reason = f"{BREAKER_FAILURES} calls in a row were not answered"
            self._book.pause(self._account, "outage", reason, self._clock.now())
        step = getattr(self._calls, "step", ASK)
        self._counts.add(step, answer, took_us)
        if step == ASK:
            self._counts.tell_sometimes()

    def tell_counts(self) -> None:
        """Tell the record how the calls went, if it was not told in the last seconds.

        For a moment when no payout waits for its answer to be recorded: nothing may come between
        the two.
        """
        self._counts.tell_sometimes()

    def close(self) -> None:
        """Tell the record what it was not told yet."""
        self._counts.tell()

    @property
    def apart_s(self) -> float:
        """The seconds between two calls of the account; 0: it has no pace."""
        return self._interval_us / 1_000_000

    def wait_s(self) -> int:
        """Whole seconds until a call would find room; less than a second counts as none."""
        if not self._interval_us:
            return 0
        wait_us = self._book.slot_wait_us(
            self._account, self._clock.now(), burst_us=self._burst_us - self._interval_us
        )
        return math.floor(wait_us / 1_000_000)


class _Counts:
    """The calls of one account that the record was not told of yet. Safe for threads."""

    def __init__(self, account: str, book: CallBook, clock: Clock) -> None:
        self._account = account
        self._book = book
        self._clock = clock
        self._lock = threading.Lock()
        self._untold: dict[Kind, Count] = {}
        self._tell_at = clock.monotonic() + COUNTS_S

    def add(self, step: str, answer: str, took_us: int) -> None:
        """Count one call."""
        with self._lock:
            self._put({Kind(step, answer, range_of(took_us)): Count(1, took_us)})

    def tell_sometimes(self) -> None:
        """Tell the record, unless somebody has just done so."""
        now = self._clock.monotonic()
        with self._lock:
            due = now >= self._tell_at and bool(self._untold)
            if due:
                self._tell_at = now + COUNTS_S
        if due:
            self.tell()

    def tell(self) -> None:
        """Tell the record; what it does not take is kept for the next time."""
        with self._lock:
            counts, self._untold = self._untold, {}
        try:
            # Outside the lock: who only counts does not wait for the record.
            self._book.add(self._account, counts)
        except Exception as error:  # noqa: BLE001 - a count is never worth a payout's trouble
            log.warning(
                "calls not counted yet",
                extra={"account": self._account, "reason": type(error).__name__},
            )
            with self._lock:
                self._put(counts)

    def _put(self, counts: Mapping[Kind, Count]) -> None:
        for kind, count in counts.items():
            number, total_us = self._untold.get(kind, (0, 0))
            self._untold[kind] = Count(number + count.number, total_us + count.total_us)
