"""Where a file of an inbox lies once its fate is known, and what lies beside it under its name.

Only names: `batches.intake` moves the files, and screens and reports tell where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from workers.record.runs import File

PLACE_OF: Mapping[str, str] = {
    "waiting": "waiting",
    "approved": "done",
    "refused": "refused",
    "delivered_twice": "refused",
    "rejected": "refused",
}
# A file's companions have its name with one of these after it.
ERRORS = ".errors.csv"
REASON = ".reason.txt"
# Rows that are left out wait here for their file, and stay where it never comes.
FIRST_PLACE = "waiting"
# Leaves room for the date, the number and the endings of companions in a name of 255 bytes.
_STEM_BYTES_MAX = 160


def placed_name(file: File) -> str:
    """A file's name once it was moved: like its own, and no other file's ever."""
    return _placed(file.name, file.business_date, file.id)


def errors_path(file: File) -> str:
    """Where the rows are that were left out of a file's batch, from the inbox on."""
    place = file.place if file.place in PLACE_OF.values() else FIRST_PLACE
    return f"{place}/{placed_name(file)}{ERRORS}"


def cut(name: str) -> str:
    """The name with a stem that leaves room; its suffix says what kind of file it is."""
    path = Path(name)
    stem = path.stem.encode(errors="surrogateescape")[:_STEM_BYTES_MAX]
    return f"{stem.decode(errors='ignore') or 'file'}{path.suffix[:20]}"


def _placed(name: str, day: date, number: int) -> str:
    path = Path(cut(name))
    return f"{path.stem}.{day}-{number}{path.suffix}"
