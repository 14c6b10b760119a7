"""Drawing tables: on a terminal in the first layout that fits, in a pipe in one that never changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from ampho.cli.terminal import is_seen

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_ANY_WIDTH = 100_000


def table(*titles: str) -> Table:
    """Return an empty table.

    :param titles: of the columns; a ``>`` before one puts its cells to the right.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", collapse_padding=True)
    for title in titles:
        made.add_column(title.removeprefix(">"), justify="right" if title.startswith(">") else "left", overflow="fold")
    return made


def draw(console: Console, layouts: Sequence[Callable[[], Table]]) -> int:
    """Draw the first layout that fits on a terminal, else the last one; in a pipe always the first, as wide as it is.

    :param layouts: make the table, the widest first.
    :return: the number of the layout.
    """
    from rich.measure import Measurement

    if not is_seen(console):
        console.width = _ANY_WIDTH
        with console.capture() as captured:
            console.print(_unbroken(layouts[0]()))
        click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), err=console.stderr)
        return 0
    options = console.options.update(max_width=_ANY_WIDTH)
    for number, layout in enumerate(layouts):  # noqa: B007 (the last one is used, whether it fits or not)
        made = layout()
        if Measurement.get(console, options, made).maximum <= console.width:
            made = _unbroken(made)
            break
    console.print(made)
    return number


def _unbroken(made: Table) -> Table:
    """Return a table that fits, so that nobody has to look where its lines are to be broken, which takes a while."""
    for column in made.columns:
        column.no_wrap = True
    return made


def line(console: Console, text: Text) -> None:
    """Print one line, which the terminal breaks, and nobody else."""
    if is_seen(console):
        console.print(text, soft_wrap=True)
    else:
        click.echo(text.plain, err=console.stderr)
