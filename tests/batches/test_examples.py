"""Every example is paid as its comments promise, through the command line and each simulator."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from batches.sandbox import PROVIDERS
from tests.batches.cli_world import COLUMNS, ROOT, until
from tests.batches.example_world import (
    ACCOUNTS,
    EXAMPLES,
    FAILING,
    FILES,
    SETTINGS,
    Examples,
    accounts_of,
    answers_lost,
    asked_to_lose,
    check_answers,
    check_sums,
    example,
    rows_of,
    sums,
)
from workers.providers.port import installed_providers

# A service of each account, the columns of its template, and what `balance` shows of it.
SERVICES = {
    "payelata": ("pix_brl", "fields.pix_key,fields.document_type,fields.document_id"),
    "ecomcharge": (
        "bank_transfer",
        "fields.account_number,customer.first_name,customer.last_name,fields.bank_code",
    ),
    "echelon": (
        "BANK_TRANSFER",
        "fields.accountName,fields.accountNumber,fields.paymentOperatorCode,fields.emailAddress",
    ),
    "ecart": ("balance", "fields.email"),
    "etpay": (
        "bank_transfer",
        "fields.name,fields.rut,fields.bank_code,fields.account_type,fields.account_number,"
        "fields.email",
    ),
}
BALANCES = {
    "payelata": "10,000,000.00 USD",
    "ecomcharge": "1,000,000,000 JPY",
    "ecart": "10,000,000.00 MXN",
    "etpay": "10,000,000,000 CLP",
}
PAID_BY_ECHELON = {row["reference_id"] for row in rows_of("mixed") if row["account"] == "echelon"}


# What is there


def test_every_provider_has_an_example_an_account_and_a_simulator() -> None:
    assert set(installed_providers()) == set(PROVIDERS) == set(ACCOUNTS)
    assert {path.stem for path in EXAMPLES.glob("*.csv")} == {*FILES, "payroll"}
    assert {account["provider"] for account in ACCOUNTS.values()} == set(PROVIDERS)
    assert accounts_of("mixed") == sorted(PROVIDERS)


@pytest.mark.parametrize("file", ["README.md", "examples/paybatch.toml"])
def test_every_example_that_is_written_about_is_there(file: str) -> None:
    named = re.findall(r"examples/[\w.-]+\w", (ROOT / file).read_text("utf-8"))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_short_mostly_paid_and_has_lines_that_fail(name: str) -> None:
    references = [row["reference_id"] for row in rows_of(name)]
    assert 12 <= len(references) <= 20
    assert FAILING[name] <= set(references)
    assert 2 <= len(FAILING[name]) <= len(references) // 3


@pytest.mark.parametrize("name", FILES)
def test_every_address_in_an_example_is_at_a_host_that_nobody_has(name: str) -> None:
    hosts = re.findall(r"@([\w.-]+)", example(name).read_text("utf-8"))
    assert hosts
    assert set(hosts) == {"example.com"}


def test_the_commands_in_the_settings_start_the_simulators_that_they_name(tmp_path: Path) -> None:
    commands = re.findall(r"^# +paybatch simulator (\w+) --port (\d+)$", SETTINGS.read_text(), re.M)
    ports = {name: urlsplit(account["base_url"]).port for name, account in ACCOUNTS.items()}
    assert {name: int(port) for name, port in commands} == ports
    assert sorted(ports.values()) == list(range(9101, 9106))
    world = Examples(tmp_path)
    with ExitStack() as stack:
        for name, _ in commands:
            stack.enter_context(world.start("simulator", name, "--port", "0", "--quiet"))
            told = _announced(world)
            world.place(name, told["base_url"], told["public_base_url"])
            # The path is the simulator's own; only the port is chosen.
            assert urlsplit(told["base_url"]).path == urlsplit(ACCOUNTS[name]["base_url"]).path
        facts = world.paybatch("doctor", "--json").json
    assert facts["ok"]
    checked = {check["check"]: check["detail"] for check in facts["checks"]}
    for name, balance in BALANCES.items():
        assert balance in checked[f"account {name}"]


# What is paid


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_answered_line_by_line_and_a_second_run_sends_nothing(
    name: str, tmp_path: Path
) -> None:
    world = Examples(tmp_path)
    command = ["run", example(name), "--yes", "-o", "out.csv"]
    if name != "mixed":
        command += ["--account", name]
    with world.started(accounts_of(name)):
        ended = world.paybatch(*command, code=4)

        results, ledgers = world.read("out.csv"), world.ledgers()
        assert list(results[0]) == COLUMNS
        check_answers(name, results, ledgers)
        assert answers_lost(ledgers) == asked_to_lose(name)
        failed, paid = len(FAILING[name]), len(results) - len(FAILING[name])
        assert re.search(rf"^paid +{paid} ", ended.out, re.M), ended.out
        assert re.search(rf"^failed +{failed} ", ended.out, re.M), ended.out

        calls = world.calls()
        again = world.paybatch(*command, code=3)
        assert f"paid already as batch {world.batch_id()}" in again.err
        assert world.calls() == calls
        assert world.ledgers() == ledgers
        assert world.read("out.csv") == results


def test_all_examples_go_into_one_database(tmp_path: Path) -> None:
    # No reference id twice in an account, and nobody paid the same amount by two lines.
    world = Examples(tmp_path)
    with world.started(ACCOUNTS):
        for name in FILES:
            given = [] if name == "mixed" else ["--account", name]
            facts = world.paybatch("submit", example(name), *given, "--json").json
            assert (facts["rows"], facts["state"]) == (len(rows_of(name)), "draft")
        assert not any(world.ledgers().values())


# What an account tells


@pytest.mark.parametrize("name", FILES)
def test_check_finds_no_fault_and_the_sums_of_the_file(name: str, tmp_path: Path) -> None:
    world = Examples(tmp_path)
    given = [] if name == "mixed" else ["--account", name]
    with world.started(accounts_of(name)):
        facts = world.paybatch("check", example(name), *given, "--json").json
        shown = world.paybatch("check", example(name), *given).out
    assert (facts["ok"], facts["faults"], facts["repeats"]) == (True, [], 0)
    assert facts["rows"] == facts["payable"] == len(rows_of(name))
    totals = {(each["account"], each["currency"]): each["amount"] for each in facts["totals"]}
    assert {key: Decimal(amount) for key, amount in totals.items()} == sums(rows_of(name))
    unknown = {each["account"] for each in facts["totals"] if each["balance"] is None}
    assert unknown == {"echelon"} & set(accounts_of(name))
    # Who keeps no balance is named in a sentence; nothing else is left unchecked.
    assert len(facts["warnings"]) == len(unknown)
    for warning in facts["warnings"]:
        assert warning.startswith("account echelon: ")
        assert "balance" in warning
        assert f"Warning: {warning}" in shown
    assert "No faults." in shown


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_account_tells_its_services_and_their_columns(name: str, tmp_path: Path) -> None:
    world = Examples(tmp_path)
    service, columns = SERVICES[name]
    # Where the settings tell what can be paid, the provider need not even be there.
    with world.started(["payelata"] if name == "payelata" else []):
        told = world.paybatch("services", "--account", name).out
        header = world.paybatch("template", service, "--account", name).out
    assert header == f"reference_id,amount,currency,service,description,{columns}\n"
    # The example of an account is written in the columns of its template.
    if name != "payelata":
        beneficiary = {each for each in rows_of(name)[0] if each.startswith("fields.")}
        assert beneficiary <= set(columns.split(","))
    currencies = {row["currency"] for row in rows_of(name)}
    listed = set(re.findall(r"^[\w-]+ +([A-Z]{3}) ", told, re.M))
    assert currencies <= listed, told
    assert service in told
    sentence = f"{name} does not list what it can pay"
    assert (sentence in told) == (name != "payelata")


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_account_tells_its_balance_or_that_it_has_none_to_ask_for(
    name: str, tmp_path: Path
) -> None:
    world = Examples(tmp_path)
    with world.started([name]):
        ended = world.paybatch("balance", "--account", name)
    if name in BALANCES:
        assert BALANCES[name] in ended.out
        assert ended.err == ""
    else:
        assert ended.out == ""
        assert ended.err == f"Account {name}: {name} has no balance that can be asked for.\n"


# What stops


def test_an_account_that_is_refused_stops_alone_and_is_paid_once_it_is_mended(
    tmp_path: Path,
) -> None:
    # A key that is refused pauses at once; no answer at all would be waited out for OUTAGE_S.
    world = Examples(tmp_path)
    command = ("run", example("mixed"), "--yes", "-o", "out.csv")
    with world.started(ACCOUNTS):
        ended = world.paybatch(*command, code=6, PAYBATCH_ACCOUNTS__ECHELON__SECRET="wrong")

        first, ledgers = world.read("out.csv"), world.ledgers()
        waiting = {row["reference_id"] for row in first if row["state"] == "queued"}
        assert waiting == PAID_BY_ECHELON
        done = {row["reference_id"]: row["state"] for row in first if row["account"] != "echelon"}
        assert done == {each: "failed" if each in FAILING["mixed"] else "paid" for each in done}
        check_sums(first, ledgers)
        assert all(not known["invoices"] for known in ledgers["echelon"].values())
        assert "Account echelon is paused (fault)" in ended.out
        assert re.search(rf"^queued +{len(waiting)} ", ended.out, re.M), ended.out

        world.paybatch(*command, code=4)

        check_answers("mixed", world.read("out.csv"), world.ledgers())
        # Whoever was done is not sent to again.
        for account in set(ACCOUNTS) - {"echelon"}:
            assert _creates(world.ledgers()[account]) == _creates(ledgers[account])


def test_a_provider_that_is_not_there_stops_the_run_before_anything_is_stored(
    tmp_path: Path,
) -> None:
    world = Examples(tmp_path)
    command = ("run", example("mixed"), "--yes", "-o", "out.csv")
    with world.started(set(ACCOUNTS) - {"ecart"}):
        ended = world.paybatch(*command, code=6)
        assert ended.err.startswith("paybatch: account ecart: Ecart Pay was asked for its balances")
        assert "no connection" in ended.err
        assert world.nothing_is_stored()
        assert not any(world.ledgers().values())
        assert not (world.folder / "out.csv").exists()
        with world.started(["ecart"]):
            world.paybatch(*command, code=4)
            check_answers("mixed", world.read("out.csv"), world.ledgers())


def _creates(ledger: Mapping[str, Any]) -> Mapping[str, tuple[int, int]]:
    return {each: (known["creates"], known["processes"]) for each, known in ledger.items()}


def _announced(world: Examples) -> Any:
    """What the newest command says once it listens."""
    screen = max(world.screens.glob("*.out"))
    until(lambda: screen.read_text().endswith("\n"))
    return json.loads(screen.read_text())
