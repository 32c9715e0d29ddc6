"""A database of an earlier revision is brought up to date with all that is in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text

from tests.worlds import KEY, order
from workers.record import database as record_database
from workers.record.batches import BatchBook
from workers.record.database import Database
from workers.record.decisions import Decisions
from workers.record.fingerprints import repeats
from workers.record.history import History, makers
from workers.record.status import State
from workers.record.store import Store
from workers.record.vault import Vault

from .conftest import BOTH, policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# Every column that had to be given at revision 0001.
PAYOUT = """
    INSERT INTO payouts (batch_id, row, reference_id, account, provider, service, amount_minor,
        currency, currency_exponent, state, sealed_data, seal, beneficiary, fingerprint,
        description, metadata, replaces, fee_expected_minor, created_at, due_at, attempts)
    VALUES ('B', :row, :reference_id, 'main', 'payelata', 'test_usd', 1000, 'USD', 2, :state,
        :sealed, :seal, '****', :fingerprint, '', '{}', '', 0, :now, :now, 0)
"""


def at_revision(url: str, revision: str) -> Database:
    """A database as that revision left it."""
    database = Database(url)
    config = record_database._config()
    with database._writer.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return database


def put_payouts(database: Database, vault: Vault, states: list[State]) -> list[Any]:
    orders = [order(fields={"account": f"98765432{at}"}) for at, _ in enumerate(states)]
    # SQLite has the wall time without a zone.
    now = NOW if not database.is_sqlite else NOW.replace(tzinfo=None).isoformat(" ")
    with database.write() as connection:
        account = "INSERT INTO accounts (name, provider) VALUES ('main', 'payelata')"
        connection.execute(text(account))
        connection.execute(
            text(
                "INSERT INTO batches (id, file_name, content_hash, file_hash, columns, rows,"
                " decision, made_by, made_at)"
                " VALUES ('B', 'f.csv', 'c', 'h', '[]', 2, 'approved', 'maker', :now)"
            ),
            {"now": now},
        )
        for row, (one, state) in enumerate(zip(orders, states, strict=True), start=1):
            values = {
                "row": row,
                "reference_id": one.reference_id,
                "state": state,
                "sealed": vault.encrypt(one),
                "seal": vault.seal(one),
                "fingerprint": vault.fingerprint(one).to_bytes(8, signed=True).hex() + "00" * 8,
                "now": now,
            }
            connection.execute(text(PAYOUT), values)
    return orders


@pytest.mark.parametrize("new_url", BOTH, indirect=True)
def test_payouts_of_revision_0001_are_kept_and_go_on(new_url: str) -> None:
    vault = Vault.from_text(KEY)
    old = at_revision(new_url, "0001")
    orders = put_payouts(old, vault, [State.QUEUED, State.UNKNOWN])
    old.close()
    database = Database(new_url)
    database.prepare()
    store = Store(database, vault)
    claims = [store.claim(number, {"main": policy()}, NOW) for number in (1, 2)]
    assert [claim and claim.order for claim in claims] == orders
    assert [claim and claim.payout.state for claim in claims] == [State.CREATING, State.UNKNOWN]
    assert [claim and claim.payout.repeat_until for claim in claims] == [None, None]
    database.close()


@pytest.mark.parametrize("new_url", BOTH, indirect=True)
def test_an_upgrade_is_made_once_and_again_does_nothing(new_url: str) -> None:
    at_revision(new_url, "0001").close()
    for _ in range(2):
        database = Database(new_url)
        database.prepare()
        with database.read() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).all()
        assert [row.version_num for row in found] == [record_database._head()]
        database.close()


@pytest.mark.parametrize("new_url", BOTH, indirect=True)
def test_batches_of_before_have_no_mapping_and_no_parent(new_url: str) -> None:
    vault = Vault.from_text(KEY)
    old = at_revision(new_url, "0003")
    put_payouts(old, vault, [State.FAILED])
    old.close()
    database = Database(new_url)
    database.prepare()
    batch = BatchBook(Store(database, vault)).get("B")
    assert batch is not None
    assert (batch.mapping, batch.child_of, batch.columns) == ({}, None, ())
    database.close()


@pytest.mark.parametrize("new_url", BOTH, indirect=True)
def test_batches_of_revision_0004_get_the_history_that_is_known_of_them(new_url: str) -> None:
    old = at_revision(new_url, "0004")
    put_payouts(old, Vault.from_text(KEY), [State.QUEUED])
    with old.write() as connection:
        connection.execute(text("UPDATE batches SET decided_by = 'checker', decided_at = made_at"))
    old.close()
    database = Database(new_url)
    database.prepare()
    deeds = History(database).of("B")
    assert [(deed.at, deed.action, deed.actor.name) for deed in deeds] == [
        (NOW, "stored", "maker"),
        (NOW, "approved", "checker"),
    ]
    with database.read() as connection:
        assert makers(connection, "B") == {"maker"}
    assert Decisions(Store(database, Vault.from_text(KEY))).carry_on(NOW) == 0
    database.close()


@pytest.mark.parametrize("new_url", BOTH, indirect=True)
def test_fingerprints_of_before_are_found_by_their_first_64_bits(new_url: str) -> None:
    vault = Vault.from_text(KEY)
    old = at_revision(new_url, "0012")
    orders = put_payouts(old, vault, [State.PAID] * 9)
    assert len({vault.fingerprint(one) < 0 for one in orders}) == 2
    with old.write() as connection:
        connection.execute(text("UPDATE payouts SET fingerprint = '' WHERE row = 9"))
    old.close()
    database = Database(new_url)
    database.prepare()
    found = repeats(
        database, vault.fingerprints_all([one.payee() for one in orders]), NOW - timedelta(days=1)
    )
    assert found == {vault.fingerprint(one): one.reference_id for one in orders[:8]}
    with database.read() as connection:
        asked = text("SELECT fingerprint FROM payouts WHERE row = 9")
        assert connection.execute(asked).scalar_one() is None
    database.close()


@pytest.mark.parametrize("new_url", BOTH, indirect=True)
def test_why_payouts_failed_before_is_told_as_it_was_at_any_length(new_url: str) -> None:
    vault = Vault.from_text(KEY)
    old = at_revision(new_url, "0012")
    put_payouts(old, vault, [State.FAILED, State.FAILED])
    # Nothing that could be pressed into the page of an index.
    long = "".join(map(chr, range(0x4E00, 0x4E00 + 9_000)))
    with old.write() as connection:
        given = text("UPDATE payouts SET failure_reason = :reason WHERE row = 1")
        connection.execute(given, {"reason": long})
    old.close()
    database = Database(new_url)
    database.prepare()
    reasons = BatchBook(Store(database, vault)).reasons("B")
    assert sorted(reasons) == [("no reason given", 1), (long, 1)]
    database.close()
