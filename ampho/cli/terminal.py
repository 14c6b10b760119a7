"""The terminal that the commands draw on, by Rich: its width, whether it shows colours, and the texts on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ampho._text import escaped_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Command = TypeVar("Command", bound=Callable[..., object])
NO_COLOR = "ampho.no_color"
"""Where a context's ``meta`` has what ``--no-color`` said."""


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[NO_COLOR] = True
        ctx.color = False


_OPTION: Mapping[str, Any] = {
    "is_flag": True,
    "expose_value": False,
    "callback": _remember,
    "help": "No colours, as with the environment variable NO_COLOR.",
}


def no_color(command: Command) -> Command:
    """Give a group the option ``--no-color``."""
    return click.option("--no-color", **_OPTION)(command)


def no_color_option() -> click.Option:
    """Return the same option for a command of the group, since it may also stand after that."""
    return click.Option(["--no-color"], **_OPTION)


def console(*, stderr: bool = False) -> Console:
    """Return the terminal, or the pipe, that a command writes to.

    :param stderr: whether it is standard error, where everything goes that is not data.
    """
    from rich.console import Console  # late: most commands print plain lines, and need none of it

    context = click.get_current_context(silent=True)
    refuses = context is not None and bool(context.meta.get(NO_COLOR))
    return Console(stderr=stderr, no_color=refuses or None, highlight=False, emoji=False, markup=False)


def styled(*pieces: tuple[str, str]) -> Text:
    """Return a text for Rich from pieces, each with its style: escaped, and never read as markup."""
    from rich.text import Text

    return Text.assemble(*((escaped_lines(piece), style) for piece, style in pieces))


def is_terminal(*, stderr: bool = False) -> bool:
    """Tell whether what is printed is seen, and not read from a pipe that ``FORCE_COLOR`` wants colours in."""
    return (sys.stderr if stderr else sys.stdout).isatty()


def is_somebody_there() -> bool:
    """Tell whether somebody can be asked: who sees what goes to standard error, and types."""
    return sys.stdin.isatty() and sys.stderr.isatty()
