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


# Stands between texts that are joined. Printable ASCII and no quote, it changes nothing of what is
# asked of them; a text that has it looks like several, which is at worst looked at more closely.
SEPARATOR = "|"
_PRINTABLE = bytes(range(ord(" "), ord("~") + 1))


def joined(texts: Sequence[str]) -> str:
    """The texts in one, with the separator before and after each: one look then tells of all."""
    return f"{SEPARATOR}{SEPARATOR.join(texts)}{SEPARATOR}"


def is_printable(text: str) -> bool:
    """What `str.isprintable` says: of ASCII in a sixth of the time."""
    if not text.isascii():
        return text.isprintable()
    return not text.encode().translate(None, _PRINTABLE)


def all_within(chars_max: int, texts: Sequence[str], text: str) -> bool:
    """Whether none of the texts, which are joined in `text`, has more characters."""
    if text.count(SEPARATOR) != len(texts) + 1:
        return max(map(len, texts)) <= chars_max
    at, last = 0, len(text) - 1
    while last - at > chars_max + 1:
        # From one separator to the last of those that may come next.
        at = text.rfind(SEPARATOR, at + 1, at + chars_max + 2)
        if at < 0:
            return False
    return True
