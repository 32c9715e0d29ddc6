"""A client that drives the ETpay simulator over real HTTP, as a merchant and as its operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from workers.simulator.etpay import EtpayOptions, serve
from workers.simulator.server import Running

# 2023-11-14T22:13:20Z, a quarter past seven in the evening in Santiago.
START = 1_700_000_000.0
FULL = 10_000_000_000
LOGIN = {
    "username": "payouts@demo.example",
    "password": "demo-password",
    "merchant": {"code": "cl_demo", "api_token": "demo-api-token"},
}


class EtpayDriver:
    """A merchant and a control panel in one; logs in by itself unless told otherwise."""

    def __init__(self, running: Running, http: httpx.Client) -> None:
        self.base_url = running.base_url
        self.control_url = running.control_url
        self.http = http
        self.token: str | None = None

    def log_in(self, document: Any = LOGIN) -> httpx.Response:
        # Not `json=`: that cannot write half a surrogate pair, which a stranger may send.
        body = json.dumps(document)
        return self.http.post(f"{self.base_url}/v1/auth/login", content=body)

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        if self.token is None:
            self.token = self.log_in().json()["auth"]["Authorization"]
        headers = {"Authorization": self.token, **more.pop("headers", {})}
        return self.http.request(method, f"{self.base_url}/v1/{path}", headers=headers, **more)

    def create(self, order_id: Any = "po-1", **more: Any) -> httpx.Response:
        return self.call("POST", "payouts", json=order(order_id, **more), timeout=5)

    def created(self, order_id: str = "po-1", **more: Any) -> str:
        """The id of a new payout."""
        answer = self.create(order_id, **more)
        assert answer.status_code == 201, answer.text
        payout_id: str = answer.json()["payout"]["payout_id"]
        return payout_id

    def read(self, payout_id: str) -> dict[str, Any]:
        payout: dict[str, Any] = self.call("GET", f"payouts/{payout_id}").json()["payout"]
        return payout

    def find(self, order_id: str = "po-1") -> httpx.Response:
        return self.call("GET", "payouts", params={"merchant_order_id": order_id})

    def dates(self, date_from: str, date_to: str, **more: Any) -> httpx.Response:
        return self.call(
            "GET", "payouts", params={"date_from": date_from, "date_to": date_to, **more}
        )

    def orders(self, date_from: str = "2023-11-14", date_to: str = "2023-11-14") -> list[str]:
        """The order ids that the date query shows."""
        shown = self.dates(date_from, date_to).json()["payouts"]
        return [each["merchant_order_id"] for each in shown]

    def available(self) -> int:
        """The balance; a float would not equal it."""
        available = self.call("GET", "balance").json()["balance"]["available"]
        assert type(available) is int
        return available

    def control(self, method: str, path: str, document: Any = None) -> httpx.Response:
        return self.http.request(method, f"{self.control_url}/{path}", json=document)

    def harm(self, spec: str, order_id: str | None = None) -> None:
        asked = {"reference_id": order_id, "faults": spec}
        assert self.control("POST", "faults", asked).status_code == 200

    def ledger(self, order_id: str = "po-1") -> Any:
        return self.control("GET", f"ledger/{order_id}").json()

    def payouts(self, order_id: str = "po-1") -> list[Any]:
        answer = self.control("GET", f"ledger/{order_id}")
        return answer.json()["invoices"] if answer.status_code == 200 else []

    def calls(self, point: str) -> int:
        count: int = self.control("GET", "calls").json()[point]
        return count

    def advance(self, advance_s: float) -> None:
        assert self.control("POST", "clock", {"advance_s": advance_s}).status_code == 200


def order(order_id: Any = "po-1", **more: Any) -> dict[str, Any]:
    """A create's body; `beneficiary` and `account` change single fields of theirs."""
    beneficiary = {"name": "Camila Soto", "rut": "111111111", "email": "camila@example.com"}
    account = {"bank_code": "037", "type": "cuenta_corriente", "number": "12345678"}
    return {
        "merchant": {"code": "cl_demo"},
        "merchant_order_id": order_id,
        "amount": 45990,
        "currency": "CLP",
        "description": "Pago proveedor 17",
        **more,
        "beneficiary": {**beneficiary, **more.get("beneficiary", {})},
        "account": {**account, **more.get("account", {})},
    }


@contextmanager
def etpays() -> Iterator[Callable[..., EtpayDriver]]:
    """Starts simulators, on a clock that stands still unless told otherwise."""
    with ExitStack() as stack:

        def begin(**options: Any) -> EtpayDriver:
            chosen = EtpayOptions(**{"manual_clock": START, **options})
            return connect(stack.enter_context(serve(chosen)), stack)

        yield begin


def connect(running: Running, stack: ExitStack) -> EtpayDriver:
    # No certificates are read for plain HTTP: that alone takes 20 ms a client.
    return EtpayDriver(running, stack.enter_context(httpx.Client(verify=False)))
