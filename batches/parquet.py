"""Parquet as columns of text: a format as those in `batches.formats`, by itself because its parser
takes a while to load, which only such a file is worth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batches.cells import Batch, Few
from batches.faults import mask_cell
from batches.formats import UNPACKED_FACTOR, Limits, over, plain_number, refusal

# Tools write a million rows as one row group, and what is read of a column as a dictionary grows
# there to all texts that differ, and ten times their bytes. So large are the columns together
# that are read so at most: of 20,000 rows it is all of them, of a million those of few texts.
DICTIONARIES_BYTES_MAX = 2_000_000
# A column that is read as plain text repeats what its dictionary in the file has once. So large
# may the longest of these texts become, repeated in all rows of a batch.
REPEATED_BYTES_MAX = 40_000_000
# So much of a column lies in memory before it is unpacked, and not all that its row group has.
BUFFER_BYTES = 1 << 16
# Texts of a batch that are longer together are looked through for those that repeat.
LONG_BYTES_MIN = 1_000_000


# What every cell of these types may be; a dictionary of one of them is as good.
def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        test(inner)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _beyond(most: int, sizes: Mapping[str, int]) -> Set[str]:
    """Whose sizes are over the most that all may have together, the smallest ones first."""
    by_size = sorted(sizes, key=lambda name: sizes[name])
    together = accumulate(sizes[name] for name in by_size)
    return {name for name, size in zip(by_size, together, strict=True) if size > most}


class Parquet:
    """Rows are numbered from 2, like those of a file with a header."""

    guarded = False

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._cell_chars_max = limits.cell_chars_max
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
            unpacked = sum(group.total_byte_size for group in groups)
            if unpacked > UNPACKED_FACTOR * limits.bytes_max:
                raise over(path, f"{unpacked:,} bytes when unpacked", "bytes_max")
            if file.metadata.num_rows > limits.rows_max:
                raise over(path, f"{file.metadata.num_rows:,} rows", "rows_max")
            self._schema = file.schema_arrow
            self._metadata = file.metadata
        # By row group and column; the rows are gone through more than once.
        self._longest_of: dict[tuple[int, str], int] = {}

    def header(self, recognised: Callable[[Iterable[str]], int]) -> list[str]:  # noqa: ARG002 - only text asks
        return list(self._schema.names)

    def batches(self, kept: Mapping[str, int], rows: int) -> Iterator[Batch]:
        fields = [self._schema.field(at) for at in kept.values()]
        for name, field in zip(kept, fields, strict=True):
            self._refuse_type(name, field)
        names = [field.name for field in fields]
        texts = [field.name for field in fields if _is_text(field.type)]
        every = range(self._metadata.num_row_groups)
        line = 2
        for dictionaries, groups in groupby(every, lambda at: self._dictionaries(at, texts, rows)):
            with self._opened(dictionaries) as file:
                for batch in file.iter_batches(rows, list(groups), names):
                    columns: list[Sequence[str]] = [
                        self._cells(batch.column(field.name)) for field in fields
                    ]
                    filled = [at for at, row in enumerate(zip(*columns, strict=True)) if any(row)]
                    if len(filled) < len(batch):
                        columns = [[cells[at] for at in filled] for cells in columns]
                    yield [line + at for at in filled], columns, []
                    line += len(batch)

    def _opened(self, dictionaries: Sequence[str]) -> pq.ParquetFile:
        """The file, with those columns read as dictionaries."""
        return pq.ParquetFile(
            self._path,
            metadata=self._metadata,
            read_dictionary=dictionaries,
            pre_buffer=False,
            buffer_size=BUFFER_BYTES,
        )

    def _dictionaries(self, group: int, texts: Sequence[str], rows: int) -> Sequence[str]:
        """The columns of text that are read as dictionaries in a row group.

        Then a long text that repeats is held once, so a small file cannot unpack into more than
        its metadata says. As plain text a column holds nothing of the rows before: that is better
        for one of many texts, where none is long of those that may repeat.
        """
        found = self._metadata.row_group(group)
        every = (found.column(at) for at in range(found.num_columns))
        chunks = {chunk.path_in_schema: chunk for chunk in every if chunk.path_in_schema in texts}
        sizes = {name: chunk.total_uncompressed_size for name, chunk in chunks.items()}
        large = _beyond(DICTIONARIES_BYTES_MAX, sizes)
        longest = {name: self._longest(group, chunks[name]) for name in large}
        long = _beyond(REPEATED_BYTES_MAX // rows, longest)
        return [name for name in texts if name not in large or name in long]

    def _longest(self, group: int, chunk: Any) -> int:
        """The bytes of the longest text in the dictionary that a column has in the file."""
        if not chunk.has_dictionary_page and not any("DICT" in used for used in chunk.encodings):
            return 0
        name = chunk.path_in_schema
        if (group, name) not in self._longest_of:
            with self._opened([name]) as file:
                words = next(file.iter_batches(1, [group], [name])).column(0).dictionary
            # The first row gives the whole dictionary, or one word at most if its page does not
            # use it: then nobody knows what later pages repeat.
            known = len(words) > 1
            longest = pc.max(pc.binary_length(words)).as_py() if known else sys.maxsize
            self._longest_of[group, name] = longest
        return self._longest_of[group, name]

    def _refuse_type(self, name: str, field: Any) -> None:
        if _is_text(field.type) or pa.types.is_null(field.type):
            return
        if name == "amount" and _is_number(field.type):
            return
        wanted = "text or a number" if name == "amount" else "text"
        raise refusal(
            self._path,
            f'has {field.type} in column "{mask_cell("", field.name)}"; expected {wanted}:'
            " convert the column to string and write the file again",
        )

    def _cells(self, array: Any) -> list[str]:
        if pa.types.is_string_view(array.type):
            array = array.cast(pa.large_string())
        if _is_text(array.type) and not pa.types.is_dictionary(array.type):
            if array.nbytes <= LONG_BYTES_MIN:
                return list(pc.fill_null(array, "").to_numpy(zero_copy_only=False))
            array = array.dictionary_encode()
        if pa.types.is_dictionary(array.type):
            return self._words(array)
        if pa.types.is_floating(array.type):
            numbers = array.to_numpy(zero_copy_only=False)
            return ["" if np.isnan(number) else plain_number(number) for number in numbers]
        return ["" if value is None else plain_number(value) for value in array.to_pylist()]

    def _words(self, array: Any) -> list[str]:
        """The texts, each made once: the dictionary is that of all rows, not of these."""
        indices: Any = pc.fill_null(array.indices, -1)
        places = indices.to_numpy(zero_copy_only=False)
        used, inverse = np.unique(places, return_inverse=True)
        nulls = int(len(used) > 0 and used[0] < 0)
        taken = array.dictionary.take(pa.array(used[nulls:]))
        longest = pc.max(pc.binary_length(taken)).as_py() or 0
        # A character has at most four bytes in UTF-8. One more than allowed shows the fault.
        if longest > 4 * self._cell_chars_max:
            taken = pc.utf8_slice_codeunits(taken, 0, self._cell_chars_max + 1)
        words = [""] * nulls + [word or "" for word in taken.to_pylist()]
        return Few([words[at] for at in inverse.tolist()], words)
