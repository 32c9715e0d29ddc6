"""`[[schedules]]`: every wrong value is told at once, by its place in the settings."""

from __future__ import annotations

import json
from datetime import date, time
from pathlib import Path
from typing import Any

import pytest

from workers.errors import SettingsError
from workers.schedules import Schedule, shown
from workers.settings import Settings

GOOD = {"name": "nightly", "time": "02:30", "time_zone": "Europe/Berlin", "inbox": "inbox"}


def toml(*schedules: dict[str, Any], top: str = "") -> str:
    lines = [top]
    for each in schedules:
        lines.append("[[schedules]]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in each.items()]
    return "\n".join(lines)


def loaded(folder: Path, text: str, **environ: str) -> Settings:
    (folder / "paybatch.toml").write_text(text)
    return Settings.load(environ=environ, folder=folder)


def problems(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        loaded(folder, text, **environ)
    return list(refused.value.problems)


def test_a_schedule_needs_a_name_a_time_a_zone_and_an_inbox(tmp_path: Path) -> None:
    told = problems(tmp_path, "[[schedules]]\n")
    assert [each.partition(":")[0] for each in told] == [
        "schedules.0.name",
        "schedules.0.time",
        "schedules.0.time_zone",
        "schedules.0.inbox",
    ]


def test_with_these_alone_a_person_approves_and_what_is_missed_is_reported(tmp_path: Path) -> None:
    [one] = loaded(tmp_path, toml(GOOD)).schedules
    assert (one.time, one.approval, one.missed) == (time(2, 30), "person", "report")
    assert sorted(one.business_days) == [0, 1, 2, 3, 4]
    assert (one.cut_off, one.account, one.mapping) == (None, None, None)


def test_the_times_and_dates_of_toml_are_taken_too(tmp_path: Path) -> None:
    text = toml({**GOOD, "inbox": "x"}).replace('"02:30"', "02:30:00")
    [one] = loaded(tmp_path, f"{text}\nholidays = [2026-12-24, 2026-12-31]\n").schedules
    assert one.time == time(2, 30)
    assert one.holidays == {date(2026, 12, 24), date(2026, 12, 31)}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "a b"}, "schedules.0.name: String should match pattern"),
    ({"time": "24:00"}, "schedules.0.time: expected a time of day such as 02:30, from 00:00"),
    ({"time": "2:30"}, "schedules.0.time: expected a time of day such as 02:30"),
    ({"time": 230}, "schedules.0.time: expected a time of day such as 02:30"),
    ({"time_zone": "Europe/Atlantis"}, "schedules.0.time_zone: no time zone 'Europe/Atlantis'"),
    ({"time_zone": "../../etc/passwd"}, "schedules.0.time_zone: no time zone"),
    ({"business_days": []}, "schedules.0.business_days: expected some of mon, tue"),
    ({"business_days": ["mon", "xyz"]}, "schedules.0.business_days: no weekday 'xyz'"),
    ({"calendar": "ZZ"}, "schedules.0.calendar: no calendar 'ZZ'; expected a country such as DE"),
    ({"calendar": "DE-ZZ"}, "schedules.0.calendar: no calendar 'DE-ZZ'"),
    ({"holidays": ["2026-13-01"]}, "schedules.0.holidays: '2026-13-01' is no date"),
    ({"holidays": "none.txt"}, "schedules.0.holidays: the file none.txt cannot be read: No such"),
    ({"approval": "yes"}, "schedules.0.approval: Input should be 'automatic' or 'person'"),
    ({"cut_off": "02:30"}, "schedules.0: cut_off (02:30) must be later than time (02:30)"),
    ({"after_cut_off": "person"}, "schedules.0: after_cut_off = 'person' needs a cut_off"),
    ({"missed": "never"}, "schedules.0.missed: Input should be 'catch_up' or 'report'"),
    ({"quiet_s": -1}, "schedules.0.quiet_s: Input should be greater than or equal to 0"),
    ({"inbox": ""}, "schedules.0.inbox: String should have at least 1 character"),
    ({"inbxo": "x"}, "schedules.0.inbxo: is not a setting; check its spelling"),
    ({"account": "eu"}, "schedules.0.account: 'eu' is none of [accounts]: sandbox"),
    ({"mapping": "hr"}, "schedules.0.mapping: 'hr' is none of [mappings]: there are none"),
]


