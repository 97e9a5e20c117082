"""Writes tables into docs/performance.md, so that no figure there is copied by hand."""

import re

from testing.paths import ROOT

PAGE = ROOT / "docs" / "performance.md"


def document(name: str, text: str) -> None:
    """Puts text between the page's marks `<!-- name -->` and `<!-- end of name -->`.

    Raises:
        ValueError: The page has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = PAGE.read_text()
    written, count = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{text}\n\n{end}", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE} has {count} places for {name!r}, and should have one")
    PAGE.write_text(written)
