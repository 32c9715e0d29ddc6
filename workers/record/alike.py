"""Rows that are alike, as columns: the same names in their objects, and only texts that stand in
JSON as they are. What a million of them are hashed, closed and shown by is made a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

from workers.record.canonical import quoted

# The cells of a column; one text where all rows have the same.
Cells = str | Sequence[str]


class Alike(NamedTuple):
    """The objects of rows that are alike, each by the columns of its names, in the file's order."""

    fields: Mapping[str, Cells]
    context: Mapping[str, Cells]
    customer: Mapping[str, Cells]
    metadata: Mapping[str, Cells]
    description: Cells

    def cut(self, piece: slice) -> Alike:
        """Those of some of the rows."""

        def of(cells: Cells) -> Cells:
            return cells if isinstance(cells, str) else cells[piece]

        *objects, description = self
        columns = [{name: of(cells) for name, cells in some.items()} for some in objects]
        return Alike._make([*columns, of(description)])


class Template:
    """A text of each row, of which most is the same for all of them."""

    def __init__(self) -> None:
        # Text that all rows have before each column, that column, and what comes after the last.
        self._columns: list[tuple[str, Sequence[str]]] = []
        self._same = ""

    def add(self, same: str, cells: Cells = "") -> None:
        """Text that all rows have, and then that of a column."""
        self._same += same
        if isinstance(cells, str):
            self._same += cells
        else:
            self._columns.append((self._same, cells))
            self._same = ""

    def add_object(
        self, same: str, columns: Mapping[str, Cells], quote: Callable[[str], str] = quoted
    ) -> None:
        """Text that all rows have, and then an object in JSON."""
        self.add(same + "{")
        comma = ""
        for name, cells in columns.items():
            self.add(f'{comma}{quote(name)}:"', cells)
            comma = '",'
        self.add('"}' if columns else "}")

    def texts(self, count: int) -> list[str]:
        """The text of each of so many rows."""
        # Joined, they take a quarter of the time of a format.
        parts: list[Iterable[str]] = []
        for same, cells in self._columns:
            parts += (repeat(same, count), cells)
        return list(map("".join, zip(*parts, repeat(self._same, count), strict=True)))

    def bytes(self, count: int) -> list[bytes]:
        """The same in UTF-8."""
        return list(map(str.encode, self.texts(count)))


def in_order(columns: Mapping[str, Cells]) -> Mapping[str, Cells]:
    """The columns by their names, as `Order.canonical` has them."""
    return dict(sorted(columns.items()))
