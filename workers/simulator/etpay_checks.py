"""What the ETpay simulator finds wrong with a create, and the life that test values ask for.

Source: ETpay payouts (the page), sections 4 and 10, read 2026-11-21; "our guess" marks what no
source says. No message repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workers.simulator import faults

# What the page's samples and the design allow; underscores and blanks are refused (our guess).
_ORDER_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
# Below a hundred thousand there are no numbers in use (our guess).
_RUT = re.compile(r"[1-9][0-9]{5,7}[0-9K]", re.ASCII)
DESCRIPTION_LENGTH_MAX = 30

# Source: the page, section 4, "Bank codes" and "alternative bank names".
BANKS = frozenset(
    [
        "001",
        "009",
        "012",
        "014",
        "016",
        "028",
        "031",
        "037",
        "039",
        "049",
        "051",
        "053",
        "055",
        "729",
        "730",
        "CL_ESTADO",
        "CL_BCH",
        "CL_BCI",
        "CL_SANTANDER",
        "CL_ITAU",
        "CL_SCOTIABANK",
        "CL_FALABELLA",
    ]
)
# The simulator's own, not ETpay's. Source: the page, section 10.
ALWAYS_PAID_BANKS = frozenset({"CL_TEST", "999"})
_BANCO_ESTADO = frozenset({"012", "CL_ESTADO"})
ACCOUNT_TYPES = frozenset({"cuenta_corriente", "cuenta_vista", "cuenta_ahorro", "cuenta_rut"})
# Endings of the account number. Source: the page, section 10.
_ENDINGS = {
    "0001": faults.Behaviour(status="rejected"),
    "0002": faults.Behaviour(status="pending"),
    "0003": faults.Behaviour(path=("completed", "returned")),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a create is not taken; the codes of payouts are our guess, made in the page's style."""

    code: str
    message: str


def at(document: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def is_order_id(value: Any) -> bool:
    return isinstance(value, str) and _ORDER_ID.fullmatch(value) is not None


def is_rut(value: Any) -> bool:
    """No dots, no dash, the check digit right and its `K` a capital."""
    if not isinstance(value, str) or not _RUT.fullmatch(value):
        return False
    weighed = sum(int(digit) * (2 + place % 6) for place, digit in enumerate(reversed(value[:-1])))
    # The weights are 2 to 7, over and over from the right.
    rest = 11 - weighed % 11
    return value[-1] == {10: "K", 11: "0"}.get(rest, str(rest))


def create_refusal(asked: dict[str, Any], *, amount_max: int) -> Refusal | None:
    """The first thing that is wrong with a create; None if nothing."""
    for path, needed, code, is_good in _RULES:
        value = at(asked, path)
        if value is None:
            if needed:
                return Refusal("PO-MISSING-FIELD", f"{path} is missing.")
        elif not is_good(value):
            return Refusal(code, f"{path} is not valid.")
    if asked["amount"] > amount_max:
        return Refusal("PO-INVALID-AMOUNT", f"amount is above {amount_max}.")
    return _cuenta_rut_refusal(asked)


def asked_by_test_values(account: dict[str, Any]) -> faults.Behaviour:
    """The life that the bank or the ending of the account number asks for."""
    if account["bank_code"] in ALWAYS_PAID_BANKS:
        return faults.Behaviour(status="completed")
    return _ENDINGS.get(account["number"][-4:], faults.NOTHING)


def _cuenta_rut_refusal(asked: dict[str, Any]) -> Refusal | None:
    """BancoEstado's account whose number is the RUT without its check digit."""
    account = asked["account"]
    if account["type"] != "cuenta_rut":
        return None
    banks = _BANCO_ESTADO | ALWAYS_PAID_BANKS
    if account["bank_code"] not in banks or account["number"] != asked["beneficiary"]["rut"][:-1]:
        return Refusal("PO-INVALID-ACCOUNT", "account.number is not the CuentaRUT of this RUT.")
    return None


def _is_amount(value: Any) -> bool:
    # Text of digits is refused too (our guess, the strict one).
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_description(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= DESCRIPTION_LENGTH_MAX and "," not in value


def _matches(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _one_of(words: frozenset[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


# Path, whether it must be there, the code where it is wrong, the rule. Which fields may be left
# out and how long names and account numbers may be is our guess.
_RULES: tuple[tuple[str, bool, str, Callable[[Any], bool]], ...] = (
    ("merchant_order_id", True, "PO-INVALID-ORDER-ID", is_order_id),
    ("amount", True, "PO-INVALID-AMOUNT", _is_amount),
    ("currency", True, "PO-INVALID-CURRENCY", _one_of(frozenset({"CLP"}))),
    ("description", False, "PO-INVALID-DESCRIPTION", _is_description),
    ("beneficiary.name", True, "PO-INVALID-NAME", _matches(r"(?=.*\S).{1,100}")),
    ("beneficiary.rut", True, "PO-INVALID-RUT", is_rut),
    ("beneficiary.email", False, "PO-INVALID-EMAIL", _matches(r"[^@\s]{1,100}@[^@\s]{1,100}")),
    ("account.bank_code", True, "PO-INVALID-BANK", _one_of(BANKS | ALWAYS_PAID_BANKS)),
    ("account.type", True, "PO-INVALID-ACCOUNT-TYPE", _one_of(ACCOUNT_TYPES)),
    ("account.number", True, "PO-INVALID-ACCOUNT", _matches(r"[0-9]{4,20}")),
    ("webhook_url", False, "PO-INVALID-WEBHOOK", _matches(r"https?://[!-~]{1,500}")),
)
