"""Check whether there is a terminal and whether it shows colors, and prepare Rich's output for it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ampho._text import escaped_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_NO_COLOR = "ampho.no_color"


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_NO_COLOR] = True
        ctx.color = False


def no_color_option() -> click.Option:
    """Return the option ``--no-color``. It is valid before and after the name of a command."""
    return click.Option(
        ["--no-color"],
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="Disable colors, like the environment variable NO_COLOR.",
    )


def refuses_colors() -> bool:
    """Return whether ``--no-color`` or ``NO_COLOR`` is set, or the terminal has no colors."""
    context = click.get_current_context(silent=True)
    is_set = context is not None and bool(context.meta.get(_NO_COLOR))
    return is_set or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")


def console(*, stderr: bool = False) -> Console:
    """Return Rich's console for standard output, or for standard error."""
    from rich.console import Console  # imported late, because most commands only print plain lines

    return Console(stderr=stderr, no_color=refuses_colors(), highlight=False, emoji=False, markup=False)


def styled(*pieces: tuple[str, str]) -> Text:
    """Return text for Rich, made of pieces and their styles. The pieces are escaped, and not parsed as markup."""
    from rich.text import Text

    return Text.assemble(*((escaped_lines(piece), style) for piece, style in pieces))


def is_terminal(*, stderr: bool = False) -> bool:
    """Return whether standard output, or standard error, is a terminal.

    A pipe is not a terminal, even if ``FORCE_COLOR`` is set.
    """
    stream = sys.stderr if stderr else sys.stdout
    return stream is not None and stream.isatty()  # None if the stream was closed before Python started


def can_answer() -> bool:
    """Return whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()  # as in is_terminal()


def can_ask() -> bool:
    """Return whether the user can see a question on standard error, and answer it on standard input."""
    return can_answer() and is_terminal(stderr=True)
