"""What came by before is found, however long ago, and in little memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches import seen
from batches.seen import Seen

keys = st.lists(st.none() | st.text("abcd", min_size=1, max_size=3), max_size=25)


@given(st.lists(keys, max_size=20))
def test_it_finds_what_a_dictionary_finds(chunks: list[list[object]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "RECENT_MAX", 7)
        patch.setattr(seen, "BLOCK_MAX", 30)
        # Many keys share a mark: one that is set proves nothing.
        patch.setattr(seen, "_MARKS", 8)
        ours, known, line = Seen(), dict[object, int](), 0
        for chunk in chunks:
            lines = list(range(line + 1, line + 1 + len(chunk)))
            line += len(chunk)
            expected = [
                (at, known[key])
                for at, key in enumerate(chunk)
                if key is not None and known.setdefault(key, lines[at]) != lines[at]
            ]
            assert list(ours.repeats(chunk, lines)) == expected  # type: ignore[arg-type]


def test_hundreds_of_thousands_take_a_few_megabytes() -> None:
    ours, lines = Seen(), range(2_000)
    tracemalloc.start()
    try:
        for first in range(0, 400_000, 2_000):
            chunk = [f"SAL-{first + at}" for at in range(2_000)]
            assert list(ours.repeats(chunk, [first + at for at in lines])) == []
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 12 bytes each for the older ones, a dictionary of 50,000, and the marks.
    assert kept < 400_000 * 12 + 10_000_000 + seen._MARKS
