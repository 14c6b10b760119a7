"""Check the documents: every relative link leads somewhere, and every Python block compiles."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]*))?\)")
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def documents() -> list[Path]:
    """List every page that a reader may start from."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Name the anchors that the forge gives to the headings of a page."""
    headings = HEADING.findall(page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def defects(page: Path) -> Iterator[str]:
    """Find everything that is wrong with a page."""
    text = page.read_text("utf-8")
    for path, anchor in LINK.findall(text):
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"link to {path}, which does not exist"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"link to {path}#{anchor}, which has no such heading"
    for _, block in BLOCK.findall(text):
        try:
            compile(
                dedent(block), str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            )  # await at the top level is fine in an example
        except SyntaxError as error:
            yield f"Python block that does not compile: {error.msg}: {error.text}"


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    found = [f"{page.relative_to(ROOT)}: {defect}" for page in documents() for defect in defects(page)]
    for line in found:
        print(line)
    print(f"{len(documents())} documents, {len(found)} defects")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
