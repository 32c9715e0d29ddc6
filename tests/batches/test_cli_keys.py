"""`keys`: a fresh key, what is closed with which, and the change of it in clear words."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.batches.cli_world import World, usd_row
from tests.workers.record.test_vault import OTHER_KEY
from tests.worlds import KEY
from workers.record.vault import Vault

OLD, NEW = (Vault.from_text(text).key_id.hex() for text in (KEY, OTHER_KEY))
THIRD_KEY = "dGhlIHRoaXJkIGtleSBpcyAzMiBieXRlcyBsb25nISE="


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A folder with a stored batch of three."""
    made = World(tmp_path)
    made.write([usd_row(number) for number in (1, 2, 3)])
    return made


def submitted(world: World, **env: str) -> None:
    world.paybatch("submit", "p.csv", **env)


def test_a_fresh_key_is_printed_alone_with_a_hint_beside_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    ended = world.paybatch("keys", "new")
    assert len(base64.b64decode(ended.out.strip(), validate=True)) == 32
    assert "PAYBATCH_ENCRYPTION_KEY" in ended.err
    told = world.paybatch("keys", "new", "--json").json
    assert Vault.from_text(told["key"]).key_id.hex() == told["key_id"]
    assert told["key"] != ended.out.strip()
    assert list(world.folder.iterdir()) == []


def test_an_embedded_key_is_made_anew_by_itself(world: World) -> None:
    submitted(world)
    before = world.paybatch("keys", "status", "--json").json
    assert before["rows"] == [{"table": "payouts", "key_id": before["key_id"], "rows": 3}]
    told = world.paybatch("keys", "rotate").out
    after = world.paybatch("keys", "status", "--json").json
    assert after["key_id"] != before["key_id"]
    assert after["rows"] == [{"table": "payouts", "key_id": after["key_id"], "rows": 3}]
    retired = world.folder / f"paybatch.key.retired-{before['key_id']}"
    assert f"3 rows closed anew, with key {after['key_id']}." in told
    assert (
        f"The old key is not needed any more but for backups made before: it lies in {retired.name}"
        in told
    )
    assert retired.exists()
    log = (world.folder / "paybatch.log").read_text()
    assert f"from {before['key_id']} to {after['key_id']}" in log


@pytest.mark.parametrize("left", ["made", "begun", "closed", "ended", "linked"])
def test_an_embedded_change_that_was_cut_off_anywhere_is_carried_on(
    world: World, left: str
) -> None:
    submitted(world)
    old = world.paybatch("keys", "status", "--json").json["key_id"]
    key, new_file = world.folder / "paybatch.key", world.folder / "paybatch.key.new"
    if left in ("made", "begun"):
        new_file.write_text(OTHER_KEY)
        if left == "begun":
            world.execute(f"UPDATE installation SET next_key_id = '{NEW}'")
    else:
        # As after a whole change, but for the last steps of it.
        new_file.write_text(OTHER_KEY)
        world.paybatch("keys", "rotate")
        key.rename(new_file)
        retired = world.folder / f"paybatch.key.retired-{old}"
        key.write_bytes(retired.read_bytes())
        if left != "linked":
            retired.unlink()
        if left == "closed":
            world.execute(f"UPDATE installation SET key_id = '{old}', next_key_id = '{NEW}'")
    # Everything else works meanwhile.
    world.paybatch("check", "p.csv")
    world.paybatch("keys", "rotate")
    assert key.read_text().strip() == OTHER_KEY
    assert not new_file.exists()
    assert (world.folder / f"paybatch.key.retired-{old}").exists()
    facts = world.paybatch("keys", "status", "--json").json
    assert (facts["key_id"], facts["next_key_id"]) == (NEW, None)
    assert {row["key_id"] for row in facts["rows"]} == {NEW}


