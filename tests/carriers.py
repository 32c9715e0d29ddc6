"""What carries a test's calls to a provider: any transport that httpx has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from workers.providers.connection import Limits, Received, Request
from workers.providers.transport import Transport


@dataclass(frozen=True)
class OverHttpx:
    """A `Carrier` over one of httpx's transports, or a test's own."""

    transport: httpx.BaseTransport

    def exchange(self, request: Request, limits: Limits) -> Received:
        origin = request.target.origin
        times = httpx.Timeout(limits.read_s, connect=limits.connect_s).as_dict()
        asked = httpx.Request(
            request.method,
            f"{'https' if origin.is_tls else 'http'}://{request.target.named}{request.path}",
            headers=dict(request.headers),
            content=request.content,
            extensions={"timeout": times},
        )
        answer = self.transport.handle_request(asked)
        answer.read()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Received(answer.status_code, headers, answer.content)


def answered_by(server: Callable[[httpx.Request], httpx.Response], base_url: str) -> Transport:
    """A transport whose calls a function answers."""
    return Transport(base_url, carrier=OverHttpx(httpx.MockTransport(server)))
