"""One set of the system's certificates for all tests of this folder."""

from __future__ import annotations

import ssl

import pytest

_CONTEXT = ssl.create_default_context()


@pytest.fixture(autouse=True)
def _one_ssl_context(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading the system's certificates takes longer than a test.
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: _CONTEXT)
