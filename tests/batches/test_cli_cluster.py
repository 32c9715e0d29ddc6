"""`migrate` says what it found and did."""

from __future__ import annotations

from pathlib import Path

from tests.batches.cli_world import World
from tests.conftest_servers import PostgresServer, postgres_server
from tests.workers.record.test_migrations import at_revision
from tests.worlds import KEY

__all__ = ["postgres_server"]


def test_migrate_says_from_which_revision_it_went_to_which(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = world.paybatch("migrate", "--json").json
    assert first["from"] is None
    head = first["to"]
    assert world.paybatch("migrate", "--json").json == {**first, "from": head}
    assert f"is up to date, at revision {head}." in world.paybatch("migrate").out


def test_migrate_carries_a_database_on_from_an_earlier_revision(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    world = World(tmp_path)
    url = postgres_server.create()
    env = {"PAYBATCH_DATABASE_URL": url, "PAYBATCH_ENCRYPTION_KEY": KEY}
    try:
        at_revision(url, "0001").close()
        told = world.paybatch("migrate", **env).out
        head = world.paybatch("migrate", "--json", **env).json["to"]
        assert told.endswith(f" was at revision 0001, and is at {head} now.\n")
    finally:
        postgres_server.drop(url)


def test_migrate_tells_a_database_that_is_not_there_in_one_sentence(tmp_path: Path) -> None:
    env = {
        "PAYBATCH_DATABASE_URL": "postgresql+psycopg://u@127.0.0.1:9/x",
        "PAYBATCH_ENCRYPTION_KEY": KEY,
    }
    ended = World(tmp_path).paybatch("migrate", code=1, **env)
    assert "the database postgresql+psycopg://127.0.0.1:9/x cannot be used" in ended.err
