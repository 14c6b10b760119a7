"""Drawing tables: on a terminal in the first layout that fits, in a pipe in one that never changes.

A pipe gets lines that are made here, without Rich, which takes its time for each cell. On a terminal it draws; how wide
the columns are is told to it, since it would look at every cell several times to find that out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from ampho._text import escaped, escaped_lines
from ampho.cli.lines import say, size, write
from ampho.cli.terminal import console, is_terminal, styled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Cell: TypeAlias = str | Sequence[tuple[str, str]]
"""What is in a cell: a text, or pieces of text, each with its style."""

_ANY_WIDTH = 100_000
_GAP = 2
_ROWS = 500  # that are drawn at a time, so that the first of many are seen at once


@dataclass(frozen=True)
class Layout:
    """What is in a table.

    :ivar titles: of the columns; a ``>`` before one puts its cells to the right.
    :ivar rows: the cells of each row.
    :ivar least: how many columns are enough for the last one, whose lines are then broken between words; 0 if they are
        not to be.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    least: int = 0

    @cached_property
    def widths(self) -> list[int]:
        """The widths of the columns, with no line broken."""
        titles = [title.removeprefix(">") for title in self.titles]
        return [max(map(_width, column)) for column in zip(titles, *self.rows, strict=True)]

    def widths_in(self, room: int) -> list[int] | None:
        """Return the widths of the columns where there is some room; None if it is too little."""
        *others, last = self.widths
        left = room - sum(others) - _GAP * len(others)
        return [*others, min(left, last)] if left >= min(last, self.least or last) else None

    def lines(self) -> Iterator[str]:
        """Give the lines for a pipe, whose cells have one line each."""
        right = [title.startswith(">") for title in self.titles]
        for row in ([title.removeprefix(">") for title in self.titles], *self.rows):
            cells = zip(map(plain, row), self.widths, right, strict=True)
            yield (" " * _GAP).join(_aligned(*cell) for cell in cells).rstrip()


def draw(layouts: Sequence[Callable[[], Layout]], *, stderr: bool = False) -> int:
    """Draw the first layout that fits on a terminal, else the last one; in a pipe always the first, as wide as it is.

    :param layouts: make what is drawn, the widest first.
    :param stderr: whether it goes to standard error.
    :return: the number of the layout.
    """
    if not is_terminal(stderr=stderr):
        write("".join(f"{escaped(line)}\n" for line in layouts[0]().lines()), err=stderr)
        return 0
    terminal = console(stderr=stderr)
    number, made = 0, layouts[0]()
    while (widths := made.widths_in(terminal.width)) is None and number + 1 < len(layouts):
        number += 1
        made = layouts[number]()
    for begin in range(0, len(made.rows), _ROWS):
        terminal.print(_table(terminal, made, begin, widths))
    return number


def _table(terminal: Console, layout: Layout, begin: int, widths: Sequence[int] | None) -> Table:
    """Make a table of some of the rows, which looks like a part of one table of all.

    :param widths: of the columns; None where Rich has to find some.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=not begin)
    for title in layout.titles:
        is_right = title.startswith(">")
        made.add_column(title.removeprefix(">"), justify="right" if is_right else "left", overflow="fold")
    if widths is not None:
        _tell(terminal, made, widths)
    for row in layout.rows[begin : begin + _ROWS]:
        made.add_row(*map(_text, row))
    return made


def _tell(terminal: Console, made: Table, widths: Sequence[int]) -> None:
    """Tell Rich the widths of columns, of which only the last one may have lines to break."""
    for column, width in zip(made.columns, widths, strict=True):
        column.width, column.no_wrap = width, column is not made.columns[-1]
    found = terminal.measure(made, options=terminal.options.update(max_width=_ANY_WIDTH)).maximum
    more = found - sum(widths) - _GAP * (len(widths) - 1)  # by some versions, which do not draw it
    made.columns[-1].width = widths[-1] - more


def plain(cell: Cell) -> str:
    """Return the text of a cell, escaped as it is drawn."""
    return escaped_lines(cell if isinstance(cell, str) else "".join(text for text, _ in cell))


def _width(cell: Cell) -> int:
    return max(map(size, plain(cell).split("\n")))


def _aligned(text: str, width: int, is_right: bool) -> str:
    space = " " * (width - size(text))
    return space + text if is_right else text + space


def _text(cell: Cell) -> Text:
    return styled((cell, "")) if isinstance(cell, str) else styled(*cell)


def line(console: Console, text: Text) -> None:
    """Print one line, which the terminal breaks, and nobody else."""
    if is_terminal(stderr=console.stderr):
        console.print(text, soft_wrap=True)
    else:
        say(text.plain, err=console.stderr)
