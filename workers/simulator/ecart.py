"""A local stand-in for Ecart Pay's payout API, with its own ledger and faults at will.

    python -m workers.simulator.ecart --port 9103 --fault create:drop-after

This file is the program and the way to run it inside a test; what it answers is in `ecart_api`,
the JSON in `ecart_views`, tokens and signatures in `ecart_keys`. The sockets are in `server`, the
memory in `ledger`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from decimal import Decimal

from workers.simulator import flags
from workers.simulator.ecart_api import DEFAULT_BALANCES, Ecart, EcartOptions
from workers.simulator.ecart_keys import sign
from workers.simulator.program import Program

__all__ = ["EcartOptions", "main", "read_flags", "serve", "sign"]


def read_flags(argv: Sequence[str]) -> EcartOptions:
    """The options that the flags ask for.

    Raises:
        UsageError: a flag that cannot be read; one sentence.
    """
    default = EcartOptions()
    read = _parser(default).parse_args(argv)
    return EcartOptions(
        **flags.shared_options(read, DEFAULT_BALANCES),
        public_key=read.public_key,
        private_key=read.private_key,
        account_id=read.account_id,
        webhook_secret=read.webhook_secret,
        token_ttl_s=read.token_ttl,
        bearer=read.bearer,
        recipients=tuple(read.recipient) or default.recipients,
        duplicate_status=read.duplicate_status,
        hold_on_pending=not read.no_hold,
        repeat_confirm=read.repeat_confirm,
        lookup=read.lookup,
        list_shape=read.list_shape,
        page_size_max=read.page_size_max,
        find_delay_s=read.find_delay,
        settle_s=read.settle,
        fee=read.fee,
        exchange=read.exchange,
        amount_decimals=read.amount_decimals,
        callback_url=read.callback_url,
        sign_scope=read.sign_scope,
        webhook_id=read.webhook_id,
        webhook_attempts=read.webhook_attempts,
    )


def _parser(default: EcartOptions) -> argparse.ArgumentParser:
    parser = flags.parser("ecart", "A local stand-in for Ecart Pay's payout API.")
    add = parser.add_argument
    add("--public-key", default=default.public_key)
    add("--private-key", default=default.private_key)
    add("--account-id", type=_id, default=default.account_id)
    add("--webhook-secret", default=default.webhook_secret)
    add("--token-ttl", type=_whole, default=default.token_ttl_s, metavar="SECONDS")
    add("--bearer", action="store_true", help="take `Bearer TOKEN` as well")
    add(
        "--recipient",
        action="append",
        type=_recipient,
        default=[],
        metavar="EMAIL",
        help="an account that exists; * stands for anything (default *@example.com)",
    )
    add(
        "--duplicate-status",
        choices=("409", "400", "422", "pay-again"),
        default=default.duplicate_status,
        help="for a used reference_id; pay-again is harsher than the provider",
    )
    add("--no-hold", action="store_true", help="a pending payout keeps no money from being spent")
    add("--repeat-confirm", choices=("200", "400"), default=default.repeat_confirm)
    add(
        "--lookup",
        choices=("on", "off", "ignored"),
        default=default.lookup,
        help="GET by reference_id; ignored shows the newest payouts, whoever is asked for",
    )
    add("--list-shape", choices=("data", "payouts", "bare"), default=default.list_shape)
    add("--page-size-max", type=_whole, default=default.page_size_max, help="of the ledger list")
    add("--find-delay", type=flags.seconds, default=0.0, help="until a look-up shows a new payout")
    add("--settle", type=flags.seconds, default=default.settle_s, help="from release to credit")
    add("--fee", type=_decimal, default=default.fee, help="of every payout")
    add("--exchange", type=_decimal, default=default.exchange)
    add("--amount-decimals", type=int, choices=(0, 1, 2), default=default.amount_decimals)
    add("--callback-url", help="a webhook that is registered from the start")
    add("--sign-scope", choices=("data", "body"), default=default.sign_scope)
    add("--webhook-id", choices=("delivery", "subscription"), default=default.webhook_id)
    add("--webhook-attempts", type=int, choices=(5, 6), default=default.webhook_attempts)
    return parser


def _id(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{24}", text):
        raise argparse.ArgumentTypeError("expected 24 hex digits")
    return text


def _recipient(text: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        raise argparse.ArgumentTypeError("expected such as luis@example.com or *@example.com")
    return text


def _whole(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", text, re.ASCII):
        raise argparse.ArgumentTypeError("expected a whole number from 1 to 99999")
    return int(text)


def _decimal(text: str) -> Decimal:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text, re.ASCII):
        raise argparse.ArgumentTypeError("expected such as 2.50")
    return Decimal(text)


_PROGRAM = Program(EcartOptions, read_flags, Ecart)
serve, main = _PROGRAM.serve, _PROGRAM.main


if __name__ == "__main__":
    sys.exit(main())
