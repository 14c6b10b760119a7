"""The terminal: whether there is one, whether it shows colors, and what Rich draws on it."""

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
"""The key of ``--no-color`` in the ``meta`` of a context."""


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[NO_COLOR] = True
        ctx.color = False


_OPTION: Mapping[str, Any] = {
    "is_flag": True,
    "expose_value": False,
    "callback": _remember,
    "help": "Disable colors, as the environment variable NO_COLOR does.",
}


def no_color(command: Command) -> Command:
    """Add the option ``--no-color`` to a group."""
    return click.option("--no-color", **_OPTION)(command)


def no_color_option() -> click.Option:
    """Return the option ``--no-color`` for a command, since it may also follow the name of the command."""
    return click.Option(["--no-color"], **_OPTION)


def console(*, stderr: bool = False) -> Console:
    """Return the terminal or pipe that a command writes to.

    :param stderr: return standard error instead of standard output.
    """
    from rich.console import Console  # late: most commands only print plain lines

    context = click.get_current_context(silent=True)
    refuses = context is not None and bool(context.meta.get(NO_COLOR))
    return Console(stderr=stderr, no_color=refuses or None, highlight=False, emoji=False, markup=False)


def styled(*pieces: tuple[str, str]) -> Text:
    """Return a text for Rich from pieces, each with its style. They are escaped, and never read as markup."""
    from rich.text import Text

    return Text.assemble(*((escaped_lines(piece), style) for piece, style in pieces))


def is_terminal(*, stderr: bool = False) -> bool:
    """Return whether a stream is a terminal, and not a pipe for which ``FORCE_COLOR`` requests colors."""
    return (sys.stderr if stderr else sys.stdout).isatty()


def can_ask() -> bool:
    """Return whether the user can see a question on standard error, and answer it on standard input."""
    return sys.stdin.isatty() and sys.stderr.isatty()
