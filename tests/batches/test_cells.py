"""What joined texts say of all of them is what each of them says of itself."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from batches.cells import SEPARATOR, all_within, is_printable, joined

TEXTS = st.lists(st.text(SEPARATOR + "ab\né日", max_size=9), min_size=1, max_size=30)


def test_every_character_is_as_printable_as_python_says() -> None:
    for code in range(sys.maxunicode + 1):
        if not 0xD800 <= code < 0xE000:
            assert is_printable(f"a{chr(code)}") == f"a{chr(code)}".isprintable()
    assert is_printable("")


@given(st.lists(st.text(st.characters(max_codepoint=0x2100)), min_size=1, max_size=20))
def test_texts_are_printable_together_where_each_is(texts: list[str]) -> None:
    assert is_printable(joined(texts)) == all(map(str.isprintable, texts))
    assert joined(texts).isascii() == all(map(str.isascii, texts))


@given(TEXTS, st.integers(1, 10))
def test_a_text_that_is_too_long_is_never_overlooked(texts: list[str], most: int) -> None:
    assert all_within(most, texts, joined(texts)) == all(len(text) <= most for text in texts)
    # And where no text has the separator.
    texts = [text.replace(SEPARATOR, "-") for text in texts]
    assert all_within(most, texts, joined(texts)) == all(len(text) <= most for text in texts)
