"""The table of moves is that of the design, and everything derived from it agrees."""

from __future__ import annotations

import itertools

import pytest

from workers.record.status import (
    FINAL,
    MAYBE_SENT,
    MOVES,
    OPEN,
    PROMISED,
    State,
    diagram,
    is_allowed,
    is_final,
    sources_of,
)

# The design's table, typed again. What a person may decide leaves out what only a worker's claim
# can make (creating) and what comes before approval (draft).
DESIGN = """
draft       queued cancelled
queued      creating cancelled held
creating    created processing paid failed queued unknown held
unknown     created processing paid failed queued held
created     processing paid failed held
processing  paid failed held
held        queued unknown created processing paid failed cancelled
paid        returned
failed
cancelled
returned
"""
ALLOWED = {
    (source, target)
    for source, *targets in (line.split() for line in DESIGN.strip().splitlines())
    for target in targets
}
PAIRS = list(itertools.product(State, State))


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_an_arrow_is_allowed_exactly_when_the_design_has_it(source: State, target: State) -> None:
    expected = (source.value, target.value) in ALLOWED
    assert is_allowed(source, target) is expected
    assert (source in sources_of(target)) is expected


def test_the_design_and_the_code_know_the_same_states() -> None:
    assert {line.split()[0] for line in DESIGN.strip().splitlines()} == {s.value for s in State}


def test_no_arrow_is_listed_twice() -> None:
    arrows = [(move.source, move.target) for move in MOVES]
    assert len(arrows) == len(set(arrows))


def test_final_states_have_no_way_on_but_paid_to_returned() -> None:
    assert {state.value for state in State if is_final(state)} == {
        "paid",
        "failed",
        "cancelled",
        "returned",
    }
    onward = {(move.source, move.target) for move in MOVES if is_final(move.source)}
    assert onward == {(State.PAID, State.RETURNED)}


@pytest.mark.parametrize("state", sorted(MAYBE_SENT))
def test_a_payout_that_may_have_been_sent_is_never_withdrawn_or_drafted(state: State) -> None:
    assert not is_allowed(state, State.CANCELLED)
    assert not is_allowed(state, State.DRAFT)


@pytest.mark.parametrize("state", [State.CREATED, State.PROCESSING])
def test_a_payout_that_the_provider_has_is_never_queued_again(state: State) -> None:
    assert not is_allowed(state, State.QUEUED)
    assert not is_allowed(state, State.UNKNOWN)


def test_only_a_queued_payout_can_be_created() -> None:
    assert sources_of(State.CREATING) == {State.QUEUED}


def test_nothing_can_leave_draft_but_by_a_decision() -> None:
    assert sources_of(State.DRAFT) == frozenset()


def test_money_is_promised_from_approval_until_a_final_state() -> None:
    assert {
        State.QUEUED,
        State.CREATING,
        State.UNKNOWN,
        State.CREATED,
        State.PROCESSING,
        State.HELD,
    } == PROMISED


def test_held_payouts_are_not_work_that_goes_on_by_itself() -> None:
    assert PROMISED - {State.HELD} == OPEN


def test_every_state_can_be_reached_from_draft_and_reaches_a_final_one() -> None:
    reached = {State.DRAFT}
    ends = set(FINAL)
    for _ in State:
        reached |= {move.target for move in MOVES if move.source in reached}
        ends |= {move.source for move in MOVES if move.target in ends}
    assert reached == set(State)
    assert ends == set(State)


def _drawn() -> set[tuple[str, str]]:
    lines = [line.split(":")[0] for line in diagram().splitlines() if "-->" in line]
    return {(a.strip(), b.strip()) for a, b in (line.split("-->") for line in lines)}


def test_the_diagram_draws_every_arrow_that_needs_no_person() -> None:
    by_itself = {pair for pair in ALLOWED if pair[0] != "held"}
    assert {pair for pair in _drawn() if "[*]" not in pair} == by_itself


def test_the_diagram_notes_whatever_a_person_may_decide() -> None:
    (note,) = (line for line in diagram().splitlines() if "note right of held" in line)
    told = {word.strip(",") for word in note.split(":")[1].split()}
    assert told & {state.value for state in State} == {b for a, b in ALLOWED if a == "held"}


def test_no_label_of_the_diagram_has_a_sign_that_ends_it() -> None:
    labels = [line.partition(": ")[2] for line in diagram().splitlines()]
    assert not any(sign in label for label in labels for sign in ":;")


def test_the_diagram_begins_at_draft_and_ends_at_the_final_states() -> None:
    assert diagram().splitlines()[0] == "stateDiagram-v2"
    assert {pair for pair in _drawn() if "[*]" in pair} == {
        ("[*]", "draft"),
        ("paid", "[*]"),
        ("failed", "[*]"),
        ("cancelled", "[*]"),
        ("returned", "[*]"),
    }
