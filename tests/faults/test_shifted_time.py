"""A process whose clock is said to be wrong takes the time from that clock, whoever asks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from tests.batches.cli_world import ROOT
from tests.faults.scenarios import SHIFTED_TIME

ASKED = """
import logging, time
from datetime import datetime, UTC
from celery import Celery
from workers.clock import SystemClock

now = SystemClock().now()
assert isinstance(now, datetime) and isinstance(datetime(2026, 1, 1), datetime)
record = logging.LogRecord("x", 1, "x", 1, "x", (), None)
print(now.timestamp(), time.time(), Celery(set_as_current=False).now().timestamp(),
      time.time_ns() / 1e9, datetime.now(UTC).timestamp())
print(logging.Formatter("%(asctime)s").format(record))
print(time.monotonic())
"""


@pytest.mark.parametrize("shift_s", [1200, -1200])
def test_every_reader_of_the_clock_sees_the_shifted_time(shift_s: int) -> None:
    wrong = {"PYTHONPATH": str(SHIFTED_TIME), "FAULTS_CLOCK_SHIFT_S": str(shift_s)}
    ended = subprocess.run(
        [sys.executable, "-c", ASKED],
        env={**os.environ, **wrong},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    times, logged, monotonic = ended.stdout.splitlines()
    assert all(abs(float(each) - time.time() - shift_s) < 30 for each in times.split()), times
    shown = datetime.strptime(logged.split(",")[0], "%Y-%m-%d %H:%M:%S").astimezone(UTC)
    assert abs(shown.timestamp() - time.time() - shift_s) < 30
    # Durations are right all the same.
    assert abs(float(monotonic) - time.monotonic()) < 30
    assert ended.stderr == ""
