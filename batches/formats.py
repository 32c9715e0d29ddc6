"""CSV and XLSX as columns of text with line numbers, each by one class of the same shape.

What the columns are called and what a cell means is for others. A parser may raise whatever it
likes here; `batches.loading` is the border where that becomes one sentence.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from batches.cells import Batch
from batches.faults import Fault, FaultKind, mask_cell
from workers.errors import FileUnreadable
from workers.settings import Settings

if TYPE_CHECKING:
    from batches.quick_csv import Place

# A spreadsheet's XML is three to four times its text, so a file at the limit still opens.
UNPACKED_FACTOR = 4
# The last row that an XLSX file can have.
XLSX_ROWS_MAX = 1_048_576
# What encrypted workbooks and those of Excel before 2007 begin with.
_OLE = b"\xd0\xcf\x11\xe0"
# Excel stores a control character as _x000D_; it must not reach a provider in that spelling.
_XLSX_CONTROL = re.compile(r"_x00([01][0-9A-Fa-f])_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a file is read at most: untrusted input must end somewhere."""

    rows_max: int
    bytes_max: int
    cell_chars_max: int
    columns_max: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits that the settings name."""
        return cls(
            rows_max=settings.rows_max,
            bytes_max=settings.bytes_max,
            cell_chars_max=settings.cell_chars_max,
            columns_max=settings.columns_max,
        )


class Source(Protocol):
    """One format: first the header, then any number of passes over the rows."""

    # Cells may carry the apostrophe that guards against formulas.
    guarded: bool

    def header(self, recognised: Callable[[Iterable[str]], int]) -> list[str]:
        """The names of the columns; `recognised` counts those that mean something."""
        ...

    def batches(self, kept: Mapping[str, int], rows: int) -> Iterator[Batch]:
        """The rows of the columns at those places, at most so many at a time, without blank rows;
        a batch may be empty.
        """
        ...


def refusal(path: Path, sentence: str) -> FileUnreadable:
    """The one sentence that starts with the file's name."""
    return FileUnreadable(f"{path.name} {sentence}")


def over(path: Path, found: str, limit: str) -> FileUnreadable:
    """The sentence about a limit, by its name in the settings."""
    return refusal(path, f"has {found}, over the limit {limit}; split the file or raise the limit")


