"""What every command shows of the shop on a terminal of 80 columns, with and without colours, and in a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from documents import normalised, script
from rich.cells import cell_len
from transcripts import COLOUR, NARROW, PIPE, PLAIN, SCENES, Look, Scene, Shown, States, everything, half, nothing, shop

from ampho.cli.commands import cli
from ampho.cli.lines import wrap

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

CONTROL = re.compile(r"\x1b(\[[\d;?]*[A-Za-z]|[7D])")
STYLES = {"", "0", "1", "2"}  # bold and dim are no colours
DATA = re.compile(r"--(format|sql)")


def word(scene: Scene) -> str:
    return scene.command.split()[0]


def chosen() -> Iterator[Scene]:
    """The first scene of each command, and those in which something is wrong; help is in ``test_help.py``."""
    seen: set[str] = set()
    for scene in SCENES:
        if "--help" not in scene.command:
            if word(scene) not in seen or scene.state not in (nothing, half, everything):
                yield scene
            seen.add(word(scene))


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> States:
    return States(shop, tmp_path_factory.mktemp("transcripts"))


def show(states: States, scene: Scene, look: Look) -> Shown:
    with states.of(scene) as site:
        return site.run(scene.command, look, scene.answer, check=False)


def words(shown: Shown) -> str:
    """What is left on the terminal, without what differs from run to run, such as where it breaks a line."""
    text = COLOUR.sub("", shown.written)
    if "\x1b" in text:  # something was drawn and taken away again
        text = "\n".join(line.plain for line in script("screenshot").shown(shown.written, NARROW.columns, 200))
    return normalised(" ".join(text.split())).replace(" ", "")


def lines(shown: Shown) -> Iterator[str]:
    """All lines that were ever there, of which the terminal breaks those that are too long."""
    for line in re.split(r"[\r\n]+|\x1b8", CONTROL.sub("", shown.written)):
        yield line.strip()


def test_every_command_is_shown_and_so_is_its_help() -> None:
    commands = {scene.command for scene in SCENES}

    for name in cli.commands:
        assert f"{name} --help" in commands, f"show {name}: tests/transcripts.py"
        assert any(word(scene) == name and "--help" not in scene.command for scene in SCENES), f"show {name}, too"


@pytest.mark.parametrize("scene", list(chosen()), ids=lambda scene: scene.title)
def test_what_a_command_shows_can_be_read_everywhere(scene: Scene, states: States) -> None:
    """No line is too long for the terminal, but for data and single words; colours say nothing that words do not."""
    coloured, plain, piped = (show(states, scene, look) for look in (NARROW, PLAIN, PIPE))

    assert "\x1b" not in piped.written
    assert {style for code in COLOUR.findall(plain.written) for style in code[2:-1].split(";")} <= STYLES
    assert words(coloured) == words(plain)
    assert coloured.exit_code == plain.exit_code
    assert piped.exit_code == plain.exit_code or scene.answer  # nobody can be asked there
    if not DATA.search(scene.command):
        for line in lines(plain):
            assert cell_len(line) <= NARROW.columns or " " not in line, line


@pytest.mark.parametrize(
    ("text", "hang", "expected"),
    [
        ("short enough for it all", None, "short enough for it all"),
        ("  one two three four five six seven", None, "  one two three four five\n    six seven"),
        ("+ id  one two three four five six", 6, "+ id  one two three four\n      five six"),
        ("one two three four five six seven", 9, "one two three four five\n  six seven"),
        ("Type 'ampho db-rebase catalog'.", None, "Type\n  'ampho db-rebase catalog'."),
        ("See package/migrations/versions/one.py for it", None, "See\n  package/migrations/versions/one.py\n  for it"),
        ("数据库 数据库 数据库 数据库", None, "数据库 数据库 数据库\n  数据库"),
    ],
)
def test_a_terminal_gets_lines_that_are_broken_between_words(text: str, hang: int | None, expected: str) -> None:
    """What is quoted stays whole, so that it can be copied, and so does a word that is longer than a line."""
    assert wrap(text, 26, hang) == expected
