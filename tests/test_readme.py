"""The README is true: its quick starts run word for word, and what it names exists."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from documents import ROOT, blocks, run_page

import ampho.cli

pytestmark = pytest.mark.usefixtures("unmeasured")

README = ROOT / "README.md"
TEXT = README.read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_block_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    assert run_page(README, tmp_path) >= 10


def test_both_quick_starts_begin_in_an_empty_folder() -> None:
    fresh = [block.heading for block in blocks(README) if block.note[0] == "project"]

    assert fresh == ["Quick start: Flask", "Quick start: Quart"]


def test_the_commands_at_the_top_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")

    for target in re.findall(r"^    make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_extras_that_it_installs_exist() -> None:
    named = {extra for extras in re.findall(r'"ampho\[(.+?)\]"', TEXT) for extra in extras.split(",")}

    assert named >= {"flask", "quart", "postgres"}
    assert named <= set(PYPROJECT["optional-dependencies"])


def test_the_table_of_commands_has_every_command() -> None:
    assert set(re.findall(r"^\| `ampho (db-\w+)", TEXT, re.MULTILINE)) == set(ampho.cli.cli.commands)


def test_the_versions_are_those_that_it_is_installed_with() -> None:
    requirements = [*PYPROJECT["dependencies"], *chain(*PYPROJECT["optional-dependencies"].values())]
    lowest = {re.split(r"[\[>]", line)[0]: line.partition(">=")[2] for line in requirements}

    for name in ("Flask", "Quart", "SQLAlchemy", "Alembic"):
        assert f"{name} {lowest[name.lower()]}" in TEXT.partition("## Supported versions")[2]
    assert PYPROJECT["requires-python"] == ">=3.11"


def test_the_changes_name_every_command_and_nothing_that_is_not_there_as_done() -> None:
    done, _, not_yet = (ROOT / "CHANGES.md").read_text("utf-8").partition("\nNot yet:\n")

    assert set(re.findall(r"`(db-\w+)", done)) == set(ampho.cli.cli.commands)
    assert set(re.findall(r"^- .*?`(db-\w+)`, for", not_yet, re.MULTILINE)) & set(ampho.cli.cli.commands) == set()


def test_the_pages_that_it_leads_to_are_all_there_are() -> None:
    more = TEXT.partition("\n## More\n")[2]

    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= set(re.findall(r"\]\((.+?)\)", more))
