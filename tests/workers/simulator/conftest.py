"""A running simulator and a client that drives it over real HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from workers.simulator.payelata import PayelataOptions, serve
from workers.simulator.server import Running

CARD = "4000000000000002"
START = 1_700_000_000.0


class Driver:
    """A merchant and a control panel in one."""

    def __init__(self, running: Running, http: httpx.Client) -> None:
        self.base_url = running.base_url
        self.public_url = running.public_base_url + "/public-api"
        self.control_url = running.control_url
        self.http = http
        self.auth: tuple[str, str] | None = ("coma_Demo0000Demo0001", "demo-api-key")

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.http.request(method, self.base_url + path, auth=self.auth, **more)

    def create(
        self, reference_id: str = "r-1", *, simulate: str | None = None, **more: Any
    ) -> httpx.Response:
        timeout = more.pop("timeout", 5)
        attributes = {
            "reference_id": reference_id,
            "service": "payment_card_usd",
            "currency": "USD",
            "amount": 25.5,
            "test_mode": True,
            "fields": {"card_number": CARD},
            **({"metadata": {"simulate": simulate}} if simulate else {}),
            **more,
        }
        document = {"data": {"type": "payout-invoice", "attributes": attributes}}
        return self.call("POST", "/payout-invoices", json=document, timeout=timeout)

    def created(self, reference_id: str = "r-1", **more: Any) -> str:
        """The id of a new invoice."""
        answer = self.create(reference_id, **more)
        assert answer.status_code == 201, answer.text
        invoice_id: str = answer.json()["data"]["id"]
        return invoice_id

    def process(self, invoice_id: str, **more: Any) -> httpx.Response:
        return self.call("POST", f"/payout-invoices/{invoice_id}/process", **more)

    def read(self, invoice_id: str) -> dict[str, Any]:
        """The attributes of an invoice."""
        answer = self.call("GET", f"/payout-invoices/{invoice_id}")
        attributes: dict[str, Any] = answer.json()["data"]["attributes"]
        return attributes

    def find(self, reference_id: str = "r-1") -> httpx.Response:
        return self.call("GET", f"/payout-invoices?filter%5Breference_id%5D={reference_id}")

    def balance(self, currency: str = "USD") -> tuple[str, str]:
        """Active and pending."""
        document = self.call("GET", "/account/balances").json()
        account = document["data"]["attributes"]["currency_accounts"][currency]
        return account["active_balance"], account["pending_balance"]

    def control(self, method: str, path: str, document: Any = None) -> httpx.Response:
        return self.http.request(method, f"{self.control_url}/{path}", json=document)

    def ledger(self, reference_id: str = "r-1") -> Any:
        return self.control("GET", f"ledger/{reference_id}").json()

    def advance(self, advance_s: float) -> None:
        assert self.control("POST", "clock", {"advance_s": advance_s}).status_code == 200


@pytest.fixture
def drive() -> Iterator[Callable[[Running], Driver]]:
    """Puts a client in front of a running simulator."""
    with ExitStack() as stack:

        def connect(running: Running) -> Driver:
            # No certificates are read for plain HTTP: that alone takes 20 ms a client.
            return Driver(running, stack.enter_context(httpx.Client(verify=False)))

        yield connect


@pytest.fixture
def start(drive: Callable[[Running], Driver]) -> Iterator[Callable[..., Driver]]:
    """Starts simulators, on a clock that stands still unless told otherwise."""
    with ExitStack() as stack:

        def begin(**options: Any) -> Driver:
            options = {"manual_clock": START, **options}
            return drive(stack.enter_context(serve(PayelataOptions(**options))))

        yield begin


@pytest.fixture
def driver(start: Callable[..., Driver]) -> Driver:
    return start()


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Waits for a condition, for five seconds at most."""

    def wait(condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 5
        while not (met := condition()):
            assert time.monotonic() < deadline, "the condition never came true"
            time.sleep(0.005)
        return met

    return wait


class Receiver:
    """A merchant's callback address; answers `status` and keeps what it got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.received: list[tuple[str | None, bytes]] = []


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.received.append((self.headers["X-Signature"], body))
            self.send_response(kept.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        kept = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
        # The default looks for a stop twice a second only, and every test would wait for that.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield kept
        server.shutdown()
        thread.join()
