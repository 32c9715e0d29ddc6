"""A client that drives the Ecart Pay simulator over real HTTP, and a merchant's webhook address."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from workers.simulator.ecart import EcartOptions, serve
from workers.simulator.server import Running

# 2031-01-02T12:00:00.889Z, the moment of the page's sample.
START = 1_925_121_600.889
KEYS = ("pub_demo", "priv_demo")


class Driver:
    """A merchant and a control panel in one; it asks for a token when it has none."""

    def __init__(self, running: Running, http: httpx.Client) -> None:
        self.base_url = running.base_url
        self.control_url = running.control_url
        self.http = http
        self.authorization: str | None = None

    def ask_token(self, keys: tuple[str, str] | None = KEYS, **more: Any) -> httpx.Response:
        url = f"{self.base_url}/api/authorizations/token"
        return self.http.post(url, auth=keys, **more)

    def token(self) -> str:
        token: str = self.ask_token().json()["token"]
        return token

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        if self.authorization is None:
            self.authorization = self.token()
        headers = {"Authorization": self.authorization, **more.pop("headers", {})}
        return self.http.request(method, self.base_url + path, headers=headers, **more)

    def create(self, reference_id: str = "r-1", **more: Any) -> httpx.Response:
        """A payout of 250.5 MXN; a field given as `...` is left out."""
        timeout = more.pop("timeout", 5)
        body = {
            "email": "luis@example.com",
            "reference_id": reference_id,
            "amount": 250.5,
            "currency": "MXN",
            **more,
        }
        body = {name: value for name, value in body.items() if value is not ...}
        return self.call("POST", "/api/payouts", json=body, timeout=timeout)

    def created(self, reference_id: str = "r-1", **more: Any) -> dict[str, Any]:
        answer = self.create(reference_id, **more)
        assert answer.status_code == 200, answer.text
        payout: dict[str, Any] = answer.json()
        return payout

    def pending(self, reference_id: str = "r-1", **more: Any) -> str:
        """The id of a new payout that waits for its confirmation."""
        payout = self.created(reference_id, require_confirmation=True, **more)
        assert payout["status"] == "pending"
        payout_id: str = payout["id"]
        return payout_id

    def confirm(self, payout_id: str, available_at: Any = None, **more: Any) -> httpx.Response:
        body = {} if available_at is None else {"available_at": available_at}
        return self.call("PUT", f"/api/payouts/{payout_id}/confirm", **{"json": body, **more})

    def read(self, payout_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/api/payouts/{payout_id}")
        assert answer.status_code == 200, answer.text
        payout: dict[str, Any] = answer.json()
        return payout

    def find(self, reference_id: str = "r-1") -> Any:
        return self.call("GET", f"/api/payouts?reference_id={reference_id}").json()

    def lines(self, query: str = "") -> Any:
        return self.call("GET", f"/api/transactions?{query}").json()

    def balance(self, currency: str = "MXN") -> tuple[float, float]:
        """Available and pending."""
        shown = self.call("GET", "/api/transactions/summary").json()[currency]
        return shown["available"], shown["pending"]

    def control(self, method: str, path: str, document: Any = None) -> httpx.Response:
        return self.http.request(method, f"{self.control_url}/{path}", json=document)

    def ledger(self, reference_id: str = "r-1") -> Any:
        return self.control("GET", f"ledger/{reference_id}").json()

    def releases(self, reference_id: str = "r-1") -> int:
        """How often money was committed for it."""
        return sum(len(each["releases"]) for each in self.ledger(reference_id)["invoices"])

    def fault(self, text: str, reference_id: str | None = None) -> None:
        body = {"reference_id": reference_id, "faults": text}
        assert self.control("POST", "faults", body).status_code == 200

    def advance(self, advance_s: float) -> None:
        assert self.control("POST", "clock", {"advance_s": advance_s}).status_code == 200

    def callbacks(self) -> Any:
        return self.control("GET", "callbacks").json()


@contextmanager
def connected(running: Running) -> Iterator[Driver]:
    with httpx.Client(verify=False) as http:
        yield Driver(running, http)


@contextmanager
def starter() -> Iterator[Callable[..., Driver]]:
    """Starts simulators, on a clock that stands still unless told otherwise."""
    with ExitStack() as stack:

        def begin(**options: Any) -> Driver:
            options = {"manual_clock": START, **options}
            running = stack.enter_context(serve(EcartOptions(**options)))
            return stack.enter_context(connected(running))

        yield begin


class Receiver:
    """Answers `status` and keeps what it got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.received: list[tuple[dict[str, str], bytes]] = []

    def data(self) -> list[dict[str, Any]]:
        return [json.loads(body)["data"] for _, body in self.received]


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            kept.received.append((headers, body))
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
