"""The command line: what each flag sets, and one sentence for each that cannot be read."""

from __future__ import annotations

import importlib
from decimal import Decimal
from pathlib import Path

import pytest

from workers.simulator import faults
from workers.simulator.payelata import PayelataOptions, main, read_flags


def test_no_flags_give_the_defaults() -> None:
    assert read_flags([]) == PayelataOptions()


def test_every_flag_reaches_its_option() -> None:
    text = (
        "--host 127.0.0.2 --port 9101 --ledger L --account-id a --api-key k --public-key p "
        "--signing-key s --live --prefix /v1 --settle 2 --release-delay 3 --auto-process "
        "--low-balance failed --balance USD=5.00 --balance KWD=1.250 --find-delay 4 "
        "--allow-duplicates --fault create:drop --fault status=expired --fault-every 7 "
        "--latency 0.1 --clock-scale 60 --manual-clock 1700000000 --callback-url http://x/ "
        "--callback-host worker --callbacks-final-only --until-stdin-closes --quiet"
    )
    options = read_flags(text.split())
    defaults = PayelataOptions().balances
    assert options == PayelataOptions(
        host="127.0.0.2",
        port=9101,
        ledger=Path("L"),
        account_id="a",
        api_key="k",
        public_key="p",
        signing_key="s",
        live=True,
        prefix="/v1",
        settle_s=2.0,
        release_delay_s=3.0,
        auto_process=True,
        low_balance="failed",
        balances={**defaults, "USD": Decimal("5.00"), "KWD": Decimal("1.250")},
        find_delay_s=4.0,
        allow_duplicates=True,
        faults=faults.parse("create:drop status=expired"),
        fault_every=7,
        latency_s=0.1,
        clock_scale=60.0,
        manual_clock=1_700_000_000.0,
        callback_url="http://x/",
        callback_hosts=("worker",),
        callbacks_final_only=True,
        until_stdin_closes=True,
        quiet=True,
    )


@pytest.mark.parametrize(
    "text",
    [
        "--nonsense",
        "--port 70000",
        "--port x",
        "--settle -1",
        "--settle soon",
        "--latency 1e3",
        "--balance USD",
        "--balance usd=1.00",
        "--balance JPY=1.50",
        "--fault create:explode",
        "--fault-every 0",
        "--clock-scale 0",
        "--clock-scale fast",
        "--manual-clock now",
        "--clock-scale nan",
        "--manual-clock -5",
        "--manual-clock inf",
        "--low-balance perhaps",
        "--prefix api",
        "--prefix /public-api",
        "--prefix /_control",
        "--sett 1",
        "stray",
    ],
)
def test_bad_flag_is_one_sentence_and_exit_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(text.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1
    assert told.err.startswith("payelata simulator: ")


@pytest.mark.parametrize("name", ["payelata", "ecomcharge", "echelon", "ecart", "etpay"])
def test_the_usage_line_is_what_can_be_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = importlib.import_module(f"workers.simulator.{name}")
    with pytest.raises(SystemExit):
        program.main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: paybatch simulator {name} [-h]")
