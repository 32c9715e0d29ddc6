"""A provider's answers without a provider."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from workers.providers.transport import Transport


def answered_by(server: Callable[[httpx.Request], httpx.Response], base_url: str) -> Transport:
    """A transport whose calls a function answers."""
    return Transport(base_url, transport=httpx.MockTransport(server))
