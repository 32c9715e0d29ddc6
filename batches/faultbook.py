"""All faults of a file: the first ones at hand, every one counted by kind, the rest on disk.

A file of a million rows may have a fault in each. They never grow in memory beyond a few bytes a
row, and none is dropped: whoever goes through the book meets all of them, in the order of lines.
"""

from __future__ import annotations

import json
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from batches.faults import MEANINGS, Fault, FaultKind

# So many faults are kept at hand and told by `check --json`; more is read by no program.
LISTED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class FaultCount:
    """How often a column has one kind of fault, and the line that has it first."""

    kind: FaultKind
    column: str
    count: int
    first_line: int

    def __str__(self) -> str:
        where = f"{self.column}: " if self.column else ""
        return f"{self.count:,} x {where}{MEANINGS[self.kind]}, first at line {self.first_line:,}"


class FaultBook:
    """Faults in the order of their lines. Values are masked, so they may lie on disk."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._first: list[Fault] = []
        self._rest: IO[str] | None = None
        self._count = 0
        self._counts: dict[tuple[FaultKind, str], list[int]] = {}
        # The lines that have any, ascending: four bytes each.
        self._lines = array("i")
        self.add(faults)

    def add(self, faults: Iterable[Fault]) -> None:
        """Faults of lines that come after those that are in the book."""
        for fault in faults:
            self._count += 1
            counted = self._counts.setdefault((fault.kind, fault.column), [0, fault.line])
            counted[0] += 1
            if not self._lines or self._lines[-1] != fault.line:
                self._lines.append(fault.line)
            if len(self._first) < LISTED_MAX:
                self._first.append(fault)
            else:
                self._put_by(fault)

    def _put_by(self, fault: Fault) -> None:
        if self._rest is None:
            # It has no name in the folder, so only this process can read it, and it ends with it.
            self._rest = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - see below
            weakref.finalize(self, self._rest.close)
        row = (fault.line, fault.column, fault.kind, fault.value, fault.expected)
        self._rest.write(json.dumps(row) + "\n")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Fault]:
        """Every fault. Nothing may be added, nor a second pass begun, before the last is met."""
        yield from self._first
        if self._rest is None:
            return
        self._rest.seek(0)
        for text in self._rest:
            line, column, kind, value, expected = json.loads(text)
            yield Fault(line, column, FaultKind(kind), value, expected)

    def first(self, most: int = LISTED_MAX) -> list[Fault]:
        """The first faults, at most `LISTED_MAX` of them."""
        return self._first[:most]

    def lines(self) -> Iterator[int]:
        """The lines that have faults, ascending."""
        return iter(self._lines)

    @property
    def counts(self) -> list[FaultCount]:
        """All faults by kind and column, the most frequent first."""
        found = [
            FaultCount(kind, column, count, line)
            for (kind, column), (count, line) in self._counts.items()
        ]
        return sorted(found, key=lambda one: (-one.count, one.first_line))

    def as_json(self) -> dict[str, Any]:
        """The first faults whole, all of them counted, and how many the list leaves out."""
        return {
            "faults": [
                {
                    "line": fault.line,
                    "column": fault.column,
                    "kind": str(fault.kind),
                    "value": fault.value,
                    "expected": fault.expected,
                }
                for fault in self._first
            ],
            "fault_counts": [
                {
                    "kind": str(one.kind),
                    "column": one.column,
                    "count": one.count,
                    "first_line": one.first_line,
                }
                for one in self.counts
            ],
            "faults_not_listed": self._count - len(self._first),
        }


def by_line(faults: Iterable[Fault]) -> Iterator[tuple[int, list[Fault]]]:
    """The faults of each line that has any."""
    line, some = 0, list[Fault]()
    for fault in faults:
        if fault.line != line and some:
            yield line, some
            some = []
        line = fault.line
        some.append(fault)
    if some:
        yield line, some
