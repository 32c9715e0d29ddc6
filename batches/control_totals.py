"""The control totals that lie beside a delivered file: how many rows and how much it must have.

A text of lines such as `count=2` and `USD=2180.50`, written by whoever made the file. What is not
understood is refused: half-read totals would let a wrong file pass.
"""

from __future__ import annotations

from pathlib import Path

from workers.errors import FileRefused, MoneyError
from workers.record.money import Currency, Money

SUFFIX = ".totals"
BYTES_MAX = 64 * 1024


def read_totals(path: Path) -> tuple[int | None, tuple[Money, ...]]:
    """The number of rows, if it is told, and the sums by currency.

    Raises:
        FileRefused: it cannot be read as control totals; one sentence says why.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FileRefused(f"{path.name} is no UTF-8 text") from None
    count: int | None = None
    sums: dict[Currency, Money] = {}
    for number, line in enumerate(text.splitlines(), 1):
        told = line.partition("#")[0].strip()
        if not told:
            continue
        where = f"{path.name}, line {number}"
        name, _, value = (part.strip() for part in told.partition("="))
        if name == "count":
            if count is not None or not (value.isascii() and value.isdigit()):
                raise FileRefused(f"{where}: expected count=NUMBER, once; found {told!r}")
            count = int(value)
            continue
        try:
            stated = Money.parse(value, Currency.of(name))
        except MoneyError:
            raise FileRefused(
                f"{where}: expected count=NUMBER or a sum such as USD=1234.50; found {told!r}"
            ) from None
        if stated.currency in sums:
            raise FileRefused(f"{where}: the sum of {name} is told twice")
        sums[stated.currency] = stated
    if count is None and not sums:
        raise FileRefused(f"{path.name} tells no totals; expected count=NUMBER or USD=1234.50")
    return count, tuple(sums.values())
