"""`doctor` says what is wrong with an installation, and how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.batches.cli_world import World, provided, until, usd_row
from tests.batches.example_world import SETTINGS, Examples
from tests.workers.cluster_world import clustered


def problems(checks: list[dict[str, Any]]) -> list[str]:
    return [one["check"] for one in checks if not one["ok"]]


def test_a_sound_installation_has_no_problems(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        shown = world.paybatch("doctor")
        assert "PROBLEM" not in shown.out
        facts = world.paybatch("doctor", "--json").json
        assert facts["ok"]
        names = [one["check"] for one in facts["checks"]]
        assert names == ["settings", "broker", "database", "key", "account main"]


def test_without_any_settings_the_sandbox_is_sound(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.env.clear()
    assert "account sandbox" in world.paybatch("doctor").out


def test_a_provider_that_is_not_there_is_found(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        path = world.folder / "paybatch.toml"
    # The simulator has ended; its address answers no more.
    facts = world.paybatch("doctor", "--json", code=6).json
    assert path.exists()
    assert not facts["ok"]
    assert problems(facts["checks"]) == ["account main"]
    # Its name is there already.
    assert facts["checks"][-1]["detail"].startswith("Payelata was asked for ")


def test_an_account_that_cannot_be_asked_anything_is_not_said_to_answer(tmp_path: Path) -> None:
    world = Examples(tmp_path)
    checks = world.paybatch("doctor", "--json", code=6).json["checks"]
    told = {one["check"]: (one["ok"], one["detail"]) for one in checks}
    assert told["account echelon"] == (
        True,
        "nothing was asked: echelon has no call for its balance",
    )
    assert not told["account ecart"][0]
    settings = SETTINGS.read_text().replace("gateway_id = 85", "")
    (world.folder / "paybatch.toml").write_text(settings)
    given = {"PAYBATCH_CONFIG": "paybatch.toml"}
    checks = world.paybatch("doctor", "--json", code=6, **given).json["checks"]
    told = {one["check"]: (one["ok"], one["detail"]) for one in checks}
    assert told["account ecomcharge"] == (
        True,
        "nothing was asked: ecomcharge has no call for its balance with these settings",
    )


def test_a_refused_key_is_found(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        ended = world.paybatch("doctor", code=6, PAYBATCH_ACCOUNTS__MAIN__API_KEY="wrong-9731")
        assert "PROBLEM  account main" in ended.out
        assert "wrong-9731" not in ended.out + ended.err


def test_bad_settings_are_all_told_with_the_names_to_set(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.env.clear()
    (world.folder / "paybatch.toml").write_text(
        'approvals = 3\n[accounts.main]\nprovider = "payelata"\nclaim_s = 1\n'
    )
    facts = world.paybatch("doctor", "--json", code=2).json
    details = " ".join(one["detail"] for one in facts["checks"])
    assert "approvals" in details
    assert "claim_s" in details
    (world.folder / "paybatch.toml").write_text('[accounts.main]\nprovider = "payelata"\n')
    told = world.paybatch("doctor", code=2).out
    for name in ("API_KEY", "ACCOUNT_ID", "BASE_URL"):
        assert f"PAYBATCH_ACCOUNTS__MAIN__{name}" in told


def test_a_lost_or_wrong_key_file_is_found_and_stored_data_stays(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        world.paybatch("submit", "p.csv")
        key = world.folder / "paybatch.key"
        right = key.read_text()
        other = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"
        for wrong in ("", "not base64", other, None):
            key.unlink(missing_ok=True)
            if wrong is not None:
                key.write_text(wrong)
            facts = world.paybatch("doctor", "--json", code=1).json
            assert problems(facts["checks"]) == ["database and key"]
            assert "key" in facts["checks"][-1]["detail"]
            assert other.strip() not in str(facts)
        key.write_text(right)
        world.paybatch("doctor")
        world.paybatch("run", "p.csv", "--yes")


def test_a_broker_that_is_not_there_is_found(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        facts = world.paybatch(
            "doctor", "--json", code=1, PAYBATCH_BROKER_URL="redis://127.0.0.1:9/0"
        ).json
        # Without a broker there is no sweep either.
        assert problems(facts["checks"]) == ["broker", "sweep"]
        assert "127.0.0.1" in facts["checks"][1]["detail"]


def test_a_paused_account_is_told_with_its_reason(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        provider.fault("create:403*0")
        world.paybatch("run", "p.csv", "--yes", code=6)
        facts = world.paybatch("doctor", "--json", code=6).json
        assert problems(facts["checks"]) == ["account main"]
        assert "paused (fault)" in facts["checks"][-1]["detail"]


def test_a_cluster_that_nobody_works_in_is_told_apart_from_one_at_work(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        world.write([usd_row(1)])
        batch = cluster.submit("p.csv", "--approve")
        facts = world.paybatch("doctor", "--json", code=1).json
        assert problems(facts["checks"]) == ["sweep"]
        told = {one["check"]: one["detail"] for one in facts["checks"]}
        assert "celery -A workers.app beat" in told["sweep"]
        assert told["work"].startswith("a payout has been due for ")
        with world.start("watch", batch) as watch:
            # Whoever watches is told too, in time.
            until(lambda: "are a worker and a beat running?" in said(world))
            cluster.start_worker()
            cluster.start_beat()
            assert watch.wait().code == 0
        until(lambda: world.one("SELECT swept_at FROM installation"))
        facts = world.paybatch("doctor", "--json").json
        told = {one["check"]: one["detail"] for one in facts["checks"]}
        assert told["clock"] == "agrees with the database's"
        assert told["work"] == "nothing waits for a worker"


def said(world: World) -> str:
    """What the latest command has said on standard error so far."""
    return max(world.screens.glob("*.err")).read_text()
