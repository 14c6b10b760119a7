"""The documents are true: what they show happens, and what there is to say is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import ROOT, run_page

PAGES = ("async", "commands", "configuration")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs_and_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    assert run_page(ROOT / "docs" / f"{page}.md", tmp_path) > 0
