"""A file of payouts as rows of text, in chunks, with the line numbers that a person would look for.

CSV, Parquet and XLSX come out alike: text as it stands in the file, nothing guessed, nothing
rounded. What a cell means is for `batches.checks`. The file is untrusted: it must never exhaust the
machine, and whatever a parser trips over becomes one sentence for the person who prepared it.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from batches.cells import SEPARATOR, Batch, all_within, is_printable, joined, words_of
from batches.faults import PERSONAL, Fault, FaultKind, mask_cell, nearest
from batches.formats import Csv, Limits, Source, Xlsx, over, refusal
from workers.errors import FileUnreadable, UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Chunk", "Fault", "FaultKind", "Limits", "Sheet", "mask_cell", "open_sheet"]

REQUIRED = ("reference_id", "amount", "currency")
PLAIN = (*REQUIRED, "service", "account", "description", "replaces")
# Our own outputs add these to the maker's columns; corrected files still have them.
DROPPED = ("failure_code", "failure_reason", "fault_line", "fault_reason", "fault_file")
# In fault_file stands what the file was that a faulty row is from: these, and so many digits of
# its hash. The letters keep a spreadsheet from taking it for a number.
MARK_START, MARK_HEX = "file-", 16
_MARK = re.compile(f"{MARK_START}([0-9a-f]{{{MARK_HEX}}})")
NESTED = (*PERSONAL, "metadata.")
NAMED = re.compile(r"(?:fields|context|customer|metadata)(?:\.[A-Za-z0-9_-]+)+", re.ASCII)

# A chunk that stays in the processor's cache, and yet makes few questions to the database of a
# million rows.
CHUNK_ROWS = 4_000
# So much joined text of a chunk is kept for the next question: of one wide character, all take four
# bytes, and a hostile chunk may have any number of long cells.
TOGETHER_CHARS_MAX = 4_000_000
NO_MAPPING: Mapping[str, str] = MappingProxyType({})

# What a spreadsheet may take for a formula. `batches.reports` puts one apostrophe before such a
# cell and before one that has the apostrophe already, so taking one away restores every cell.
FORMULA_START = "=+-@\t\r"
GUARDED = re.compile(f"'+[{FORMULA_START}]")


def _parquet(path: Path, limits: Limits) -> Source:
    from batches.parquet import Parquet  # noqa: PLC0415 - for this kind of file alone

    return Parquet(path, limits)


_SOURCES: Mapping[str, Callable[[Path, Limits], Source]] = {
    ".csv": Csv,
    ".parquet": _parquet,
    ".xlsx": Xlsx,
}


@dataclass
class Chunk:
    """Some rows of the file, in its order."""

    # The number of the first of them among the data rows, from 1.
    first_row: int
    # Where each row begins in the file; the header is line 1.
    lines: list[int]
    # The cells of each of the sheet's columns; "" where the file has nothing.
    columns: Mapping[str, Sequence[str]]
    # What reading alone has seen; `RowChecker.check` hands these on with its own.
    faults: list[Fault]
    _together: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def cells(self, column: str) -> Sequence[str]:
        """The cells of one of the sheet's columns."""
        return self.columns[column]

    def together(self, column: str) -> str:
        """The texts of one of the columns, joined."""
        text = self._together.get(column)
        if text is None:
            text = joined(words_of(self.columns[column]))
            if len(text) + sum(map(len, self._together.values())) <= TOGETHER_CHARS_MAX:
                self._together[column] = text
        return text

    @cached_property
    def printable(self) -> Set[str]:
        """The columns without anything unprintable in a cell, as far as a look at all can tell."""
        return {column for column in self.columns if is_printable(self.together(column))}

    @property
    def frame(self) -> pd.DataFrame:
        """The columns as pandas has them, all of str."""
        import pandas as pd  # noqa: PLC0415 - a quarter of the time that a command takes to start

        return pd.DataFrame(
            {name: list(cells) for name, cells in self.columns.items()}, dtype=object
        )


