"""The oracle finds each thing that must not be: a true account is doctored, and it says so."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.faults.oracle import Event, Evidence, Line, judge

# Created twice: an intent to release is journalled, and moves nothing.
PAID = ("draft", "queued", "creating", "created", "created", "processing", "paid")
CHAINS = {
    "paid": PAID,
    "failed": (*PAID[:-1], "failed"),
    "held": ("draft", "queued", "creating", "unknown", "held"),
}
STATES = ("paid", "failed", "held", "paid")


def invoice(state: str, amount: str) -> dict[str, Any]:
    words = {"paid": "processed", "failed": "process_failed", "held": "created"}
    return {
        "id": "i",
        "status": words[state],
        "amount": amount,
        "currency": "USD",
        "releases": [] if state == "held" else [1.0],
        "pending": "0",
        "paid_out": amount if state == "paid" else "0",
    }


def a_true_account() -> Evidence:
    """Four lines: two were paid, one was refused, one is held."""
    file, lines, events, results, ledger = [], [], [], [], {}
    for number, state in enumerate(STATES, 1):
        reference_id, amount = f"R-{number}", f"{number}0.25"
        file.append(
            {"reference_id": reference_id, "amount": amount, "currency": "USD", "account": "main"}
        )
        lines.append(Line(number, number, reference_id, "main", Decimal(amount), "USD", state))
        chain = CHAINS[state]
        events += [
            Event(number, source, target, f"to {target}", "worker")
            for source, target in itertools.pairwise(chain)
        ]
        results.append({"reference_id": reference_id, "state": state})
        ledger[reference_id] = {"invoices": [invoice(state, amount)]}
    expected = {"R-1": "paid", "R-2": "failed"}
    return Evidence(file, expected, lines, events, results, ledger)


def test_a_true_account_is_fine() -> None:
    assert not judge(a_true_account()), str(judge(a_true_account()))


def _release_again(evidence: Evidence) -> Evidence:
    evidence.ledger["R-1"]["invoices"][0]["releases"].append(2.0)
    return evidence


def _create_again(evidence: Evidence) -> Evidence:
    second = {**invoice("paid", "10.25"), "releases": []}
    evidence.ledger["R-1"]["invoices"].append(second)
    return evidence


def _pay_a_second(evidence: Evidence) -> Evidence:
    evidence.ledger["R-1"]["invoices"].append(invoice("paid", "10.25"))
    return evidence


DOUBLES = [_release_again, _create_again, _pay_a_second]


def _drop_line(evidence: Evidence) -> Evidence:
    return replace(evidence, lines=evidence.lines[:-1])


def _drop_result(evidence: Evidence) -> Evidence:
    return replace(evidence, results=evidence.results[1:])


def _repeat_result(evidence: Evidence) -> Evidence:
    return replace(evidence, results=[*evidence.results, evidence.results[0]])


def _swap_results(evidence: Evidence) -> Evidence:
    return replace(evidence, results=list(reversed(evidence.results)))


def _tell_another_state(evidence: Evidence) -> Evidence:
    told = [{**evidence.results[0], "state": "failed"}, *evidence.results[1:]]
    return replace(evidence, results=told)


def _rename_line(evidence: Evidence) -> Evidence:
    renamed = replace(evidence.lines[0], reference_id="R-9")
    return replace(evidence, lines=[renamed, *evidence.lines[1:]])


def _number_with_a_gap(evidence: Evidence) -> Evidence:
    return _with_line(evidence, 3, row=5)


LOST = [
    *(_drop_line, _drop_result, _repeat_result, _swap_results, _tell_another_state),
    *(_rename_line, _number_with_a_gap),
]


def _with_line(evidence: Evidence, place: int, **changes: Any) -> Evidence:
    lines = list(evidence.lines)
    lines[place] = replace(lines[place], **changes)
    return replace(evidence, lines=lines)


def _another_amount_stored(evidence: Evidence) -> Evidence:
    return _with_line(evidence, 0, amount=Decimal("10.26"))


def _another_account_stored(evidence: Evidence) -> Evidence:
    return _with_line(evidence, 0, account="second")


def _another_amount_paid(evidence: Evidence) -> Evidence:
    evidence.ledger["R-1"]["invoices"][0]["amount"] = "11.25"
    return evidence


def _another_currency_paid(evidence: Evidence) -> Evidence:
    evidence.ledger["R-1"]["invoices"][0]["currency"] = "EUR"
    return evidence


def _paid_and_not_there(evidence: Evidence) -> Evidence:
    evidence.ledger["R-4"]["invoices"].clear()
    return evidence


def _paid_and_not_settled(evidence: Evidence) -> Evidence:
    evidence.ledger["R-4"]["invoices"][0] |= {"status": "processing", "pending": "40.25"}
    return evidence


def _failed_and_paid(evidence: Evidence) -> Evidence:
    evidence.ledger["R-2"]["invoices"][0] |= {"status": "processed", "paid_out": "20.25"}
    return evidence


def _failed_and_under_way(evidence: Evidence) -> Evidence:
    evidence.ledger["R-2"]["invoices"][0] |= {"status": "processing", "pending": "20.25"}
    return evidence


def _paid_for_nobody(evidence: Evidence) -> Evidence:
    evidence.ledger["R-7"] = {"invoices": [invoice("paid", "70.25")]}  # type: ignore[index]
    return evidence


def _left_open(evidence: Evidence) -> Evidence:
    return _ending(evidence, 4, "processing")


def _not_as_it_must_end(evidence: Evidence) -> Evidence:
    return replace(evidence, expected={"R-3": "paid"})


def _ending(evidence: Evidence, number: int, state: str) -> Evidence:
    """The payout as it was while its journal ended there."""
    changed = _with_line(evidence, number - 1, state=state)
    places = [place for place, one in enumerate(changed.events) if one.payout_id == number]
    last = next(place for place in places if changed.events[place].target == state)
    events = [
        one for place, one in enumerate(changed.events) if one.payout_id != number or place <= last
    ]
    results = [
        {**one, "state": state} if one["reference_id"] == f"R-{number}" else one
        for one in changed.results
    ]
    return replace(changed, events=events, results=results)


def _held_without_a_word(evidence: Evidence) -> Evidence:
    events = [replace(one, cause="") if one.target == "held" else one for one in evidence.events]
    return replace(evidence, events=events)


def _gap_in_the_journal(evidence: Evidence) -> Evidence:
    events = [one for one in evidence.events if one.target != "creating"]
    return replace(evidence, events=events)


def _journal_not_to_the_end(evidence: Evidence) -> Evidence:
    events = [one for one in evidence.events if one.target != "paid"]
    return replace(evidence, events=events)


def _no_such_move(evidence: Evidence) -> Evidence:
    """Without a gap, but straight from queued to created."""
    events = [
        replace(one, source="queued") if one.source == "creating" and one.payout_id == 4 else one
        for one in evidence.events
        if (one.payout_id, one.target) != (4, "creating")
    ]
    return replace(evidence, events=events)


def _a_worker_decided(evidence: Evidence) -> Evidence:
    paid = _with_line(evidence, 2, state="paid")
    paid.ledger["R-3"]["invoices"][0] = invoice("paid", "30.25")
    results = [dict(one) for one in paid.results]
    results[2]["state"] = "paid"
    decided = Event(3, "held", "paid", "decided", "worker")
    return replace(paid, results=results, events=[*paid.events, decided])


WRONG = [
    *(_another_amount_stored, _another_account_stored, _another_amount_paid),
    *(_another_currency_paid, _paid_and_not_there, _paid_and_not_settled, _failed_and_paid),
    *(_failed_and_under_way, _paid_for_nobody, _left_open, _not_as_it_must_end),
    *(_held_without_a_word, _gap_in_the_journal, _journal_not_to_the_end, _no_such_move),
    _a_worker_decided,
]


@pytest.mark.parametrize(
    ("kind", "doctor"),
    [
        *(("doubles", each) for each in DOUBLES),
        *(("lost", each) for each in LOST),
        *(("wrong", each) for each in WRONG),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_doctored_account_is_found_out(kind: str, doctor: Callable[[Evidence], Evidence]) -> None:
    findings = judge(doctor(copy.deepcopy(a_true_account())))
    found = {name: getattr(findings, name) for name in ("doubles", "lost", "wrong")}
    assert found[kind], found
    if kind != "lost":
        # Each is told as what it is.
        others = [name for name, said in found.items() if said and name != kind]
        assert others == [] or (kind, others) == ("wrong", ["lost"]), found
