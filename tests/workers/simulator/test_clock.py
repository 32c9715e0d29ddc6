"""The simulator's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from workers.simulator.clock import SimulatorClock


def test_manual_clock_moves_only_when_told() -> None:
    clock = SimulatorClock(manual=100.0)
    assert clock.now() == clock.now() == 100.0
    clock.move_to(160.5)
    assert clock.now() == 160.5


def test_clock_never_runs_backwards() -> None:
    clock = SimulatorClock(manual=100.0)
    clock.move_to(50.0)
    assert clock.now() == 100.0


def test_clock_goes_on_after_the_last_time_of_the_ledger() -> None:
    assert SimulatorClock(manual=100.0, not_before=900.0).now() == 900.0
    future = time.time() + 10_000
    assert SimulatorClock(not_before=future).now() >= future


def test_scaled_clock_runs_ahead_of_the_wall(until: Callable[[Callable[[], Any]], Any]) -> None:
    clock = SimulatorClock(scale=10_000)
    started = clock.now()
    until(lambda: clock.now() - started > 100)  # ten milliseconds of ours


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_moved_clock_keeps_running(scale: float, until: Callable[..., Any]) -> None:
    clock = SimulatorClock(scale=scale)
    moved_to = clock.now() + 3600
    clock.move_to(moved_to)
    until(lambda: clock.now() > moved_to)
