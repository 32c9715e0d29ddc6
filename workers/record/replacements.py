"""Payouts that are paid again: each failed one and all its successors are one family.

Of a family at most one payout is alive at any time, whoever stores the next one and however many do
so at once. The database's own index knows only a payout's direct successors.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, or_, select

from workers.errors import FileRefused
from workers.record.database import Database
from workers.record.status import State
from workers.record.tables import batches, payouts

# Payouts looked up at a time.
GROUP = 500
# What ended without money moving: its line may be paid by another payout.
DEAD = (State.FAILED, State.CANCELLED)
# The file hash of a batch by `paybatch retry` begins so: no file has such bytes, so none is taken
# for it. Its payouts have the data of those that they replace.
RETRIED = "retry "

_Name = tuple[str, str]
_MEMBER: Select[Any] = select(
    payouts.c.id,
    payouts.c.account,
    payouts.c.reference_id,
    payouts.c.replaces,
    payouts.c.batch_id,
    payouts.c.state,
)
# A payout that was withdrawn before any send never was.
_WAS = or_(payouts.c.state != State.CANCELLED, payouts.c.attempts > 0)


def newest(
    database: Database, rows: Iterable[Row[Any]], columns: Sequence[Any] = (payouts,)
) -> Iterator[tuple[Row[Any], Row[Any]]]:
    """Each payout, with the one that its line has come to: itself, or its newest successor.

    One that is alive is newer than all that failed.

    Args:
        columns: what the rows have, and the successors are to have: id, account, reference id,
            state and any others.
    """
    each = iter(rows)
    while group := list(itertools.islice(each, GROUP)):
        failed = [row for row in group if row.state == State.FAILED]
        tips: Mapping[int, int] = {}
        found: Mapping[int, Row[Any]] = {}
        if failed:
            with database.read() as connection:
                tips = _tips(connection, failed)
                which = payouts.c.id.in_(sorted(set(tips.values())))
                chosen = connection.execute(select(*columns).where(which)).all()
                found = {row.id: row for row in chosen}
        for row in group:
            yield row, found.get(tips.get(row.id, row.id), row)


def _tips(connection: Connection, rows: Sequence[Row[Any]]) -> Mapping[int, int]:
    """The newest of the family of each payout, both by id."""
    family = _descendants(connection, [_name(row) for row in rows])
    return {
        row.id: max(
            # What was withdrawn, though it was tried, leaves the line to whoever comes next.
            [row, *family[_name(row)]],
            key=lambda each: (each.state not in DEAD, each.state == State.FAILED, each.id),
        ).id
        for row in rows
    }


def _descendants(
    connection: Connection, roots: Iterable[_Name]
) -> Mapping[_Name, Sequence[Row[Any]]]:
    """All that pay again for each of these, directly or not."""
    found: dict[_Name, list[Row[Any]]] = defaultdict(list)
    root_of = {name: name for name in roots}
    frontier = list(root_of)
    while frontier:
        further = []
        for account, names in _by_account(frontier).items():
            which = and_(payouts.c.account == account, payouts.c.replaces.in_(names), _WAS)
            for row in connection.execute(_MEMBER.where(which)):
                name = _name(row)
                if name not in root_of:
                    root_of[name] = root_of[account, row.replaces]
                    found[root_of[name]].append(row)
                    further.append(name)
        frontier = further
    return found


def with_data(database: Database, rows: Sequence[Row[Any]]) -> Mapping[int, Row[Any]]:
    """Of each of these payouts, by its id, the one that has its beneficiary's data.

    That is itself; where its data was removed, and `retry` had made it, the one that it replaces,
    which has the same. A payout of a corrected file has data that nothing else has: it is left out.
    """
    found = {row.id: row for row in rows if row.purged_at is None}
    gone = {row.id: row for row in rows if row.purged_at is not None}
    with database.read() as connection:
        while gone:
            before = _before(connection, gone.values())
            further = {each: before.get(row.id) for each, row in gone.items()}
            met = {each: row for each, row in further.items() if row is not None}
            found |= {each: row for each, row in met.items() if row.purged_at is None}
            gone = {each: row for each, row in met.items() if row.purged_at is not None}
    return found


def _before(connection: Connection, rows: Iterable[Row[Any]]) -> Mapping[int, Row[Any]]:
    """What each of these replaces, by its id, where `retry` has made it."""
    made = select(batches.c.id).where(
        batches.c.id.in_({row.batch_id for row in rows}),
        batches.c.file_hash.startswith(RETRIED, autoescape=True),
    )
    by_retry = set(connection.execute(made).scalars())
    names = {row.id: (row.account, row.replaces) for row in rows if row.batch_id in by_retry}
    replaced: dict[_Name, Row[Any]] = {}
    for account, some in _by_account(set(names.values())).items():
        which = and_(payouts.c.account == account, payouts.c.reference_id.in_(some), _WAS)
        replaced |= {_name(row): row for row in connection.execute(select(payouts).where(which))}
    return {each: replaced[name] for each, name in names.items() if name in replaced}


def check(connection: Connection, batch_id: str) -> None:
    """See that no line of a batch that is being stored is paid by another payout as well.

    In the transaction that stores it, after its rows. The first of each family is locked until
    that ends, so whoever stores another successor waits, and then sees these.

    Raises:
        FileRefused: a payout that one of them replaces did not fail, or is replaced already.
    """
    last = 0
    while True:
        page = (
            _MEMBER.where(
                payouts.c.batch_id == batch_id, payouts.c.replaces != "", payouts.c.id > last
            )
            .order_by(payouts.c.id)
            .limit(GROUP)
        )
        new = connection.execute(page).all()
        if not new:
            return
        _check_some(connection, new)
        last = new[-1].id


def _check_some(connection: Connection, new: Sequence[Row[Any]]) -> None:
    roots = _roots(connection, [(row.account, row.replaces) for row in new])
    firsts = _lock(connection, set(roots.values()))
    family = _descendants(connection, set(roots.values()))
    for row in new:
        root = roots[row.account, row.replaces]
        first = firsts.get(root)
        others = [each for each in family[root] if each.id != row.id]
        for each in [*([first] if first is not None else []), *others]:
            if each.state not in DEAD:
                raise FileRefused(
                    f"{row.reference_id} is to pay again for {row.replaces}, but"
                    f" {each.reference_id} of batch {each.batch_id} does so already, or did not"
                    f" fail ({each.state}); nothing was stored"
                )


def _roots(connection: Connection, names: Iterable[_Name]) -> Mapping[_Name, _Name]:
    """The first of the family of each of these."""
    up: dict[_Name, _Name] = {}
    frontier = set(names)
    wanted = set(frontier)
    while frontier:
        further: set[_Name] = set()
        for account, some in _by_account(frontier).items():
            which = and_(payouts.c.account == account, payouts.c.reference_id.in_(some), _WAS)
            for row in connection.execute(_MEMBER.where(which)):
                if row.replaces and _name(row) not in up:
                    up[_name(row)] = (account, row.replaces)
                    further.add((account, row.replaces))
        frontier = further - set(up)
    return {name: _top(name, up) for name in wanted}


def _top(name: _Name, up: Mapping[_Name, _Name]) -> _Name:
    passed = set()
    while name in up and name not in passed:
        passed.add(name)
        name = up[name]
    return name


def _lock(connection: Connection, roots: Iterable[_Name]) -> Mapping[_Name, Row[Any]]:
    """The first of each family, locked; one that is not stored here has no row."""
    found: dict[_Name, Row[Any]] = {}
    for account, names in sorted(_by_account(roots).items()):
        which = and_(payouts.c.account == account, payouts.c.reference_id.in_(sorted(names)), _WAS)
        # Always in the same order: two that lock several of them must not wait for each other.
        rows = _MEMBER.where(which).order_by(payouts.c.id).with_for_update()
        found |= {_name(row): row for row in connection.execute(rows)}
    return found


def _by_account(names: Iterable[_Name]) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for account, name in names:
        found[account].append(name)
    return found


def _name(row: Row[Any]) -> _Name:
    return row.account, row.reference_id
