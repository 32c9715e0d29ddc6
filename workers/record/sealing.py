"""The seals of a batch on their way to its rows: some at a time, as parameters of one statement.

So a million of them never are in memory at once, and each row is written once: its seal and its
move to the queue together. The next ones are made while the database writes these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, FromClause, Integer, Text, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY


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
