"""A program of the benchmark that is told to end leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batches.cli_world import ROOT

PROGRAM = """
import signal
from benchmarks import program
from benchmarks.machine import Processes

def main():
    with Processes().started("worker", ["sleep", "600"]) as one, one:
        print(one.pid, flush=True)
        signal.pause()

program.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_stops_what_it_started_and_says_so(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        child = int(running.stdout.readline())
        # As a terminal sends it: to all of its group, of which the child is none.
        assert os.getpgid(child) != os.getpgid(running.pid)
        os.killpg(running.pid, number)
        _, said = running.communicate(timeout=60)
    assert (running.returncode, said) == (130, b"Interrupted; all that was started is stopped.\n")
    assert not Path(f"/proc/{child}").exists()
