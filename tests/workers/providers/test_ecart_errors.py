"""What Ecart Pay's errors mean: the whole table of HTTP statuses, and of the codes' classes."""

from __future__ import annotations

from typing import Any, get_args

import httpx
import pytest

from tests.workers.providers.ecart_world import (
    CALLS,
    EMAIL,
    HTML,
    adapter,
    ask,
    error,
    reply_of,
)
from workers.errors import AccountFault
from workers.providers.ecart_config import ErrorClass
from workers.providers.ecart_errors import CLASS_FAULTS, error_code, said
from workers.providers.transport import Answer
from workers.record.status import Outcome

FAULT, UNKNOWN = Outcome.ACCOUNT_FAULT, Outcome.UNKNOWN

# HTTP statuses where no code tells more.

STATUSES = (204, 206, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410,
            413, 415, 418, 422, 423, 425, 429, 451, 500, 501, 502, 503, 504, 520, 599)  # fmt: skip
FAULTS = {
    "create": (401, 403, 404, 405), "process": (401, 403, 404, 405),
    "poll": (401, 403), "look_up": (401, 403),
}  # fmt: skip


def expected(call: str, status: int) -> Outcome:
    if status in FAULTS[call]:
        return FAULT
    if status == 409 and call == "create":
        return Outcome.EXISTS
    return Outcome.NOT_SENT if status == 429 else UNKNOWN


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("call", CALLS)
def test_http_status_decides_where_no_code_does(call: str, status: int) -> None:
    for body in (b"", HTML, b"[]", b"null", b'{"code": "x"}', b"\xff\xfe"):
        reply = ask(call, httpx.Response(status, content=body, headers={"location": "/x"}))
        assert reply.outcome is expected(call, status), body
        assert bool(reply.account_fault) is (reply.outcome is FAULT)
        assert reply.low_balance is False
        assert reply.needs_person is None
        judged = call == "create" and 400 <= status < 500 and reply.outcome is UNKNOWN
        assert bool(reply.refusal) is (judged and status not in (408, 425))
        assert EMAIL not in repr(reply)


@pytest.mark.parametrize("call", CALLS)
def test_a_rate_limit_tells_how_long_to_wait(call: str) -> None:
    reply = ask(call, httpx.Response(429, headers={"retry-after": "17"}))
    assert (reply.outcome, reply.retry_after_s) == (Outcome.NOT_SENT, 17)


@pytest.mark.parametrize("call", ["create", "process", "poll"])
def test_a_busy_provider_may_tell_how_long_to_wait(call: str) -> None:
    reply = ask(call, error(503, headers={"retry-after": "17"}))
    assert (reply.outcome, reply.retry_after_s) == (UNKNOWN, 17)


# Codes, by the class that the settings give them.

CREATE: dict[str | None, Outcome] = {
    "token": FAULT, "validation": Outcome.REFUSED, "duplicate": Outcome.EXISTS,
    "low_balance": FAULT, "unknown_beneficiary": UNKNOWN, "account": FAULT, None: UNKNOWN,
}  # fmt: skip


def test_the_table_of_classes_is_whole() -> None:
    assert set(CREATE) == {*get_args(ErrorClass), None}


@pytest.mark.parametrize("status", [400, 402, 404, 405, 422])
@pytest.mark.parametrize("kind", [*get_args(ErrorClass), None])
def test_a_creates_code_decides_by_its_class(kind: ErrorClass | None, status: int) -> None:
    words = f"{EMAIL} no es válido."
    mapped = {} if kind is None else {9001: kind}
    reply = ask("create", error(status, 9001, words), error_map=mapped)
    judges = kind in ("validation", "duplicate")
    turned_away = status == 405 and (kind is None or judges)
    assert reply.outcome is (FAULT if turned_away else CREATE[kind])
    assert "code 9001: *** no es válido." in (reply.reason or "")
    assert EMAIL not in repr(reply)
    assert reply.low_balance is (kind == "low_balance")
    assert bool(reply.account_fault) is (reply.outcome is FAULT)
    unknown_beneficiary = kind == "unknown_beneficiary" or (kind is None and status == 404)
    assert bool(reply.needs_person) is unknown_beneficiary
    unlisted_refusal = kind is None and status in (400, 402, 422)
    refusal = f"{status}: code 9001: *** no es válido." if unlisted_refusal else None
    assert reply.refusal == refusal
    if reply.outcome in (Outcome.REFUSED, Outcome.EXISTS):
        assert reply.code == "9001"


def test_an_unknown_beneficiary_is_a_persons_matter_and_says_so() -> None:
    reply = ask("create", error(404, 9003, "El usuario no existe."))
    assert (reply.outcome, reply.code) == (UNKNOWN, "9003")
    assert reply.needs_person == (
        "the beneficiary's e-mail is unknown to Ecart Pay (code 9003: El usuario no existe.):"
        " correct it, or have the beneficiary open an account there"
    )


