"""Put the tables that are made from the code into the pages that show them: `make docs`."""

from __future__ import annotations

import re
from pathlib import Path

from batches import declarations

PAGE = Path(__file__).parent / "providers.md"
OURS = ("ecart", "echelon", "ecomcharge", "etpay", "payelata")
BLOCK = re.compile(
    r"(<!-- from: paybatch providers --markdown -->\n).*(<!-- end -->)", flags=re.DOTALL
)


def written() -> str:
    """The page as it ought to be."""
    tables = declarations.as_markdown(OURS)
    page = PAGE.read_text(encoding="utf-8")
    return BLOCK.sub(lambda found: found[1] + tables + found[2], page)


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
