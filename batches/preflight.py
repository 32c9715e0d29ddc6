"""Everything that can be known of a file before money moves: faults, totals, fees, funds, time.

Nothing is stored and nothing is sent here. The provider is asked a number of questions that does
not grow with the rows, unless the settings want it asked about each of them.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential

from batches.checks import AccountRules, CheckedRow, CleanRows, RowChecker
from batches.comparison import Comparison
from batches.controls import Controls
from batches.faultbook import FaultBook
from batches.faults import Fault, FaultKind
from batches.loading import MARK_HEX, MARK_START, Limits, Sheet, open_sheet, opened
from workers.errors import AccountFault, FileUnreadable, ProviderUnreachable, UsageError
from workers.providers.port import DryRunner, Service
from workers.record.batches import Batch, BatchBook
from workers.record.drafts import Drafts, NewRow
from workers.record.fingerprints import Looked
from workers.record.keybook import checked
from workers.record.model import ContentHash
from workers.record.money import Currency, Money
from workers.runtime import Account, Runtime

# A question that changes nothing is asked so often, after delays of 0.5 s and 1 s.
QUESTION_TRIES = 3
REFUSED, UNCOVERED = 3, 6
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the maker asked for on the command line."""

    account: str
    valid_rows_only: bool = False
    allow_repeats: bool = False
    mapping: Mapping[str, str] = field(default_factory=dict)
    # Control totals that the maker stated, checked against the whole file.
    expect_count: int | None = None
    expect_totals: tuple[Money, ...] = ()

    @property
    def has_totals(self) -> bool:
        return self.expect_count is not None or bool(self.expect_totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """What a file needs of one account and currency, and what is there."""

    account: str
    currency: Currency
    count: int
    amount: Money
    fees: Money
    promised: Money
    # What the provider says can be spent; None: it keeps no balance, so nothing was checked.
    balance: Money | None
    # Where the file is stored: what of it is not paid yet, nor being paid. None: it is not stored.
    unspent: Money | None = None

    @property
    def needed(self) -> Money:
        return self.amount + self.fees if self.unspent is None else self.unspent

    @property
    def spendable(self) -> Money | None:
        """The balance less what is promised to other payouts."""
        return None if self.balance is None else self.balance - self.promised

    @property
    def is_covered(self) -> bool:
        return self.spendable is None or self.needed <= self.spendable


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be paid, and everything that stands against it."""

    path: Path
    columns: tuple[str, ...]
    content_hash: str
    file_hash: str
    # Data rows read, and those that would be paid.
    rows: int
    valid: int
    faults: FaultBook
    warnings: Sequence[str]
    funds: Sequence[Funds]
    # Control totals that do not hold, each in a sentence.
    contradictions: Sequence[str]
    # Rows that pay again what was paid lately; recorded with the batch when allowed.
    repeats: int
    # Where they were looked for, to be done again when it is stored; None: they are allowed.
    looked: Looked | None
    # The batches whose lines the file corrects or pays again.
    parents: Sequence[str]
    # Seconds that the calls take at the accounts' rates; None: no account has a limit.
    estimated_s: int | None
    # The stored batch of the same content.
    known_as: Batch | None
    options: Options
    # The rows that would be paid, ready to be stored; None: there are none, or they were only
    # checked.
    drafts: Drafts | None = None

    @property
    def is_payable(self) -> bool:
        """Whether the rows may be stored: without faults, or those without when asked for."""
        if self.contradictions:
            return False
        return not self.faults or (self.options.valid_rows_only and self.valid > 0)

    @property
    def exit_code(self) -> int:
        """0 payable, or stored already; 3 refused; 6 the money is not there."""
        if not self.is_payable:
            return REFUSED
        return UNCOVERED if self.uncovered else 0

    def refuse_uncovered(self) -> None:
        """
        Raises:
            AccountFault: an account has not enough money for the file.
        """
        # A file that is stored is refused for that, whatever is there now.
        if self.uncovered and self.known_as is None:
            short = self.uncovered[0]
            raise AccountFault(
                f"account {short.account} has not enough {short.currency.code};"
                " nothing was stored and nothing was sent"
            )

    def as_json(self) -> dict[str, Any]:
        """The facts of `check --json`."""
        return {
            "ok": self.is_payable and not self.uncovered,
            "rows": self.rows,
            "payable": self.valid if self.is_payable else 0,
            **self.faults.as_json(),
            "warnings": list(self.warnings),
            "contradictions": list(self.contradictions),
            "totals": [
                {
                    "account": funds.account,
                    "currency": funds.currency.code,
                    "count": funds.count,
                    "amount": str(funds.amount),
                    "fees": str(funds.fees),
                    "promised": str(funds.promised),
                    "balance": None if funds.balance is None else str(funds.balance),
                    "covered": funds.is_covered,
                }
                for funds in self.funds
            ],
            "repeats": self.repeats,
            "corrects": list(self.parents),
            "estimated_s": self.estimated_s,
            "batch_id": self.known_as.id if self.known_as else None,
        }

    @property
    def uncovered(self) -> Sequence[Funds]:
        return [funds for funds in self.funds if not funds.is_covered]


class Preflight:
    """The checks of one file against one installation."""

    def __init__(self, runtime: Runtime, options: Options, now: datetime) -> None:
        """
        Raises:
            UsageError: the settings have no such account.
        """
        if options.account not in runtime.accounts:
            known = ", ".join(sorted(runtime.accounts))
            raise UsageError(f"no account {options.account!r} in the settings; there are: {known}")
        self.runtime = runtime
        self.options = options
        self.now = now
        self.book = BatchBook(runtime.store)
        self._services: dict[tuple[str, Currency], Sequence[Service]] = {}

    def examine(
        self,
        path: Path,
        progress: Callable[[int], None] | None = None,
        *,
        to_store: bool = True,
    ) -> Plan:
        """Read the whole file once and say everything about it.

        Args:
            progress: told the number of rows read so far.
            to_store: have the rows ready to be stored; False: they are only to be checked.

        Raises:
            FileUnreadable: it cannot be read at all.
            AccountFault, ProviderUnreachable: a question to the provider was not answered.
        """
        checker, kept = self._checker(), _Kept(self.runtime, self.options)
        controls = Controls(self.options.expect_count, self.options.expect_totals)
        faults, is_clean, rows = FaultBook(), True, 0
        file_hash = self.file_hash(path)
        known_as = self.book.by_file(file_hash)
        if to_store and known_as is None:
            kept.to_be_stored()
        comparison = self._comparison(known_as)
        sheet = open_sheet(path, Limits.of(self.runtime.settings), self.options.mapping)
        for chunk in sheet.chunks():
            checked, found = checker.check(chunk)
            # Rows of a file that is stored are known by their own batch: that is no fault.
            new = comparison.new(checked)
            found = [*found, *self._dry_run(new)]
            is_clean = is_clean and not found
            told = comparison.faults(checked, new, found)
            faults.add(told)
            controls.add(chunk, checked)
            kept.add(checked, {fault.line for fault in told})
            rows += len(chunk.lines)
            if progress is not None:
                progress(rows)
        if known_as is None and is_clean:
            known_as = self.book.by_content(kept.content.hexdigest())
            # Its rows are known by their own batch: that is no fault either.
            faults = FaultBook() if known_as else faults
        funds, warnings = self._funds(kept.totals, known_as) if kept.count else ([], [])
        return Plan(
            path=path,
            columns=sheet.columns,
            content_hash=kept.content.hexdigest(),
            file_hash=file_hash,
            rows=rows,
            valid=kept.count,
            faults=faults,
            warnings=[*checker.warnings, *controls.warnings(), *warnings],
            funds=funds,
            contradictions=controls.contradictions(),
            repeats=comparison.repeated,
            looked=comparison.looked,
            parents=sorted(comparison.parents | self._origins(sheet)),
            estimated_s=self._estimate(kept.totals),
            known_as=known_as,
            options=self.options,
            drafts=kept.drafts if known_as is None else None,
        )

    def _comparison(self, known_as: Batch | None) -> Comparison:
        return Comparison(
            self.runtime,
            self.now,
            known_as,
            has_left_out=self.options.valid_rows_only,
            allow_repeats=self.options.allow_repeats,
        )

    def _origins(self, sheet: Sheet) -> set[str]:
        """The batches of the files whose faulty rows `check --errors` wrote into this one."""
        found = (self.book.by_file_mark(mark) for mark in sheet.origins())
        return {batch.id for batch in found if batch is not None}

    def mark(self, path: Path) -> str:
        """What `check --errors` writes beside faulty rows, to know their file by: its hash as it is
        when its other rows are stored.

        Raises:
            FileUnreadable: it cannot be read.
        """
        return MARK_START + self.file_hash(path, valid_rows_only=True)[:MARK_HEX]

    def file_hash(self, path: Path, *, valid_rows_only: bool | None = None) -> str:
        """SHA-256 of the file's bytes and of what else decides how it is read.

        Args:
            valid_rows_only: as if that option were given so; None: as it is given.

        Raises:
            FileUnreadable: it cannot be read.
        """
        if valid_rows_only is None:
            valid_rows_only = self.options.valid_rows_only
        read_with = [self.options.account, valid_rows_only]
        digest = hashlib.sha256(
            json.dumps([*read_with, sorted(self.options.mapping.items())]).encode()
        )
        opened(path)
        try:
            with path.open("rb") as file:
                while part := file.read(1 << 20):
                    digest.update(part)
        except OSError as error:
            raise FileUnreadable(f"{path}: {error.strerror}") from error
        return digest.hexdigest()

    def _checker(self) -> RowChecker:
        rules = {
            name: AccountRules(
                name=name,
                capabilities=account.provider.capabilities,
                service=account.settings.service,
                services=partial(self._services_of, account),
                why_not=account.provider.why_not,
            )
            for name, account in self.runtime.accounts.items()
        }
        return RowChecker(rules, usual_account=self.options.account)

    def _services_of(self, account: Account, currency: Currency) -> Sequence[Service]:
        """What the account offers; asked once."""
        key = (account.name, currency)
        if key not in self._services:
            self._services[key] = ask(account, partial(account.provider.services, currency))
        return self._services[key]

    def _dry_run(self, rows: Sequence[CheckedRow]) -> list[Fault]:
        """What the providers that can be asked beforehand, and are to be, would refuse."""
        faults: list[Fault] = []
        if not any(one.provider.capabilities.dry_run for one in self.runtime.accounts.values()):
            return faults
        for row in rows:
            account = self.runtime.accounts[row.order.account]
            provider = account.provider
            if not provider.capabilities.dry_run or not isinstance(provider, DryRunner):
                continue
            why = ask(account, partial(provider.dry_run, row.order))
            if why is not None:
                expected = f"a payout that the provider would take; it says: {why}"
                kind = FaultKind.WOULD_BE_REFUSED
                faults.append(Fault(row.line, "", kind, "", expected))
        return faults

    def _funds(self, totals: _Totals, known: Batch | None) -> tuple[list[Funds], list[str]]:
        funds: list[Funds] = []
        book = self.runtime.book
        warnings: list[str] = []
        for name in sorted(totals.accounts):
            # What is promised is read first: a payout that is settled between the two readings is
            # then counted twice, never not at all.
            unspent = book.unspent(name, known.id) if known else {}
            # What a stored batch was promised itself is what it needs.
            promised = book.promised(name, besides=known.id if known else None)
            balances = balances_of(self.runtime.accounts[name])
            if balances is None:
                warnings.append(
                    f"account {name}: its provider keeps no balance that can be asked for, so"
                    " nobody knows whether the money is there"
                )
            for currency, (count, amount, fees) in sorted(totals.accounts[name].items()):
                nothing = Money(0, currency)
                funds.append(
                    Funds(
                        account=name,
                        currency=currency,
                        count=count,
                        amount=Money(amount, currency),
                        fees=Money(fees, currency),
                        promised=promised.get(currency, nothing),
                        balance=None if balances is None else balances.get(currency, nothing),
                        unspent=unspent.get(currency, nothing) if known else None,
                    )
                )
        return funds, warnings

    def _estimate(self, totals: _Totals) -> int | None:
        """The time that the accounts' rates allow: accounts are paid side by side."""
        seconds = []
        for name, currencies in totals.accounts.items():
            account = self.runtime.accounts[name]
            # A create, a release where there is one, and a poll.
            calls = 3 if account.policy.two_step else 2
            count = sum(number for number, _, _ in currencies.values())
            if account.settings.rate_per_s:
                seconds.append(int(count * calls / account.settings.rate_per_s) + 1)
        return max(seconds, default=None)


class _Kept:
    """The rows that would be paid: hashed, added up and, where they are to be stored, closed."""

    def __init__(self, runtime: Runtime, options: Options) -> None:
        self._database, self._vault = runtime.database, runtime.store.vault
        self._valid_rows_only = options.valid_rows_only
        self._providers = {name: one.settings.provider for name, one in runtime.accounts.items()}
        self.content, self.totals = ContentHash(), _Totals()
        self.count = 0
        self.drafts: Drafts | None = None

    def to_be_stored(self) -> None:
        # A wrong key is told before the rows are checked.
        checked(self._database, self._vault)
        self.drafts = Drafts()

    def add(self, rows: Sequence[CheckedRow], bad: Collection[int]) -> None:
        """
        Args:
            bad: the lines that have a fault.
        """
        if bad and self._valid_rows_only:
            rows = [row for row in rows if row.line not in bad]
        elif bad:
            # The file will be refused: none of its rows is stored.
            self.drafts = None
        if isinstance(rows, CleanRows):
            self.content.add_all(rows.canonicals)
        else:
            self.content.add_all([row.order.canonical() for row in rows])
        self.totals.add(rows)
        self.count += len(rows)
        if self.drafts is not None:
            self._add_drafts(self.drafts, rows)

    def _add_drafts(self, drafts: Drafts, rows: Sequence[CheckedRow]) -> None:
        named = self._providers
        if isinstance(rows, CleanRows) and (new := rows.new_rows(named[rows.account])) is not None:
            drafts.add_alike(new)
        else:
            drafts.add(
                [NewRow(row.row, row.order, named[row.order.account], row.fee) for row in rows]
            )


class _Totals:
    """Counts, sums and fees by account and currency, in minor units."""

    def __init__(self) -> None:
        self.accounts: dict[str, dict[Currency, tuple[int, int, int]]] = defaultdict(dict)

    def add(self, rows: Sequence[CheckedRow]) -> None:
        if isinstance(rows, CleanRows):
            self._count(rows.account, rows.currency, rows.minors, rows.fees)
            return
        found: dict[tuple[str, str], list[CheckedRow]] = {}
        for row in rows:
            order = row.order
            found.setdefault((order.account, order.amount.currency.code), []).append(row)
        for (account, _), some in found.items():
            currency = some[0].order.amount.currency
            minors = [row.order.amount.minor for row in some]
            self._count(account, currency, minors, [row.fee.minor for row in some])

    def _count(
        self, account: str, currency: Currency, minors: Sequence[int], fees: Sequence[int]
    ) -> None:
        number, amount, fee = self.accounts[account].get(currency, (0, 0, 0))
        self.accounts[account][currency] = (
            number + len(minors),
            amount + sum(minors),
            fee + sum(fees),
        )


def ask(account: Account, question: Callable[[], T]) -> T:
    """Ask an account's provider something that changes nothing, a few times while it does not
    answer. A sandbox that has ended with another command is started anew meanwhile.

    Raises:
        AccountFault, ProviderUnreachable: as the question does, with the account's name before it.
    """
    tries = Retrying(
        retry=retry_if_exception_type(ProviderUnreachable),
        stop=stop_after_attempt(QUESTION_TRIES),
        wait=wait_exponential(multiplier=0.5, max=2),
        before_sleep=lambda _: account.keep_up(),
        reraise=True,
    )
    try:
        return tries(question)
    except AccountFault as fault:
        raise AccountFault(f"account {account.name}: {fault}") from fault
    except ProviderUnreachable as silence:
        raise ProviderUnreachable(f"account {account.name}: {silence}") from silence


def balances_of(account: Account) -> Mapping[Currency, Money] | None:
    """What the account can spend; None where its provider keeps no balance.

    Raises:
        AccountFault, ProviderUnreachable: the question was not answered.
    """
    if not account.policy.balances:
        return None
    return ask(account, account.provider.balances) or None
