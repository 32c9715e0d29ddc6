"""The key is changed while payouts are being paid: each is paid once, and none is held for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.batches.cli_world import (
    TIMEOUT_S,
    Provider,
    World,
    check_money,
    provided,
    until,
    usd_row,
)
from tests.conftest_servers import PostgresServer, postgres_server
from tests.workers.cluster_world import Cluster, clustered
from tests.workers.record.conftest import BOTH
from tests.workers.record.test_vault import OTHER_KEY
from tests.worlds import KEY
from workers.record.vault import Vault

__all__ = ["postgres_server"]

OLD, NEW = (Vault.from_text(text).key_id.hex() for text in (KEY, OTHER_KEY))
PAID, DRAFTS = 120, 4_000
EDITED = "T-0100"
# Slow enough to be in the middle of it for a while.
SLOW = ("--settle", "0.4")


def rows(first: int, number: int) -> list[dict[str, str]]:
    return [usd_row(each, amount="12.25") for each in range(first, first + number)]


def keys_of(world: World, **env: str) -> set[str]:
    """The keys that anything is closed with."""
    return {
        each["key_id"] for each in world.paybatch("keys", "status", "--json", **env).json["rows"]
    }


def check_repeats(world: World, name: str, first: int, **env: str) -> None:
    """Every row of another file that pays the same people the same is found."""
    again = [{**row, "reference_id": f"A{row['reference_id']}"} for row in rows(first, 20)]
    world.write(again, name)
    told = world.paybatch("check", name, "--json", code=3, **env).json
    assert [fault["kind"] for fault in told["faults"]] == ["repeated"] * 20


def check_ended(world: World, provider: Provider, batch: str, **env: str) -> None:
    """All were paid, once, but for the one that somebody edited."""
    world.paybatch("results", batch, "-o", "r.csv", **env)
    results = world.read("r.csv")
    states = {row["reference_id"]: row["state"] for row in results}
    assert states.pop(EDITED) == "held"
    assert set(states.values()) == {"paid"}
    assert EDITED not in provider.ledger()
    check_money(results, provider.ledger())


def test_an_embedded_key_is_changed_under_a_run_whatever_kills_it(tmp_path: Path) -> None:
    with provided(tmp_path, *SLOW) as (world, provider):
        world.write(rows(1, PAID))
        world.write(rows(5_000, DRAFTS), "drafts.csv")
        batch = world.paybatch("submit", "p.csv", "--approve", "--json").json["batch_id"]
        world.paybatch("submit", "drafts.csv")
        world.execute(
            f"UPDATE payouts SET amount_minor = amount_minor - 1 WHERE reference_id = '{EDITED}'"
        )
        [old] = keys_of(world)
        renewed = (
            f"SELECT count(*) FROM payouts WHERE lower(hex(substr(sealed_data, 2, 4))) <> '{old}'"
        )
        with world.start("watch", batch) as run:
            run.until(lambda: world.count("paid"))
            cut_off = 0
            for wanted in (0, 300, 1_500, 2_500):
                with world.start("keys", "rotate") as rotate:
                    # Called before the loop goes on, so with this turn's values.
                    until(lambda: rotate.has_ended or world.one(renewed) > wanted)  # noqa: B023
                    rotate.send(SIGKILL)
                    cut_off += rotate.wait().code == -SIGKILL
            assert cut_off
            # It tells of the row that was edited, unless one that was cut off came to it before.
            with world.start("keys", "rotate") as rotate:
                assert rotate.wait().code in (0, 5)
            assert run.wait().code == 5
        [new] = keys_of(world)
        assert new != old
        files = {path.name for path in world.folder.iterdir() if "key" in path.name}
        assert files == {"paybatch.key", f"paybatch.key.retired-{old}"}
        check_ended(world, provider, batch)
        check_repeats(world, "again.csv", 1)
        check_repeats(world, "drafted.csv", 5_000)
        # The old key is needed for nothing: what is left to pay is paid without it.
        (world.folder / f"paybatch.key.retired-{old}").unlink()
        drafts = world.one("SELECT batch_id FROM payouts WHERE state = 'draft' LIMIT 1")
        world.paybatch("approve", drafts)
        assert world.count("queued") == DRAFTS


class Record:
    """The database of a cluster, seen from outside."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, poolclass=NullPool)

    def query(self, sql: str) -> list[Any]:
        with self._engine.begin() as connection:
            found = connection.execute(text(sql))
            return list(found.all()) if found.returns_rows else []

    def states(self) -> dict[str, int]:
        sql = "SELECT state, count(*) FROM payouts GROUP BY state"
        return {row.state: row[1] for row in self.query(sql)}