@pytest.mark.parametrize(("changes", "sentence"), WRONG, ids=str)
def test_a_wrong_value_is_told_with_its_place_and_what_was_expected(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    told = problems(tmp_path, toml({**GOOD, **changes}))
    assert len(told) == 1
    assert told[0].startswith(sentence)


def test_all_wrong_values_are_told_at_once_beside_those_of_other_settings(tmp_path: Path) -> None:
    first = {**GOOD, "time": "9", "account": "eu"}
    told = problems(tmp_path, toml(first, {**GOOD, "calendar": "ZZ"}, top="approvals = 3"))
    assert sorted(each.partition(":")[0] for each in told) == [
        "approvals",
        "schedules.0.account",
        "schedules.0.time",
        "schedules.1.calendar",
        "schedules.1.inbox",
        "schedules.1.name",
    ]


@pytest.mark.parametrize(
    "spelled",
    ["./inbox", "inbox/", "x/../inbox", "{folder}/inbox", "file://{folder}/inbox", "{folder}/link"],
)
@pytest.mark.parametrize("there", [True, False])
def test_one_folder_is_the_inbox_of_one_schedule_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str, there: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("inbox")
    if there:
        (tmp_path / "inbox").mkdir()
    other = spelled.format(folder=tmp_path)
    [told] = problems(tmp_path, toml(GOOD, {**GOOD, "name": "weekly", "inbox": other}))
    assert told == (
        f"schedules.1.inbox: {other!r} is the inbox of schedule 'nightly' already, which calls it"
        " 'inbox'; a file can only be in one schedule's"
    )


def test_one_address_is_the_inbox_of_one_schedule_and_no_password_is_told(tmp_path: Path) -> None:
    first = {**GOOD, "inbox": "sftp://us:hunter2@host/in"}
    for other in ("sftp://us@HOST/in/", "sftp://us:hunter3@host//x/../in"):
        [told] = problems(tmp_path, toml(first, {**GOOD, "name": "weekly", "inbox": other}))
        assert "is the inbox of schedule 'nightly' already, which calls it 'sftp://host/in'" in told
        assert "hunter" not in told


@pytest.mark.parametrize(
    "inbox", ["inbox2", "INBOX", "x/inbox", "sftp://us@host/in", "sftp://them@host/in", "a\0b"]
)
def test_inboxes_that_may_be_two_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inbox: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()
    others = [{**GOOD, "name": "remote", "inbox": "sftp://host/in"}]
    others.append({**GOOD, "name": "weekly", "inbox": inbox})
    assert len(loaded(tmp_path, toml(GOOD, *others)).schedules) == 3


def test_nobody_approves_automatically_where_two_people_are_needed(tmp_path: Path) -> None:
    automatic = {**GOOD, "approval": "automatic"}
    assert loaded(tmp_path, toml(automatic)).schedules[0].approval == "automatic"
    [told] = problems(tmp_path, toml(automatic, top="approvals = 2"))
    assert told.startswith("schedules.0.approval: 'automatic' is only allowed with approvals = 1")
    assert problems(tmp_path, toml(automatic), PAYBATCH_APPROVALS="2") == [told]


def test_holidays_may_come_from_a_file_whose_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "holidays.txt"
    path.write_text("# our own\n2026-12-24\n\n2026-12-31  # half a day\n")
    [one] = loaded(tmp_path, toml({**GOOD, "holidays": str(path)})).schedules
    assert one.holidays == {date(2026, 12, 24), date(2026, 12, 31)}
    path.write_text("2026-12-24\n24.12.2026\n")
    [told] = problems(tmp_path, toml({**GOOD, "holidays": str(path)}))
    assert f"{path}, line 2: '24.12.2026' is no date" in told


def test_a_schedule_may_come_from_the_environment(tmp_path: Path) -> None:
    chosen = loaded(tmp_path, "", PAYBATCH_SCHEDULES=json.dumps([GOOD]))
    assert chosen.schedules[0].name == "nightly"
    each = {f"PAYBATCH_SCHEDULES__0__{name.upper()}": value for name, value in GOOD.items()}
    each["PAYBATCH_SCHEDULES__0__BUSINESS_DAYS"] = "mon, thu"
    each["PAYBATCH_SCHEDULES__0__HOLIDAYS"] = "2026-12-24, 2026-12-31"
    [one] = loaded(tmp_path, "", **each).schedules
    assert (one.name, sorted(one.business_days), len(one.holidays)) == ("nightly", [0, 3], 2)


def test_the_environment_changes_one_value_of_one_schedule_of_the_file(tmp_path: Path) -> None:
    two = toml(GOOD, {**GOOD, "name": "weekly", "inbox": "other"})
    chosen = loaded(tmp_path, two, PAYBATCH_SCHEDULES__1__TIME="04:00")
    assert [one.time for one in chosen.schedules] == [time(2, 30), time(4)]


def test_reports_lie_beside_the_inbox_unless_they_are_told_where() -> None:
    def folder(inbox: str, **more: Any) -> str:
        return Schedule.model_validate({**GOOD, "inbox": inbox, **more}).reports_folder

    assert folder("/srv/payroll/inbox") == "/srv/payroll/reports"
    assert folder("sftp://bank/payroll/inbox/") == "sftp://bank/payroll/reports"
    assert folder("x", reports="/srv/reports") == "/srv/reports"


def test_an_address_is_shown_without_its_secrets() -> None:
    assert shown("sftp://user:geheim@bank:22/in?key=geheim") == "sftp://bank:22/in"
    assert shown("/srv/inbox") == "/srv/inbox"
