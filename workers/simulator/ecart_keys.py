"""The keys of the Ecart Pay simulator: who may call, how long a token lives, how a webhook is
signed.

Source: Ecart Pay payouts (the page), sections 3 and 9, read 2026-11-21; "our guess" marks what no
source says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any

import simplejson


def new_id() -> str:
    """24 hex digits, as every id of the provider."""
    return secrets.token_hex(12)


class Keys:
    """The account's key pair and the tokens it is given for them.

    Nothing is remembered of a token, so a restarted simulator knows those of its earlier run.

    Args:
        ttl_s: how long a token is good for.
        bearer: `Bearer TOKEN` is taken too.
    """

    def __init__(
        self, *, public_key: str, private_key: str, account_id: str, ttl_s: int, bearer: bool
    ) -> None:
        pair = f"{public_key}:{private_key}".encode()
        self._login = b"Basic " + base64.b64encode(pair)
        self._token_key = b"the simulator's own:" + pair
        self._account_id = account_id
        self._ttl_s = ttl_s
        self._bearer = bearer

    def opens(self, header: str | None) -> bool:
        """Whether the header of a token call names the pair."""
        return hmac.compare_digest(_bytes(header), self._login)

    def token(self, now: float) -> str:
        """A JWT, HS512, with the claims of section 3."""
        issued = int(now)
        claims = {
            "id": new_id(),
            "account_id": self._account_id,
            "iat": issued,
            "exp": issued + self._ttl_s,
        }
        framed = _part({"alg": "HS512", "typ": "JWT"}) + b"." + _part(claims)
        return (framed + b"." + self._signature(framed)).decode()

    def admits(self, header: str | None, now: float) -> bool:
        """Whether the header of a payment call is one of our tokens and has time left."""
        sent = _bytes(header)
        if self._bearer:
            sent = sent.removeprefix(b"Bearer ")
        framed, _, signature = sent.rpartition(b".")
        if not hmac.compare_digest(signature, self._signature(framed)):
            return False
        claims = framed.partition(b".")[2]
        expires: int = json.loads(base64.urlsafe_b64decode(claims + b"=="))["exp"]
        return now < expires

    def _signature(self, framed: bytes) -> bytes:
        return _encoded(hmac.digest(self._token_key, framed, hashlib.sha512))


def stringify(document: Any) -> bytes:
    """JSON as JavaScript's `JSON.stringify` writes it: no spaces, nothing escaped needlessly."""
    return simplejson.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def sign(data: bytes, *, timestamp: str, webhook_id: str, secret: str) -> str:
    """The `x-pay-signature` of a webhook. Source: section 9."""
    framed = f"{timestamp}.{webhook_id}.".encode() + data
    return "SHA256=" + hmac.digest(secret.encode(), framed, hashlib.sha256).hex()


def _part(document: Any) -> bytes:
    return _encoded(json.dumps(document, separators=(",", ":")).encode())


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _bytes(header: str | None) -> bytes:
    # A header may hold anything; comparing text would refuse all but ASCII.
    return (header or "").encode("utf-8", "surrogateescape")
