"""With a million payouts stored, what runs every second reads an index and few rows of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, event, select, text

from tests.conftest_servers import PostgresServer
from tests.worlds import KEY
from workers.record import replacements
from workers.record.accounts import AccountBook
from workers.record.batches import BatchBook
from workers.record.database import Database
from workers.record.decisions import Decisions
from workers.record.due import DueWork
from workers.record.fingerprints import repeats
from workers.record.model import Actor, Notice
from workers.record.store import Store
from workers.record.tables import fingerprints
from workers.record.vault import Vault
from workers.record.webhooks import EARLY_S, WebhookBook

ROWS = 1_000_000
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# More rows than this, read to find a window's worth, would be a walk through the table.
READ_MAX = 5_000
# A finished million, and beside it what a running batch looks like.
STATES = """
    CASE WHEN n % 1000 = 0 THEN 'unknown' WHEN n % 1000 = 1 THEN 'creating'
         WHEN n % 100 = 2 THEN 'processing' WHEN n % 10 = 3 THEN 'queued' ELSE 'paid' END
"""
FILL = f"""
    INSERT INTO payouts (batch_id, row, reference_id, account, provider, service, amount_minor,
        currency, currency_exponent, state, sealed_data, beneficiary, fingerprint, description,
        metadata, replaces, fee_expected_minor, created_at, attempts, claimed_until, due_at)
    SELECT 'B' || n % 10, n, 'R-' || n, CASE WHEN n % 2 = 0 THEN 'main' ELSE 'other' END,
        'payelata', 's', 1000, 'USD', 2, state, '', 'account ****7731', hashint8extended(n, 0), '',
        '{{}}', '', 0, :now, 1,
        CASE WHEN state = 'creating' THEN :now + interval '1 minute' * (n % 2000 - 1000) END,
        CASE WHEN state <> 'paid' THEN :now + interval '1 second' * (n % 2000 - 1000) END
    FROM (SELECT n, {STATES} AS state FROM generate_series(1, {ROWS}) AS n) AS numbered
