"""Writing lines: for who sits at a terminal, and for a pipe or a file, which get them as they are.

On a terminal, lines are broken between words. A log is read elsewhere, and line by line.
"""

from __future__ import annotations

import os
import re
import sys
from typing import IO

import click

_HANG = 2  # columns, by which the rest of a line stands further in than its beginning
_LEAST = 20  # columns, which the rest has in any case
_COLUMNS = 80  # of a terminal that does not say
_NO_TERMINAL = -1  # the descriptor of a stand-in, which has none
# What is quoted is to be copied, and so stays in one piece.
_WORD = re.compile(r"\s*(?:'[^'\n]{1,60}'\S*|\S+)")


def say(text: str, *, err: bool = False, hang: int | None = None) -> None:
    """Write one line.

    :param err: whether to standard error.
    :param hang: the column in which the rest of it begins, if it is too long for a terminal.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is not None and stream.isatty():
        text = "\n".join(broken(line, _columns_of(stream), hang) for line in text.split("\n"))
    click.echo(text, err=err)


def _columns_of(stream: IO[str]) -> int:
    try:
        terminal = stream.fileno()
    except (OSError, ValueError):
        terminal = _NO_TERMINAL
    return columns(terminal)


def columns(terminal: int) -> int:
    """Return how many columns a terminal has, by its descriptor."""
    given = os.environ.get("COLUMNS", "")  # as for what Rich draws
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(terminal).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def broken(text: str, width: int, hang: int | None = None) -> str:
    """Break a line between its words, where it has more than so many columns.

    A word that is longer, such as a path, has a line of its own, which the terminal breaks; so it can be copied whole.

    :param hang: the column in which the other lines begin.
    """
    if len(text) <= width and (text.isascii() or size(text) <= width):
        return text
    if hang is None:
        hang = len(text) - len(text.lstrip(" ")) + _HANG
    hang = hang if width - hang >= _LEAST else _HANG
    lines = [""]
    for word in _WORD.findall(text):
        if lines[-1].strip() and size(lines[-1] + word) > width:
            bare = word.lstrip()
            lines.append(" " * (hang if hang + size(bare) <= width else _HANG) + bare)
        else:
            lines[-1] += word
    return "\n".join(lines)


def size(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # late, as it takes a while

    return cell_len(text)
