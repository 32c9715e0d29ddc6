"""Decisions, workers, crashes and sweeps in any order, against a provider that tells the truth."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from tests.workers.record.conftest import Record
from tests.worlds import order
from workers.errors import ApprovalRefused, IllegalMove, StaleState
from workers.record import decisions
from workers.record.model import Actor, Payout
from workers.record.status import OPEN, Outcome, State, Step, is_allowed, is_final

PEOPLE = [Actor(name, "here") for name in ("ann", "bob")]
SEEDS = 40
STEPS = 60


HOWS = (
    *(["goes well"] * 3),
    *(["turned away", "turned away", "refused", "never arrives", "its answer is lost"]),
    *(["its worker dies", "finds two", "finds two", "finds two"]),
)


class Truth:
    """What the provider has: by reference id, whether it is released, and what became of it."""

    def __init__(self) -> None:
        self.has: dict[str, str] = {}
        self.releases: dict[str, int] = {}

    def create(self, name: str, how: str) -> Outcome:
        """Take a payout, or not; and answer, or not."""
        if how in ("turned away", "refused"):
            return Outcome.NOT_SENT if how == "turned away" else Outcome.REFUSED
        if how == "never arrives":
            return Outcome.UNKNOWN
        assert name not in self.has, f"{name} is created a second time"
        self.has[name] = "created"
        return Outcome.UNKNOWN if how == "its answer is lost" else Outcome.CREATED

    def process(self, name: str, how: str) -> Outcome:
        if how in ("turned away", "never arrives"):
            return Outcome.NOT_SENT if how == "turned away" else Outcome.UNKNOWN
        if self.has[name] == "created":
            self.releases[name] = self.releases.get(name, 0) + 1
            self.has[name] = "failed" if how == "refused" else "paid"
        return Outcome.UNKNOWN if how == "its answer is lost" else Outcome.PROCESSING

    def read(self, name: str) -> Outcome:
        known = {"created": Outcome.CREATED, "paid": Outcome.PAID, "failed": Outcome.REFUSED}
        return known[self.has[name]] if name in self.has else Outcome.NOT_FOUND


class AnyOrder:
    """One batch, two people, and as many workers as there are claims."""

    def __init__(self, record: Record, chance: Random) -> None:
        self.record, self.chance = record, chance
        self.ids = record.queue(*(order() for _ in range(chance.randint(1, 4))))
        self.batch_id = str(record.row(self.ids[0]).batch_id)
        self.truth = Truth()
        self.workers: list[tuple[Payout, Step]] = []
        self.decision = "approved"
        self.finals: dict[int, State] = {}

    def live(self) -> None:
        """Whatever comes next, so many times; and then an end."""
        acts = {self.decide: 2, self.resolve: 3, self.claim: 4, self.call: 9, self.sweep: 1}
        acts |= {self.time_passes: 4}
        for _ in range(STEPS):
            (act,) = self.chance.choices(list(acts), list(acts.values()))
            act()
            self.nothing_is_twice_lost_or_moved_unseen()
        self.comes_to_an_end()

    # --- people ---

    def _decide(self, name: str, becomes: str, who: Actor) -> None:
        with suppress(ApprovalRefused):
            if getattr(self.record.decisions, name)(self.batch_id, who, self.record.clock.now()):
                self.decision = becomes

    def decide(self) -> None:
        what = self.chance.choice(["pause"] * 3 + ["resume"] * 5 + ["cancel"])
        becomes = {"pause": "paused", "resume": "approved", "cancel": "cancelled"}[what]
        self._decide(what, becomes, self.chance.choice(PEOPLE))

    def resolve(self) -> None:
        """A person looks at the provider and decides by what is there, or does not look."""
        held = [one for one in self.ids if self.record.state(one) is State.HELD]
        if not held:
            return
        one = self.chance.choice(held)
        said = self.truth.read(self.record.row(one).reference_id)
        target = {
            Outcome.PAID: State.PAID,
            Outcome.REFUSED: State.FAILED,
            Outcome.NOT_FOUND: State.FAILED,
        }.get(said, State.UNKNOWN)
        if self.chance.random() < 0.5:
            target = State.QUEUED
        with suppress(StaleState, ApprovalRefused, IllegalMove):
            self.record.decisions.resolve(
                one,
                target,
                actor=self.chance.choice(PEOPLE),
                reason="looked",
                now=self.record.clock.now(),
                people=self.chance.choice([1, 2]),
            )

    # --- workers and sweeps ---

    def claim(self) -> None:
        one = self.chance.choice(self.ids)
        was = self.record.state(one)
        claim = self.record.claim(one)
        if claim is None:
            return
        assert was is not State.QUEUED or self.decision == "approved"
        self.workers.append((claim.payout, first_step(claim.payout)))

    def call(self) -> None:
        """A worker makes its call, whatever was decided since, and stores what it hears."""
        if not self.workers:
            self.claim()
            return
        worker = self.chance.choice(self.workers)
        self.workers.remove(worker)
        how = self.chance.choice(HOWS)
        payout, step = worker
        if payout.claimed_until is not None and self.record.clock.now() >= payout.claimed_until:
            # Its deadline has passed: it makes no call any more.
            return
        name = payout.reference_id
        outcome = {
            Step.CREATE: lambda: self.truth.create(name, how),
            Step.PROCESS: lambda: self.truth.process(name, how),
        }.get(step, lambda: self.truth.read(name))()
        if how == "its worker dies":
            return
        if how == "finds two" and step is Step.LOOK_UP:
            outcome = Outcome.EXISTS
        with suppress(StaleState):
            done = self.record.answer(
                payout, step, outcome, provider_payout_id=f"p{payout.id}", proves_absence=True
            )
            if done.next_step in (Step.CREATE, Step.PROCESS):
                assert self.decision == "approved", "sent after it was stopped"
            if done.next_step is not None:
                self.workers.append((done.payout, done.next_step))

    def sweep(self, chunks: int = 1) -> None:
        now = self.record.clock.now()
        self.record.store.expire_creates(now)
        # Somebody else may be half-way through at any time: only some of it is done.
        self.record.decisions.carry_on(now, chunks=chunks)

    def time_passes(self) -> None:
        self.record.clock.sleep(self.chance.choice([5, 35, 91, 310, 700]))

    # --- what must hold ---

    def nothing_is_twice_lost_or_moved_unseen(self) -> None:
        for one in self.ids:
            row = self.record.row(one)
            here = State.DRAFT
            for event in self.record.events(one):
                assert event.from_state == here
                target = State(event.to_state)
                assert target is here or is_allowed(here, target)
                here = target
            assert row.state == here
            assert self.finals.setdefault(one, here) is here or not is_final(self.finals[one])
            self.finals[one] = here
            assert self.truth.releases.get(row.reference_id, 0) <= 1
            if here is State.CANCELLED:
                assert row.reference_id not in self.truth.has, "cancelled, and the provider has it"

    def comes_to_an_end(self) -> None:
        """With a person who resumes it and workers that live, every payout ends or is held."""
        self._decide("resume", "approved", PEOPLE[0])
        for _ in range(60):
            self.sweep(50)
            for one in self.ids:
                claim = self.record.claim(one)
                if claim is None:
                    continue
                payout: Payout = claim.payout
                step: Step | None = first_step(payout)
                while step is not None:
                    name = payout.reference_id
                    said = {
                        Step.CREATE: lambda name=name: self.truth.create(name, "goes well"),
                        Step.PROCESS: lambda name=name: self.truth.process(name, "goes well"),
                    }.get(step, lambda name=name: self.truth.read(name))()
                    done = self.record.answer(
                        payout, step, said, provider_payout_id=f"p{one}", proves_absence=True
                    )
                    payout, step = done.payout, done.next_step
            if not any(self.record.state(one) in OPEN for one in self.ids):
                break
            self.record.clock.sleep(310)
        self.nothing_is_twice_lost_or_moved_unseen()
        left = {self.record.state(one) for one in self.ids}
        assert not left & OPEN, left
        self.sweep(50)
        count = "SELECT count(*) FROM batches WHERE carried_to IS NOT NULL"
        assert self._number(count) == 0

    def _number(self, sql: str) -> int:
        with self.record.database.read() as connection:
            return int(connection.exec_driver_sql(sql).scalar_one())


def first_step(payout: Payout) -> Step:
    if payout.state is State.CREATING:
        return Step.CREATE if payout.attempts == 1 else Step.LOOK_UP
    return Step.LOOK_UP if payout.state is State.UNKNOWN else Step.POLL


@pytest.mark.timeout(600)
def test_no_order_of_decisions_and_calls_pays_twice_or_loses_a_line(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "CHUNK_ROWS", 2)
    seen: set[tuple[str, str]] = set()
    for seed in range(SEEDS):
        life = AnyOrder(record, Random(seed))
        try:
            life.live()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        seen |= {move for one in life.ids for move in record.path(one)}
    # The chances are such that all of this has happened.
    assert seen >= {
        ("queued", "cancelled"),
        ("created", "held"),
        ("creating", "queued"),
        ("unknown", "queued"),
        ("unknown", "held"),
        ("held", "queued"),
        ("processing", "paid"),
    }, seen
