"""Whatever is killed, cut or lost while a batch is paid: nothing twice, nothing lost, all final or
in front of a person.

The seed of each scenario is printed; `--fault-seed N` has its chance again. The long form, with
`--fault-payouts 2000`, is `make faults`; `make soak` does everything at once for long.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import httpx
import kombu.exceptions
import pytest
import redis
from sqlalchemy.exc import DBAPIError

from tests.faults.fault_world import BUDGETS, Batch, FaultWorld, fault_world, random_of, wait_for
from tests.faults.files import mixed
from tests.faults.oracle import Findings, judge
from tests.faults.scenarios import LONG, SCENARIOS, SHORT, Act, Scenario, Size

# From so many payouts on, everything is done as long as it would last.
LONG_FROM = 1000
SHOWN_MAX = 5
# What an act meets where another one has taken away what it needs.
GONE = (DBAPIError, httpx.TransportError, redis.RedisError, kombu.exceptions.OperationalError)
EVERYTHING = SCENARIOS[-1]

# What hangs is told by the scenario's own limit, with what is known of it.
pytestmark = pytest.mark.timeout(0)

Tell = Callable[[str, object], None]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    """One cluster for all scenarios of this process; each heals what the one before it broke."""
    with fault_world(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    payouts = request.config.getoption("--fault-payouts")
    if payouts is None:
        return SHORT
    return replace(LONG if payouts >= LONG_FROM else SHORT, payouts=payouts)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given = request.config.getoption("--fault-seed")
    seed: int = random.SystemRandom().randrange(10**6) if given is None else given
    print(f"seed {seed}")
    return seed


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(each, id=each.name) for each in SCENARIOS],
)
def test_nothing_twice_and_nothing_lost(
    scenario: Scenario, world: FaultWorld, size: Size, seed: int, record_property: Tell
) -> None:
    if scenario.only_long and not size.patient:
        pytest.skip("only in the long form; see `make faults`")
    suffer(scenario, scenario.name, world, size, seed, record_property)


def test_a_second_payout_would_be_seen(world: FaultWorld, seed: int) -> None:
    """Where a provider shows a payout later than it is trusted to, the harsh one pays again."""
    prefix = f"late-{seed}"
    file, expected = mixed(prefix, 5, random_of(seed, prefix), {})
    for row in file:
        row["metadata.simulate"] = f"create:drop-after hide={3 * BUDGETS['lookup_grace_s']:g}"
    world.heal()
    batch = world.submit(prefix, file, expected)
    assert world.until_ended(batch, SHORT.limit_s, patient=False) == ""
    findings = judge(world.evidence(batch))
    assert len(findings.doubles) == len(file), findings


def test_everything_at_once_for_long(
    request: pytest.FixtureRequest, world: FaultWorld, seed: int, record_property: Tell
) -> None:
    """`make soak`: batch after batch."""
    minutes = request.config.getoption("--fault-minutes")
    if not minutes:
        pytest.skip("only with --fault-minutes; see `make soak`")
    ends = time.monotonic() + minutes * 60
    payouts = request.config.getoption("--fault-payouts") or LONG.payouts
    # Where the providers are gone again and again, accounts would be paused most of the time.
    size = replace(LONG, payouts=payouts, outage_s=20, acts=1000, patient=False)
    number = 0
    while time.monotonic() < ends:
        number += 1
        suffer(EVERYTHING, f"soak{number}", world, size, seed, record_property, ends=ends)


def suffer(
    scenario: Scenario,
    name: str,
    world: FaultWorld,
    size: Size,
    seed: int,
    tell: Tell,
    *,
    ends: float = math.inf,
) -> None:
    """Pay a batch while the scenario happens, and judge what became of it.

    Args:
        ends: when the faults end at the latest, of the monotonic clock.
    """
    rng = random_of(seed, name)
    world.heal()
    started, before = time.monotonic(), Counter(world.done)
    prefix = f"{name}-{seed}"
    with scenario.beside(world, rng):
        batch = world.submit(prefix, *mixed(prefix, size.payouts, rng, scenario.words))
        if scenario.at_once:
            all_at_once(world, batch, scenario, size, rng, ends)
        else:
            one_by_one(world, batch, scenario, size, rng)
        world.heal()
        healed = time.monotonic()
        late = world.until_ended(batch, size.limit_s, patient=size.patient)
        ended = time.monotonic()
    done = Counter(world.done) - before
    evidence = world.evidence(batch)
    findings = judge(evidence)
    tell(
        "fault scenario",
        {
            "scenario": name,
            "seed": seed,
            "payouts": len(batch.file),
            "done": ", ".join(f"{count} {kind}" for kind, count in sorted(done.items())),
            "seconds": round(ended - started),
            # Of these, after the last fault.
            "after": round(ended - healed),
            "held": sum(line.state == "held" for line in evidence.lines),
            "doubles": len(findings.doubles),
            "lost": len(findings.lost),
            "wrong": len(findings.wrong),
        },
    )
    assert not findings, explain(world, findings) + late
    assert done, "nothing was done to it"


def one_by_one(
    world: FaultWorld, batch: Batch, scenario: Scenario, size: Size, rng: random.Random
) -> None:
    """One act after another while the batch is being paid, each after some more was paid."""
    acts = min(size.acts, scenario.acts_max) if scenario.acts else 0
    for number in range(acts):
        left = size.payouts * (1 - (number + rng.random()) / (acts + 1))

        def reached(left: float = left) -> bool:
            count = world.open_count(batch)
            return count is not None and count <= left

        wait_for(reached, 30)
        if number and world.open_count(batch) == 0:
            return
        do(scenario.acts[number % len(scenario.acts)], world, batch, size, rng)


def all_at_once(
    world: FaultWorld,
    batch: Batch,
    scenario: Scenario,
    size: Size,
    rng: random.Random,
    ends: float,
) -> None:
    """Acts by chance, several at a time, whatever they do to each other."""

    def keep_on(mine: random.Random) -> None:
        for _ in range(size.acts):
            if world.open_count(batch) == 0 or time.monotonic() > ends:
                return
            with contextlib.suppress(*GONE):
                do(mine.choice(scenario.acts), world, batch, size, mine)
                if not size.patient:
                    world.hasten_probes()
            time.sleep(mine.uniform(0, 1))

    seeds = [random.Random(rng.random()) for _ in range(scenario.at_once)]
    threads = [threading.Thread(target=keep_on, args=(each,)) for each in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def do(act: Act, world: FaultWorld, batch: Batch, size: Size, rng: random.Random) -> None:
    print(f"{time.strftime('%H:%M:%S')} {act.__name__}, {world.open_count(batch)} open")
    act(world, rng, size)


def explain(world: FaultWorld, findings: Findings) -> str:
    """The findings, and the journals of the first payouts they name."""
    told: Sequence[str] = str(findings).splitlines()
    named = dict.fromkeys(line.split(": ")[1] for line in told)
    journals = [f"{each}\n{world.history(each)}" for each in list(named)[:SHOWN_MAX]]
    return "\n".join([*told[:50], *journals, ""])
