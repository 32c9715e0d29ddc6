"""A local stand-in for ETpay's payouts in Chile, with its own ledger and faults at will.

    python -m workers.simulator.etpay --port 9105 --fault create:drop-after

This file is the program and the way to run it inside a test; what it answers is in `etpay_api`,
the JSON in `etpay_views`, the rules of a create in `etpay_checks`. The sockets are in `server`, the
memory in `ledger`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from workers.simulator import flags
from workers.simulator.etpay_api import DEFAULT_BALANCES, Etpay, EtpayOptions
from workers.simulator.program import Program

__all__ = ["EtpayOptions", "main", "read_flags", "serve"]


def read_flags(argv: Sequence[str]) -> EtpayOptions:
    """The options that the flags ask for.

    Raises:
        UsageError: a flag that cannot be read; one sentence.
    """
    read = _parser().parse_args(argv)
    return EtpayOptions(
        **flags.shared_options(read, DEFAULT_BALANCES),
        merchant_code=read.merchant_code,
        merchant_api_token=read.merchant_api_token,
        username=read.username,
        password=read.password,
        token_ttl_s=read.token_ttl,
        auth_scheme=read.auth_scheme,
        duplicates=read.duplicates,
        settle_s=read.settle,
        low_balance=read.low_balance,
        amount_max=read.amount_max,
        created_status=read.created_status,
        refused_status=read.refused_status,
        error_codes=not read.no_error_codes,
        order_answer=read.order_answer,
        list_lag_s=read.list_lag,
        find_delay_s=read.find_delay,
        time_zone=read.time_zone,
        date_to_exclusive=read.date_to_exclusive,
        webhook_url=read.webhook_url,
        webhook_auth=read.webhook_auth,
        webhook_secret=read.webhook_secret,
        lose_webhooks=read.lose_webhooks,
    )


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser("etpay", "A local stand-in for ETpay's payouts in Chile.")
    add = parser.add_argument
    default = EtpayOptions()
    add("--merchant-code", default=default.merchant_code)
    add("--merchant-api-token", default=default.merchant_api_token)
    add("--username", default=default.username)
    add("--password", default=default.password)
    add("--token-ttl", type=flags.seconds, default=default.token_ttl_s, help="life of a token")
    add("--auth-scheme", choices=("raw", "bearer"), default=default.auth_scheme)
    add(
        "--duplicates",
        choices=("pay_again", "conflict_409", "return_existing"),
        default=default.duplicates,
        help="what a second create of an order id does",
    )
    add("--settle", type=flags.seconds, default=default.settle_s, help="pending to final")
    add("--low-balance", choices=("refused", "rejected"), default=default.low_balance)
    add("--amount-max", type=_count, default=default.amount_max, metavar="PESOS")
    add("--created-status", type=int, choices=(200, 201), default=default.created_status)
    add("--refused-status", type=int, choices=(400, 422), default=default.refused_status)
    add("--no-error-codes", action="store_true", help="payouts fail without a code")
    add(
        "--order-answer",
        choices=("payout", "payouts"),
        default=default.order_answer,
        help="what a query by order id answers: one payout, or a page",
    )
    add("--list-lag", type=flags.seconds, default=0.0, help="until the date query shows a payout")
    add("--find-delay", type=flags.seconds, default=0.0, help="until any query shows a payout")
    add("--time-zone", type=_zone, default=default.time_zone, help="of the date query's days")
    add("--date-to-exclusive", action="store_true", help="the last day is not in the answer")
    add("--webhook-url", help="where a payout without its own webhook_url reports to")
    add("--webhook-auth", choices=("none", "jwt"), default=default.webhook_auth)
    add("--webhook-secret", default=default.webhook_secret, help="of the JWTs")
    add("--lose-webhooks", type=_count, default=0, metavar="N", help="of every Nth payout")
    return parser


def _count(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,17}", text, re.ASCII):
        raise argparse.ArgumentTypeError("expected a whole number above 0, of 18 digits at most")
    return int(text)


def _zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (KeyError, ValueError, OSError) as error:
        raise argparse.ArgumentTypeError("expected a zone such as America/Santiago") from error


_PROGRAM = Program(EtpayOptions, read_flags, Etpay)
serve, main = _PROGRAM.serve, _PROGRAM.main


if __name__ == "__main__":
    sys.exit(main())
