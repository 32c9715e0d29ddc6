"""Cells of a file as its readers give them: by column, some rows at a time."""

from __future__ import annotations

from collections.abc import Sequence

from batches.faults import Fault

# The lines that rows begin on, the columns asked for, and what reading has seen.
Batch = tuple[list[int], list[Sequence[str]], list[Fault]]


class Few(list[str]):
    """A column of few texts that differ, and which those are."""

    __slots__ = ("words",)

    def __init__(self, cells: Sequence[str], words: Sequence[str]) -> None:
        super().__init__(cells)
        self.words = words


def words_of(cells: Sequence[str]) -> Sequence[str]:
    """The texts of a column, each at least once."""
    return cells.words if isinstance(cells, Few) else cells
