"""JSON text of flat objects, the same for the same content, and made several times as fast as
`json.dumps` makes it.

What is hashed and sealed is made here, so its bytes must never change: the tests compare them with
those of `json.dumps`. What is not flat text is given to `json.dumps` itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii
from operator import itemgetter
from typing import Any

# The objects of a file share their keys, so a few shapes serve all of its rows.
_SHAPES_MAX = 1_000

quoted: Callable[[str], str] = encode_basestring
quoted_ascii: Callable[[str], str] = encode_basestring_ascii


def sorted_object(value: Mapping[str, Any]) -> str:
    """As `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`."""
    if not value:
        return "{}"
    try:
        template, values_of = _sorted_shape(tuple(value))
        return template % tuple(map(quoted, values_of(value)))
    except TypeError:
        # A value, or a name, that is no text.
        return json.dumps(dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sorted_ascii_object(value: Mapping[str, Any]) -> str:
    """As `json.dumps(value, sort_keys=True, separators=(",", ":"))`."""
    if not value:
        return "{}"
    try:
        template, values_of = _sorted_shape(tuple(value), ascii_only=True)
        return template % tuple(map(quoted_ascii, values_of(value)))
    except TypeError:
        return json.dumps(dict(value), sort_keys=True, separators=(",", ":"))


def plain_object(value: Mapping[str, Any]) -> str:
    """As `json.dumps(value, separators=(",", ":"), ensure_ascii=False)`: in its own order."""
    if not value:
        return "{}"
    try:
        return _template(tuple(value)) % tuple(map(quoted, value.values()))
    except TypeError:
        return json.dumps(dict(value), separators=(",", ":"), ensure_ascii=False)


@lru_cache(_SHAPES_MAX)
def _sorted_shape(
    names: tuple[str, ...], *, ascii_only: bool = False
) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    ordered = tuple(sorted(names))
    template = _template(ordered, ascii_only=ascii_only)
    if len(ordered) == 1:
        [only] = ordered
        return template, lambda value: (value[only],)
    return template, itemgetter(*ordered)


@lru_cache(_SHAPES_MAX)
def _template(names: tuple[str, ...], *, ascii_only: bool = False) -> str:
    quote = quoted_ascii if ascii_only else quoted
    pairs = (quote(name).replace("%", "%%") + ":%s" for name in names)
    return "{" + ",".join(pairs) + "}"
