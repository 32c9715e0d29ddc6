"""The folder `examples`, and the simulators that its settings name, at addresses of the test's own.

A command runs with `examples/paybatch.toml` as it stands; the environment changes nothing of it but
the addresses.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from batches.sandbox import PROVIDERS
from tests.batches.cli_world import ROOT, Provider, Row, World
from tests.workers.kinds import KINDS
from workers.simulator.server import Running

EXAMPLES = ROOT / "examples"
SETTINGS = EXAMPLES / "paybatch.toml"
ACCOUNTS: Mapping[str, Mapping[str, Any]] = tomllib.loads(SETTINGS.read_text("utf-8"))["accounts"]
FILES = (*PROVIDERS, "mixed")
# The lines that the simulators' test values refuse or fail; every other one is paid.
FAILING: Mapping[str, frozenset[str]] = {
    "payelata": frozenset({"INV-2026-0304", "INV-2026-0307"}),
    "ecomcharge": frozenset({"SELLER-2026-W11-03", "SELLER-2026-W11-09"}),
    "echelon": frozenset({"GAJI-2026-03-005", "GAJI-2026-03-011"}),
    "ecart": frozenset({"PAGO-2026-03-005", "PAGO-2026-03-009"}),
    "etpay": frozenset({"REM-2026-03-005", "REM-2026-03-011"}),
    "mixed": frozenset({f"AFF-2026-Q1-{number:02}" for number in (7, 8, 10, 15)}),
}
# Nothing listens at this port, so whoever calls it by mistake is refused at once.
NOBODY = "http://127.0.0.1:9"

Ledgers = Mapping[str, Mapping[str, Any]]


class Examples(World):
    """A working folder in which `paybatch` runs with the settings of the examples."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.providers: dict[str, Provider] = {}
        self.env = {"PAYBATCH_CONFIG": str(SETTINGS)}
        for account in ACCOUNTS:
            self.place(account, NOBODY, NOBODY)

    def place(self, account: str, base_url: str, public_base_url: str) -> None:
        """Say where that account's provider is."""
        prefix = f"PAYBATCH_ACCOUNTS__{account.upper()}__"
        self.env[f"{prefix}BASE_URL"] = base_url
        if "public_base_url" in ACCOUNTS[account]:
            self.env[f"{prefix}PUBLIC_BASE_URL"] = public_base_url

    @contextlib.contextmanager
    def started(self, accounts: Iterable[str]) -> Iterator[None]:
        """Run these accounts' simulators, quicker to settle than by default."""
        with contextlib.ExitStack() as stack:
            for account in accounts:
                running: Running = stack.enter_context(_serve(account))
                self.place(account, running.base_url, running.public_base_url)
                self.providers[account] = Provider(running)
            yield

    def ledgers(self) -> Ledgers:
        """What each simulator knows, by account and reference id."""
        return {account: each.ledger() for account, each in self.providers.items()}

    def calls(self) -> Mapping[str, Any]:
        """How often each simulator was called, by account."""
        return {account: each.control("GET", "calls") for account, each in self.providers.items()}


def _serve(account: str) -> contextlib.AbstractContextManager[Running]:
    """The simulator as it is without any flag, but for the time it takes to settle."""
    module = importlib.import_module(f"workers.simulator.{account}")
    options = getattr(module, KINDS[account].options)(settle_s=0.1, quiet=True)
    running: contextlib.AbstractContextManager[Running] = module.serve(options)
    return running


def example(name: str) -> Path:
    return EXAMPLES / f"{name}.csv"


def rows_of(name: str) -> list[Row]:
    """The lines of an example, each with the account that pays it."""
    with example(name).open(newline="", encoding="utf-8") as file:
        return [{"account": name, **row} for row in csv.DictReader(file)]


def accounts_of(name: str) -> list[str]:
    return sorted({row["account"] for row in rows_of(name)})


def sums(rows: Iterable[Mapping[str, str]]) -> Mapping[tuple[str, str], Decimal]:
    """The money of rows by account and currency."""
    summed: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        summed[row["account"], row["currency"]] += Decimal(row["amount"])
    return dict(summed)


def check_answers(name: str, results: Sequence[Row], ledgers: Ledgers) -> None:
    """Each line of a finished example against its answer, and each answer against the ledgers."""
    for number, (asked, told) in enumerate(zip(rows_of(name), results, strict=True), 1):
        same = ("reference_id", "account", "currency")
        assert [told[column] for column in same] == [asked[column] for column in same]
        assert (told["row"], told["provider"]) == (str(number), asked["account"])
        assert Decimal(told["amount"]) == Decimal(asked["amount"])
        known = ledgers[asked["account"]].get(asked["reference_id"], {"invoices": []})
        assert told["settled_at"], told
        if asked["reference_id"] in FAILING[name]:
            assert told["state"] == "failed", told
            assert told["failure_reason"], told
            assert _left(known) == [], told
        else:
            assert told["state"] == "paid", told
            _check_paid(asked, told, known["invoices"])
    check_sums(results, ledgers)


def _check_paid(asked: Row, told: Row, invoices: Sequence[Mapping[str, Any]]) -> None:
    [invoice] = invoices
    assert told["provider_payout_id"] == invoice["id"]
    assert len(invoice["releases"]) == 1, asked
    assert invoice["currency"] == asked["currency"]
    assert Decimal(invoice["amount"]) == Decimal(asked["amount"])
    # All of it has gone, with its fee.
    assert Decimal(invoice["paid_out"]) == Decimal(invoice["writeoff"]) >= Decimal(asked["amount"])


def _left(known: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The payouts of a reference id that keep any money."""
    return [
        invoice
        for invoice in known["invoices"]
        if Decimal(invoice["paid_out"]) or Decimal(invoice["pending"])
    ]


def check_sums(results: Sequence[Row], ledgers: Ledgers) -> None:
    """What the results call paid is what left the accounts, and the ledgers know no other line."""
    gone = [
        {**invoice, "account": account}
        for account, ledger in ledgers.items()
        for known in ledger.values()
        for invoice in _left(known)
    ]
    assert sums(gone) == sums(row for row in results if row["state"] == "paid")
    lines = {(row["account"], row["reference_id"]) for row in results}
    assert {(account, each) for account, ledger in ledgers.items() for each in ledger} <= lines


def asked_to_lose(name: str) -> set[str]:
    """The lines of an example that ask for a lost answer to something that was done."""
    return {r["reference_id"] for r in rows_of(name) if "-after" in r.get("metadata.simulate", "")}


def answers_lost(ledgers: Ledgers) -> set[str]:
    """The lines of which the simulators did something and lost the answer."""
    return {
        each
        for ledger in ledgers.values()
        for each, known in ledger.items()
        if any(swallowed["applied"] for swallowed in known["swallowed"])
    }