class _Watched(io.RawIOBase):
    """The bytes of a file, checked on the way: csv itself would take a NUL, and would read a line
    without end into memory.
    """

    def __init__(self, path: Path, line_bytes_max: int, byte: int) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._file.seek(byte)
        self._line_bytes_max = line_bytes_max
        self._since_newline = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        data = bytes(buffer[:count])
        if b"\0" in data:
            raise refusal(
                self._path,
                "has a NUL character: it may be UTF-16 or no text at all; save it as CSV (UTF-8)",
            )
        newline = max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._since_newline = count - newline if newline >= 0 else self._since_newline + count
        if self._since_newline > self._line_bytes_max:
            raise refusal(self._path, "has a line that is too long; expected one line a row")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class Csv:
    """The delimiter is found from the header; quoting is strict, so no row shifts unseen."""

    guarded = True

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        with path.open("rb") as file:
            if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise refusal(path, "is UTF-16 text; save it as CSV (UTF-8)")
        # A full row: each character in four bytes or a doubled quote, two quotes around a cell.
        self._line_bytes_max = limits.columns_max * (4 * limits.cell_chars_max + 3)
        self._delimiter = ","
        self._width = 0

    def header(self, recognised: Callable[[Iterable[str]], int]) -> list[str]:
        """The first record, split by the delimiter that gives the most columns that we know."""
        best = (-1, -1)
        names: list[str] = []
        trouble: FileUnreadable | None = None
        for delimiter in ",;\t":
            try:
                with self._reading(delimiter) as reader:
                    cells: list[str] = next(reader, [])
            except FileUnreadable as error:
                trouble = trouble or error
                continue
            if (recognised(cells), len(cells)) > best:
                best, names = (recognised(cells), len(cells)), cells
                self._delimiter = delimiter
        if trouble is not None and best[0] < 1:
            raise trouble
        if not any(names):
            raise refusal(self._path, "has no header in line 1; expected column names")
        self._width = len(names)
        return names

    def batches(self, kept: Mapping[str, int], rows: int) -> Iterator[Batch]:
        # The parsers of large files take a tenth of a second to load.
        from batches.quick_csv import ROWS_MIN, Layout, Place, plain_rows  # noqa: PLC0415

        place: Place | None = Place(0, 0)
        required = kept.get("reference_id")
        if required is not None and rows >= ROWS_MIN:
            kept_at = list(kept.values())
            layout = Layout(self._delimiter, self._width, self._line_bytes_max, kept_at, required)
            place = yield from plain_rows(self._path, layout, rows)
        if place is not None:
            yield from self._careful(kept, rows, place)

    def _careful(self, kept: Mapping[str, int], rows: int, place: Place) -> Iterator[Batch]:
        """The rows from that place on, whatever they look like."""
        with self._reading(self._delimiter, place.byte) as reader:
            if not place.byte:
                next(reader)
            read = reader.line_num
            before = place.lines + read
            while records := list(islice(reader, rows)):
                lines: Sequence[int] = range(before + 1, before + 1 + len(records))
                if reader.line_num - read != len(records):
                    lines = list(_lines(records, before))
                before += reader.line_num - read
                read = reader.line_num
                faults: list[Fault] = []
                if set(map(len, records)) != {self._width} or not all(map(any, records)):
                    lines, records = self._fitted(lines, records, faults)
                columns = list(zip(*records, strict=True)) or [()] * self._width
                yield list(lines), [columns[at] for at in kept.values()], faults

    def _fitted(
        self, lines: Sequence[int], records: list[list[str]], faults: list[Fault]
    ) -> tuple[list[int], list[list[str]]]:
        """The records that are not blank, each with as many cells as the header."""
        width = self._width
        kept = [
            (line, cells)
            for line, cells in zip(lines, records, strict=True)
            if any(cells) and (len(cells) == width or any(cell.strip() for cell in cells))
        ]
        faults += [ragged(line, len(cells), width) for line, cells in kept if len(cells) != width]
        fitted = [(cells + [""] * width)[:width] for _, cells in kept]
        return [line for line, _ in kept], fitted

    @contextmanager
    def _reading(self, delimiter: str, byte: int = 0) -> Iterator[Any]:
        try:
            with self._open(byte) as file:
                yield csv.reader(file, delimiter=delimiter, strict=True)
        except csv.Error as error:
            raise self._why_not_csv(delimiter) from error
        except UnicodeDecodeError as error:
            raise _why_not_utf8(self._path) from error

    def _open(self, byte: int = 0) -> TextIO:
        """The text from that byte on, with which a line begins."""
        watched = io.BufferedReader(_Watched(self._path, self._line_bytes_max, byte), 1 << 18)
        return io.TextIOWrapper(watched, encoding="utf-8" if byte else "utf-8-sig", newline="")

    def _why_not_csv(self, delimiter: str) -> FileUnreadable:
        """A quote that never closes swallows the lines after it: name where it began."""
        first, why = 1, ""
        with self._open() as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                for _ in reader:
                    first = reader.line_num + 1
            except csv.Error as error:
                last, why = reader.line_num, str(error)
        with self._open() as file:
            record = "".join(islice(file, first - 1, last))
        opened: int | None = None
        for quote in re.finditer('"+', record):
            # Inside a quoted cell a pair of quotes stands for one; an odd run opens or closes.
            if len(quote[0]) % 2:
                opened = quote.start() if opened is None else None
        if opened is not None and "expected after" not in why:
            first += _newlines(record[:opened])
            return refusal(
                self._path,
                f'has a quote (") in line {first} that is never closed; close or remove it',
            )
        if "field larger" in why:
            return refusal(self._path, f"has a cell that is too long in line {first}; shorten it")
        lines = f"line {last}" if first >= last else f"lines {first} to {last}"
        return refusal(
            self._path,
            f"has a quote in the wrong place in {lines}; expected quotes around a whole cell and"
            " two quotes for each one inside it",
        )


def _lines(records: Iterable[Sequence[str]], before: int) -> Iterator[int]:
    """The line that each record begins on; newlines in its cells are lines of the file too."""
    for cells in records:
        yield before + 1
        before += 1 + sum(_newlines(cell) for cell in cells if not cell.isprintable())


def ragged(line: int, found: int, width: int) -> Fault:
    expected = f"{width} cells as in the header, found {found}; put quotes around a cell that has a"
    return Fault(line, "", FaultKind.RAGGED_ROW, "", f"{expected} delimiter in it")


def _newlines(text: str) -> int:
    return len(re.findall("\r\n|\r|\n", text))


def _why_not_utf8(path: Path) -> FileUnreadable:
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as file:
        for block in (*iter(partial(file.read, 1 << 20), b""), b""):
            try:
                line += _newlines(decoder.decode(block, final=not block))
            except UnicodeDecodeError as error:
                line += _newlines(error.object[: error.start].decode())
                byte = error.object[error.start]
                return refusal(
                    path,
                    f"is not UTF-8 in line {line} (byte 0x{byte:02X}), probably Windows-1252;"
                    " save it as CSV (UTF-8)",
                )
    return refusal(path, "is not UTF-8; save it as CSV (UTF-8)")


def plain_number(number: Any) -> str:
    """The shortest decimal that means that number, without an exponent: `2500`, `0.1`."""
    if isinstance(number, Decimal):
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(number, int):
        return str(number)
    import numpy as np  # noqa: PLC0415 - for such numbers alone

    return np.format_float_positional(number, unique=True, trim="-")


