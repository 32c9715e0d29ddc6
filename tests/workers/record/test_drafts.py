"""Rows on their way into the record: what is stored in bulk is what would be stored one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from tests.worlds import KEY, MAKER, USD, order
from workers.errors import FileRefused, VaultError
from workers.record.alike import Alike
from workers.record.batches import BatchBook, NewRow, NewRows
from workers.record.drafts import CHUNK_ROWS, Drafts
from workers.record.model import Order
from workers.record.money import Currency, Money
from workers.record.status import State
from workers.record.store import Store
from workers.record.tables import installation, payouts
from workers.record.vault import Vault, key_id_of, masked_beneficiary

from .conftest import Record

AWKWARD = ["plain", "\\N", "a\tb\\t", "line\nbreak\r\n", "\"quoted\", 'too'", "Zoë 𝄞 %s", "\\.", ""]
OTHER_KEY = "ZZZZNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjA="


def row_of(number: int, **changes: Any) -> NewRow:
    return NewRow(row=number, order=order(**changes), provider="payelata", fee=Money(7, USD))


def save(record: Record, rows: list[NewRow] | Drafts, content: str = "c") -> str:
    count = rows.count if isinstance(rows, Drafts) else len(rows)
    return record.batches.save(
        rows,
        file_name="f.csv",
        content_hash=content,
        file_hash=content,
        columns=["reference_id"],
        count=count,
        actor=MAKER,
        note=None,
        now=record.clock.now(),
    )


def one_by_one(record: Record, row: NewRow, batch_id: str, vault: Vault) -> dict[str, Any]:
    """What SQLAlchemy is given to store a draft by itself."""
    given: Order = row.order
    return {
        "batch_id": batch_id,
        "row": row.row,
        "reference_id": given.reference_id,
        "account": given.account,
        "provider": row.provider,
        "service": given.service,
        "amount_minor": given.amount.minor,
        "currency": given.amount.currency.code,
        "currency_exponent": given.amount.currency.exponent,
        "state": State.DRAFT,
        "sealed_data": vault.encrypt(given),
        "beneficiary": masked_beneficiary(given),
        "fingerprint": vault.fingerprint(given),
        "description": given.description,
        "metadata": dict(given.metadata),
        "replaces": given.replaces,
        "fee_expected_minor": row.fee.minor,
        "created_at": record.clock.now(),
    }


def test_bulk_and_one_by_one_store_the_same_in_every_column(record: Record) -> None:
    rows = [
        row_of(
            number,
            description=text,
            replaces=f"old {text}" if text else "",
            fields={"name": text or "x", "account": f"12345678{number}"},
            metadata={"note": text, "more": {"deep": text}} if number % 2 else {},
            customer={"reference_id": text},
            amount=Money(10**17 + number, Currency.of("JPY")) if number == 3 else Money(5, USD),
        )
        for number, text in enumerate(AWKWARD, 1)
    ]
    batch_id = save(record, rows)
    bulk = stored(record)
    opened = [record.store.order_of(record.row(each["id"])) for each in bulk]
    assert opened == [row.order for row in rows]
    record.sql("DELETE FROM payouts")
    vault = record.store.vault
    with record.database.write() as connection:
        values = [one_by_one(record, row, batch_id, vault) for row in rows]
        connection.execute(insert(payouts), values)
    single = stored(record)
    assert len(bulk) == len(single) == len(AWKWARD)
    for ours, theirs in zip(bulk, single, strict=True):
        differing = {name for name in ours if ours[name] != theirs[name]}
        # A closed text is never twice the same; that it opens was seen above.
        assert differing - {"id"} == {"sealed_data"}


def stored(record: Record) -> Sequence[Mapping[str, Any]]:
    with record.database.read() as connection:
        return connection.execute(select(payouts).order_by(payouts.c.row)).mappings().all()


def test_more_rows_than_a_chunk_keep_their_order(record: Record) -> None:
    count = CHUNK_ROWS + 3
    batch_id = save(record, [row_of(number) for number in range(1, count + 1)])
    assert [row.row for row in record.batches.each(batch_id)] == list(range(1, count + 1))


def test_a_refusal_by_the_database_leaves_nothing_and_quotes_nothing(record: Record) -> None:
    rows = [row_of(n, reference_id="SECRET-7", description="Secret") for n in (1, 2)]
    with pytest.raises(IntegrityError) as refused:
        save(record, rows)
    assert "SECRET-7" not in str(refused.value) + str(refused.value.orig)
    assert record.sql("DELETE FROM payouts") == record.sql("DELETE FROM batches") == 0


def test_rows_are_closed_with_the_key_that_is_in_use_when_they_are_stored(record: Record) -> None:
    drafts = Drafts.of([row_of(1)])
    vault = Vault.from_text(OTHER_KEY, KEY)
    store = Store(record.database, vault)
    with record.database.write() as connection:
        keyed = update(installation).values(next_key_id=vault.key_id.hex())
        connection.execute(keyed)
    record.batches = BatchBook(store)
    save(record, drafts)
    [row] = stored(record)
    assert key_id_of(row["sealed_data"]) == vault.key_id


def test_the_file_they_wait_in_shows_nothing_of_them() -> None:
    drafts = Drafts()
    drafts.add([row_of(1, fields={"account": "700012345678", "name": "Ada Secret"})])
    drafts.add_alike(alike_of([row_of(2, fields={"account": "700012345678", "name": "Ada"})]))
    drafts._file.seek(0)
    seen = drafts._file.read()
    assert len(seen) > 500
    for text in (b"700012345678", b"5678", b"Ada", b"account", b"test_usd"):
        assert text not in seen
    drafts.close()


def test_rows_that_lie_elsewhere_in_that_file_do_not_open() -> None:
    drafts = Drafts()
    for number in (1, 2):
        drafts.add([row_of(number, reference_id=f"R-{number}")])
    drafts._file.seek(0)
    one = drafts._file.read()
    half = len(one) // 2
    drafts._file.seek(0)
    drafts._file.write(one[half:] + one[:half])
    with pytest.raises(VaultError, match="changed"):
        list(drafts.closed_by(Vault.from_text(KEY)))


def alike_of(rows: Sequence[NewRow]) -> NewRows:
    """The same rows by their columns, where they are alike."""
    first = rows[0].order
    objects = [
        {name: [getattr(row.order, kind)[name] for row in rows] for name in getattr(first, kind)}
        for kind in ("fields", "context", "customer", "metadata")
    ]
    return NewRows(
        first_row=rows[0].row,
        account=first.account,
        provider=rows[0].provider,
        service=first.service,
        currency=first.amount.currency,
        references=[row.order.reference_id for row in rows],
        amounts=[row.order.amount.minor for row in rows],
        fees=[row.fee.minor for row in rows],
        payees=[row.order.payee() for row in rows],
        data=Alike(*objects, description=[row.order.description for row in rows]),
    )


PLAIN = ["plain", "a'b, c", "100%s", "Größe 𝄞", "", "N" * 5_000]


@pytest.mark.parametrize("fields", [("name", "account"), ("account",), ()])
def test_rows_that_are_alike_are_stored_as_each_by_itself(
    record: Record, fields: Sequence[str]
) -> None:
    def rows(start: str) -> list[NewRow]:
        return [
            row_of(
                number,
                reference_id=f"{start}-{number}",
                description=text,
                fields={name: f"{text}-{name}-{number % 2}" for name in fields},
                customer={"b": text, "a": "same"},
                metadata={"note": text},
                amount=Money(number, USD),
            )
            for number, text in enumerate(PLAIN, 1)
        ]

    drafts = Drafts()
    drafts.add_alike(alike_of(rows("R")))
    save(record, drafts, "one")
    together = stored(record)
    opened = [record.store.order_of(record.row(each["id"])) for each in together]
    assert opened == [row.order for row in rows("R")]
    record.sql("DELETE FROM payouts")
    save(record, rows("R"), "two")
    for ours, theirs in zip(together, stored(record), strict=True):
        differing = {name for name in ours if ours[name] != theirs[name]}
        assert differing == {"id", "batch_id", "sealed_data"} - (
            {"id"} if ours["id"] == theirs["id"] else set()
        )


def test_one_text_of_all_rows_is_stored_in_each(record: Record) -> None:
    rows = [row_of(n, fields={"account": "123456789"}, description="100%") for n in (1, 2)]
    drafts, alike = Drafts(), alike_of(rows)
    same = {"fields": {"account": "123456789"}, "description": "100%"}
    drafts.add_alike(alike._replace(data=alike.data._replace(**same)))
    save(record, drafts)
    assert [(row["beneficiary"], row["description"]) for row in stored(record)] == [
        ("account ****6789", "100%")
    ] * 2
    opened = [record.store.order_of(record.row(each["id"])) for each in stored(record)]
    assert opened == [row.order for row in rows]


def test_a_full_disk_is_told_in_a_sentence() -> None:
    drafts = Drafts()
    drafts._file.close()
    with open("/dev/full", "wb", buffering=0) as full:
        drafts._file = full  # type: ignore[assignment]
        with pytest.raises(FileRefused, match="no room"):
            drafts.add([row_of(1)])