def test_a_key_of_the_settings_is_changed_to_the_one_that_people_bring(world: World) -> None:
    world.env["PAYBATCH_ENCRYPTION_KEY"] = KEY
    submitted(world)
    refused = world.paybatch("keys", "rotate", code=2)
    assert (
        f"there is no new key: encryption_key ({OLD}) is the one that the database has"
        in refused.err
    )
    alone = world.paybatch("keys", "rotate", code=1, PAYBATCH_ENCRYPTION_KEY=OTHER_KEY)
    assert "put the right key back, in encryption_keys_old" in alone.err
    world.env |= {"PAYBATCH_ENCRYPTION_KEY": OTHER_KEY, "PAYBATCH_ENCRYPTION_KEYS_OLD": KEY}
    assert f"Key {OLD} closes everything new." in world.paybatch("keys", "status").out
    told = world.paybatch("keys", "rotate").out
    assert "The old key is not needed any more: take it out of encryption_keys_old." in told
    assert "0 rows closed anew" in world.paybatch("keys", "rotate").out
    world.env["PAYBATCH_ENCRYPTION_KEYS_OLD"] = ""
    assert f"payouts  {NEW}  the key     3" in world.paybatch("keys", "status").out
    assert not list(world.folder.glob("paybatch.key*"))


def test_a_change_that_is_under_way_is_shown_and_no_other_is_begun(world: World) -> None:
    world.env |= {"PAYBATCH_ENCRYPTION_KEY": KEY}
    submitted(world)
    world.execute(f"UPDATE installation SET next_key_id = '{NEW}'")
    refused = world.paybatch("status", code=1)
    assert f"is being changed to {NEW}" in refused.err
    both = {"PAYBATCH_ENCRYPTION_KEY": OTHER_KEY, "PAYBATCH_ENCRYPTION_KEYS_OLD": KEY}
    told = world.paybatch("keys", "status", **both).out
    assert "the old key" in told
    assert "end it with: paybatch keys rotate" in told
    checks = world.paybatch("doctor", "--json", **both).json["checks"]
    [detail] = [one["detail"] for one in checks if one["check"] == "key"]
    assert f"a change to key {NEW} is under way" in detail
    three = {
        "PAYBATCH_ENCRYPTION_KEY": THIRD_KEY,
        "PAYBATCH_ENCRYPTION_KEYS_OLD": f"{KEY}, {OTHER_KEY}",
    }
    refused = world.paybatch("keys", "rotate", code=1, **three)
    assert f"a change to key {NEW} is under way" in refused.err


def test_what_is_broken_is_named_and_needs_a_person(world: World) -> None:
    world.paybatch("submit", "p.csv", "--approve")
    world.execute("UPDATE payouts SET amount_minor = 1 WHERE reference_id = 'T-0002'")
    world.execute("UPDATE payouts SET sealed_data = x'0102' WHERE reference_id = 'T-0003'")
    told = world.paybatch("keys", "rotate", code=5).out
    assert "2 rows closed anew" in told
    assert "Payouts that are not what was approved stay so: T-0002." in told
    assert "Payouts that no key here opens stay as they were: T-0003." in told
    facts = world.paybatch("keys", "rotate", "--json", code=5).json
    assert facts["damaged"] == ["T-0003"]


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("PAYBATCH_ENCRYPTION_KEYS_OLD", "short", "encryption_keys_old: expected base64"),
        ("PAYBATCH_ENCRYPTION_KEYS_OLD", KEY, "encryption_keys_old needs encryption_key"),
        ("PAYBATCH_ENCRYPTION_KEY", "short", "encryption_key: expected base64"),
    ],
)
def test_a_wrong_key_in_the_settings_is_told_and_not_shown(
    tmp_path: Path, setting: str, value: str, why: str
) -> None:
    env = {setting: value}
    if value == "short" and setting.endswith("OLD"):
        env["PAYBATCH_ENCRYPTION_KEY"] = KEY
    ended = World(tmp_path).paybatch("status", code=2, **env)
    assert why in ended.err
    assert value not in ended.err
