"""The simulator as a program: its one line, its exit codes, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from workers.simulator.payelata import PayelataOptions, main, serve
from workers.simulator.server import Running

from .conftest import CARD, Driver

Until = Callable[[Callable[[], Any]], Any]
Program = subprocess.Popen[bytes]


@pytest.fixture
def launch(drive: Callable[[Running], Driver]) -> Iterator[Callable[..., tuple[Program, Driver]]]:
    with ExitStack() as stack:

        def begin(*flags: str) -> tuple[Program, Driver]:
            program = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "workers.simulator.payelata", *flags],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            stack.callback(program.kill)
            assert program.stdout is not None
            told = json.loads(program.stdout.readline())
            assert told["pid"] == program.pid
            assert told["listening"] == told["public_base_url"]
            return program, drive(Running(told["base_url"], told["public_base_url"]))

        yield begin


def test_killed_simulator_continues_on_its_ledger(
    launch: Callable[..., tuple[Program, Driver]],
    drive: Callable[[Running], Driver],
    until: Until,
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger"
    program, driver = launch("--ledger", str(path), "--settle", "0.2")
    customer = {"reference_id": "c-1", "name": "Jane Roe"}
    context = {"card": {"card_holder": "JANE ROE"}}
    with pytest.raises(Exception, match=r"reset|disconnect"):
        driver.create("r-1", customer=customer, context=context, simulate="create:reset")
    invoice_id = driver.created("r-1", customer=customer, context=context)
    left_open = driver.created("r-2", customer=customer, context=context)
    assert driver.process(invoice_id).status_code == 200
    program.send_signal(signal.SIGKILL)
    program.wait(5)
    assert program.stderr is not None
    for kept in (path.read_bytes(), program.stderr.read()):
        for secret in (CARD, "JANE", "Jane", "demo-api-key"):
            assert secret.encode() not in kept
    assert b"400000******0002" in path.read_bytes()

    with serve(PayelataOptions(ledger=path)) as running:
        again = drive(running)
        until(lambda: again.read(invoice_id)["status"] == "processed")
        assert again.read(left_open)["status"] == "created"
        assert again.create("r-1").status_code == 409
        assert again.ledger("r-1")["creates"] == 3
        assert len(again.ledger("r-1")["invoices"][0]["releases"]) == 1
        assert again.balance() == ("9999974.50", "0.00")


def test_simulator_dies_with_its_parent(launch: Callable[..., tuple[Program, Driver]]) -> None:
    program, driver = launch("--until-stdin-closes")
    driver.balance()
    assert program.stdin is not None
    program.stdin.close()
    assert program.wait(5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_it_cleanly_and_a_closed_stdin_does_not(
    launch: Callable[..., tuple[Program, Driver]], number: signal.Signals
) -> None:
    program, driver = launch("--quiet")
    assert program.stdin is not None
    program.stdin.close()
    driver.balance()
    assert program.poll() is None
    os.kill(program.pid, number)
    assert program.wait(5) == 0
    assert program.stdout is not None
    assert program.stderr is not None
    assert program.stdout.read() + program.stderr.read() == b""


def test_locked_ledger_is_exit_3_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(PayelataOptions(ledger=tmp_path / "ledger")):
        assert main(["--ledger", str(tmp_path / "ledger")]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.endswith("is in use by another simulator\n")
    assert told.err.count("\n") == 1


def test_unusable_ledger_is_exit_1_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--ledger", str(tmp_path)]) == 1
    assert "cannot be opened" in capsys.readouterr().err
