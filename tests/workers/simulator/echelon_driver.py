"""A merchant of the Echelon Pay simulator, over real HTTP, and the address it is called back at."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from workers.simulator.echelon import EchelonOptions, serve
from workers.simulator.server import Running

START = 1_700_000_000.0
ACCOUNT = "9876543210"


class Driver:
    """A merchant and a control panel in one."""

    def __init__(self, running: Running, http: httpx.Client) -> None:
        self.running = running
        self.http = http

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A call as it is told, with the version header unless `headers` says otherwise."""
        headers = {"X-API-Version": "2", **more.pop("headers", {})}
        return self.http.request(method, self.running.base_url + path, headers=headers, **more)

    def ask_token(self, *operations: str, **more: Any) -> httpx.Response:
        """A token call by operations; a value of None leaves the field out."""
        asked = {
            "merchantCode": "M-4711",
            "secret": "s3cret",
            "validitySecs": 600,
            "operations": list(operations),
            **more,
        }
        document = {name: each for name, each in asked.items() if each is not None}
        return self.send("POST", "/auth-tokens", json=document)

    def ask_action_token(self, **more: Any) -> httpx.Response:
        document = {
            "merchantCode": "M-4711",
            "secret": "s3cret",
            "validitySecs": 600,
            "action": "PAYOUT_CREATE",
            "idPayment": "PO-1",
            **more,
        }
        return self.send("POST", "/auth-tokens-by-action", json=document)

    def call(
        self, method: str, path: str, *, token: str | None = None, **more: Any
    ) -> httpx.Response:
        """A call with a token for just that, unless it brings its own."""
        if token is None:
            token = self.ask_token(f"{method} {path}").json()["token"]
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return self.send(method, path, headers=headers, **more)

    def create(
        self,
        id_payout: str = "PO-1",
        *,
        token: str | None = None,
        timeout: float = 5,
        **more: Any,
    ) -> httpx.Response:
        path = f"/payouts/{id_payout}"
        return self.call("POST", path, token=token, timeout=timeout, json=order(**more))

    def created(self, id_payout: str = "PO-1", **more: Any) -> None:
        answer = self.create(id_payout, **more)
        assert answer.status_code == 200, answer.text

    def read(self, id_payout: str = "PO-1", *, token: str | None = None) -> httpx.Response:
        return self.call("GET", f"/payouts/{id_payout}", token=token)

    def process(self, id_payout: str = "PO-1") -> dict[str, Any]:
        """The `process` of a payout that is there."""
        process: dict[str, Any] = self.read(id_payout).json()["process"]
        return process

    def status(self, id_payout: str = "PO-1") -> str:
        status: str = self.process(id_payout)["status"]
        return status

    def control(self, method: str, path: str, document: Any = None) -> httpx.Response:
        return self.http.request(method, f"{self.running.control_url}/{path}", json=document)

    def fault(self, text: str, id_payout: str | None = None) -> None:
        added = self.control("POST", "faults", {"reference_id": id_payout, "faults": text})
        assert added.status_code == 200, added.text

    def ledger(self, id_payout: str = "PO-1") -> Any:
        return self.control("GET", f"ledger/{id_payout}").json()

    def calls(self) -> dict[str, int]:
        counted: dict[str, int] = self.control("GET", "calls").json()
        return counted

    def funds(self, currency: str = "IDR") -> tuple[str, str]:
        """Active and pending, which only the control API tells."""
        told = self.control("POST", "balances", {"XAG": 0}).json()
        return told[currency]["active"], told[currency]["pending"]

    def advance(self, advance_s: float) -> None:
        assert self.control("POST", "clock", {"advance_s": advance_s}).status_code == 200

    def callbacks(self) -> list[dict[str, Any]]:
        """Every delivery with the statuses that answered it."""
        told: list[dict[str, Any]] = self.control("GET", "callbacks").json()
        return told


def order(
    *,
    amount: Any = 10000,
    currency: Any = "IDR",
    account: str = ACCOUNT,
    callback_url: str | None = None,
) -> dict[str, Any]:
    """The body of a create."""
    return {
        "paymentRequested": {"money": {"amount": amount, "currencyCode": currency}},
        "paymentMethod": {
            "paymentMethodCode": "BANK_TRANSFER",
            "account": {"accountName": "Siti Rahma", "accountNumber": account},
            "paymentOperatorCode": "BNK_014",
            "emailAddress": "siti@example.com",
        },
        **({} if callback_url is None else {"callbackUrl": callback_url}),
    }


@contextmanager
def connected(running: Running) -> Iterator[Driver]:
    """A client in front of a running simulator."""
    # No certificates are read for plain HTTP: that alone takes 20 ms a client.
    with httpx.Client(verify=False) as http:
        yield Driver(running, http)


@contextmanager
def echelon(**options: Any) -> Iterator[Driver]:
    """A running simulator, on a clock that stands still unless told otherwise."""
    options = {"manual_clock": START, **options}
    with serve(EchelonOptions(**options)) as running, connected(running) as driver:
        yield driver


class Hook:
    """A merchant's callback address; answers `status` and keeps path, headers and body."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.received: list[tuple[str, dict[str, str], Any]] = []

    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.received]


@contextmanager
def hook() -> Iterator[Hook]:
    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept.received.append((self.path, dict(self.headers), body))
            self.send_response(kept.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        kept = Hook(f"http://127.0.0.1:{server.server_port}/hooks/3f9c")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield kept
        server.shutdown()
        thread.join()


def decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT."""
    header, claims, _ = token.split(".")
    return _part(header), _part(claims)


def _part(text: str) -> dict[str, Any]:
    part: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=="))
    return part


def jwt(header: dict[str, Any], claims: dict[str, Any], key: str) -> str:
    """A token made by this file's own hand. Source: RFC 7515, appendix A.1."""
    parts = [json.dumps(each).encode() for each in (header, claims)]
    signed = b".".join(base64.urlsafe_b64encode(each).rstrip(b"=") for each in parts)
    mac = hmac.new(key.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()
