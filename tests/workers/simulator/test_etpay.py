"""The ETpay simulator as a program: its flags, its ledger; and who may call it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from workers.errors import UsageError
from workers.simulator import faults
from workers.simulator.etpay import EtpayOptions, main, read_flags, serve
from workers.simulator.server import Running

from .etpay_driver import FULL, LOGIN, START, EtpayDriver, connect, etpays, order

Start = Callable[..., EtpayDriver]
Until = Callable[[Callable[[], Any]], Any]
UNAUTHORIZED = "UNAUTHORIZED"


@pytest.fixture
def start() -> Iterator[Start]:
    with etpays() as begin:
        yield begin


def test_login_gives_a_token_and_its_end_in_milliseconds(start: Start) -> None:
    driver = start()
    answer = driver.log_in()
    assert answer.status_code == 200
    document = answer.json()
    token = document["auth"].pop("Authorization")
    assert len(token) > 40
    assert document == {
        "msg": "ok",
        "auth": {"tokenExp": int(START + 3600) * 1000},
        "user": {"name": "Ana", "lastnames": "Rojas", "email": "payouts@demo.example"},
    }
    assert driver.log_in().json()["auth"]["Authorization"] != token


@pytest.mark.parametrize(
    "path", [("username",), ("password",), ("merchant", "code"), ("merchant", "api_token")]
)
def test_each_of_the_four_credentials_must_be_right(start: Start, path: tuple[str, ...]) -> None:
    driver = start()
    for value, status in (("other", 401), ("", 401), ("\ud800", 401), (None, 400), (5, 400)):
        document: Any = deepcopy(LOGIN)
        inner = document
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        answer = driver.log_in(document)
        assert (answer.status_code, answer.json()["msg"]) == (status, "error")
        del inner[path[-1]]
        assert driver.log_in(document).status_code == 400
    assert driver.calls("token") == 10


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_login_that_cannot_be_read_is_400(start: Start, body: bytes) -> None:
    driver = start()
    answer = driver.http.post(f"{driver.base_url}/v1/auth/login", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_REQUEST")


def test_login_for_another_merchant_is_refused(start: Start) -> None:
    driver = start()
    assert driver.log_in({**LOGIN, "merchant_code": "cl_demo"}).status_code == 200
    assert driver.log_in({**LOGIN, "merchant_code": "cl_other"}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "payouts"),
        ("GET", "payouts"),
        ("GET", "payouts/pyt_x"),
        ("GET", "balance"),
        ("GET", "nowhere"),
    ],
)
def test_every_other_call_wants_the_token(start: Start, method: str, path: str) -> None:
    driver = start()
    token = driver.log_in().json()["auth"]["Authorization"]
    url = f"{driver.base_url}/v1/{path}"
    for header in (None, "", "x", token[:-1], f"Bearer {token}", f"{token}x"):
        headers = {} if header is None else {"Authorization": header}
        answer = driver.http.request(method, url, headers=headers, json=order())
        assert answer.status_code == 401
        error = answer.json()["error"]
        assert (answer.json()["msg"], error["code"]) == ("error", UNAUTHORIZED)
        assert error["message"]
    assert driver.payouts() == []
    assert driver.calls("refused") == 6


def test_token_can_be_asked_for_as_a_bearer(start: Start) -> None:
    driver = start(auth_scheme="bearer")
    token = driver.log_in().json()["auth"]["Authorization"]
    statuses = [
        driver.call("GET", "balance", headers={"Authorization": header}).status_code
        for header in (f"Bearer {token}", token, f"Basic {token}", "Bearer")
    ]
    assert statuses == [200, 401, 401, 401]


def test_token_ends_at_its_time_and_a_new_login_goes_on(start: Start) -> None:
    driver = start(token_ttl_s=60)
    first = driver.log_in().json()["auth"]
    assert first["tokenExp"] == int(START + 60) * 1000
    driver.token = first["Authorization"]
    driver.advance(59.9)
    assert driver.create("po-1").status_code == 201
    driver.advance(0.1)
    refused = driver.create("po-2")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, UNAUTHORIZED)
    assert driver.payouts("po-2") == []
    driver.token = driver.log_in().json()["auth"]["Authorization"]
    assert driver.create("po-2").status_code == 201
    assert len(driver.payouts("po-2")) == 1


def test_a_second_login_leaves_the_first_token_in_force(start: Start) -> None:
    driver = start()
    tokens = [driver.log_in().json()["auth"]["Authorization"] for _ in range(2)]
    for driver.token in tokens:
        assert driver.call("GET", "balance").status_code == 200


def test_token_does_not_outlive_the_simulator(tmp_path: Path) -> None:
    options = EtpayOptions(ledger=tmp_path / "ledger", manual_clock=START)
    with ExitStack() as stack:
        with serve(options) as running:
            token = connect(running, stack).log_in().json()["auth"]["Authorization"]
        assert token.encode() not in (tmp_path / "ledger").read_bytes()
        again = connect(stack.enter_context(serve(options)), stack)
        again.token = token
        assert again.call("GET", "balance").status_code == 401


# Flags.


def test_no_flags_give_the_defaults() -> None:
    assert read_flags([]) == EtpayOptions()


def test_every_flag_reaches_its_option() -> None:
    text = (
        "--port 9105 --merchant-code cl_a --merchant-api-token t --username u --password p "
        "--token-ttl 60 --auth-scheme bearer --duplicates conflict_409 --settle 2 "
        "--low-balance rejected --amount-max 500 --created-status 200 --refused-status 400 "
        "--no-error-codes --order-answer payouts --list-lag 30 --find-delay 20 --time-zone UTC "
        "--date-to-exclusive --webhook-url http://x/ --webhook-auth jwt --webhook-secret s "
        "--lose-webhooks 3 --balance CLP=500 --fault create:drop --callback-host worker"
    )
    assert read_flags(text.split()) == EtpayOptions(
        port=9105,
        merchant_code="cl_a",
        merchant_api_token="t",
        username="u",
        password="p",
        token_ttl_s=60.0,
        auth_scheme="bearer",
        duplicates="conflict_409",
        settle_s=2.0,
        low_balance="rejected",
        amount_max=500,
        created_status=200,
        refused_status=400,
        error_codes=False,
        order_answer="payouts",
        list_lag_s=30.0,
        find_delay_s=20.0,
        time_zone="UTC",
        date_to_exclusive=True,
        webhook_url="http://x/",
        webhook_auth="jwt",
        webhook_secret="s",
        lose_webhooks=3,
        balances={"CLP": Decimal(500)},
        faults=faults.parse("create:drop"),
        callback_hosts=("worker",),
    )


@pytest.mark.parametrize(
    "text",
    [
        "--token-ttl soon",
        "--auth-scheme basic",
        "--duplicates maybe",
        "--low-balance 422",
        "--amount-max 0",
        "--amount-max 1e6",
        "--created-status 202",
        "--refused-status 500",
        "--order-answer both",
        "--list-lag -1",
        "--time-zone Mars/Olympus",
        "--time-zone America",
        "--time-zone ../etc/passwd",
        "--webhook-auth hmac",
        "--lose-webhooks 0",
        "--fault create:explode",
        "--prefix /v2",
        "stray",
    ],
)
def test_nonsense_is_refused_in_one_sentence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="etpay simulator") as refused:
        read_flags(text.split())
    assert "\n" not in str(refused.value)
    assert main(text.split()) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)


# The program.


def launch(stack: ExitStack, *flags: str) -> tuple[subprocess.Popen[bytes], EtpayDriver]:
    program = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "workers.simulator.etpay", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )
    stack.callback(program.kill)
    assert program.stdout is not None
    told = json.loads(program.stdout.readline())
    assert told["base_url"] == told["public_base_url"]
    return program, connect(Running(told["base_url"], told["public_base_url"]), stack)


def test_killed_simulator_continues_on_its_ledger(until: Until, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with ExitStack() as stack:
        program, driver = launch(stack, "--ledger", str(path), "--settle", "0.2")
        driver.harm("create:reset-after", "po-1")
        with pytest.raises(Exception, match=r"reset|disconnect"):
            driver.create("po-1")
        open_id = driver.created("po-2", account={"number": "55550002"})
        program.send_signal(signal.SIGKILL)
        program.wait(5)
        assert program.stderr is not None
        for kept in (path.read_bytes(), program.stderr.read()):
            for secret in ("Camila", "111111111", "camila@", "12345678", "55550002", "demo-"):
                assert secret.encode() not in kept
        assert b'"number":"****5678"' in path.read_bytes()

        again = connect(stack.enter_context(serve(EtpayOptions(ledger=path))), stack)
        until(lambda: again.find("po-1").json()["payout"]["status"] == "completed")
        assert again.read(open_id)["status"] == "pending"
        assert again.available() == FULL - 2 * 45990
        (payout,) = again.payouts("po-1")
        assert len(payout["releases"]) == 1
        assert again.ledger("po-1")["swallowed"] == [
            {"point": "create", "effect": "reset-after", "applied": True}
        ]


def test_locked_ledger_is_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(EtpayOptions(ledger=tmp_path / "ledger")):
        assert main(["--ledger", str(tmp_path / "ledger")]) == 3
    assert capsys.readouterr().err.endswith("is in use by another simulator\n")
