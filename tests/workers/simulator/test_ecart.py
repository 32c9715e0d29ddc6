"""The Ecart Pay simulator as a program: its flags, its one line, its memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from workers.errors import UsageError
from workers.simulator.ecart import EcartOptions, main, read_flags
from workers.simulator.server import Running

from .ecart_driver import Driver, connected, starter

Until = Callable[[Callable[[], Any]], Any]
Program = subprocess.Popen[bytes]


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    with starter() as begin:
        yield begin


@pytest.fixture
def launch() -> Iterator[Callable[..., tuple[Program, Driver]]]:
    with ExitStack() as stack:

        def begin(*flags: str) -> tuple[Program, Driver]:
            program = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "workers.simulator.ecart", *flags],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            stack.callback(program.kill)
            assert program.stdout is not None
            told = json.loads(program.stdout.readline())
            assert told["base_url"] == told["public_base_url"]
            running = Running(told["base_url"], told["public_base_url"])
            return program, stack.enter_context(connected(running))

        yield begin


def test_killed_simulator_continues_on_its_ledger(
    launch: Callable[..., tuple[Program, Driver]],
    start: Callable[..., Driver],
    until: Until,
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger"
    program, driver = launch("--ledger", str(path))
    email = "luis.secreto@example.com"
    driver.fault("create:drop", "r-1")
    with pytest.raises(Exception, match=r"reset|disconnect"):
        driver.create("r-1", email=email)
    paid = driver.created("r-1", email=email)
    waiting = driver.pending("r-2", email=email)
    on_its_way = driver.pending("r-3", email=email)
    at = "2100-01-01T00:00:00.000Z"
    scheduled = driver.confirm(on_its_way, at).json()
    driver.created("r-4", email="ana+failed@example.com")
    balance = driver.balance()
    program.send_signal(signal.SIGKILL)
    program.wait(5)
    assert program.stderr is not None
    for kept in (path.read_bytes(), program.stderr.read()):
        for secret in ("luis.secreto", "ana+failed", "priv_demo", "whsec_demo"):
            assert secret.encode() not in kept
    assert b".com" in path.read_bytes()

    again = start(ledger=path, manual_clock=None)
    again.authorization = driver.authorization  # a token outlives the program
    assert again.read(paid["id"]) == paid
    assert again.balance() == balance == (9_999_248.5, 501)
    assert again.create("r-1").status_code == 409
    assert again.read(on_its_way) == scheduled
    assert again.ledger("r-1")["creates"] == 3
    assert again.confirm(waiting).json()["status"] == "paid"
    assert again.balance() == (9_999_248.5, 250.5)
    assert [again.releases(each) for each in ("r-1", "r-2", "r-3")] == [1, 1, 1]


def test_payout_that_was_due_while_nobody_ran_is_paid_after_the_start(
    start: Callable[..., Driver], tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    with starter() as begin:
        driver = begin(ledger=path)
        payout_id = driver.pending()
        driver.confirm(payout_id, "2031-01-02T13:00:00.000Z")
    later = start(ledger=path, manual_clock=1_925_125_200.0)
    assert later.read(payout_id)["status"] == "paid"
    assert later.read(payout_id)["updated_at"] == "2031-01-02T13:00:00.000Z"
    assert later.balance() == (9_999_749.5, 0)


def test_signal_stops_it_cleanly(launch: Callable[..., tuple[Program, Driver]]) -> None:
    program, driver = launch("--quiet", "--bearer", "--settle", "2")
    driver.authorization = "Bearer " + driver.token()
    assert driver.created()["status"] == "pending"
    program.send_signal(signal.SIGTERM)
    assert program.wait(5) == 0


def test_flags_left_out_are_the_options_left_out() -> None:
    assert read_flags([]) == EcartOptions()


def test_every_flag_reaches_its_option() -> None:
    told = """
    --public-key p --private-key k --account-id 0123456789abcdef01234567 --webhook-secret w
    --token-ttl 60 --bearer --recipient ana@example.org --recipient *@example.net
    --duplicate-status pay-again --no-hold --repeat-confirm 400 --lookup off --list-shape bare
    --page-size-max 25 --find-delay 3 --settle 2 --fee 1.50 --exchange 17.05 --amount-decimals 0
    --callback-url http://127.0.0.1/ --sign-scope body --webhook-id subscription
    --webhook-attempts 6 --fault create:503 --balance MXN=5.00 --manual-clock 7
    """
    read = read_flags(told.split())
    assert read.balances["MXN"] == Decimal("5.00")
    assert read.balances["USD"] == Decimal(10_000_000)
    assert (read.manual_clock, len(read.faults.faults)) == (7.0, 1)
    assert read == EcartOptions(
        manual_clock=7.0,
        faults=read.faults,
        balances=read.balances,
        public_key="p",
        private_key="k",
        account_id="0123456789abcdef01234567",
        webhook_secret="w",
        token_ttl_s=60,
        bearer=True,
        recipients=("ana@example.org", "*@example.net"),
        duplicate_status="pay-again",
        hold_on_pending=False,
        repeat_confirm="400",
        lookup="off",
        list_shape="bare",
        page_size_max=25,
        find_delay_s=3.0,
        settle_s=2.0,
        fee=Decimal("1.50"),
        exchange=Decimal("17.05"),
        amount_decimals=0,
        callback_url="http://127.0.0.1/",
        sign_scope="body",
        webhook_id="subscription",
        webhook_attempts=6,
    )


@pytest.mark.parametrize(
    "flags",
    [
        ["--account-id", "short"],
        ["--token-ttl", "0"],
        ["--token-ttl", "1.5"],
        ["--recipient", "luis"],
        ["--duplicate-status", "500"],
        ["--repeat-confirm", "500"],
        ["--lookup", "maybe"],
        ["--list-shape", "list"],
        ["--page-size-max", "0"],
        ["--find-delay", "-1"],
        ["--settle", "soon"],
        ["--fee", "-1"],
        ["--fee", "1e3"],
        ["--exchange", "NaN"],
        ["--amount-decimals", "3"],
        ["--sign-scope", "both"],
        ["--webhook-id", "none"],
        ["--webhook-attempts", "7"],
        ["--fault", "create:explode"],
        ["--balance", "MXN"],
        ["--nonsense"],
        ["--bear"],
        ["extra"],
    ],
)
def test_nonsense_is_refused_in_one_sentence(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"^ecart simulator: "):
        read_flags(flags)
    assert main(flags) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1


def test_locked_ledger_is_exit_3(
    start: Callable[..., Driver], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(ledger=tmp_path / "ledger")
    assert main(["--ledger", str(tmp_path / "ledger")]) == 3
    assert "is in use by another simulator" in capsys.readouterr().err
