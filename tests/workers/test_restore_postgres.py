"""On PostgreSQL a copy in the record's place is frozen by itself, and pays nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.conftest_servers import PostgresServer, postgres_server
from tests.workers.kinds import KINDS
from tests.workers.provider_world import ProviderWorld, provider_world
from workers.record.batches import BatchBook
from workers.record.model import Order
from workers.record.status import State

__all__ = ["postgres_server"]


class Lost:
    """A record in PostgreSQL that is put back to before two of its payouts were paid."""

    def __init__(self, world: ProviderWorld, server: PostgresServer) -> None:
        self.world, self.server = world, server
        self.queued, self.later = world.kind.an_order(), world.kind.an_order()
        world.queue(self.queued)
        world.runtime.close()
        copy = self._copy()
        self._open(world.database_url)
        world.queue(self.later)
        for order in (self.queued, self.later):
            assert world.settle(self.id_of(order)) is State.PAID
        world.runtime.close()
        self._open(copy)

    def _copy(self) -> str:
        url = self.server.create()
        self.server.drop(url)
        target, source = (make_url(each).database for each in (url, self.world.database_url))
        self.server._run(f'CREATE DATABASE "{target}" TEMPLATE "{source}"')
        return url

    def _open(self, url: str) -> None:
        self.world.database_url = url
        self.world.runtime = self.world.open()
        self.world.batches = BatchBook(self.world.runtime.store)

    def id_of(self, order: Order) -> int:
        engine = create_engine(self.world.database_url, poolclass=NullPool)
        which = text("SELECT id FROM payouts WHERE reference_id = :reference_id")
        with engine.connect() as connection:
            found = connection.execute(which, {"reference_id": order.reference_id})
            return int(found.scalar_one())

    def settle_all(self) -> list[int]:
        """How many payouts the provider then has of each."""
        world = self.world
        world.queue(self.later)
        ids = [self.id_of(order) for order in (self.queued, self.later)]
        assert [world.settle(each) for each in ids] == [State.PAID] * 2
        return [len(world.ledger(each)["invoices"]) for each in ids]


@pytest.fixture(params=KINDS)
def lost(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, tmp_path: Path
) -> Iterator[Lost]:
    url = postgres_server.create()
    with provider_world(tmp_path, KINDS[request.param], database_url=url) as world:
        made = Lost(world, postgres_server)
        yield made
        used = world.database_url
        world.runtime.close()
        for each in (url, used):
            postgres_server.drop(each)


def test_a_copy_is_frozen_by_itself_and_pays_nothing_twice(lost: Lost) -> None:
    world = lost.world
    (pause,) = world.runtime.book.pauses()
    assert pause.kind == "restore"
    creates = world.calls("create")
    world.clock.sleep(world.runtime.accounts["main"].settings.lookup_grace_s)
    assert world.step() == 0
    world.runtime.restores.open(world.runtime.restores.standing("main"), "opened by ann")
    assert lost.settle_all() == [1, 1]
    assert world.calls("create") == creates


def test_without_it_both_are_paid_twice(lost: Lost) -> None:
    """The proof that the test above can fail."""
    with lost.world.runtime.database.write() as connection:
        connection.execute(text("UPDATE accounts SET paused_kind = NULL, restored_at = NULL"))
    assert lost.settle_all() == [2, 2]
