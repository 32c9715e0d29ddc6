"""What a process works with is opened once, by the right key, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.worlds import HandClock, approved, order, settings
from workers.errors import SettingsError, VaultError
from workers.pace import room_for
from workers.record.batches import BatchBook
from workers.record.status import State
from workers.runtime import Account, Runtime, settings_of
from workers.settings import Settings

OTHER_KEY = "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="


def test_a_database_opens_with_the_key_that_it_was_closed_with_and_no_other(
    tmp_path: Path,
) -> None:
    runtime = Runtime.open(settings(tmp_path))
    batch = approved(BatchBook(runtime.store), [order()], now=HandClock().now())
    runtime.close()
    with pytest.raises(VaultError, match="put the right key back"):
        Runtime.open(settings(tmp_path, encryption_key=OTHER_KEY))
    again = Runtime.open(settings(tmp_path))
    book = BatchBook(again.store)
    assert book.counts(batch) == {State.QUEUED: 1}
    [row] = book.each(batch)
    assert again.store.order_of(row).fields == {"account": "987654321"}
    again.close()


def test_an_embedded_database_never_goes_on_without_its_key_file(tmp_path: Path) -> None:
    Runtime.open(settings(tmp_path, encryption_key=None)).close()
    key = tmp_path / "paybatch.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.unlink()
    with pytest.raises(VaultError, match="put the key back"):
        Runtime.open(settings(tmp_path, encryption_key=None))
    assert not key.exists()


def test_many_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    made = settings(tmp_path, encryption_key=None)
    with ThreadPoolExecutor(6) as pool:
        runtimes = list(pool.map(lambda _: Runtime.open(made), range(6)))
    assert len({runtime.store.vault.key_id for runtime in runtimes}) == 1
    for runtime in runtimes:
        assert runtime.book.pauses() == []
        runtime.close()


def test_every_account_of_the_settings_is_ready_with_its_own_policy(tmp_path: Path) -> None:
    second = {
        **settings(tmp_path).accounts["main"].model_dump(),
        "api_key": "other-key",
        "in_flight_max": 3,
        "claim_s": 60,
    }
    runtime = Runtime.open(settings(tmp_path, accounts={"second": second}))
    assert set(runtime.accounts) == set(runtime.policies) == {"main", "second"}
    assert runtime.policies["second"].settings.claim_s == 60
    assert runtime.policies["main"].settings.claim_s == 90
    slots = runtime.accounts["second"].slots
    assert [slots.take() is None for _ in range(7)] == [True] * 6 + [False]
    runtime.close()


def test_a_provider_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        settings_of("nowhere")
    with pytest.raises(SettingsError, match="nowhere"):
        settings(tmp_path, account={"provider": "nowhere"})


def test_a_provider_is_told_where_its_callbacks_go(tmp_path: Path) -> None:
    made = settings(tmp_path, callback_base_url="https://pay.example.com")
    runtime = Runtime.open(made)
    with_callbacks = runtime.accounts["main"].provider
    assert "https://pay.example.com/webhooks/main" in repr(vars(with_callbacks))
    assert "demo-api-key" not in repr(vars(with_callbacks))
    runtime.close()


def test_postgresql_needs_a_key_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="encryption_key is required"):
        Settings.load(
            settings_of,
            defaults={"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/none"},
            environ={},
            folder=tmp_path,
        )


def test_a_process_with_few_threads_shares_them_out_between_its_accounts(tmp_path: Path) -> None:
    account = settings(tmp_path).accounts["main"].model_dump()
    made = settings(tmp_path, accounts={"second": account, "third": account})
    runtime = Runtime.open(made)
    runtime.share(6, among={"main", "second"})
    free = {name: _places(account) for name, account in runtime.accounts.items()}
    assert free == {"main": 3, "second": 3, "third": room_for(account["in_flight_max"])}
    runtime.close()


def _places(account: Account) -> int:
    """How many payouts find room at a time."""
    count = 0
    while account.slots.take() is None:
        count += 1
    return count
