"""What the benchmark says of a run that cannot be as it was asked for, and of what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks import dispatch, figures, files, throughput
from benchmarks.bench import scenario
from benchmarks.contenders import CONTENDERS, Cluster, Contender
from benchmarks.figures import Measured
from benchmarks.machine import redis_program
from benchmarks.world import Life, Scenario, Watch, World
from tests.conftest_servers import free_port

ASKED = scenario(slow=False, payouts=2, in_flight=8, window=100)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--profile DIR", "--profile goes with --only NAME"),
        ("--slow", "--slow goes with --only NAME"),
        ("--payouts 10", "--payouts goes with --only NAME"),
        ("--in-flight 8", "--in-flight goes with --only NAME"),
        ("--broker amqp://", "--broker goes with --only NAME"),
        ("--processes 1", "--processes goes with --only NAME"),
        ("--flat --window 5", "--window goes with --only NAME"),
        ("--stored 5", "--stored goes with --flat"),
        ("--only usual --share 0.5", "--share goes with the full run: leave --only out"),
        ("--flat --amqp amqp://", "--amqp goes with the full run: leave --flat out"),
        ("--flat --only usual", "two kinds of run"),
        ("--only usual --payouts 0", "a whole number, 1 or more"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(
    given: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        throughput.read_flags(given.split())
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_what_is_not_said_is_as_it_always_is() -> None:
    named = throughput.read_flags(["--only", "usual", "--slow"])
    assert (named.slow, named.payouts, named.processes) == (True, 6000, 2)
    every = throughput.read_flags([])
    assert (every.share, every.amqp, every.slow) == (1, None, False)


def test_contenders_are_named_after_their_processes() -> None:
    names = [CONTENDERS[name](3).name for name in ("paybatch", "dramatiq", "procrastinate")]
    assert names == ["Paybatch, 3 workers", "Dramatiq, 3 workers", "Procrastinate, 3 workers"]
    assert CONTENDERS["dramatiq"](1).name == "Dramatiq, 1 worker"


def test_a_table_tells_how_many_were_paid(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(None, None, cpu_s={"worker": 0.1}, calls=6, seconds=1)  # type: ignore[arg-type]
    one = Measured.of("who", ASKED, watch, [Life(0, 1, 2), Life(0, 1, 3)])
    cells = dict(zip(figures.COLUMNS, one.cells(), strict=True))
    assert (cells["payouts"], cells["calls"]) == ("2", "3.00")
    assert ": 2 payouts, " in one.line()


def test_a_share_is_a_share_of_every_line_with_webhooks_too() -> None:
    paid = {
        (each.is_slow, each.in_flight): each.payouts
        for slow in (False, True)
        for who, each in throughput.plan(slow, 0.5)
        if isinstance(who, Cluster)
    }
    assert paid[(False, 8)] == throughput.PAYOUTS / 2
    assert paid[(True, 128)] == 128 * throughput.PAYOUTS_IN_FLIGHT / 2


class Failing:
    """A contender that pays twice, and a bench that finds out."""

    name = "who"

    def pay(self, world: World, watch: Watch) -> Sequence[Life]:
        raise SystemExit("2 payouts are at the provider more than once")

    def measure(self, contender: Contender, asked: Scenario) -> Measured:
        contender.pay(None, None)  # type: ignore[arg-type]
        raise AssertionError


def test_a_contender_that_fails_is_noted_for_the_end() -> None:
    failing: Any = Failing()
    failures: list[str] = []
    assert throughput.attempt(failing, failing, ASKED, failures) is None
    assert failures == ["who, no delay, in flight 8: 2 payouts are at the provider more than once"]


def test_a_run_in_which_something_failed_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.code_of([]) == 0
    assert throughput.code_of(["who: paid twice"]) == 1
    assert capsys.readouterr().err == "These failed, and are in no table:\n  who: paid twice\n"


def test_a_server_that_is_not_installed_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no Redis on this machine.*Install the package"):
        redis_program()


def test_servers_that_do_not_answer_are_told_in_a_sentence_without_their_password() -> None:
    at = f"127.0.0.1:{free_port()}"
    with pytest.raises(SystemExit, match="no RabbitMQ answers there") as refused:
        dispatch.require(f"amqp://guest:s3cret@{at}//")
    assert "s3cret" not in str(refused.value)
    dispatch.require(None)
    url = f"postgresql+psycopg://root:s3cret@{at}/postgres"
    with pytest.raises(SystemExit, match=r"^--postgres: ") as refused, files.database(url):
        pass
    assert "s3cret" not in str(refused.value)