"""

PRINTS = "INSERT INTO fingerprints SELECT fingerprint, batch_id, row FROM payouts"


@pytest.fixture(scope="module")
def million(postgres_server: PostgresServer) -> Iterator[Database]:
    url = postgres_server.create()
    database = Database(url)
    database.prepare()
    AccountBook(database).register({"main": "payelata", "other": "payelata"})
    with database.write() as connection:
        for number in range(10):
            connection.execute(
                text(
                    "INSERT INTO batches (id, file_name, content_hash, file_hash, columns, rows,"
                    " decision, made_by, made_at)"
                    " VALUES (:id, 'f.csv', :id, :id, '[]', 1, 'approved', 'maker', :now)"
                ),
                {"id": f"B{number}", "now": NOW},
            )
        connection.execute(text(FILL), {"now": NOW})
        connection.execute(text(PRINTS))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE payouts"))
    yield database
    database.close()
    postgres_server.drop(url)


class Plans:
    """Explains every statement about payouts that is executed while it listens."""

    def __init__(self, database: Database) -> None:
        self.engine = database.engine
        self.found: list[str] = []
        self._explaining = False

    def __enter__(self) -> Plans:
        event.listen(self.engine, "before_cursor_execute", self._explain)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self.engine, "before_cursor_execute", self._explain)

    def _explain(
        self, connection: Connection, _c: object, sql: str, given: object, *_: object
    ) -> None:
        if not re.search("payouts|fingerprints", sql) or self._explaining or sql[:6] == "INSERT":
            return
        self._explaining = True
        try:
            # Analysed, a statement is carried out; that of a write is only planned.
            how = "EXPLAIN (ANALYZE)" if sql.startswith("SELECT") else "EXPLAIN"
            explained = connection.exec_driver_sql(f"{how} {sql}", given)
            self.found.append("\n".join(row[0] for row in explained))
        finally:
            self._explaining = False

    def check(self, *indexes: str) -> None:
        """Each statement read one of these indexes, no table as a whole, and few rows."""
        assert self.found
        for plan in self.found:
            assert "Seq Scan on payouts" not in plan, plan
            used = set(re.findall(r"payouts_[a-z]\w*", plan)) - {"payouts_pkey"}
            assert used <= set(indexes), plan
            assert _most_rows(plan) <= READ_MAX, plan
        assert set(re.findall(r"payouts_[a-z]\w*", "".join(self.found))) >= set(indexes)


def _most_rows(plan: str) -> int:
    """The most rows that any step gave on or threw away."""
    given = [int(rows) for rows in re.findall(r"actual time=\S+ rows=(\d+)", plan)]
    thrown = [int(rows) for rows in re.findall(r"Rows Removed by Filter: (\d+)", plan)]
    return max([*given, *thrown, 0])


def test_what_is_due_is_found_by_account_and_purpose(million: Database) -> None:
    due = DueWork(million)
    announce_s = {"main": 120.0, "other": 120.0}
    with Plans(million) as plans:
        found = due.announce(NOW, window=500, announce_s=announce_s)
    # Every payout that is to be sent is of one account here, and of the other are the rest.
    assert {(one.account, one.to_send) for one in found} == {("main", False), ("other", True)}
    assert len(found) == 2 * 500
    plans.check("payouts_due_send", "payouts_due_ask", "payouts_out")


def test_lost_messages_are_found_among_those_that_are_out(million: Database) -> None:
    due, soon = DueWork(million), NOW + timedelta(seconds=1)
    before = NOW + timedelta(hours=1)
    with Plans(million) as plans:
        for purpose in (True, False):
            due.overdue("main", soon, before=before, to_send=purpose)
            due.take_back("main", soon, before=before, to_send=purpose)
    plans.check("payouts_out")


def test_dead_workers_creates_are_found_by_their_claims(million: Database) -> None:
    with Plans(million) as plans:
        assert Store(million, Vault.from_text(KEY)).expire_creates(NOW) > 0
    plans.check("payouts_creating")


def test_the_status_of_a_batch_reads_no_other_batch(million: Database) -> None:
    book = BatchBook(Store(million, Vault.from_text(KEY)))
    with Plans(million) as plans:
        assert sum(book.counts("B3").values()) == ROWS // 10
        book.next_due("B3")
        book.warnings("B3")
        book.held("B3")
        book.tallies("B3")
    for plan in plans.found:
        assert re.search(r"payouts_(batch_(unpaid|row)|warned|held)", plan), plan
        assert "Seq Scan on payouts" not in plan, plan
        # A tenth of all rows are its own; an update leaves the old form of a row beside the new.
        assert _most_rows(plan) <= ROWS // 10 * 1.1, plan


def test_a_chunk_of_a_file_is_compared_with_history_by_indexes(million: Database) -> None:
    book = BatchBook(Store(million, Vault.from_text(KEY)))
    many = [f"R-{number}" for number in range(0, 4_000, 2)]
    with Plans(million) as plans:
        assert len(book.known("main", many)) == len(many) - 1
        book.replaced("main", many)
    plans.check("payouts_reference_once", "payouts_successors")


def test_payouts_of_the_same_beneficiaries_are_found_by_their_fingerprints(
    million: Database,
) -> None:
    with million.read() as connection:
        some = list(connection.execute(select(fingerprints.c.fingerprint).limit(2_000)).scalars())
    with Plans(million) as plans:
        assert len(repeats(million, [*some, 17], NOW - timedelta(days=1))) == len(some)
    plans.check("payouts_batch_row")
    assert all("Seq Scan on fingerprints" not in plan for plan in plans.found)
    assert any("fingerprints_pkey" in plan for plan in plans.found)


def test_a_decision_is_carried_out_by_reading_the_rows_that_follow(million: Database) -> None:
    decisions, actor = Decisions(Store(million, Vault.from_text(KEY))), Actor("ann", "here")
    for decide in (decisions.pause, decisions.resume, decisions.cancel):
        with Plans(million) as plans:
            assert decide("B3", actor, NOW)
            assert decisions.carry_on(NOW, chunks=3) == 3
        plans.check("payouts_batch_row", *_beside(decide.__name__))


def test_deliveries_find_their_payouts_by_what_they_name(million: Database) -> None:
    book = WebhookBook(million, Vault.from_text(KEY))
    # Some payouts that are under way, and as many that nobody knows.
    told = [Notice(key=f"k{n}", reference_id=f"R-{100 * n + 2}") for n in range(1, 50)]
    told += [Notice(key=f"x{n}", provider_payout_id=f"x{n}") for n in range(1, 50)]
    with Plans(million) as plans:
        assert len(book.keep("main", told, b"", NOW)) == len(told)
        assert book.apply(NOW).woken == 49
        assert book.apply(NOW + timedelta(seconds=EARLY_S)).idle == 49
    plans.check("payouts_reference_once", "payouts_provider_id")


def test_what_went_wrong_in_a_large_batch_is_read_from_indexes_of_that_alone(
    million: Database,
) -> None:
    with million.write() as connection:
        # Of its 100,000 rows, 30 % failed and 10 % need a person.
        for state, tens in (("failed", "0, 1, 2"), ("held", "3")):
            given = f"UPDATE payouts SET state = '{state}', failure_reason = 'F-' || row % 3"
            connection.execute(text(f"{given} WHERE batch_id = 'B7' AND row / 10 % 10 IN ({tens})"))
    with million.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE payouts"))
    book = BatchBook(Store(million, Vault.from_text(KEY)))
    with Plans(million) as plans:
        assert sorted(count for _, count in book.reasons("B7")) == [10_000] * 3
    briefly, at_length = plans.found
    assert "Index Only Scan using payouts_turned_down on payouts" in briefly
    assert "Heap Fetches: 0" in briefly
    assert "payouts_turned_down_at_length" in at_length
    with Plans(million) as plans:
        assert len(book.held("B7")) == 20
        assert book.proposals("B7") == []
    assert "payouts_held" in plans.found[0]
    assert all(_most_rows(plan) <= READ_MAX for plan in plans.found)


def _beside(decided: str) -> list[str]:
    """The indexes that are read to see whether there is anything left to stop."""
    return [] if decided == "resume" else ["payouts_batch_unpaid"]


def test_a_batch_that_replaces_nothing_is_not_read_for_what_it_replaces(
    million: Database,
) -> None:
    with Plans(million) as plans, million.write() as connection:
        replacements.check(connection, "B3")
    # Either index has the successors alone, of which there are none here.
    for plan in plans.found:
        assert "payouts_successors" in plan, plan
        assert _most_rows(plan) == 0, plan
