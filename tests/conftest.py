"""What all tests share: an option, and the counts that some of them report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

# The property under which a scenario of faults tells what it came to.
SCENARIO = "fault scenario"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-kinds",
        action="store_true",
        help="pairs of every kind of fault at the crash points, not of one of each class; long",
    )
    add = parser.addoption
    add("--fault-seed", type=int, help="the chance of a fault scenario, as it was printed")
    add("--fault-payouts", type=int, help="of a fault scenario; from 1000 on, in its long form")
    add("--fault-minutes", type=float, default=0, help="how long the soak lasts")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the tests counted: `record_property(name, number)`."""
    counted: Counter[str] = Counter()
    scenarios: list[Mapping[str, Any]] = []
    for outcome in ("passed", "failed", "xfailed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties if report.when == "call" else ():
                if name == SCENARIO:
                    scenarios.append(value)
                elif outcome == "passed":
                    counted[name] += value
    for name, number in counted.items():
        terminalreporter.write_line(f"{name}: {number}")
    for line in _table(scenarios):
        terminalreporter.write_line(line)


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each scenario of faults came to."""
    if not rows:
        return
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield " | ".join(cells).rstrip()
