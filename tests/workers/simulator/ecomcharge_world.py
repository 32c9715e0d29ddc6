"""A shop before a running eComCharge simulator, and an address that its webhooks can reach."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from workers.simulator.ecomcharge import EcomchargeOptions, serve
from workers.simulator.server import Running

SHOP = ("4242", "demo-secret")
BASIC = "Basic NDI0MjpkZW1vLXNlY3JldA=="
START = 1_700_000_000.0
WAIT_S_MAX = 60
PAYOUTS = "/transactions/payouts"
# An invented card that passes no check digit.
CARD = "4000000000000001"
CUSTOMER = {
    "first_name": "Jane",
    "last_name": "Roe",
    "country": "US",
    "email": "jane@example.org",
    "phone": "+10000004321",
}


class Driver:
    """A merchant and a control panel in one."""

    def __init__(self, running: Running, http: httpx.Client) -> None:
        self.running = running
        self.http = http
        self.auth: tuple[str, str] | None = SHOP

    def beyag(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.http.request(method, self.running.base_url + path, auth=self.auth, **more)

    def cards(
        self, method: str, path: str, *, version: str | None = None, **more: Any
    ) -> httpx.Response:
        headers = {**more.pop("headers", {}), **({"X-API-Version": version} if version else {})}
        url = self.running.public_base_url + path
        return self.http.request(method, url, auth=self.auth, headers=headers, **more)

    def pay(
        self, reference: str = "r-1", *, key: str | None = None, path: str = PAYOUTS, **request: Any
    ) -> httpx.Response:
        headers = {"RequestID": key} if key else {}
        return self.beyag("POST", path, json=beyag_body(reference, **request), headers=headers)

    def pay_card(
        self,
        reference: str = "r-1",
        *,
        key: str | None = None,
        version: str | None = None,
        **request: Any,
    ) -> httpx.Response:
        headers = {"RequestID": key} if key else {}
        body = card_body(reference, **request)
        return self.cards("POST", PAYOUTS, json=body, headers=headers, version=version)

    def paid(self, reference: str = "r-1", **more: Any) -> dict[str, Any]:
        """The transaction of a new payout of Part A."""
        answer = self.pay(reference, **more)
        assert answer.status_code == 200, answer.text
        transaction: dict[str, Any] = answer.json()["transaction"]
        return transaction

    def read(self, uid: str) -> dict[str, Any]:
        answer = self.beyag("GET", f"/transactions/{uid}")
        assert answer.status_code == 200, answer.text
        transaction: dict[str, Any] = answer.json()["transaction"]
        return transaction

    def find(self, reference: str = "r-1") -> list[str]:
        """The uids that a find shows."""
        answer = self.beyag("GET", f"/transactions/tracking_id/{reference}")
        assert answer.status_code == 200, answer.text
        return [each["uid"] for each in answer.json()["transactions"]]

    def balance(self, currency: str = "USD") -> int:
        asked = {"gateway_id": 85, "currency": currency}
        amount: int = self.beyag("POST", "/balance", json=asked).json()["amount"]
        return amount

    def control(self, method: str, path: str, document: Any = None) -> httpx.Response:
        return self.http.request(method, f"{self.running.control_url}/{path}", json=document)

    def invoices(self, reference: str = "r-1") -> list[dict[str, Any]]:
        """What the ledger holds under a tracking id."""
        answer = self.control("GET", f"ledger/{reference}")
        if answer.status_code == 404:
            return []
        found: list[dict[str, Any]] = answer.json()["invoices"]
        return found

    def releases(self, reference: str = "r-1") -> int:
        """How often money was committed under a tracking id."""
        return sum(len(each["releases"]) for each in self.invoices(reference))

    def fault(self, text: str, reference: str | None = None) -> None:
        asked = {"reference_id": reference, "faults": text}
        assert self.control("POST", "faults", asked).status_code == 200

    def move(self, uid: str, status: str, **more: Any) -> None:
        answer = self.control("POST", f"invoices/{uid}", {"status": status, **more})
        assert answer.status_code == 200, answer.text

    def advance(self, advance_s: float) -> None:
        assert self.control("POST", "clock", {"advance_s": advance_s}).status_code == 200

    def public_key(self) -> str:
        """The bare base64 of the webhooks' key; no login is needed for it."""
        return self.http.get(f"{self.running.public_base_url}/__key").text


def beyag_body(reference: str | None = "r-1", **request: Any) -> dict[str, Any]:
    asked = {
        "amount": 2550,
        "currency": "USD",
        "description": "Payout 42",
        "tracking_id": reference,
        "test": True,
        "method": {"type": "bank_transfer", "account": "DE00123456789"},
        **request,
    }
    return {"request": {name: value for name, value in asked.items() if value is not None}}


def card_body(reference: str | None = "r-1", **request: Any) -> dict[str, Any]:
    asked = {
        "amount": 2550,
        "currency": "USD",
        "description": "Payout 42",
        "tracking_id": reference,
        "test": True,
        "recipient_credit_card": {"number": CARD, "holder": "JANE ROE"},
        **request,
    }
    return {"request": {name: value for name, value in asked.items() if value is not None}}


@contextmanager
def shop(**options: Any) -> Iterator[Driver]:
    """A simulator and its merchant, on a clock that stands still unless told otherwise."""
    chosen = EcomchargeOptions(**{"manual_clock": START, **options})
    with serve(chosen) as running, client(running) as driver:
        yield driver


@contextmanager
def client(running: Running) -> Iterator[Driver]:
    # No certificates are read for plain HTTP: that alone takes 20 ms a client.
    with httpx.Client(verify=False, timeout=WAIT_S_MAX) as http:
        yield Driver(running, http)


@dataclass(frozen=True, slots=True)
class Note:
    """What arrived at a mailbox."""

    headers: dict[str, str]
    body: bytes

    @property
    def transaction(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)["transaction"]
        return document


@dataclass
class Mailbox:
    """A merchant's address; answers what `reply` says and keeps what it got."""

    url: str
    reply: Callable[[Note], tuple[int, bytes]] = lambda _: (200, b"")
    notes: list[Note] = field(default_factory=list)

    def statuses(self) -> list[str]:
        return [each.transaction["status"] for each in self.notes]


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            note = Note(dict(self.headers.items()), body)
            box.notes.append(note)
            status, told = box.reply(note)
            if status:
                self.send_response(status)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        box = Mailbox(f"http://127.0.0.1:{server.server_port}/hook")
        # The default looks for a stop twice a second only, and every test would wait for that.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()


def is_signed(note: Note, public_key: str) -> bool:
    """A merchant's own check, as section 9 of the page has it."""
    header = note.headers.get("Content-Signature")
    if header is None:
        return False
    key = load_der_public_key(base64.b64decode(public_key))
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        key.verify(base64.b64decode(header), note.body, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def until(condition: Callable[[], Any]) -> Any:
    """Waits for a condition, for twenty seconds at most: a busy machine is not a fault."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not (met := condition()):
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)
    return met
