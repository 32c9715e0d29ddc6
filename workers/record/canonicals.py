"""What is hashed and sealed of many stored rows at once, without making an order of each.

The rows of a file are alike: their data has the same names in the same order. So the text that the
vault opens is taken apart by a pattern made of an earlier row, and put together again as
`Order.canonical` does. A row that no pattern fits is made an order of; so every row has the bytes
that its order has, however it is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Row, Text, cast

from workers.record.canonical import quoted
from workers.record.model import Order
from workers.record.orders import check_kept, metadata_changed
from workers.record.rows import money_of
from workers.record.tables import payouts
from workers.record.vault import Vault

# What `Canonicals.of` reads of a row.
READ = (
    payouts.c.id,
    payouts.c.row,
    payouts.c.reference_id,
    payouts.c.account,
    payouts.c.amount_minor,
    payouts.c.currency,
    payouts.c.currency_exponent,
    payouts.c.service,
    # As it is stored.
    cast(payouts.c.metadata, Text).label("metadata"),
    payouts.c.description,
    payouts.c.replaces,
    payouts.c.sealed_data,
    payouts.c.purged_at,
)
# A file whose rows leave cells out here and there has many of them; to try them all takes longer
# than to make an order.
SHAPES_MAX = 12
# A text between its quotes that is written as it is read: `quoted` of it is what stands there.
_AS_IT_IS = r'("[^"\\\x00-\x1f]*")'
_OBJECTS = ("fields", "context", "customer")
_Texts = Mapping[str, str]


class Canonicals:
    """Makes the canonical bytes of rows, and learns their shapes meanwhile."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._shapes: list[_Shape] = []

    def of(self, rows: Sequence[Row[Any]]) -> list[bytes]:
        """What `Order.canonical` gives for each row, in their order.

        Raises:
            VaultError: as `orders.order_of`.
        """
        for row in rows:
            check_kept(row)
        plains = self._vault.opened_all(
            [row.sealed_data for row in rows], [(row.account, row.reference_id) for row in rows]
        )
        return [self._one(row, plain) for row, plain in zip(rows, plains, strict=True)]

    def _one(self, row: Row[Any], plain: bytes) -> bytes:
        kept = row.metadata
        text = plain.decode() + kept if isinstance(kept, str) else ""
        for shape in self._shapes:
            if (found := shape.fits(text)) is not None:
                return shape.canonical(row, found.groups())
        order = _order(row, plain)
        if len(self._shapes) < SHAPES_MAX:
            learnt = _Shape.of(order)
            if learnt is not None and learnt.fits(text) is not None:
                self._shapes.append(learnt)
        return order.canonical()


class _Shape:
    """The names of an order's data, in the order in which they are stored."""

    def __init__(self, objects: Mapping[str, _Texts]) -> None:
        names = [(kind, name) for kind, texts in objects.items() for name in texts]
        # Sorted, as the canonical form has them, from where they stand in the text.
        places = {
            kind: sorted((name, at) for at, (its, name) in enumerate(names) if its == kind)
            for kind in objects
        }
        told = {
            kind: "{" + ",".join(f"{_literal(name)}:%s" for name, _ in found) + "}"
            for kind, found in places.items()
        }
        self._template = (
            f'{{"account":%s,"amount_minor":%s,"context":{told["context"]},"currency":%s'
            f',"currency_exponent":%s,"customer":{told["customer"]},"description":%s'
            f',"fields":{told["fields"]},"metadata":{told["metadata"]},"reference_id":%s'
            ',"replaces":%s,"service":%s}'
        )
        self._picked = {kind: _picker([at for _, at in found]) for kind, found in places.items()}
        stored = {
            kind: "{" + ",".join(f"{re.escape(quoted(name))}:{_AS_IT_IS}" for name in texts) + "}"
            for kind, texts in objects.items()
        }
        closed = ",".join(f'"{kind}":{stored[kind]}' for kind in _OBJECTS)
        pattern = f"{{{closed}}}{stored['metadata']}"
        self.fits: Callable[[str], re.Match[str] | None] = re.compile(pattern).fullmatch

    @classmethod
    def of(cls, order: Order) -> _Shape | None:
        """The shape of an order; None: not all of its data is flat text."""
        objects = {kind: getattr(order, kind) for kind in (*_OBJECTS, "metadata")}
        texts = (text for each in objects.values() for pair in each.items() for text in pair)
        return cls(objects) if all(isinstance(text, str) for text in texts) else None

    def canonical(self, row: Row[Any], texts: tuple[str, ...]) -> bytes:
        """The bytes of a row of this shape, by the texts that its data has."""
        picked = self._picked
        return (
            self._template
            % (
                quoted(row.account),
                row.amount_minor,
                *picked["context"](texts),
                quoted(row.currency),
                row.currency_exponent,
                *picked["customer"](texts),
                quoted(row.description),
                *picked["fields"](texts),
                *picked["metadata"](texts),
                quoted(row.reference_id),
                quoted(row.replaces),
                quoted(row.service),
            )
        ).encode()


def _order(row: Row[Any], plain: bytes) -> Order:
    try:
        metadata = json.loads(row.metadata)
    except (TypeError, ValueError):
        raise metadata_changed(row) from None
    if not isinstance(metadata, dict):
        raise metadata_changed(row)
    return Order(
        reference_id=row.reference_id,
        account=row.account,
        amount=money_of(row),
        service=row.service,
        metadata=metadata,
        description=row.description,
        replaces=row.replaces,
        **json.loads(plain),
    )


def _literal(name: str) -> str:
    return quoted(name).replace("%", "%%")


def _picker(places: Sequence[int]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    if not places:
        return lambda _: ()
    if len(places) == 1:
        [only] = places
        return lambda texts: (texts[only],)
    return itemgetter(*places)
