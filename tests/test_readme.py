"""The README is true: its example runs word for word, its picture is of a real run, and what it names exists."""

from __future__ import annotations

import html
import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from documents import ROOT, blocks, normalised, run_page, script

from ampho.cli.commands import cli

pytestmark = pytest.mark.usefixtures("unmeasured")

README = ROOT / "README.md"
TEXT = README.read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_block_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    assert run_page(README, tmp_path) == 3


def test_its_example_begins_in_an_empty_folder() -> None:
    assert [block.note for block in blocks(README) if block.note[0] == "project"] == [("project", "an empty folder")]


def test_its_picture_shows_what_a_run_shows() -> None:
    drawn = (ROOT / "docs/screenshot.svg").read_text("utf-8")
    screenshot = script("screenshot")

    shown = screenshot.screen(screenshot.COMMAND).plain

    assert normalised(text_of(drawn)) == normalised(shown), "run: python docs/screenshot.py"
    assert not re.search(r"(href|url)\W+https?:", drawn), "it loads something from elsewhere"


def text_of(picture: str) -> str:
    """Return the lines of text in a picture that Rich drew."""
    lines: dict[float, str] = {}
    for place, words in re.findall(r'<text class="ampho-r\d+" x=".+?" y="(.+?)".*?>(.*?)</text>', picture, re.DOTALL):
        lines[float(place)] = lines.get(float(place), "") + html.unescape(words).strip("\n").replace("\xa0", " ")
    return "\n".join(lines[place] for place in sorted(lines))


def test_it_is_short() -> None:
    reasons = TEXT.partition("\n## Install\n")[0]

    assert len(reasons.splitlines()) <= 40, "one screen of reasons"


def test_the_commands_at_the_top_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")

    for target in re.findall(r"^    make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_extras_that_it_installs_exist() -> None:
    named = {extra for extras in re.findall(r'"\./ampho\[(.+?)\]"', TEXT) for extra in extras.split(",")}

    assert named >= {"flask", "quart", "postgres"}
    assert named <= set(PYPROJECT["optional-dependencies"])


def test_the_versions_are_those_that_it_is_installed_with() -> None:
    requirements = [*PYPROJECT["dependencies"], *chain(*PYPROJECT["optional-dependencies"].values())]
    lowest = {re.split(r"[\[>]", line)[0]: line.partition(">=")[2] for line in requirements}

    for name in ("Flask", "Quart", "SQLAlchemy", "Alembic"):
        assert f"{name} {lowest[name.lower()]}" in TEXT.partition("## Supported versions")[2]
    assert PYPROJECT["requires-python"] == ">=3.11"


def test_the_changes_name_every_command_and_nothing_that_is_not_there_as_done() -> None:
    done, _, not_yet = (ROOT / "CHANGES.md").read_text("utf-8").partition("\nNot yet:\n")

    named = {*re.findall(r"`(db-\w+)", done), *re.findall(r"`ampho (explain)", done)}
    assert named == set(cli.commands)
    assert set(re.findall(r"^- .*?`(db-\w+)`, for", not_yet, re.MULTILINE)) & set(cli.commands) == set()


def test_the_pages_that_it_leads_to_are_all_there_are() -> None:
    led_to = set(re.findall(r"\]\((docs/.+?\.md)\)", TEXT))

    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - led_to == {
        "docs/index.md",
        "docs/changes.md",
    }
