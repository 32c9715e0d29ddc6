"""What all tests share: an option, and the counts that some of them report."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-kinds",
        action="store_true",
        help="pairs of every kind of fault at the crash points, not of one of each class; long",
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the tests counted: `record_property(name, number)`."""
    counted: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        if report.when == "call":
            counted.update(dict(report.user_properties))
    for name, number in counted.items():
        terminalreporter.write_line(f"{name}: {number}")
