"""The seals of a batch on their way to its rows: some at a time, as parameters of one statement.

So a million of them never are in memory at once, and each row is written once: its seal and its
move to the queue together. The next ones are made while the database writes these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import BigInteger, FromClause, Integer, Text, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY

T = TypeVar("T")


class Seals(NamedTuple):
    """The seals of some rows."""

    ids: Sequence[int]
    seals: Sequence[str]

    def parameters(self, dialect: str) -> Mapping[str, Any]:
        """What `SEALS` of that dialect asks for."""
        if dialect == "postgresql":
            return {"ids": list(self.ids), "seals": list(self.seals)}
        return {"seals": json.dumps(dict(zip(self.ids, self.seals, strict=True)))}


_each = func.json_each(bindparam("seals", type_=Text)).table_valued("key", "value")
# Tables of `payout_id` and `seal`.
SEALS: Mapping[str, FromClause] = {
    "postgresql": func.unnest(
        bindparam("ids", type_=ARRAY(BigInteger)), bindparam("seals", type_=ARRAY(Text))
    )
    .table_valued("payout_id", "seal", name="sealed")
    .render_derived(),
    "sqlite": select(
        cast(_each.c.key, Integer).label("payout_id"), _each.c.value.label("seal")
    ).subquery("sealed"),
}


def ahead(things: Iterable[T]) -> Iterator[T]:
    """The same, each made by a thread beside this one while the one before it is used."""
    making = iter(things)
    end = object()
    with ThreadPoolExecutor(1, "paybatch-ahead") as beside:
        made = beside.submit(next, making, end)
        try:
            while (thing := made.result()) is not end:
                made = beside.submit(next, making, end)
                yield thing  # type: ignore[misc]  # it is not the end
        finally:
            # Not while that thread is still in it.
            made.exception()
            if hasattr(making, "close"):
                making.close()