@pytest.mark.parametrize("status", [401, 403, 405])
@pytest.mark.parametrize("kind", ["validation", "duplicate"])
def test_no_code_makes_a_judgement_of_a_refused_key_or_address(status: int, kind: str) -> None:
    reply = ask("create", error(status, 9001), error_map={9001: kind})
    assert reply.account_fault
    assert (reply.outcome, reply.refusal) == (FAULT, None)


def test_a_404_whose_code_is_the_status_is_a_wrong_address() -> None:
    route = error(404, 404, "Route POST:/api/payouts not found")
    reply = ask("create", route)
    assert (reply.outcome, reply.needs_person) == (FAULT, None)
    assert "base_url or a path" in (reply.account_fault or "")
    for status in (404, 405):
        released = ask("process", error(status, status))
        assert "confirm_path" in (released.account_fault or "")
    assert ask("poll", route).outcome is UNKNOWN
    listed = ask("create", route, error_map={404: "unknown_beneficiary"})
    assert listed.needs_person


def test_a_404_without_a_code_is_a_wrong_address() -> None:
    reply = ask("create", error(404, None, "Not Found"))
    assert reply.account_fault == (
        "Ecart Pay answered 404: base_url or a path of the settings is wrong (Not Found)"
    )


@pytest.mark.parametrize("kind", get_args(ErrorClass))
def test_a_409_is_taken_and_a_429_unread_whatever_their_codes_say(kind: ErrorClass) -> None:
    for status, outcome in ((409, Outcome.EXISTS), (429, Outcome.NOT_SENT)):
        reply = ask("create", error(status, 9001), error_map={9001: kind})
        assert reply.outcome is outcome


@pytest.mark.parametrize("status", [200, 302, 500, 503])
@pytest.mark.parametrize("kind", get_args(ErrorClass))
def test_a_code_counts_in_a_4xx_alone(kind: ErrorClass, status: int) -> None:
    reply = ask("create", error(status, 9001), error_map={9001: kind})
    assert (reply.outcome, reply.refusal, reply.needs_person) == (UNKNOWN, None, None)


@pytest.mark.parametrize("kind", get_args(ErrorClass))
@pytest.mark.parametrize("call", ["process", "poll"])
def test_after_the_create_a_code_can_only_blame_the_account(call: str, kind: ErrorClass) -> None:
    reply = ask(call, error(400, 9001), error_map={9001: kind})
    assert reply.outcome is (FAULT if kind in CLASS_FAULTS else UNKNOWN)
    assert reply.low_balance is (kind == "low_balance")
    assert reply.needs_person is None


def test_the_providers_own_404_to_a_confirmation_is_read_and_another_blames_the_path() -> None:
    assert ask("process", error(404, 9003)).outcome is UNKNOWN
    reply = ask("process", httpx.Response(404))
    assert reply.account_fault == "Ecart Pay answered 404: confirm_path or base_url is wrong"


def test_the_providers_own_404_to_a_poll_is_not_found_and_another_tells_nothing() -> None:
    assert ask("poll", error(404, 9003)).outcome is Outcome.NOT_FOUND
    assert ask("poll", error(404)).outcome is UNKNOWN


def test_114_refuses_the_token_and_the_map_goes_on_top() -> None:
    ecart, server = adapter(error(400, 114), error_map={9001: "validation"})
    assert reply_of(ecart, "create").outcome is FAULT
    assert len(server.asked) == 2
    ecart, server = adapter(error(400, 114), error_map={114: "validation"})
    assert reply_of(ecart, "create").outcome is Outcome.REFUSED
    assert len(server.asked) == 1


def test_a_fault_of_the_account_stops_a_question_in_plain_words() -> None:
    ecart, _ = adapter(error(403, 12, "Falta un permiso."))
    with pytest.raises(AccountFault, match="Ecart Pay answered 403: the keys may not do this"):
        ecart.balances()


# Reading an error.


@pytest.mark.parametrize(
    ("told", "code"),
    [(114, 114), ("114", 114), (114.0, 114), (-1, -1), (1.5, None), (True, None), (None, None),
     ("x", None), ([114], None), (10**40, None)],
)  # fmt: skip
def test_a_code_is_a_whole_number(told: Any, code: int | None) -> None:
    response = httpx.Response(400, json={"code": told})
    assert error_code(Answer(400, {}, response.content)) == code


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("No.", "code 7: No."),
        (["amount: malo", "email: malo"], "code 7: amount: malo: email: malo"),
        (["", None, 5, "malo"], "code 7: malo"),
        ({"a": "b"}, "code 7"),
        ("cuenta 012345678901", "code 7: cuenta ***"),
    ],
)
def test_an_errors_words_are_code_and_messages_masked(message: Any, words: str) -> None:
    assert said(Answer(400, {}, error(400, 7, message).content)) == words


def test_an_error_without_words_says_nothing() -> None:
    assert said(Answer(400, {}, HTML)) is None
