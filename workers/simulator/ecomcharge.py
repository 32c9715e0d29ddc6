"""A local stand-in for eComCharge's payout APIs, with its own ledger and faults at will.

    python -m workers.simulator.ecomcharge --port 9103 --fault create:drop-after

This file is the program and the way to run it inside a test; what it answers is in
`ecomcharge_api`, what it takes in `ecomcharge_bodies`, the JSON in `ecomcharge_views`, the account
in `ecomcharge_account`. The sockets are in `server`, the memory in `ledger`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from workers.simulator import flags
from workers.simulator.ecomcharge_account import (
    DEFAULT_BALANCES,
    DEFAULT_METHODS,
    EcomchargeOptions,
)
from workers.simulator.ecomcharge_api import Ecomcharge
from workers.simulator.program import Program

__all__ = ["EcomchargeOptions", "main", "read_flags", "serve"]

# No currency has more, so more is a slip.
DECIMALS_MAX = 4


def read_flags(argv: Sequence[str]) -> EcomchargeOptions:
    """The options that the flags ask for.

    Raises:
        UsageError: a flag that cannot be read; one sentence.
    """
    read = _parser().parse_args(argv)
    return EcomchargeOptions(
        **flags.shared_options(read, DEFAULT_BALANCES),
        shop_id=read.shop_id,
        secret_key=read.secret_key,
        gateway_id=read.gateway_id,
        decimals=dict(read.decimals),
        methods={**DEFAULT_METHODS, **dict(read.method)},
        settle_s=read.settle,
        find_delay_s=read.find_delay,
        request_id=read.request_id,
        busy_s=read.busy,
        busy_answer=read.busy_answer,
        verification=read.verification,
        verification_silence=read.verification_silence,
        private_key=read.private_key,
        low_balance=read.low_balance,
        declined_http=read.declined_http,
        magic=not read.no_magic,
        form=read.form,
        codes=read.codes,
        phone_number=read.phone_number,
        decoys=read.decoys,
        card_numbers=not read.no_card_numbers,
        card_find=read.card_find,
        balance_call=not read.no_balance_call,
        precheck=not read.no_precheck,
        webhooks=not read.no_webhooks,
        forged_basic=read.forged_basic,
    )


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser("ecomcharge", "A local stand-in for eComCharge's payout APIs.")
    add = parser.add_argument
    default = EcomchargeOptions()
    add("--shop-id", default=default.shop_id)
    add("--secret-key", default=default.secret_key)
    add("--gateway-id", type=_gateway, default=default.gateway_id, help="of the balance calls")
    add("--decimals", action="append", type=_decimals, default=[], metavar="IDR=2")
    add(
        "--method",
        action="append",
        type=_method,
        default=[],
        metavar="TYPE[=MEMBER,customer.MEMBER]",
        help="one more payout method, with the members it asks for",
    )
    add("--settle", type=flags.seconds, default=default.settle_s, help="pending to final")
    add("--find-delay", type=flags.seconds, default=0.0, help="until a find shows a new payout")
    add("--request-id", choices=("replay", "ignore"), default=default.request_id)
    add("--busy", type=flags.seconds, default=0.0, help="how long a RequestID counts as running")
    add("--busy-answer", choices=("409", "429", "wait"), default=default.busy_answer)
    add("--verification", choices=("obey", "ignore"), default=default.verification)
    add(
        "--verification-silence",
        choices=("decline", "release", "hold"),
        default=default.verification_silence,
        help="what no answer or a 5xx to the verification call does",
    )
    add("--private-key", type=Path, metavar="FILE", help="of the webhooks; made if missing")
    add("--low-balance", choices=("failed", "422"), default=default.low_balance)
    add("--declined-http", type=int, choices=(200, 202, 422), default=default.declined_http)
    add("--no-magic", action="store_true", help="an amount that ends in 999 is like any other")
    add("--form", action="store_true", help="every open payout carries a form")
    add("--codes", action="store_true", help="transactions carry code and friendly_message")
    add("--phone-number", action="store_true", help="phones are shown as JSON numbers")
    add("--decoys", action="store_true", help="finds show what was not asked for too")
    add("--no-card-numbers", action="store_true", help="tokens only, else E.1065")
    add(
        "--card-find",
        choices=("transactions", "transaction", "list"),
        default=default.card_find,
        help="the shape of a find at the card host",
    )
    add("--no-balance-call", action="store_true", help="the gateway tells no balance")
    add("--no-precheck", action="store_true", help="the shop has no precheck")
    add("--no-webhooks", action="store_true", help="none by itself; control calls still send them")
    add("--forged-basic", action="store_true", help="forged webhooks have a wrong Basic header")
    return parser


def _gateway(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise argparse.ArgumentTypeError("expected a whole number such as 85")
    return int(text)


def _decimals(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"([A-Z]{3})=(\d)", text, re.ASCII)
    if match is None or int(match[2]) > DECIMALS_MAX:
        raise argparse.ArgumentTypeError(f"expected such as IDR=2, at most {DECIMALS_MAX}")
    return match[1], int(match[2])


def _method(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, members = text.partition("=")
    wanted = tuple(members.split(",")) if members else ()
    known = all(re.fullmatch(r"(customer\.)?[a-z][a-z0-9_]*", each) for each in wanted)
    if not known or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise argparse.ArgumentTypeError("expected such as bank_transfer=account,customer.email")
    return name, wanted


_PROGRAM = Program(EcomchargeOptions, read_flags, Ecomcharge)
serve, main = _PROGRAM.serve, _PROGRAM.main


if __name__ == "__main__":
    sys.exit(main())
