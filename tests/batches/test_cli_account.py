"""What an account has and can pay; and an account that cannot be used, which is no row's fault."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from batches import screens
from batches.sandbox import PROVIDERS
from tests.batches.cli_world import World, check_money, provided, usd_row
from tests.batches.example_world import SETTINGS, Examples, example
from workers.pace import room_for
from workers.providers.port import Service
from workers.record.money import Currency, Money

VALUES = {
    "pix_brl": {
        "pix_key": "somebody@example.org",
        "document_type": "CPF",
        "document_id": "00165063527",
    },
    "swift_jpy": {
        "account_number": "DE8937040044",
        "bank_code": "COBADEFF",
        "beneficiary_full_name": "Some Body",
    },
}


@pytest.mark.parametrize("setting", ["API_KEY", "ACCOUNT_ID"])
def test_a_refused_key_stops_a_run_with_6_before_anything_is_stored(
    tmp_path: Path, setting: str
) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        wrong = {f"PAYBATCH_ACCOUNTS__MAIN__{setting}": "wrong-key-9731"}
        for command in (("run", "p.csv", "--yes"), ("check", "p.csv"), ("balance",)):
            ended = world.paybatch(*command, code=6, **wrong)
            assert ended.err.startswith("paybatch: account main: Payelata")
            assert ended.err.count("main") == 1
            assert "wrong-key-9731" not in ended.err + ended.out
        assert world.nothing_is_stored()
        assert provider.ledger() == {}
        # Mended, it is paid.
        world.paybatch("run", "p.csv", "--yes")
        check_money(world.read(), provider.ledger())


def test_too_low_a_balance_stops_a_run_with_6_before_anything_is_stored(tmp_path: Path) -> None:
    with provided(tmp_path, "--balance", "USD=20.00") as (world, provider):
        world.write([usd_row(1, amount="10"), usd_row(2, amount="10.01")])
        ended = world.paybatch("run", "p.csv", "--yes", code=6)
        assert "20.01 USD" in ended.out
        assert "20.00 USD" in ended.out
        assert world.nothing_is_stored()
        provider.control("POST", "balances", USD="20.01")
        world.paybatch("run", "p.csv", "--yes")
        check_money(world.read(), provider.ledger())


def test_a_provider_that_does_not_answer_stops_a_run_with_6_before_anything_is_stored(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        provider.fault("any:503*0")
        ended = world.paybatch("run", "p.csv", "--yes", code=6)
        assert ended.err.startswith("paybatch: account main: Payelata was asked for ")
        assert world.nothing_is_stored()
        provider.mend()
        world.paybatch("run", "p.csv", "--yes")


@pytest.mark.parametrize("answer", ["401", "404"])
def test_an_account_fault_in_mid_batch_fails_no_row_and_the_next_run_finishes(
    tmp_path: Path, answer: str
) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(number) for number in range(30)])
        # Some are through before the key is taken back.
        for number in range(25, 30):
            provider.fault(f"create:{answer}*0", f"T-{number:04}")
        facts = world.paybatch("run", "p.csv", "--yes", "--json", code=6).json
        # What the provider has by now stays open; no row is blamed.
        assert set(facts["counts"]) <= {"paid", "queued", "created", "processing"}
        assert facts["counts"]["queued"] >= 5
        assert facts["paused"]
        shown = world.paybatch("status", facts["batch_id"]).out
        assert "paused (fault)" in shown
        # Nothing is sent while it is still refused.
        provider.fault("balances:401*0")
        creates = provider.control("GET", "calls")["create"]
        world.paybatch("run", "p.csv", "--yes", code=6)
        assert provider.control("GET", "calls")["create"] == creates

        provider.mend()
        world.paybatch("run", "p.csv", "--yes")
        assert set(world.states().values()) == {"paid"}
        check_money(world.read(), provider.ledger())


def test_money_that_runs_out_in_mid_batch_leaves_rows_queued(tmp_path: Path) -> None:
    with provided(tmp_path, "--settle", "0.3") as (world, provider):
        world.write([usd_row(number, amount="10") for number in range(40)])
        limit = {"PAYBATCH_ACCOUNTS__MAIN__IN_FLIGHT_MAX": "2"}
        with world.start("run", "p.csv", "--yes", **limit) as run:
            run.until(lambda: world.count("paid"))
            provider.control("POST", "balances", USD="15")
            ended = run.wait()
        assert ended.code == 6, ended.err
        assert "paused (balance)" in ended.out
        assert world.count("held") == 0
        assert world.count("queued") > 20
        # Only what was created while there was money, and released without it, has failed.
        failed = world.query("SELECT failure_code FROM payouts WHERE state = 'failed'")
        assert set(failed) <= {("insufficient_funds",)}
        assert len(failed) <= room_for(2)
        provider.control("POST", "balances", USD="1000")
        world.paybatch("run", "p.csv", "--yes", code=4 if failed else 0)
        check_money(world.read(), provider.ledger())
        assert world.count("paid") == 40 - len(failed)


def test_balance_tells_what_is_promised_and_what_is_left(tmp_path: Path) -> None:
    with provided(tmp_path, "--balance", "USD=100.00") as (world, _):
        world.write([usd_row(1, amount="30.25")])
        world.paybatch("submit", "p.csv")
        before = world.paybatch("balance", "--json").json
        assert before["account"] == "main"
        usd = {each["currency"]: each for each in before["balances"]}["USD"]
        assert usd == {"currency": "USD", "balance": "100.00", "promised": "0.00"}
        world.paybatch("approve", world.batch_id())
        shown = world.paybatch("balance").out
        for told in ("100.00 USD", "30.25 USD", "69.75 USD"):
            assert told in shown


def test_services_tell_limits_fees_and_fields(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        listed = world.paybatch("services", "--currency", "USD", "--json").json
        found = {each["service"]: each for each in listed["services"]}
        assert set(found) == {
            "payment_card_usd",
            "bank_transfer_usd",
            "test_usd",
            "binancepay_usd",
        }
        assert (found["payment_card_usd"]["amount_max"], found["binancepay_usd"]["usable"]) == (
            "5000.00",
            False,
        )
        assert [each["name"] for each in found["payment_card_usd"]["fields"]] == ["card_number"]
        shown = world.paybatch("services").out
        assert "pix_brl" in shown
        assert "binancepay_usd (not usable)" in shown
        assert "ISO 4217" in world.paybatch("services", "--currency", "XYZ", code=2).err


@pytest.mark.parametrize("service", sorted(VALUES))
def test_a_filled_in_template_passes_check(tmp_path: Path, service: str) -> None:
    with provided(tmp_path) as (world, _):
        world.paybatch("template", service, "-o", "t.csv")
        with (world.folder / "t.csv").open(newline="") as file:
            columns = next(csv.reader(file))
        assert world.paybatch("template", service).out.strip() == ",".join(columns)
        values = {
            "reference_id": "R-1",
            "amount": "500",
            "currency": service[-3:].upper(),
            "service": service,
            **{f"fields.{name}": value for name, value in VALUES[service].items()},
        }
        assert set(values) <= set(columns)
        world.write([{name: values.get(name, "") for name in columns}])
        assert world.paybatch("check", "p.csv", "--json").json["ok"]
        assert service in world.paybatch("template", "pixx", code=2).err


def test_simulator_flags_that_cannot_be_read_end_with_2(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert "nobody" in world.paybatch("simulator", "nobody", code=2).err
    assert "create" in world.paybatch("simulator", "payelata", "--fault", "x:y", code=2).err


def test_help_on_simulators_names_them_and_each_has_its_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    for flag in ("--help", "-h"):
        told = " ".join(world.paybatch("simulator", flag).out.split())
        assert "paybatch simulator [OPTIONS] PROVIDER" in told
        assert f"PROVIDER is {', '.join(PROVIDERS[:-1])} or {PROVIDERS[-1]}." in told
    assert "--find-delay" in world.paybatch("simulator", "payelata", "--help").out


def test_an_account_without_a_balance_says_so_in_json_too(tmp_path: Path) -> None:
    ended = Examples(tmp_path).paybatch("balance", "--account", "echelon", "--json")
    assert ended.json == {"account": "echelon", "balances": None}
    assert ended.err == "Account echelon: echelon has no balance that can be asked for.\n"


def test_what_nobody_told_of_a_service_is_not_called_nothing(tmp_path: Path) -> None:
    world = Examples(tmp_path)
    lines = world.paybatch("services", "--account", "echelon").out.splitlines()
    assert all("none known  not told" in line for line in lines[1:-1])
    with world.started(["payelata"]):
        listed = world.paybatch("services", "--account", "payelata").out
    (card,) = [line for line in listed.splitlines() if line.startswith("payment_card_usd ")]
    assert card.split()[-2:] == ["none", "card_number"]


def test_a_limit_on_one_side_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    usd = Currency.of("USD")
    one, two = Money(100, usd), Money(200, usd)
    limits = [(None, None), (one, None), (None, two), (one, two)]
    found = [
        Service(
            code=f"s{number}",
            currency=usd,
            beneficiary_currency=usd,
            amount_min=low,
            amount_max=high,
            fee_fix=one,
        )
        for number, (low, high) in enumerate(limits)
    ]
    screens.services(found, listed=False)
    lines = capsys.readouterr().out.splitlines()[1:]
    told = ["none known", "from 1.00 USD", "up to 2.00 USD", "1.00 USD to 2.00 USD"]
    for line, words in zip(lines, told, strict=True):
        assert f"USD        {words}  " in line
        assert line.partition(words)[2].split()[:2] == ["1.00", "USD"]


def test_a_currency_that_an_account_does_not_pay_from_is_told_with_those_that_it_does(
    tmp_path: Path,
) -> None:
    world = Examples(tmp_path)
    told = world.paybatch("services", "--account", "echelon", "--currency", "EUR", code=2).err
    assert told == (
        "paybatch: account echelon does not pay from EUR; it pays from: IDR, USD, INR\n"
    )


def test_a_template_of_no_service_says_which_there_are(tmp_path: Path) -> None:
    world = Examples(tmp_path)
    told = world.paybatch("template", "--account", "echelon", code=2)
    assert told.err == "paybatch: name one of the services of account echelon: BANK_TRANSFER\n"
    assert told.out == ""


def test_of_several_accounts_one_is_to_be_named_or_set(tmp_path: Path) -> None:
    world = Examples(tmp_path)
    # As if the line default_account were not there.
    plain = world.folder / "paybatch.toml"
    text = SETTINGS.read_text()
    assert 'default_account = "payelata"' in text
    plain.write_text(text.replace('default_account = "payelata"', ""))
    given = {"PAYBATCH_CONFIG": str(plain)}
    for command in (("balance",), ("check", example("echelon"))):
        told = world.paybatch(*command, code=2, **given).err
        assert "set default_account, or name one with --account" in told
        assert "ecart, echelon, ecomcharge, etpay, payelata" in told
    world.paybatch("check", example("echelon"), "--account", "echelon", **given)
    # What is about no account in particular needs none.
    assert "No batches yet" in world.paybatch("status", **given).out


def test_a_paused_account_says_what_to_do_where_nobody_tries_it_again(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        provider.fault("create:403*0")
        ran = world.paybatch("run", "p.csv", "--yes", code=6).out
        batch = world.batch_id()
        watched = world.paybatch("watch", batch, code=6).out
        for shown in (ran, watched, world.paybatch("status", batch).out):
            assert "Account main is paused (fault): " in shown
            assert f"run the same file again, or: paybatch watch {batch}." in shown
            assert "tried again at" not in shown
            assert "next step" not in shown
        assert world.paybatch("status", batch, "--json").json["next_due"] is None
        # Workers that go on running do try it again.
        shared = world.paybatch("status", batch, PAYBATCH_BROKER_URL="redis://127.0.0.1:9/0").out
        assert ", tried again at " in shared
        assert f"paybatch watch {batch}" in shared
        provider.mend()
        world.paybatch("watch", batch)
        assert "paused" not in world.paybatch("status", batch).out


def test_what_is_not_paused_tells_when_it_goes_on(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        batch = world.paybatch("submit", "p.csv", "--approve", "--json").json["batch_id"]
        assert "Its next step is due in 0 s" in world.paybatch("status", batch).out
