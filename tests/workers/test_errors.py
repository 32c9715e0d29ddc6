"""The tree of errors in the docstring is the tree of classes, with the exit codes of the design."""

from __future__ import annotations

import inspect
import re

import pytest

from workers import errors
from workers.errors import BatchExists, PaybatchError, SettingsError

# Design, 5.1: 1 ours, 2 usage or settings, 3 file refused, 6 stopped by an account.
EXIT_CODES = {
    "PaybatchError": 1,
    "MakerError": 2,
    "UsageError": 2,
    "MoneyError": 2,
    "FileUnreadable": 3,
    "FileRefused": 3,
    "BatchExists": 3,
    "NothingLeft": 3,
    "CheckerError": 3,
    "ApprovalRefused": 3,
    "BatchBusy": 3,
    "OperatorError": 1,
    "SettingsError": 2,
    "AccountFault": 6,
    "ProviderUnreachable": 6,
    "BrokerUnreachable": 1,
    "InboxUnreachable": 1,
    "NotAllowed": 2,
    "SimulatorError": 1,
    "VaultError": 1,
    "DeveloperError": 1,
    "IllegalMove": 1,
    "StaleState": 1,
}
CLASSES = {
    name: found
    for name, found in inspect.getmembers(errors, inspect.isclass)
    if found.__module__ == errors.__name__
}


def _drawn() -> list[tuple[int, str, str]]:
    """Depth, name and words of each line of the tree in the docstring."""
    lines = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([│├└─ ]*)([A-Z]\w+(?:Error|[a-z]))(?:\s{2,}(.*))?$", line)
        if (match and match[2] in CLASSES) or (match and match[1]):
            lines.append((len(match[1]) // 4, match[2], match[3] or ""))
    return lines


def test_the_tree_lists_every_class_once_in_the_order_of_the_file() -> None:
    in_file = sorted(CLASSES, key=lambda name: inspect.getsourcelines(CLASSES[name])[1])
    assert [name for _, name, _ in _drawn()] == in_file


def test_the_tree_is_indented_as_the_classes_inherit() -> None:
    above: list[str] = []
    for depth, name, _ in _drawn():
        parents = [base.__name__ for base in CLASSES[name].__bases__]
        assert parents == ([above[depth - 1]] if depth else ["Exception"])
        above[depth:] = [name]


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_an_error_ends_the_command_with_the_designs_exit_code(name: str, code: int) -> None:
    assert CLASSES[name].exit_code == code


def test_every_error_has_a_decided_exit_code_and_none_is_success() -> None:
    assert set(EXIT_CODES) == set(CLASSES)
    assert all(found.exit_code > 0 for found in CLASSES.values())


def test_the_tree_names_the_exit_code_of_each_error_it_gives_one_for() -> None:
    named = {name: int(words[-2]) for _, name, words in _drawn() if re.search(r"\(\d\)$", words)}
    assert named == {name: EXIT_CODES[name] for name in named}
    assert len(named) >= 10


def test_an_error_without_words_says_what_its_class_means() -> None:
    for found in CLASSES.values():
        if found not in (BatchExists, SettingsError):
            assert str(found()) == found.__doc__
    assert str(PaybatchError("found 3")) == "found 3"


def test_settings_errors_are_told_all_at_once() -> None:
    error = SettingsError(["a: is missing", "b: is wrong"])
    assert error.problems == ("a: is missing", "b: is wrong")
    assert str(error) == "a: is missing\nb: is wrong"


def test_a_known_batch_is_named() -> None:
    assert BatchExists("stored already", batch_id="B7").batch_id == "B7"
