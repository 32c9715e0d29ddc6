"""Times are aware and in UTC; durations never run backwards."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tests.worlds import HandClock
from workers.clock import ASK_EVERY_S, Clock, SharedClock, SystemClock


def test_now_is_aware_utc_and_the_present() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert now.utcoffset() == timedelta(0)
    assert before <= now <= datetime.now(UTC)


def test_monotonic_seconds_never_run_backwards() -> None:
    clock = SystemClock()
    times = [clock.monotonic() for _ in range(100)]
    assert times == sorted(times)


def test_a_sleep_lasts_at_least_as_long_as_it_was_asked_for() -> None:
    clock = SystemClock()
    started = clock.monotonic()
    clock.sleep(0.002)
    assert clock.monotonic() - started >= 0.002


def test_the_hand_clock_moves_both_times_alike() -> None:
    clock: Clock = HandClock()
    now, ticks = clock.now(), clock.monotonic()
    clock.sleep(2.5)
    assert clock.now() - now == timedelta(seconds=2.5)
    assert clock.monotonic() - ticks == 2.5


def test_a_process_that_is_to_stop_waits_no_longer() -> None:
    clock = SystemClock()
    started = clock.monotonic()
    threading.Timer(0.01, clock.stop).start()
    clock.sleep(60)
    assert clock.stopping
    # Nor from then on; but what is tried again and again still gives way.
    clock.sleep(60)
    assert 0.05 < clock.monotonic() - started < 30


class _OtherMachine:
    """A database whose clock is an hour behind, and that can be away."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False
        self.behind = timedelta(hours=1)

    def __call__(self) -> datetime:
        self.asked += 1
        if self.away:
            raise ConnectionError
        return datetime.now(UTC) - self.behind


class _HandTicks(SharedClock):
    """A shared clock whose monotonic clock is moved by hand."""

    ticks = 50.0

    def monotonic(self) -> float:
        return self.ticks


def test_the_shared_clock_is_the_databases_whatever_this_machines_says() -> None:
    other = _OtherMachine()
    clock = SharedClock(other)
    off = clock.now() - (datetime.now(UTC) - other.behind)
    assert abs(off) < timedelta(seconds=1)
    assert clock.skew_s() == pytest.approx(3600, abs=1)


def test_the_shared_clock_is_carried_on_and_asked_anew_now_and_then() -> None:
    other = _OtherMachine()
    clock = _HandTicks(other)
    before = clock.now()
    clock.ticks += ASK_EVERY_S - 1
    # Without a question, so without this machine's time of day.
    assert (clock.now() - before, other.asked) == (timedelta(seconds=ASK_EVERY_S - 1), 1)
    other.behind = timedelta(0)
    clock.ticks += 2
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
    assert other.asked == 2


def test_a_database_that_is_away_stops_no_clock() -> None:
    other = _OtherMachine()
    clock = _HandTicks(other)
    before = clock.now()
    other.away = True
    for _ in range(3):
        clock.ticks += ASK_EVERY_S + 1
        clock.now()
    assert clock.now() - before == timedelta(seconds=3 * (ASK_EVERY_S + 1))
    assert other.asked == 4
