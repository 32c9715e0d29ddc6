"""Times are aware and in UTC; durations never run backwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.worlds import HandClock
from workers.clock import Clock, SystemClock


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
