"""Print the results of commands, as text or as JSON.

Each module prints the results whose classes are in the package of the same name: ``status.py`` is for ``ampho.status``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import singledispatch
from importlib import import_module

import click

from ampho._text import shown_path
from ampho.cli.databases import EACH, by_database, database_of, databases, say_name
from ampho.cli.json import UPDATED, print_json, wants_json
from ampho.cli.lines import say


def show(ctx: click.Context, result: object, text: str | None = None) -> None:
    """Print the result of a command, as JSON if ``--json`` is set, otherwise as text.

    :param text: text to print instead of the default text for the result.
    """
    if wants_json(ctx):
        print_json(ctx, result)
        return
    if text is not None:
        say(text)
    else:
        show_text(ctx, result)
    for path in ctx.meta.get(UPDATED, ()):
        say(f"Updated {shown_path(path)}")


def show_text(ctx: click.Context, result: object) -> None:
    """Print a result as text; if it is the result of several databases, one database after the other."""
    each = by_database(result)
    if each:
        show_each(ctx, each)
        return
    name = database_of(result)
    if name and databases(ctx) is None:  # the packages that were typed live in one of several databases
        say_name(name)
    print_text(result, ctx)


def show_each(ctx: click.Context, results: Mapping[str, object]) -> None:
    """Print the results of several databases as text, each below the name of its database.

    If nothing was found in several databases of a group, one line with their number follows.
    """
    ctx.meta[EACH] = True
    lines = {name: _nothing_found(name, one) for name, one in results.items()}
    numbers = Counter(filter(None, lines.values()))
    shown = [name for name in results if numbers[lines[name]] < 2]
    for name in shown:
        if name != shown[0]:
            say()
        say_name(name)
        print_text(results[name], ctx)
    for line, number in numbers.items():
        if number > 1:
            if shown:
                say()
            say(f"{line} in {number:,} databases.")


def _nothing_found(database: str, result: object) -> str:
    """Return the beginning of a line if nothing was found in a database of a group; otherwise, nothing."""
    group, slash, _ = database.partition("/")
    nothing = getattr(result, "nothing_found", "")
    return f"{group}: {nothing}" if slash and nothing else ""


@singledispatch
def print_text(result: object, ctx: click.Context) -> None:
    """Print a result as text, with the function that is registered for its class.

    :param ctx: the context of the command, whose options may affect the text.
    """
    # The modules register functions for classes. They are imported late, because each imports a whole package.
    room = type(result).__module__.split(".")[1]
    import_module(f"{__name__}.{room}")
    print_text.dispatch(type(result))(result, ctx)


def is_verbose(ctx: click.Context) -> bool:
    """Return whether ``-v`` is set, before or after the command."""
    return bool(ctx.params.get("verbose") or ctx.meta.get("ampho.verbose"))


def version_rows(rows: Iterable[str]) -> str:
    """Return version rows as printable text, since other tools may write anything into the table."""
    return ", ".join(map(version_row, rows)) or "nothing"


def version_row(row: str) -> str:
    """Return a version row as printable text."""
    return row if row and row.isprintable() else ascii(row)