_HIDDEN = "a row that can be seen; show it, or delete it if it is not to be paid"
_XLSX_KINDS = {
    "n": FaultKind.NUMERIC_CELL,
    "f": FaultKind.FORMULA_CELL,
    "d": FaultKind.DATE_CELL,
    "b": FaultKind.BOOLEAN_CELL,
}
_XLSX_EXPECTED = {
    FaultKind.NUMERIC_CELL: "text, found a numeric cell, where leading zeros and long numbers are"
    " lost; format the column as text and type the value again",
    FaultKind.FORMULA_CELL: "a value, found a formula; paste the column as values",
    FaultKind.DATE_CELL: "text, found a date cell; format the column as text and type it again",
    FaultKind.BOOLEAN_CELL: "text, found a true/false cell; format the column as text",
    FaultKind.ERROR_CELL: "a value, found a spreadsheet error; correct it and paste values",
}


class Xlsx:
    """The first visible sheet. Cells say their type, so a number is known from a text."""

    guarded = True

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._width = 0
        with path.open("rb") as file:
            if file.read(len(_OLE)) == _OLE:
                raise refusal(
                    path, "is encrypted or an old .xls; save it as .xlsx without a password"
                )
        with zipfile.ZipFile(path) as archive:
            parts = {part.filename: part.file_size for part in archive.infolist()}
        # Sheets are read row by row, everything else as a whole.
        whole = sum(n for name, n in parts.items() if not name.startswith("xl/worksheets/"))
        if sum(parts.values()) > UNPACKED_FACTOR * limits.bytes_max or whole > limits.bytes_max:
            raise over(path, f"{sum(parts.values()):,} bytes when unpacked", "bytes_max")
        from openpyxl import load_workbook  # noqa: PLC0415 - for this kind of file alone

        self._book: Any = load_workbook(path, read_only=True, keep_links=False)
        sheets = self._book.worksheets
        visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
        self._sheet: Any = (visible or sheets)[0]

    def header(self, recognised: Callable[[Iterable[str]], int]) -> list[str]:  # noqa: ARG002 - only text asks
        number, cells, _ = next(self._rows(), (1, {}, False))
        if number != 1 or not cells:
            raise refusal(self._path, "has no header in row 1; expected column names")
        self._width = max(cells)
        return [_text(cells[at]) if at in cells else "" for at in range(1, self._width + 1)]

    def batches(self, kept: Mapping[str, int], rows: int) -> Iterator[Batch]:
        names = {at + 1: name for name, at in kept.items()}
        numbered = islice(self._rows(), 1, None)
        while taken := list(islice(numbered, rows)):
            faults: list[Fault] = []
            lines: list[int] = []
            texts: list[list[str]] = []
            for line, cells, hidden in taken:
                if not cells:
                    continue
                if hidden:
                    faults.append(Fault(line, "", FaultKind.HIDDEN_ROW, "", _HIDDEN))
                if max(cells) > self._width:
                    faults.append(ragged(line, max(cells), self._width))
                lines.append(line)
                texts.append([_text(cells[at]) if at in cells else "" for at in names])
                faults += _type_faults(line, cells, names)
            yield lines, list(zip(*texts, strict=True)) or [()] * len(names), faults

    def _rows(self) -> Iterator[tuple[int, dict[int, dict[str, Any]], bool]]:
        """Each row's number, its cells that are not empty, and whether it is hidden. openpyxl's own
        reading of rows leaves out what lies beyond the size that the file claims, and rows out of
        order; a payout must not vanish like that.
        """
        from openpyxl.worksheet._reader import WorkSheetParser  # noqa: PLC0415 - as above

        book, sheet = self._book, self._sheet
        with sheet._get_source() as source:
            parser = WorkSheetParser(
                source,
                sheet._shared_strings,
                epoch=book.epoch,
                date_formats=book._date_formats,
                timedelta_formats=book._timedelta_formats,
            )
            before = 0
            for number, found in parser.parse():
                cells = {cell["column"]: cell for cell in found}
                if not before < number <= XLSX_ROWS_MAX or len(cells) < len(found):
                    raise ValueError("rows or cells out of order")
                before = number
                filled = {at: c for at, c in cells.items() if c["value"] not in (None, "")}
                # Taken out, so that they do not add up over a long sheet.
                look = parser.row_dimensions.pop(str(number), {})
                yield number, filled, look.get("hidden") in ("1", "true")


def _type_faults(
    line: int, cells: Mapping[int, dict[str, Any]], names: Mapping[int, str]
) -> Iterator[Fault]:
    for at, cell in cells.items():
        kind = _XLSX_KINDS.get(cell["data_type"], FaultKind.ERROR_CELL)
        name = names.get(at)
        if cell["data_type"] == "s" or name is None:
            continue
        if name == "amount" and kind is FaultKind.NUMERIC_CELL:
            continue
        yield Fault(line, name, kind, mask_cell(name, _text(cell)), _XLSX_EXPECTED[kind])


def _text(cell: Mapping[str, Any]) -> str:
    if cell["data_type"] == "s":
        return _XLSX_CONTROL.sub(lambda code: chr(int(code[1], 16)), cell["value"])
    if cell["data_type"] == "n":
        return plain_number(cell["value"])
    return str(cell["value"])
