"""The plain stretches of a CSV file, read by pyarrow: several times as fast as Python's csv.

Plain is what every reader of CSV takes alike: lines of as many cells as the header has, quotes only
around a whole cell and none in it, no newline in a cell, no NUL and no blank line. From the first
block on that is not plain, `batches.formats` reads the rest itself and alone says what is wrong, so
this must never take what that one would not.
"""

from __future__ import annotations

import codecs
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from batches.cells import Batch, Few, words_of

BLOCK_BYTES = 1 << 20
# For fewer rows at a time than this, reading whole blocks does not pay.
ROWS_MIN = 500
# Python's csv refuses a longer cell; here no whole line may be longer.
LINE_BYTES_MAX = 100_000
# A column with more different texts than this share of a block's rows is taken cell by cell.
FEW_SHARE = 8
_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


class Place(NamedTuple):
    """Where in a file the plain rows end: from which byte on, and how many lines are before it."""

    byte: int
    lines: int


class Layout(NamedTuple):
    """How the rows of a file are laid out."""

    delimiter: str
    width: int
    line_bytes_max: int
    # The places of the columns asked for, and among those the one that no row may leave blank: a
    # row that is blank throughout is no row.
    kept: Sequence[int]
    never_blank: int


def plain_rows(path: Path, layout: Layout, rows: int) -> Generator[Batch, None, Place | None]:
    """The rows as far as they are plain, at most so many at a time.

    Returns:
        Where the rest begins; None: there is none.
    """
    reader = _Reader(layout)
    with path.open("rb") as file, ThreadPoolExecutor(1, "paybatch-csv") as ahead:
        header = file.readline(LINE_BYTES_MAX)
        if b'"' in header or not header.endswith(b"\n") or b"\r" in header[:-2]:
            return Place(0, 0)
        place = Place(len(header), 1)
        blocks = _blocks(file)
        # While one block is gone through, the next one is parsed, which needs no Python.
        found = ahead.submit(reader.next, blocks)
        while (read := found.result()) is not None:
            size, arrays = read
            if arrays is None:
                return place
            found = ahead.submit(reader.next, blocks)
            columns = reader.columns(arrays)
            if columns is None:
                return place
            yield from _batches(columns, place.lines, rows)
            place = Place(place.byte + size, place.lines + len(arrays[0]))
    return None


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, about a block at a time."""
    rest = b""
    while block := file.read(BLOCK_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        elif len(rest) > LINE_BYTES_MAX:
            # It is left to the careful reader.
            break
        else:
            rest += block
    if rest:
        yield rest


def _batches(
    columns: Sequence[Sequence[str]], before: int, rows: int
) -> Generator[Batch, None, None]:
    count = len(columns[0])
    for first in range(0, count, rows):
        last = min(first + rows, count)
        lines = list(range(before + first + 1, before + last + 1))
        yield lines, [_part(cells, first, last) for cells in columns], []


def _part(cells: Sequence[str], first: int, last: int) -> Sequence[str]:
    part = cells[first:last]
    return Few(part, cells.words) if isinstance(cells, Few) else part


def _is_plain(block: bytes, layout: Layout) -> bool:
    """Whether lines end where newlines are and nowhere else, and quotes are around whole cells."""
    # pyarrow would leave out what may stand at the beginning of a file.
    if block.startswith(codecs.BOM_UTF8) or b"\0" in block:
        return False
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return False
    text = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(text == _NEWLINE)
    if np.diff(newlines, prepend=-1, append=len(block)).max() > min(
        LINE_BYTES_MAX, layout.line_bytes_max
    ):
        return False
    quotes = np.flatnonzero(text == _QUOTE)
    if not len(quotes):
        return True
    if len(quotes) % 2:
        return False
    # Were each second one not followed by the end of a cell, it would not close the one before it.
    opening, closing = quotes[::2], quotes[1::2]
    before = text[opening[opening > 0] - 1]
    behind = text[closing[closing < len(block) - 1] + 1]
    outside = (_NEWLINE, ord(layout.delimiter))
    return bool(
        np.isin(before, outside).all()
        and np.isin(behind, (*outside, _RETURN)).all()
        and (np.searchsorted(newlines, opening) == np.searchsorted(newlines, closing)).all()
    )


class _Reader:
    """Blocks of whole lines as columns of text."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        names = [str(at) for at in range(layout.width)]
        self._kept = [names[at] for at in layout.kept]
        self._never_blank = self._kept.index(names[layout.never_blank])
        self._read = pacsv.ReadOptions(
            column_names=names, use_threads=False, block_size=4 * BLOCK_BYTES
        )
        self._parse = pacsv.ParseOptions(
            delimiter=layout.delimiter, quote_char='"', double_quote=False, escape_char=False
        )
        self._convert = pacsv.ConvertOptions(
            include_columns=self._kept,
            column_types=dict.fromkeys(self._kept, pa.string()),
            strings_can_be_null=False,
            check_utf8=True,
        )
        # Columns that had many different texts before.
        self._many: set[int] = set()

    def next(self, blocks: Iterator[bytes]) -> tuple[int, list[Any] | None] | None:
        """The next block's size, and its columns as arrays: those of few texts as dictionaries. No
        columns: something in it is not plain. None: there is no block."""
        block = next(blocks, None)
        if block is None:
            return None
        table = self._table(block)
        if table is None:
            return len(block), None
        return len(block), [self._array(at, each) for at, each in enumerate(table.itercolumns())]

    def _table(self, block: bytes) -> Any:
        if not _is_plain(block, self._layout):
            return None
        count = block.count(b"\n") + (not block.endswith(b"\n"))
        try:
            table = pacsv.read_csv(
                pa.py_buffer(block),
                read_options=self._read,
                parse_options=self._parse,
                convert_options=self._convert,
            )
        except pa.ArrowInvalid:
            return None
        # Blank lines are left out, so there are fewer rows than lines.
        return table if table.num_rows == count else None

    def columns(self, arrays: Sequence[Any]) -> list[Sequence[str]] | None:
        """The columns asked for; None: a row is blank, or nearly so."""
        columns = list(map(_cells, arrays))
        return None if "" in words_of(columns[self._never_blank]) else columns

    def _array(self, at: int, column: Any) -> Any:
        array = column.combine_chunks()
        if at not in self._many:
            found = array.dictionary_encode()
            words = len(found.dictionary)
            if words == 1 or words * FEW_SHARE <= len(found):
                return found
            self._many.add(at)
        return array


def _cells(array: Any) -> Sequence[str]:
    if not pa.types.is_dictionary(array.type):
        texts: list[str] = array.to_pylist()
        return texts
    words = array.dictionary.to_pylist()
    if len(words) == 1:
        return Few(words * len(array), words)
    return Few([words[index] for index in array.indices.to_pylist()], words)
