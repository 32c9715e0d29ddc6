"""The eComCharge simulator as a program, its flags, and its faults."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from workers.errors import UsageError
from workers.simulator.ecomcharge import EcomchargeOptions, main, read_flags, serve
from workers.simulator.ecomcharge_account import DEFAULT_METHODS
from workers.simulator.server import Running

from .ecomcharge_world import (
    CARD,
    CUSTOMER,
    START,
    WAIT_S_MAX,
    Driver,
    beyag_body,
    client,
    shop,
    until,
)

Program = subprocess.Popen[bytes]
Call = Callable[[Driver], httpx.Response]

CALLS: dict[str, Call] = {
    "create": lambda driver: driver.pay("r-1"),
    "read": lambda driver: driver.beyag("GET", "/transactions/unknown"),
    "find": lambda driver: driver.beyag("GET", "/transactions/tracking_id/r-1"),
    "balances": lambda driver: driver.beyag("POST", "/balance", json={"gateway_id": 85}),
    "precheck": lambda driver: driver.beyag(
        "POST", "/transactions/payout/precheck", json=beyag_body()
    ),
    "services": lambda driver: driver.cards("GET", "/__key"),
}
CARD_CALLS: dict[str, Call] = {
    "create": lambda driver: driver.pay_card("r-1"),
    "read": lambda driver: driver.cards("GET", "/transactions/unknown"),
    "find": lambda driver: driver.cards("GET", "/v2/transactions/tracking_id/r-1"),
    "balances": lambda driver: driver.cards(
        "POST", "/balance", version="2", json={"request": {"gateway_id": "85"}}
    ),
}
EVERY_CALL = [*CALLS.items(), *CARD_CALLS.items()]


@pytest.mark.parametrize(("point", "call"), EVERY_CALL)
def test_fault_strikes_before_the_call_is_carried_out(point: str, call: Call) -> None:
    with shop() as driver:
        driver.fault(f"{point}:503")
        struck = call(driver)
        assert struck.status_code == 503
        assert struck.json()["response"]["errors"] == {"gateway": "is temporarily unavailable"}
        assert driver.invoices() == []
        assert call(driver).status_code in (200, 404)
        assert len(driver.invoices()) == (1 if point == "create" else 0)


@pytest.mark.parametrize(("point", "call"), EVERY_CALL)
def test_fault_strikes_after_the_call_was_carried_out(point: str, call: Call) -> None:
    with shop() as driver:
        driver.fault(f"{point}:drop-after")
        with pytest.raises(httpx.RemoteProtocolError):
            call(driver)
        assert len(driver.invoices()) == (1 if point == "create" else 0)
        assert driver.releases() == (1 if point == "create" else 0)
        assert call(driver).status_code in (200, 404, 422)
        assert driver.control("GET", "calls").json()[point] == 2


def test_read_by_uid_and_renotify_name_their_tracking_id_to_the_faults() -> None:
    with shop() as driver:
        uid = driver.paid()["uid"]
        driver.fault("read:500*2", "r-1")
        for method, path in (("GET", ""), ("POST", "/renotify")):
            answer = driver.beyag(method, f"/transactions/{uid}{path}")
            assert answer.status_code == 500
        assert driver.read(uid)["uid"] == uid


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [("create:html", 502, "text/html"), ("create:401", 401, "application/json")],
)
def test_struck_create_pays_nothing(fault: str, status: int, content_type: str) -> None:
    with shop() as driver:
        driver.fault(fault)
        answer = driver.pay()
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, content_type)
        assert driver.releases() == 0


def test_create_cut_off_and_repeated_pays_twice_without_its_request_id() -> None:
    with shop() as driver:
        driver.fault("create:reset-after*2")
        for key in (None, "k-1"):
            with pytest.raises(httpx.ReadError):
                driver.pay(key=key)
        driver.paid(key="k-1")
        assert driver.releases() == 2


# The program.


@pytest.fixture
def launch() -> Iterator[Callable[..., tuple[Program, Driver]]]:
    with ExitStack() as stack:

        def begin(*flags: str) -> tuple[Program, Driver]:
            program = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "workers.simulator.ecomcharge", *flags],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            stack.callback(program.kill)
            assert program.stdout is not None
            told = json.loads(program.stdout.readline())
            assert told["base_url"] == told["public_base_url"] + "/beyag"
            running = Running(told["base_url"], told["public_base_url"])
            return program, stack.enter_context(client(running))

        yield begin


def test_killed_simulator_continues_on_its_ledger(
    launch: Callable[..., tuple[Program, Driver]], tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    program, driver = launch("--ledger", str(path), "--settle", "0.2")
    paid = driver.paid(key="k-1", customer=CUSTOMER)
    joined = driver.paid(reference="a;b")["uid"]
    driver.pay_card("card-1", key="k-1")
    key = driver.public_key()
    program.send_signal(signal.SIGKILL)
    program.wait(WAIT_S_MAX)
    assert program.stderr is not None
    for kept in (path.read_bytes(), program.stderr.read()):
        for secret in (CARD, "Jane", "demo-secret"):
            assert secret.encode() not in kept

    with serve(EcomchargeOptions(ledger=path)) as running, client(running) as again:
        until(lambda: again.read(paid["uid"])["status"] == "successful")
        assert again.paid(key="k-1")["uid"] == paid["uid"]
        assert again.pay_card("card-1", key="k-1").status_code == 200
        assert again.find("b") == [joined]
        assert [again.releases(each) for each in ("r-1", "card-1")] == [1, 1]
        assert again.balance() == 1_000_000_000 - 3 * 2550
        assert again.public_key() == key


def test_program_stops_cleanly_and_says_nothing_when_quiet(
    launch: Callable[..., tuple[Program, Driver]],
) -> None:
    program, driver = launch("--quiet", "--until-stdin-closes")
    assert driver.pay().status_code == 200
    assert program.stdin is not None
    program.stdin.close()
    assert program.wait(WAIT_S_MAX) == 0
    assert program.stdout is not None
    assert program.stderr is not None
    assert program.stdout.read() + program.stderr.read() == b""


def test_locked_ledger_is_exit_3_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ledger"
    with shop(ledger=path, private_key=tmp_path / "key.pem"):
        assert main(["--ledger", str(path)]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.endswith("is in use by another simulator\n")


def test_unusable_key_is_exit_1_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--private-key", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err


# The flags.


def test_no_flags_are_the_defaults() -> None:
    assert read_flags([]) == EcomchargeOptions()


@pytest.mark.parametrize(
    ("argv", "option", "value"),
    [
        ("--shop-id 7", "shop_id", "7"),
        ("--secret-key other", "secret_key", "other"),
        ("--gateway-id 1234", "gateway_id", 1234),
        ("--decimals IDR=2 --decimals LAK=2", "decimals", {"IDR": 2, "LAK": 2}),
        (
            "--method wallet=number,customer.email --method cash",
            "methods",
            {**DEFAULT_METHODS, "wallet": ("number", "customer.email"), "cash": ()},
        ),
        ("--settle 3", "settle_s", 3.0),
        ("--find-delay 3", "find_delay_s", 3.0),
        ("--request-id ignore", "request_id", "ignore"),
        ("--busy 3", "busy_s", 3.0),
        ("--busy-answer 429", "busy_answer", "429"),
        ("--verification ignore", "verification", "ignore"),
        ("--verification-silence hold", "verification_silence", "hold"),
        ("--private-key k.pem", "private_key", Path("k.pem")),
        ("--low-balance 422", "low_balance", "422"),
        ("--declined-http 202", "declined_http", 202),
        ("--no-magic", "magic", False),
        ("--form", "form", True),
        ("--codes", "codes", True),
        ("--phone-number", "phone_number", True),
        ("--decoys", "decoys", True),
        ("--no-card-numbers", "card_numbers", False),
        ("--card-find list", "card_find", "list"),
        ("--no-balance-call", "balance_call", False),
        ("--no-precheck", "precheck", False),
        ("--no-webhooks", "webhooks", False),
        ("--forged-basic", "forged_basic", True),
        (f"--manual-clock {START}", "manual_clock", START),
    ],
)
def test_flag_sets_its_option_and_no_other(argv: str, option: str, value: Any) -> None:
    read = read_flags(argv.split())
    assert getattr(read, option) == value
    assert getattr(read, option) != getattr(EcomchargeOptions(), option)
    names = EcomchargeOptions.__dataclass_fields__
    assert [
        each for each in names if getattr(read, each) != getattr(EcomchargeOptions(), each)
    ] == [option]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--gateway-id 0", "expected a whole number such as 85"),
        ("--gateway-id eight", "expected a whole number such as 85"),
        ("--decimals IDR", "expected such as IDR=2, at most 4"),
        ("--decimals IDR=5", "expected such as IDR=2, at most 4"),
        ("--decimals idr=2", "expected such as IDR=2, at most 4"),
        ("--method Wallet", "expected such as bank_transfer=account,customer.email"),
        ("--method wallet=a,,b", "expected such as bank_transfer=account,customer.email"),
        ("--method =a", "expected such as bank_transfer=account,customer.email"),
        ("--declined-http 500", "invalid choice"),
        ("--busy-answer 500", "invalid choice"),
        ("--request-id maybe", "invalid choice"),
        ("--verification-silence pay", "invalid choice"),
        ("--card-find tree", "invalid choice"),
        ("--settle -1", "expected seconds"),
        ("--busy soon", "expected seconds"),
        ("--fault create:explode", "expected an effect"),
        ("--nonsense", "unrecognized arguments"),
    ],
)
def test_nonsense_is_one_sentence(
    argv: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=sentence):
        read_flags(argv.split())
    assert main(argv.split()) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
