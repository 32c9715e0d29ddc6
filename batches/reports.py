"""Tables for people and programs: CSV, Parquet or XLSX by the file's suffix.

A table appears whole or not at all, and never grows in memory with its rows. No cell may run as a
formula in a spreadsheet, and a private file is never readable by others, not even while it is made.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from batches.formats import XLSX_ROWS_MAX
from batches.loading import FORMULA_START, GUARDED
from workers.errors import UsageError

PARQUET_GROUP_ROWS = 20_000
# A number is no formula: amounts below zero stay as they are.
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
# A line, and every cell begins one, that may need a guard; or a character that is not written.
_DOUBTFUL = re.compile(f"^['{re.escape(FORMULA_START)}]|\0", re.MULTILINE)
# What the disk may say in the middle of a file, and a person can mend.
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

Rows = Iterable[Sequence[object]]


def write_table(path: Path, columns: Sequence[str], rows: Rows, *, private: bool = False) -> int:
    """Write the rows as text under those columns and say how many there were; None is empty.

    In CSV and XLSX a cell that a spreadsheet might take for a formula gets one apostrophe in front,
    and so does one that has such an apostrophe already; `batches.loading` takes one away. So every
    cell comes back as it was from a file that is corrected and loaded again, private or not, and no
    second spelling is needed for files that people open. A private file carries that guard too: it
    is the one most likely to be opened in a spreadsheet. Plain numbers such as -5.00 have no guard.
    Parquet is not opened by spreadsheets: its cells are exact.

    Args:
        path: ends in .csv, .parquet or .xlsx; a file of that name is replaced once all is written.
        private: only the user may read the file (mode 0600), from its first byte on.

    Raises:
        UsageError: another suffix, a folder that is missing or may not be written to, a full disk,
            or more rows than an XLSX file can have.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UsageError(f"{path} does not end in .csv, .parquet or .xlsx; name one of these")
    with _replacing(path, private=private) as file:
        return write(file, columns, rows)


def check_target(path: Path, *, other_than: Path) -> None:
    """Say before the work whether `write_table` could write there.

    Raises:
        UsageError: it could not, or `path` is the file `other_than`.
    """
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"{path} does not end in .csv, .parquet or .xlsx; name one of these")
    if path.resolve() == other_than.resolve():
        raise UsageError(f"{path} is the input itself; name another file for the results")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: its folder does not exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path} cannot be written: no right to write there")


def guarded(text: str) -> str:
    """The text as no spreadsheet takes for a formula."""
    if text[:1] == "'":
        return "'" + text if GUARDED.match(text) else text
    if text[:1] and text[0] in FORMULA_START and _PLAIN_NUMBER.fullmatch(text) is None:
        return "'" + text
    return text


@contextmanager
def _replacing(path: Path, *, private: bool) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when all went well and vanishes otherwise."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    new = path.with_name(f".{secrets.token_hex(8)}.tmp")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(new, flags, 0o600 if private else 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        _sync_folder(path.parent)
    except FileNotFoundError as error:
        raise UsageError(f"{path} cannot be written: its folder does not exist") from error
    except PermissionError as error:
        raise UsageError(f"{path} cannot be written: no right to write there") from error
    except OSError as error:
        # Others come from the rows, which may be read from a database or a network.
        if error.errno not in (*_DISK_FAULTS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EROFS):
            raise
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            new.unlink()


def _sync_folder(folder: Path) -> None:
    # Without this a power cut may forget the new name. Not every system lets a folder be opened.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _text(value: object) -> str:
    """Text that can be stored as UTF-8."""
    text = "" if value is None else str(value)
    return text if text.isascii() else text.encode(errors="replace").decode()


def _texts(values: Sequence[object]) -> Sequence[object]:
    """The values as `_text` has them; most columns are that already."""
    try:
        if "".join(values).isascii():  # type: ignore[arg-type]  # told by the TypeError
            return values
    except TypeError:
        pass
    return [_text(value) for value in values]


def _is_plain(row: Sequence[object]) -> bool:
    """Whether every cell is text that needs no guard: told at once for the whole row."""
    try:
        joined = "\n".join(row)  # type: ignore[arg-type]  # told by the TypeError
    except TypeError:
        return False
    return joined.isascii() and _DOUBTFUL.search(joined) is None


def _write_csv(file: BinaryIO, columns: Sequence[str], rows: Rows) -> int:
    # The loader takes a NUL as a sign of another encoding.
    def cells(row: Sequence[object]) -> Sequence[object]:
        if _is_plain(row):
            return row
        return [guarded(_text(value)).replace("\0", "\ufffd") for value in row]

    count = 0
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # CRLF as in RFC 4180: with LF alone, csv.writer leaves a CR within a cell unquoted.
    writer = csv.writer(text)
    try:
        writer.writerow(cells(columns))
        for row in rows:
            writer.writerow(cells(row))
            count += 1
    finally:
        text.detach()
    return count


def _write_parquet(file: BinaryIO, columns: Sequence[str], rows: Rows) -> int:
    import pyarrow as pa  # noqa: PLC0415 - for this kind of file alone
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = pa.schema([(name, pa.string()) for name in columns])
    count = 0
    source = iter(rows)
    with pq.ParquetWriter(file, schema) as writer:
        while group := list(islice(source, PARQUET_GROUP_ROWS)):
            columns_of = zip(*group, strict=True)
            arrays = [pa.array(_texts(cells), pa.string()) for cells in columns_of]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(group)
    return count


def _write_xlsx(file: BinaryIO, columns: Sequence[str], rows: Rows) -> int:
    from openpyxl import Workbook  # noqa: PLC0415 - for this kind of file alone

    book = Workbook(write_only=True)
    sheet: Any = book.create_sheet("payouts")
    text_cell = _text_cells(sheet)
    count = -1
    try:
        for row in _chained(columns, rows):
            count += 1
            if count >= XLSX_ROWS_MAX:
                raise UsageError(
                    f"XLSX has room for {XLSX_ROWS_MAX - 1:,} rows; write .csv or .parquet"
                )
            sheet.append([text_cell(value) for value in row])
        book.save(file)
    finally:
        _forget(sheet)
    return count


def _chained(columns: Sequence[str], rows: Rows) -> Iterator[Sequence[object]]:
    yield columns
    yield from rows


def _text_cells(sheet: Any) -> Callable[[object], Any]:
    """What makes a cell of that sheet from a value."""
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415 - as above
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE  # noqa: PLC0415 - as above

    def text_cell(value: object) -> Any:
        text = ILLEGAL_CHARACTERS_RE.sub("\ufffd", guarded(_text(value)))
        if not text:
            return None
        cell = WriteOnlyCell(sheet, text)
        # openpyxl would guess: "#N/A" an error, "=..." a formula.
        cell.data_type = "s"
        return cell

    return text_cell


def _forget(sheet: Any) -> None:
    """Remove the rows that openpyxl keeps in a temporary file until the book is saved."""
    writer = sheet._writer
    if writer is not None and os.path.exists(writer.out):
        if not sheet.closed:
            sheet.close()
        writer.cleanup()


_WRITERS: Mapping[str, Callable[[BinaryIO, Sequence[str], Rows], int]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".xlsx": _write_xlsx,
}