class Sheet:
    """A file whose header is in order; its rows can be gone through more than once."""

    def __init__(
        self,
        path: Path,
        limits: Limits,
        columns: Mapping[str, int],
        source: Source,
        mark: int | None = None,
    ) -> None:
        self.path = path
        # Our names, after mapping, without the columns that our own outputs add.
        self.columns = tuple(columns)
        self._limits = limits
        self._kept = columns
        self._source = source
        # Where the column fault_file is.
        self._mark = mark

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """The rows, at most that many at a time; never an empty chunk.

        Raises:
            FileUnreadable: the file turns out to be damaged or over a limit further down.
        """
        first_row = 1
        batches = self._source.batches(self._kept, rows)
        while (batch := _next(self.path, batches)) is not None:
            lines, columns, faults = batch
            if first_row - 1 + len(lines) > self._limits.rows_max:
                raise over(self.path, f"more than {self._limits.rows_max:,} rows", "rows_max")
            if not lines:
                continue
            named = dict(zip(self.columns, columns, strict=True))
            chunk = Chunk(first_row, lines, named, faults)
            if self._source.guarded:
                chunk = _restored(chunk)
            chunk.faults += self._too_long(chunk)
            yield chunk
            first_row += len(lines)

    def origins(self) -> set[str]:
        """The beginnings of the hashes of the files that `check --errors` took rows from."""
        if self._mark is None:
            return set()
        batches = self._source.batches({"fault_file": self._mark}, CHUNK_ROWS)
        marks: set[str] = set()
        # Whatever else the column has, a column of ours never refuses a file.
        with suppress(FileUnreadable):
            while (batch := _next(self.path, batches)) is not None:
                marks.update(*batch[1])
        return {found[1] for mark in marks if (found := _MARK.fullmatch(mark))}

    def _too_long(self, chunk: Chunk) -> list[Fault]:
        most = self._limits.cell_chars_max
        expected = f"at most {most:,} characters (cell_chars_max)"
        return [
            Fault(line, name, FaultKind.CELL_TOO_LONG, mask_cell(name, cell), expected)
            for name, cells in chunk.columns.items()
            if not all_within(most, words_of(cells), chunk.together(name))
            for line, cell in zip(chunk.lines, cells, strict=True)
            if len(cell) > most
        ]


def open_sheet(path: Path, limits: Limits, mapping: Mapping[str, str] = NO_MAPPING) -> Sheet:
    """The file's rows, after its header and first row have been read.

    Args:
        path: a file whose name ends in .csv, .parquet or .xlsx.
        limits: what is refused as too much.
        mapping: the file's own column names to ours: {"Employee ID": "reference_id"}.

    Raises:
        FileUnreadable: the file as a whole cannot be taken; one sentence says why.
        UsageError: the mapping leads to a column that does not exist.
    """
    suffix = _suffix_of_readable(path, limits)
    _check_mapping(mapping)
    with _refusing_damage(path):
        source = _SOURCES[suffix](path, limits)
        names = source.header(lambda cells: sum(_is_known(mapping.get(n, n)) for n in cells))
        columns = _columns(path, names, mapping, limits)
    kept = {name: at for at, name in enumerate(columns) if name not in DROPPED}
    mark = columns.index("fault_file") if "fault_file" in columns else None
    sheet = Sheet(path, limits, kept, source, mark)
    if next(sheet.chunks(1), None) is None:
        raise refusal(path, "has a header and no rows; add one row for each payout")
    return sheet


def _check_mapping(mapping: Mapping[str, str]) -> None:
    """
    Raises:
        UsageError: it leads to no column of ours, twice to the same, or renames one that our own
            outputs add.
    """
    reached: dict[str, str] = {}
    for theirs, ours in mapping.items():
        if not _is_known(ours):
            meant = _meant(ours)
            hint = f"did you mean {meant}? " if meant else ""
            raise UsageError(
                f'the mapping leads to "{_shown(ours)}", which is no column; {hint}expected one of'
                f" {', '.join(PLAIN)}, fields.NAME, context.NAME, customer.NAME or metadata.NAME"
            )
        if ours in reached:
            raise UsageError(
                f'the mapping leads from both "{_shown(reached[ours])}" and "{_shown(theirs)}" to'
                f" {ours}; map one of them"
            )
        if theirs in (*DROPPED, "replaces") and theirs != ours:
            raise UsageError(
                f"the mapping renames {theirs}, which files of rows to correct have from us; give"
                " the column of the file another name"
            )
        reached[ours] = theirs


def _restored(chunk: Chunk) -> Chunk:
    """The cells without the apostrophe that guards against formulas."""
    guarded = {
        name: [cell[1:] if GUARDED.match(cell) else cell for cell in cells]
        for name, cells in chunk.columns.items()
        # One character is found much sooner than two.
        if "'" in (text := chunk.together(name)) and f"{SEPARATOR}'" in text
    }
    return replace(chunk, columns={**chunk.columns, **guarded}) if guarded else chunk


def _suffix_of_readable(path: Path, limits: Limits) -> str:
    suffix = path.suffix.lower()
    if suffix not in _SOURCES:
        hint = "save it as .xlsx" if suffix.startswith(".xl") else "save it as CSV (UTF-8)"
        raise refusal(path, f"does not end in .csv, .parquet or .xlsx; {hint}")
    found = opened(path)
    if found.st_size == 0:
        raise refusal(path, "is empty; expected a header and one row for each payout")
    if found.st_size > limits.bytes_max:
        raise over(path, f"{found.st_size:,} bytes, more than {limits.bytes_max:,}", "bytes_max")
    return suffix


