"""Print tables: on a terminal in the first layout that fits, and in a pipe always in the same layout.

For a pipe, this module formats the lines itself, because Rich is slow. On a terminal, Rich draws the table, but this
module computes the widths of the columns, because Rich would measure every cell several times.
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
"""The content of a cell: text, or pieces of text with their styles."""

_ANY_WIDTH = 100_000
_GAP = 2
_ROWS = 500  # the number of rows drawn at a time, so that the first rows of a long table appear immediately


@dataclass(frozen=True)
class Layout:
    """The content of a table.

    :ivar titles: the titles of the columns; a title that starts with ``>`` aligns its column to the right.
    :ivar rows: the cells of each row.
    :ivar least: the minimum width of the last column if its lines may be wrapped between words; otherwise 0.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    least: int = 0

    @cached_property
    def widths(self) -> list[int]:
        """The widths of the columns without wrapping."""
        titles = [title.removeprefix(">") for title in self.titles]
        return [max(map(_width, column)) for column in zip(titles, *self.rows, strict=True)]

    def widths_in(self, room: int) -> list[int] | None:
        """Return the widths of the columns on a terminal that has ``room`` columns; None if it is too narrow."""
        *others, last = self.widths
        left = room - sum(others) - _GAP * len(others)
        return [*others, min(left, last)] if left >= min(last, self.least or last) else None

    def lines(self) -> Iterator[str]:
        """Yield the lines for a pipe, in which no cell is wrapped."""
        right = [title.startswith(">") for title in self.titles]
        for row in ([title.removeprefix(">") for title in self.titles], *self.rows):
            cells = zip(map(plain, row), self.widths, right, strict=True)
            yield (" " * _GAP).join(_aligned(*cell) for cell in cells).rstrip()


def draw(layouts: Sequence[Callable[[], Layout]], *, stderr: bool = False) -> int:
    """Draw a table in the first layout that fits on the terminal, or otherwise in the last one.

    In a pipe, always use the first layout.

    :param layouts: functions that return the layouts, the widest first.
    :param stderr: whether to draw on standard error.
    :return: the index of the layout.
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
    """Return a part of the table, with at most ``_ROWS`` rows; only the first part has titles.

    :param begin: the index of the first row.
    :param widths: the widths of the columns; None if Rich should choose them.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=not begin)
    for title in layout.titles:
        is_right = title.startswith(">")
        made.add_column(title.removeprefix(">"), justify="right" if is_right else "left", overflow="fold")
    if widths is not None:
        _set_widths(terminal, made, widths)
    for row in layout.rows[begin : begin + _ROWS]:
        made.add_row(*map(_text, row))
    return made


def _set_widths(terminal: Console, made: Table, widths: Sequence[int]) -> None:
    """Set the widths of the columns. Only the last column may wrap its lines."""
    for column, width in zip(made.columns, widths, strict=True):
        column.width, column.no_wrap = width, column is not made.columns[-1]
    found = terminal.measure(made, options=terminal.options.update(max_width=_ANY_WIDTH)).maximum
    more = found - sum(widths) - _GAP * (len(widths) - 1)  # some versions of Rich measure more than they draw
    made.columns[-1].width = widths[-1] - more


def plain(cell: Cell) -> str:
    """Return the escaped text of a cell."""
    return escaped_lines(cell if isinstance(cell, str) else "".join(text for text, _ in cell))


def _width(cell: Cell) -> int:
    return max(map(size, plain(cell).split("\n")))


def _aligned(text: str, width: int, is_right: bool) -> str:
    space = " " * (width - size(text))
    return space + text if is_right else text + space


def _text(cell: Cell) -> Text:
    return styled((cell, "")) if isinstance(cell, str) else styled(*cell)


def line(console: Console, text: Text) -> None:
    """Print one line, which only the terminal itself may wrap."""
    if is_terminal(stderr=console.stderr):
        console.print(text, soft_wrap=True)
    else:
        say(text.plain, err=console.stderr)
