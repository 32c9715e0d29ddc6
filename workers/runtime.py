"""What a process needs to pay, made from the settings once: the record and the accounts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from workers.clock import Clock, SharedClock, SystemClock
from workers.errors import UsageError, VaultError
from workers.pace import AccountGate, Slots, room_for, shares
from workers.providers.port import Capabilities, Provider, digest_of, load_provider
from workers.providers.transport import Transport
from workers.record.accounts import AccountBook
from workers.record.database import Database
from workers.record.decisions import Decisions
from workers.record.due import DueWork
from workers.record.identity import Identity
from workers.record.keybook import checked
from workers.record.restores import RestoreBook
from workers.record.store import Store
from workers.record.tokens import TokenBook
from workers.record.vault import Vault
from workers.record.verdict import Policy
from workers.record.webhooks import WebhookBook
from workers.settings import AccountSettings, ProviderSettings, Settings
from workers.tokens import SharedTokens


@dataclass(frozen=True, slots=True)
class Account:
    """One account, ready to be used."""

    name: str
    settings: AccountSettings
    provider: Provider
    transport: Transport
    gate: AccountGate
    policy: Policy
    # Room for so many payouts of the account at a time in this process.
    slots: Slots
    # Has its provider started where it is gone and this process may start it: the sandbox's.
    keep_up: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Runtime:
    """The record and the accounts of one process."""

    settings: Settings
    clock: Clock
    database: Database
    store: Store
    due: DueWork
    book: AccountBook
    tokens: TokenBook
    webhooks: WebhookBook
    restores: RestoreBook
    decisions: Decisions
    accounts: Mapping[str, Account] = field(default_factory=dict)

    @classmethod
    def open(cls, settings: Settings, clock: Clock | None = None) -> Self:
        """Open the database, bring it up to date, and make the accounts.

        Raises:
            OperatorError: the database cannot be used, or the key is not the one it was closed
                with.
            SettingsError: an account's provider is not installed.
        """
        database = Database(settings.database_url)
        try:
            return cls._of(settings, database, clock)
        except BaseException:
            database.close()
            raise

    @classmethod
    def _of(cls, settings: Settings, database: Database, clock: Clock | None) -> Self:
        # The key first: a database without its key must never be started anew.
        vault = _vault(settings, database)
        database.prepare()
        vault = checked(database, vault)
        # Who shares a database shares its clock; SQLite's users share a machine.
        clock = clock or (SystemClock() if database.is_sqlite else SharedClock(database.now))
        book = AccountBook(database)
        book.register({name: account.provider for name, account in settings.accounts.items()})
        # After the accounts: all of them are frozen where the record was put back.
        Identity(database, clock, freeze_after_failover=settings.freeze_after_failover).watch()
        tokens = TokenBook(database, vault)
        accounts = {
            name: _account(name, settings, book, tokens, clock) for name in settings.accounts
        }
        store = Store(database, vault)
        return cls(
            settings=settings,
            clock=clock,
            database=database,
            store=store,
            due=DueWork(database),
            book=book,
            tokens=tokens,
            webhooks=WebhookBook(database, vault),
            restores=RestoreBook(database),
            decisions=Decisions(store),
            accounts=accounts,
        )

    @property
    def policies(self) -> Mapping[str, Policy]:
        return {name: account.policy for name, account in self.accounts.items()}

    def share(self, threads: int, *, among: Collection[str]) -> None:
        """Divide a process's threads between these of its accounts; before any payout is paid."""
        wanted = {
            name: room_for(account.settings.in_flight_max)
            for name, account in self.accounts.items()
            if name in among
        }
        for name, number in shares(wanted, threads).items():
            self.accounts[name].slots.limit(number)

    def close(self) -> None:
        """Close the database and the connections to the providers, and tell the last counts."""
        for account in self.accounts.values():
            account.transport.close()
            account.gate.close()
        self.database.close()


def settings_of(provider: str) -> ProviderSettings:
    """What a provider adds to its accounts' settings, for `Settings.load`.

    Raises:
        SettingsError: it is not installed.
    """
    adapter = load_provider(provider)
    grace_s = adapter.capabilities.absence_conclusive_after_s
    defaults = {"lookup_grace_s": grace_s, **adapter.account_defaults}
    return ProviderSettings(adapter.Config, defaults)


def _account(
    name: str, settings: Settings, book: AccountBook, tokens: TokenBook, clock: Clock
) -> Account:
    account = settings.accounts[name]
    adapter = load_provider(account.provider)
    options: dict[str, Any] = dict(account.options)
    if settings.callback_base_url and "callback_url" in adapter.Config.model_fields:
        options.setdefault("callback_url", f"{settings.callback_base_url}/webhooks/{name}")
    context = {"sandbox_hosts": settings.sandbox_hosts}
    config = adapter.Config.model_validate(options, context=context)
    calls_max = account.in_flight_max
    gate = AccountGate(name, account.rate_per_s, book, clock, calls_max=calls_max)
    transport = Transport(
        getattr(config, "base_url", ""),
        connect_timeout_s=account.connect_timeout_s,
        read_timeout_s=account.read_timeout_s,
        call_deadline_s=account.call_deadline_s,
        gate=gate,
    )
    # A token call is gated like any other, so it may have to wait for its turn first.
    lease_s = 2 * account.call_deadline_s
    provider = adapter(config, transport, SharedTokens(name, tokens, clock, lease_s=lease_s))
    policy = _policy(account, provider.capabilities, settings)
    slots = Slots(room_for(calls_max), clock)
    return Account(name, account, provider, transport, gate, policy, slots)


def _policy(account: AccountSettings, can: Capabilities, settings: Settings) -> Policy:
    return Policy(
        settings=account,
        two_step=can.two_step,
        refuses_duplicates=can.refuses_duplicates,
        repeatable_for_s=can.repeatable_for_s,
        shape=digest_of(can.identity, can.shape),
        look_up=can.look_up,
        refused_when_absent=can.refused_when_absent,
        balances=can.balances,
        webhooks=can.webhooks and settings.callback_base_url is not None,
        watch_paid_days=settings.watch_paid_days,
    )


def _vault(settings: Settings, database: Database) -> Vault:
    if settings.encryption_key is not None:
        old = [each.get_secret_value() for each in settings.encryption_keys_old]
        return Vault.from_text(settings.encryption_key.get_secret_value(), *old)
    if database.path is None:
        raise VaultError("encryption_key is required with this database")
    try:
        return Vault.beside(database.path)
    except (FileNotFoundError, PermissionError) as error:
        raise UsageError(
            f"{database.path.parent} cannot hold the database and its key ({error.strerror});"
            " mend the folder, or name another in database_url"
        ) from error
