"""Tokens and signatures of the Ecart Pay simulator."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers.simulator.ecart_keys import Keys, sign, stringify

from .ecart_driver import START, Driver, starter


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    with starter() as begin:
        yield begin


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


def keys(**more: Any) -> Keys:
    asked = {
        "public_key": "pub",
        "private_key": "priv",
        "account_id": "0" * 24,
        "ttl_s": 3600,
        "bearer": False,
    }
    return Keys(**{**asked, **more})


def test_signature_of_the_test_vector() -> None:
    """Source: Ecart Pay payouts, section 9."""
    data = stringify(
        {
            "id": "68a1c0d3f6ea776ee3b37498",
            "reference_id": "po-2031-000017",
            "amount": 250.5,
            "note": "niño",
        }
    )
    signature = sign(data, timestamp="1924992000000", webhook_id="hook_demo_1", secret="whsec_demo")
    assert signature == "SHA256=e525a51c35487434546b01ff496ee1e6ac96de6e3651a1e0c4b4ead7035818ec"


def test_token_is_a_jwt_for_an_hour_with_the_claims_of_the_page(
    start: Callable[..., Driver],
) -> None:
    answer = start().ask_token()
    assert (answer.status_code, set(answer.json())) == (200, {"token"})
    token = answer.json()["token"]
    assert token.startswith("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.")
    claims = claims_of(token)
    assert set(claims) == {"id", "account_id", "iat", "exp"}
    assert (claims["iat"], claims["exp"]) == (int(START), int(START) + 3600)
    assert claims["account_id"] == "67dfab0626e963414d247523"
    assert len(claims["id"]) == 24
    assert len(base64.urlsafe_b64decode(token.split(".")[2] + "==")) == hashlib.sha512().digest_size


@pytest.mark.parametrize("pair", [None, ("pub_demo", "wrong"), ("other", "priv_demo"), ("", "")])
def test_token_call_wants_the_key_pair(
    start: Callable[..., Driver], pair: tuple[str, str] | None
) -> None:
    answer = start().ask_token(pair)
    assert answer.status_code == 401
    assert answer.json() == {
        "statusCode": 401,
        "error": "Unauthorized",
        "message": "Las credenciales no son válidas.",
        "code": 9003,
    }


def test_key_pair_can_be_another(start: Callable[..., Driver]) -> None:
    driver = start(public_key="p", private_key="k")
    assert driver.ask_token(("p", "k")).status_code == 200
    assert driver.ask_token().status_code == 401


def test_token_ends_with_its_time(start: Callable[..., Driver]) -> None:
    driver = start(token_ttl_s=100)
    assert driver.call("GET", "/api/transactions/summary").status_code == 200
    driver.advance(99)
    assert driver.call("GET", "/api/transactions/summary").status_code == 200
    driver.advance(1)
    refused = driver.call("GET", "/api/transactions/summary")
    assert (refused.status_code, refused.json()["code"]) == (401, 114)
    driver.authorization = driver.token()
    assert driver.call("GET", "/api/transactions/summary").status_code == 200


@pytest.mark.parametrize(
    ("bearer", "scheme", "status"),
    [
        (False, "", 200),
        (False, "Bearer ", 401),
        (True, "", 200),
        (True, "Bearer ", 200),
        (True, "Basic ", 401),
    ],
)
def test_bearer_is_taken_only_where_it_is_switched_on(
    start: Callable[..., Driver], bearer: bool, scheme: str, status: int
) -> None:
    driver = start(bearer=bearer)
    driver.authorization = scheme + driver.token()
    assert driver.call("GET", "/api/transactions/summary").status_code == status


def test_only_its_own_unchanged_tokens_are_taken() -> None:
    token = keys().token(1000.0)
    head, claims, signature = token.split(".")
    later = base64.urlsafe_b64encode(json.dumps({**claims_of(token), "exp": 10**9}).encode())
    forged = f"{head}.{later.decode().rstrip('=')}"
    own = base64.urlsafe_b64encode(hmac.digest(b"guess", forged.encode(), "sha512")).decode()
    assert keys().admits(token, 4599.9)
    assert not keys().admits(token, 4600.0)
    for other in (
        None,
        "",
        "..",
        "ñ.ñ.ñ",
        head,
        f"{head}.{claims}",
        f"{head}.{claims}.",
        f"{forged}.{signature}",
        f"{forged}.{own.rstrip('=')}",
        f"{forged}.",
        keys(private_key="other").token(1000.0),
    ):
        assert not keys().admits(other, 1000.0), other


def test_two_tokens_are_never_the_same_and_both_are_good() -> None:
    first, second = keys().token(1.0), keys().token(1.0)
    assert first != second
    assert keys().admits(first, 2.0)
    assert keys().admits(second, 2.0)
