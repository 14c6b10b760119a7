"""Make a screenshot in SVG of a real run on a real terminal: ``python docs/screenshot.py``.

It is what ``ampho db-up`` shows of the shop in ``examples/shop``. Another command, and another file:
``python docs/screenshot.py --output status.svg db-current -v``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

HERE = Path(__file__).resolve().parent
SHOP = HERE.parent / "examples" / "shop"
AMPHO = Path(sys.executable).parent / "ampho"
COMMAND = ("db-up",)
WIDTH, HEIGHT = 80, 50
FOREIGN = re.compile(r"(AMPHO|FLASK|QUART|SQLALCHEMY|NO_COLOR)")
# Rich's template loads its font from a server on the web, which a picture in a page may not do.
FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def screen(command: Sequence[str], before: Sequence[Sequence[str]] = (), width: int = WIDTH) -> Text:
    """Run a command in a copy of the shop, and return what the terminal shows at its end.

    :param before: commands that are run first, and not shown.
    """
    with tempfile.TemporaryDirectory() as temporary:
        shop = Path(temporary) / "shop"
        shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns("instance", "__pycache__"))
        for other in before:
            _run(shop, other, width)
        written = _run(shop, command, width)
    prompt = Text.assemble(("$ ", "bright_black"), f"ampho {' '.join(command)}")
    return Text("\n").join([prompt, *shown(written, width, HEIGHT)])


def shown(written: str, width: int, height: int, most: int | None = None) -> list[Text]:
    """Return the lines that a terminal shows of what was written to it, without blank ones at its end.

    :param most: how many; of more the first and the last, and between them how many are left out.
    """
    terminal = pyte.Screen(width, height)
    pyte.Stream(terminal).feed(written)
    numbers: Sequence[int] = range(max((row + 1 for row in terminal.buffer if _has_text(terminal, row)), default=0))
    if most is None or len(numbers) <= most:
        return [_line(terminal, number, width) for number in numbers]
    half = most // 2
    left_out = Text(f"[{len(numbers) - 2 * half} lines are left out here]", "reverse")
    first, last = ([_line(terminal, row, width) for row in part] for part in (numbers[:half], numbers[-half:]))
    return [*first, left_out, *last]


def _has_text(terminal: pyte.Screen, row: int) -> bool:
    return any(not cell.data.isspace() for cell in terminal.buffer[row].values())


def _run(shop: Path, command: Sequence[str], width: int) -> str:
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    environment |= {"AMPHO_APP": "flask_app", "TERM": "xterm-256color", "COLUMNS": str(width)}
    written, exit_code = pexpect.run(
        str(AMPHO),
        timeout=60,
        withexitstatus=True,
        encoding="utf-8",
        cwd=str(shop),
        env=environment,  # type: ignore[arg-type]
        dimensions=(HEIGHT, width),
        args=[*command],
    )
    if exit_code:
        sys.exit(f"ampho {' '.join(command)}: {written}")
    return str(written)


def _line(terminal: pyte.Screen, number: int, width: int) -> Text:
    cells = [terminal.buffer[number][column] for column in range(width)]
    line = Text()
    for style, alike in groupby(cells, _style):
        line.append("".join(cell.data for cell in alike), style)
    line.rstrip()
    return line


def _style(cell: pyte.screens.Char) -> Style:
    colour, background = (None if name == "default" else _named(name) for name in (cell.fg, cell.bg))
    return Style(color=colour, bgcolor=background, bold=cell.bold, italic=cell.italics, underline=cell.underscore)


def _named(colour: str) -> str:
    """Return Rich's name for what pyte calls a colour: ``brightred``, ``brown`` for yellow, or six digits."""
    if re.fullmatch(r"[0-9a-f]{6}", colour):
        return f"#{colour}"
    return colour.replace("bright", "bright_").replace("brown", "yellow")


def picture(text: Text, title: str, width: int = WIDTH) -> str:
    """Draw what a terminal shows as SVG."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=width, file=nowhere, force_terminal=True)
        console.print(text, soft_wrap=True)
        return FONT.sub("", console.export_svg(title=title, unique_id="ampho"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=HERE / "screenshot.svg")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="of ampho, with its arguments")
    options = parser.parse_args(arguments)
    command = options.command or COMMAND
    text = screen(command, width=options.width)
    options.output.write_text(picture(text, "ampho", options.width), "utf-8")


if __name__ == "__main__":
    main()
