"""ETpay's webhooks: whether a delivery verifies, and which payout it is about.

Nobody outside knows how ETpay signs its notifications, so by default nothing is verified: a
delivery only wakes its payout, and the state comes from asking. It must never be taken for more.

Source: "ETpay payouts (Chile)", section 8; read 2026-11-21.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any

from workers.providers import wire
from workers.providers.etpay_config import ETpayConfig
from workers.providers.etpay_words import at, read_id, read_payout_id
from workers.providers.port import Delivery, News

_SIGNED = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


def tail(config: ETpayConfig) -> str:
    """What follows the account's webhook address where that proves the sender; else empty."""
    if config.webhook_auth != "shared_secret_path":
        return ""
    return hmac.new(_key(config), b"paybatch etpay webhook address", hashlib.sha256).hexdigest()


def read(config: ETpayConfig, delivery: Delivery) -> Sequence[News] | None:
    """What a delivery is about, empty if about no payout; None if it does not verify."""
    expected = tail(config).encode()
    if expected and not hmac.compare_digest(delivery.tail.encode(errors="replace"), expected):
        return None
    # A token is found inside the body, so that much is parsed before it is verified.
    document = wire.read_json(delivery.body)
    token = wire.text(at(document, config.field_map.response.jwt))
    if config.webhook_auth == "jwt_hs256" and not (token and is_signed(token, _key(config))):
        return None
    return _news(config, document if token is None else claims(token))


def _key(config: ETpayConfig) -> bytes:
    """Never empty where it is used: the settings see to that."""
    secret = config.webhook_secret
    return secret.get_secret_value().encode() if secret is not None else b""


def _news(config: ETpayConfig, document: Any) -> Sequence[News]:
    of = config.field_map.response
    inner = at(document, of.payout)
    facts = inner if isinstance(inner, dict) else document
    payout_id = read_payout_id(at(facts, of.payout_id))
    reference_id = read_id(at(facts, of.reference_id)) or ""
    char, most = config.reference_id_char, config.reference_id_chars_max
    ours = re.fullmatch(f"(?:{char}){{1,{most}}}", reference_id) is not None
    if payout_id is None and not ours:
        return []
    status = wire.word(at(facts, of.status))
    key = f"{payout_id}:{status.casefold()}" if payout_id and status else ""
    return [
        News(provider_payout_id=payout_id, reference_id=reference_id if ours else None, key=key)
    ]


# Signed tokens: RFC 7515 and 7519.


def is_signed(token: str, key: bytes) -> bool:
    """Whether it is signed with `key` by HS256, and by nothing else."""
    signed, _, signature = token.rpartition(".")
    if _SIGNED.fullmatch(signed) is None:
        return False
    digest = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    ours = base64.urlsafe_b64encode(digest).rstrip(b"=")
    if not hmac.compare_digest(ours, signature.encode(errors="replace")):
        return False
    header = wire.members(_decoded(signed.partition(".")[0]))
    # Extensions that must be understood are not: RFC 7515, 4.1.11.
    return header.get("alg") == "HS256" and "crit" not in header


def claims(token: str) -> Any:
    """What a token says, signed or not; None where it cannot be read."""
    parts = token.split(".")
    return _decoded(parts[1]) if len(parts) == 3 else None


def _decoded(part: str) -> Any:
    try:
        # Tokens leave the padding out; more than is needed does no harm.
        return wire.read_json(base64.urlsafe_b64decode(f"{part}=="))
    except (binascii.Error, ValueError):
        return None