def opened(path: Path) -> os.stat_result:
    """What the system says of the file, which was opened to see whether it can be read.

    Raises:
        FileUnreadable: it is not there, is no ordinary file, or may not be read.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise refusal(path, "is a folder; name the file in it")
        if not stat.S_ISREG(found.st_mode):
            raise refusal(path, "is not an ordinary file; save its content to one")
        path.open("rb").close()
    except FileNotFoundError:
        raise refusal(path, "does not exist; check its name and folder") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise refusal(path, f"cannot be opened ({reason}); check its name and rights") from error
    return found


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Whatever a parser trips over becomes one sentence; its warnings are not for people."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except FileUnreadable:
            raise
        # The parsers raise whatever their code meets in a damaged file: KeyError, SyntaxError, ...
        except Exception as error:
            raise refusal(
                path,
                f"cannot be read as {path.suffix.lower()}: it is damaged, encrypted or of another"
                " format; save it again without a password",
            ) from error


def _next(path: Path, batches: Iterator[Batch]) -> Batch | None:
    """The next batch. The parsers run in here only, so that no warning filter stays set while a
    caller works with a chunk.
    """
    with _refusing_damage(path):
        return next(batches, None)


def _is_known(name: str) -> bool:
    return name in PLAIN or name in DROPPED or NAMED.fullmatch(name) is not None


def _columns(
    path: Path, names: Sequence[str], mapping: Mapping[str, str], limits: Limits
) -> list[str]:
    """The file's columns under our names."""
    if len(names) > limits.columns_max:
        raise over(path, f"{len(names):,} columns, more than {limits.columns_max}", "columns_max")
    if absent := [name for name in mapping if name not in names]:
        raise _no_such_column(path, absent[0], names)
    columns = [mapping.get(name, name) for name in names]
    _refuse_unknown(path, columns)
    for at, name in enumerate(columns):
        if name in columns[:at]:
            raise _twice(path, names[columns.index(name)], names[at], name)
    if absent := [name for name in REQUIRED if name not in columns]:
        raise refusal(path, f"lacks the required columns {', '.join(absent)}; add or map them")
    for name in columns:
        inner = next((other for other in columns if other.startswith(name + ".")), None)
        # A name is either a value or an object; only the names of fields are taken as they are.
        if inner is not None and not name.startswith("fields."):
            raise refusal(path, f"has both {name} and {inner}; keep only one of the two forms")
    return columns


def _no_such_column(path: Path, absent: str, names: Sequence[str]) -> FileUnreadable:
    meant = nearest(absent, names)
    hint = f'; did you mean "{_shown(meant)}"?' if meant else ""
    return refusal(path, f'has no column "{_shown(absent)}", which the mapping names{hint}')


def _twice(path: Path, first: str, second: str, name: str) -> FileUnreadable:
    if first == second:
        return refusal(path, f'has the column "{_shown(first)}" twice; keep one')
    told = f'"{_shown(first)}" and "{_shown(second)}"'
    return refusal(path, f"has the columns {told}, which are both {name}; map one of them")


def _refuse_unknown(path: Path, columns: Sequence[str]) -> None:
    meant = {name: _meant(name) for name in columns if not _is_known(name)}
    if not meant:
        return
    if len(meant) == len(set(columns)) and not any(meant.values()):
        # The first line may be a payout: nothing of it may be shown.
        raise refusal(
            path, f"has no header in line 1; expected column names such as {', '.join(REQUIRED)}"
        )
    if "" in meant:
        at = columns.index("") + 1
        raise refusal(path, f"has no name for column {at} in line 1; name or remove the column")
    told = [
        f'"{_shown(name)}"' + (f" (write {ours})" if ours else "") for name, ours in meant.items()
    ]
    first, ours = next(iter(meant.items()))
    raise refusal(
        path,
        f"has unknown columns: {', '.join(told)}; rename them, remove them or map them with"
        f' --map "{_shown(first)}={ours or "COLUMN"}"',
    )


def _shown(name: str) -> str:
    return mask_cell("", name)


def _meant(name: str) -> str | None:
    """The column that was most likely meant: `Reference ID` is reference_id."""
    group, point, rest = name.strip().partition(".")
    known = nearest(group, [prefix[:-1] for prefix in NESTED]) if point else None
    if known is not None:
        guess = f"{known}.{re.sub(r'[^A-Za-z0-9_.-]', '_', rest.strip())}"
        return guess if NAMED.fullmatch(guess) else None
    return nearest(name, (*PLAIN, *DROPPED))
