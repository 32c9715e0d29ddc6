"""The Echelon Pay simulator as a program: its flags, its one line, its ledger after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from workers.simulator import faults
from workers.simulator.echelon import EchelonOptions, main, read_flags
from workers.simulator.server import Running

from .echelon_driver import ACCOUNT, connected, echelon

Until = Callable[[Callable[[], Any]], Any]


def test_no_flags_give_the_defaults() -> None:
    assert read_flags([]) == EchelonOptions()


def test_every_flag_reaches_its_option() -> None:
    text = (
        "--port 9102 --ledger L --merchant-code M-1 --secret s --jwt-key k --payout-action PAY_OUT "
        "--live --settle 2 --visibility-lag 4 --duplicates pay-again --low-balance failed "
        "--fee IDR=0 --fee INR=5.50 --callback-style full_object --callbacks foreign "
        "--failure-reasons list --balance IDR=5.00 --fault create:drop --fault status=EXPIRED "
        "--fault-every 7 --callback-host worker --manual-clock 1700000000 --quiet"
    )
    default = EchelonOptions()
    assert read_flags(text.split()) == EchelonOptions(
        port=9102,
        ledger=Path("L"),
        merchant_code="M-1",
        secret="s",
        jwt_key="k",
        payout_action="PAY_OUT",
        live=True,
        settle_s=2.0,
        visibility_lag_s=4.0,
        duplicates="pay-again",
        low_balance="failed",
        fees={**default.fees, "IDR": Decimal(0), "INR": Decimal("5.50")},
        callback_style="full_object",
        callbacks="foreign",
        failure_reasons="list",
        balances={**default.balances, "IDR": Decimal(5)},
        faults=faults.parse("create:drop status=EXPIRED"),
        fault_every=7,
        callback_hosts=("worker",),
        manual_clock=1_700_000_000.0,
        quiet=True,
    )


@pytest.mark.parametrize(
    "text",
    [
        "--nonsense",
        "stray",
        "--port x",
        "--settle -1",
        "--visibility-lag soon",
        "--duplicates perhaps",
        "--low-balance 402",
        "--fee IDR",
        "--fee idr=1",
        "--fee IDR=-1",
        "--fee IDR=1.005",
        "--callback-style short",
        "--callbacks twice",
        "--failure-reasons some",
        "--payout-action pay-out",
        "--fault create:explode",
        "--merchant 1",
    ],
)
def test_bad_flag_is_one_sentence_and_exit_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(text.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1
    assert told.err.startswith("echelon simulator: ")


def test_merchant_and_key_are_those_of_the_options() -> None:
    with echelon(merchant_code="M-1", secret="other", jwt_key="another") as driver:
        asked = {"merchantCode": "M-1", "secret": "other"}
        assert driver.ask_token("POST /payouts/PO-1").status_code == 401
        token = driver.ask_token("POST /payouts/PO-1", **asked).json()["token"]
        assert driver.create(token=token).status_code == 200
    with echelon() as driver:
        assert driver.create(token=token).status_code == 401


def test_killed_simulator_continues_on_its_ledger(tmp_path: Path, until: Until) -> None:
    path = tmp_path / "ledger"
    flags = ["--ledger", str(path), "--settle", "0.2", "--visibility-lag", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "workers.simulator.echelon", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        try:
            assert program.stdout is not None
            told = json.loads(program.stdout.readline())
            assert told["pid"] == program.pid
            assert told["base_url"] == told["public_base_url"]
            with connected(Running(told["base_url"], told["public_base_url"])) as driver:
                driver.fault("create:reset", "PO-1")
                driver.fault("settle=3600", "PO-3")
                with pytest.raises(httpx.TransportError):
                    driver.create("PO-1")
                driver.created("PO-1")
                driver.created("PO-2", account="1110002")
                driver.created("PO-3")
                token = driver.ask_token("GET /payouts/PO-1").json()["token"]
            program.send_signal(signal.SIGKILL)
            program.wait(5)
        finally:
            program.kill()
        assert program.stderr is not None
        logged = program.stderr.read()
    for kept in (path.read_bytes(), logged):
        for secret in (ACCOUNT, "Siti", "Rahma", "siti@example", "s3cret", token):
            assert secret.encode() not in kept
    assert b"******3210" in path.read_bytes()

    with echelon(ledger=path, manual_clock=None) as again:
        until(lambda: again.read("PO-1", token=token).json()["process"]["status"] == "SUCCESS")
        assert again.status("PO-2") == "PENDING"
        assert again.status("PO-3") == "PENDING"
        assert again.create("PO-1").status_code == 409
        assert again.ledger("PO-1")["creates"] == 3
        assert len(again.ledger("PO-1")["invoices"][0]["releases"]) == 1
        # Three payouts of 10000 and a fee of 2500 each, one of them paid.
        assert [Decimal(each) for each in again.funds()] == [999_999_962_500, 25_000]
