"""The option ``--database``, and the output of commands that run on several databases."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ampho._text import of_database
from ampho.cli.lines import say, warn
from ampho.errors import AmphoError, DatabasesError
from ampho.history.homes import ANY
from ampho.results import Several
from ampho.settings import DEFAULT_DATABASE

if TYPE_CHECKING:
    from ampho.commands import Commands

Command = TypeVar("Command", bound=Callable[..., object])
T = TypeVar("T")
L = TypeVar("L", bound="tuple[Any, ...]")

_NAMES = "ampho.databases"
EACH = "ampho.each"
"""Whether the results of several databases are shown."""


def database_option(command: Command, *, is_repeatable: bool = True) -> Command:
    """Add the option ``--database`` to a command.

    :param is_repeatable: whether the command works on several databases at a time.
    """

    def remember(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> None:
        ctx.meta[_NAMES] = value

    several = ", a group, GROUP/NAME, or a quoted pattern such as 'GROUP/a*'" if is_repeatable else ", or GROUP/NAME"
    text = f"The database: 'default', a key of SQLALCHEMY_BINDS{several}; needed only if packages live in several."
    text += " Repeatable." if is_repeatable else ""
    return click.option(
        "-d", "--database", multiple=True, metavar="NAME", expose_value=False, callback=remember, help=text
    )(command)


def databases(ctx: click.Context) -> tuple[str, ...] | None:
    """Return the names that were typed after ``--database``; None if there are none."""
    return ctx.meta.get(_NAMES) or None


def database(ctx: click.Context) -> str | None:
    """Return the only name that was typed after ``--database``, for a command that works on one database."""
    names = databases(ctx) or ()
    if len(names) > 1:
        command = f"{ctx.info_name} --sql" if ctx.params.get("sql") else ctx.info_name
        raise click.UsageError(f"{command} works on one database at a time. Repeat the command for each.")
    return names[0] if names else None


def selection() -> str:
    """Return the options by which the user selected databases, each with a space before it; empty if there are none."""
    ctx = click.get_current_context()
    options = "".join(f" -d {quote(name)}" for name in databases(ctx) or ())
    return " --all" if ctx.params.get("everything") else options


def selecting(text: str, database: str) -> str:
    """Return a message with ``--database`` in the commands that it suggests, if the app has several databases."""
    ctx = click.get_current_context()
    is_one_of_several = database != DEFAULT_DATABASE or databases(ctx) or ctx.meta.get(EACH)
    return of_database(text, database) if is_one_of_several else text


def unquoted_pattern(args: Sequence[str]) -> str:
    """Return the pattern after ``--database`` that the shell has probably replaced with names; empty if there is none.

    Then the names of at least two files follow.
    """
    for option, *names in zip(args, args[1:], args[2:], strict=False):
        if option in ("-d", "--database") and all(map(os.path.lexists, names)):
            folder, slash, _ = names[0].rpartition("/")
            return f"{folder}{slash}*"
    return ""


def split(commands: Commands, names: Sequence[str], specifier: str) -> tuple[list[str], list[str]]:
    """Return the databases that names select: those that are upgraded in this process, and those in worker processes.

    A single database of a group is upgraded in this process, like any other single database.
    """
    from ampho.migrate.plan import check_upgrade

    project = commands.project()
    found, homes = project.databases(names, [specifier]), project.homes
    if not homes.stands_for_several(found):
        return list(found), []
    project.check_specifier(specifier)
    members = [name for name in found if homes.home(name) in homes.groups]
    for group in set(map(homes.home, members)):
        check_upgrade(project.graph_of(group), specifier)  # a survey would not, if everything is applied
    return [name for name in found if name not in members], members


def report_groups(commands: Commands, remedy: str = 'To look at all databases, add --database "*".') -> None:
    """Report how many databases of groups a command without ``--database`` did not look at.

    :param remedy: a sentence that says how to look at them.
    """
    project, counts = commands.project(), list[str]()
    try:
        for group in project.homes.groups:
            with closing(project.members([f"{group}/{ANY}"])) as members:
                if number := sum(1 for _ in members):
                    counts.append(f"{number:,} of {group}")
    except AmphoError as exc:  # what was asked for has been done
        warn(str(exc))
        return
    if counts:
        say(f"Databases of groups were not looked at: {', '.join(counts)}. {remedy}", err=True)


def by_database(result: object) -> Mapping[str, Any]:
    """Return the results of the single databases, if a result is a combined one; otherwise, nothing."""
    found = getattr(result, "databases", None)
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def database_of(result: object) -> str:
    """Return the name of the database of a result, or of the first item of a list; empty if it is the default one."""
    first = next(iter(cast("tuple[object, ...]", result)), None) if isinstance(result, tuple) else result
    name = getattr(first, "database", DEFAULT_DATABASE)
    return "" if name == DEFAULT_DATABASE else name


def say_name(database: str) -> None:
    """Print the name of a database above its result."""
    say(f"{database}:", colors={f"{database}:": "cyan"})


def listing(kind: Callable[[tuple[T, ...]], L], get: Callable[[], tuple[T, ...]]) -> L:
    """Return a list as an instance of the class that prints it, also the lists of the single databases."""
    try:
        items = get()
    except DatabasesError as exc:
        exc.results = {name: kind(cast("tuple[T, ...]", each)) for name, each in exc.results.items()}
        raise
    found = kind(items)
    if isinstance(items, Several):
        found.__dict__["databases"] = {name: kind(tuple(each)) for name, each in items.databases.items()}
    return found
