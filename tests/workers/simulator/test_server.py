"""The shared front: connections, time, order of events, start and stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from workers.errors import SimulatorError
from workers.simulator import faults
from workers.simulator.ledger import LedgerLocked
from workers.simulator.payelata import PayelataOptions, serve

from .conftest import START, Driver

Until = Callable[[Callable[[], Any]], Any]


def test_flags_harm_every_nth_call(start: Callable[..., Driver]) -> None:
    driver = start(faults=faults.parse("create:500*0"), fault_every=3)
    answers = [driver.create(f"r-{number}").status_code for number in range(6)]
    assert answers == [201, 201, 500] * 2


def test_latency_delays_every_call(start: Callable[..., Driver]) -> None:
    driver = start(latency_s=0.05)
    started = time.monotonic()
    driver.balance()
    assert time.monotonic() - started >= 0.05


def test_scaled_clock_brings_the_end_sooner(start: Callable[..., Driver], until: Until) -> None:
    driver = start(manual_clock=None, clock_scale=1000.0, settle_s=60)
    invoice_id = driver.created()
    driver.process(invoice_id)
    until(lambda: driver.read(invoice_id)["status"] == "processed")


def test_read_is_up_to_date_without_waiting_for_a_tick(start: Callable[..., Driver]) -> None:
    driver = start(manual_clock=None, clock_scale=50_000.0, settle_s=1)
    for number in range(10):
        invoice_id = driver.created(f"r-{number}")
        driver.process(invoice_id)
        assert driver.read(invoice_id)["status"] == "processed"


def test_final_status_is_on_file_without_anybody_asking(
    start: Callable[..., Driver], until: Until, tmp_path: Path
) -> None:
    driver = start(manual_clock=None, settle_s=0.05, ledger=tmp_path / "ledger")
    driver.process(driver.created())
    until(lambda: b'"status":"processed"' in (tmp_path / "ledger").read_bytes())


def test_concurrent_creates_of_one_reference_make_one_invoice(driver: Driver) -> None:
    answers: list[int] = []
    gate = threading.Barrier(8)

    def attempt() -> None:
        gate.wait()
        answers.append(driver.create().status_code)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201] + [409] * 7
    assert len(driver.ledger()["invoices"]) == 1


def test_concurrent_process_calls_release_once(driver: Driver) -> None:
    invoice_id = driver.created()
    gate = threading.Barrier(8)

    def attempt() -> None:
        gate.wait()
        driver.process(invoice_id)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = driver.ledger()
    assert (known["processes"], len(known["invoices"][0]["releases"])) == (8, 1)


def test_stop_does_not_wait_for_a_hanging_call(drive: Callable[..., Driver], until: Until) -> None:
    with serve(PayelataOptions(faults=faults.parse("any:hang*0"))) as running:
        driver = drive(running)
        gone: list[type[Exception]] = []

        def ask() -> None:
            try:
                driver.call("GET", "/account/profile", timeout=10)
            except httpx.TransportError as error:
                gone.append(type(error))

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: driver.control("GET", "calls").json()["profile"])
        started = time.monotonic()
    assert time.monotonic() - started < 2
    thread.join()
    assert len(gone) == 1


def test_fault_that_is_used_up_stays_used_up_after_a_restart(
    start: Callable[..., Driver], drive: Callable[..., Driver], tmp_path: Path
) -> None:
    options = PayelataOptions(ledger=tmp_path / "ledger", manual_clock=START)
    with serve(options) as running:
        assert drive(running).create(simulate="create:503*2 status=expired").status_code == 503
    with serve(options) as running:
        again = drive(running)
        answers = [
            again.create(simulate="create:503*2 status=expired").status_code for _ in range(2)
        ]
        assert answers == [503, 201]
        assert again.ledger()["creates"] == 3


def test_everything_goes_on_after_a_restart(drive: Callable[..., Driver], tmp_path: Path) -> None:
    options = PayelataOptions(ledger=tmp_path / "ledger", manual_clock=START, settle_s=10)
    with serve(options) as running:
        first = drive(running)
        invoice_id = first.created(simulate="status=process_failed")
        first.process(invoice_id)
        first.advance(9)
        before = first.control("GET", "ledger").json()
        balance = first.balance()
    with serve(options) as running:
        again = drive(running)
        assert again.control("GET", "ledger").json() == before
        assert again.balance() == balance == ("9999974.50", "25.50")
        assert again.control("GET", "health").json()["now"] == START + 9
        assert again.create().status_code == 409
        again.advance(1)
        assert again.read(invoice_id)["status"] == "process_failed"
        assert again.balance() == ("10000000.00", "0.00")


def test_ledger_in_use_is_refused(tmp_path: Path) -> None:
    options = PayelataOptions(ledger=tmp_path / "ledger")
    with serve(options), pytest.raises(LedgerLocked), serve(options):
        pass


def test_port_in_use_is_refused() -> None:
    with serve(PayelataOptions()) as running:
        port = int(running.public_base_url.rpartition(":")[2])
        with (
            pytest.raises(SimulatorError, match="cannot listen"),
            serve(PayelataOptions(port=port)),
        ):
            pass
