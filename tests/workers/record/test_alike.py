"""What is made for a chunk of rows is what would be made for each of them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from workers.record.alike import Template, in_order

PLAIN = st.text(st.characters(codec="utf-8", exclude_characters='"\\\\', min_codepoint=32))
NAMES = st.lists(PLAIN, max_size=3, unique=True)


@given(st.lists(st.tuples(PLAIN, PLAIN, PLAIN), min_size=1, max_size=4), NAMES, st.booleans())
def test_an_object_is_that_of_each_row(
    rows: list[tuple[str, str, str]], names: list[str], same: bool
) -> None:
    columns = {
        name: rows[0][at] if same else [row[at] for row in rows] for at, name in enumerate(names)
    }
    made = Template()
    made.add_object("100%s ", in_order(columns))
    made.add("%", [str(at) for at in range(len(rows))])
    for at, text in enumerate(made.texts(len(rows))):
        one = {name: rows[0 if same else at][n] for n, name in enumerate(names)}
        told = json.dumps(one, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert text == f"100%s {told}%{at}"
    assert made.bytes(len(rows)) == [text.encode() for text in made.texts(len(rows))]


def test_a_text_without_any_column_is_that_of_every_row() -> None:
    made = Template()
    made.add("50%", " of it")
    assert made.texts(2) == ["50% of it"] * 2
