"""What the commands print: a result as text, or as JSON if ``--json`` asks for it.

The text of a result is in the module that is named like the room of its class: ``ampho.status`` and ``status.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from importlib import import_module

import click

from ampho.cli.json import print_json, wants_json
from ampho.cli.lines import say


def show(ctx: click.Context, result: object, text: str | None = None) -> None:
    """Print the result of a command, as JSON or as text.

    :param text: what to print instead of the usual text for such a result.
    """
    if wants_json(ctx):
        print_json(ctx, result)
    elif text is not None:
        say(text)
    else:
        print_text(result, ctx)


@singledispatch
def print_text(result: object, ctx: click.Context) -> None:
    """Print a result as text, by its class.

    :param ctx: the context of the command, whose options may ask for more text.
    """
    # The modules register their functions. They are imported late, as each imports the room whose results it prints.
    room = type(result).__module__.split(".")[1]
    import_module(f"{__name__}.{room}")
    print_text.dispatch(type(result))(result, ctx)


def is_verbose(ctx: click.Context) -> bool:
    """Return whether ``-v`` is set, before or after the command."""
    return bool(ctx.params.get("verbose") or ctx.meta.get("ampho.verbose"))


def version_rows(rows: Iterable[str]) -> str:
    """Return version rows as text. Other tools may have written anything into them."""
    return ", ".join(map(version_row, rows)) or "nothing"


def version_row(row: str) -> str:
    """Return one version row as text."""
    return row if row and row.isprintable() else ascii(row)