@contextlib.contextmanager
def keyed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Cluster, Record]]:
    """A cluster on that kind of database, whose settings have the old key."""
    with clustered(tmp_path, *SLOW) as cluster:
        env = cluster.world.env
        env["PAYBATCH_ENCRYPTION_KEY"] = KEY
        if kind == "sqlite":
            yield cluster, Record(env["PAYBATCH_DATABASE_URL"])
            return
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = env["PAYBATCH_DATABASE_URL"] = server.create()
        try:
            yield cluster, Record(url)
        finally:
            cluster.close()
            server.drop(url)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", BOTH)
def test_a_clusters_key_is_changed_though_a_worker_does_not_know_the_new_one(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with keyed(kind, tmp_path, request) as (cluster, record):
        world = cluster.world
        both = {"PAYBATCH_ENCRYPTION_KEY": OTHER_KEY, "PAYBATCH_ENCRYPTION_KEYS_OLD": KEY}
        world.write(rows(1, PAID))
        world.write(rows(5_000, 1_000), "drafts.csv")
        world.paybatch("submit", "drafts.csv")
        # Somebody forgot to start this worker anew.
        forgotten = cluster.start_worker("-n", "forgotten@%h")
        world.env |= both
        cluster.start_worker("-n", "knowing@%h")
        cluster.start_beat()
        batch = cluster.submit("p.csv", "--approve")
        record.query(
            f"UPDATE payouts SET amount_minor = amount_minor - 1 WHERE reference_id = '{EDITED}'"
        )
        until(lambda: record.states().get("paid"))

        with world.start("keys", "rotate") as cut_off:
            begun = "SELECT 1 FROM installation WHERE next_key_id IS NOT NULL"
            until(lambda: record.query(begun))
            cut_off.send(SIGKILL)
            assert cut_off.wait().code == -SIGKILL
        told = world.paybatch("keys", "rotate", "--json", code=5).json

        assert (told["from"], told["to"]) == (OLD, NEW)
        assert told["broken_seals"] == [EDITED]
        assert told["damaged"] == []
        ended = {"draft", "paid", "held"}
        # What it cannot open it leaves to the other, until somebody sees in its log why.
        log = world.screens / "worker.0.err"
        left = b"payout left to others"
        until(lambda: left in log.read_bytes() or set(record.states()) == ended)
        forgotten.terminate()
        assert forgotten.wait(TIMEOUT_S) == 0
        until(lambda: set(record.states()) == ended, limit_s=300)
        assert keys_of(world) == {NEW}
        check_ended(world, cluster.provider, batch)
        check_repeats(world, "again.csv", 1)
        check_repeats(world, "drafted.csv", 5_000)
        # The old key is needed for nothing.
        alone = {"PAYBATCH_ENCRYPTION_KEY": OTHER_KEY, "PAYBATCH_ENCRYPTION_KEYS_OLD": ""}
        assert keys_of(world, **alone) == {NEW}
        only_old = {"PAYBATCH_ENCRYPTION_KEY": KEY, "PAYBATCH_ENCRYPTION_KEYS_OLD": ""}
        refused = world.paybatch("status", code=1, **only_old)
        assert "put the right key back" in refused.err
