"""Parquet as columns of text: a format as those in `batches.formats`, by itself because its parser
takes a while to load, which only such a file is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batches.cells import Batch, Few
from batches.faults import mask_cell
from batches.formats import UNPACKED_FACTOR, Limits, over, plain_number, refusal


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

    def header(self, recognised: Callable[[Iterable[str]], int]) -> list[str]:  # noqa: ARG002 - only text asks
        return list(self._schema.names)

    def batches(self, kept: Mapping[str, int], rows: int) -> Iterator[Batch]:
        fields = [self._schema.field(at) for at in kept.values()]
        for name, field in zip(kept, fields, strict=True):
            self._refuse_type(name, field)
        # Read as a dictionary, a long text that repeats is held once, so a small file cannot
        # unpack into more than its metadata says.
        texts = [field.name for field in fields if _is_text(field.type)]
        line = 2
        with pq.ParquetFile(self._path, read_dictionary=texts) as file:
            for batch in file.iter_batches(rows, columns=[field.name for field in fields]):
                columns: list[Sequence[str]] = [
                    self._cells(batch.column(field.name)) for field in fields
                ]
                filled = [at for at, row in enumerate(zip(*columns, strict=True)) if any(row)]
                if len(filled) < len(batch):
                    columns = [[cells[at] for at in filled] for cells in columns]
                yield [line + at for at in filled], columns, []
                line += len(batch)

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
