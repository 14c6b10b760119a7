"""What ``ampho`` alone prints: the state of the app's databases in a few words, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ampho._text import counted, listed
from ampho.cli.call import call
from ampho.cli.lines import say
from ampho.cli.reporter import PACKAGES, WarningsOnly
from ampho.commands import Commands
from ampho.errors import AppNotFoundError
from ampho.history.specifier import MISSING
from ampho.results import selecting
from ampho.status.deployment import Status

if TYPE_CHECKING:
    from ampho.migrate.project import Project
    from ampho.status.summary import DatabaseStatus

_READY_FOR_UPGRADE = (Status.BEHIND, Status.EDITED, Status.MISSING)


def print_next_steps(ctx: click.Context) -> None:
    """Print what to do next for the app that the command line finds; without an app, print the help.

    :raises AmphoError: if the history or the database cannot be read.
    """
    try:
        steps, states = call(ctx, _look)
    except (AppNotFoundError, click.UsageError) as exc:
        if isinstance(exc, AppNotFoundError) and not exc.tried:
            raise
        for line in ctx.get_help().splitlines():
            say(line, err=True)
        say(err=True)
        say(
            "No app was found here. Specify one with --app, or with the environment variable AMPHO_APP or FLASK_APP.",
            err=True,
        )
        ctx.exit(2)
    for line in _lines(states):
        say(line)
    typed = [(f"{ctx.command_path} {line}", does) for line, does in steps]
    width = max((len(line) for line, _ in typed), default=0)
    for number, (line, does) in enumerate(typed):
        say(f"{'      ' if number else 'Next: '}{line:<{width}}  {does}", hang=width + 8)
    say(f"'{ctx.command_path} --help' lists all commands.")


def _look(commands: Commands) -> tuple[Sequence[tuple[str, str]], Sequence[DatabaseStatus]]:
    """Return what to type, with what it does, and the states of the databases, except for those of groups."""
    project = commands.project()
    has_packages = bool(project.packages or project.not_installed)
    found = commands.status(check=has_packages, observer=WarningsOnly()) if project.homes.names else None
    states = [] if found is None else [*(found.databases or {found.database: found}).values()]
    return [*_beginnings(project), *_steps(states, project.homes.groups)], states


def _beginnings(project: Project) -> Iterator[tuple[str, str]]:
    """Yield what to type for packages without revisions."""
    if not project.packages and not project.not_installed:
        yield "db-init PACKAGE", "create the migrations folder of a package"
    for package in project.packages:
        if package.installed or project.graph.of_package(package.name):
            continue
        if package.exists:
            yield f'db-rev {package.name} "Initial" -a', f"create the first revision from the models of {package.name}"
        else:
            yield f"db-init {package.entry}", f"create the migrations folder of {package.name}"


def _lines(states: Sequence[DatabaseStatus]) -> Iterator[str]:
    """Yield what is wrong, and how many revisions are pending."""
    from ampho.cli.show.status import remarks_on

    for state in states:
        for remark in remarks_on(state):
            yield selecting(remark, state.database) if len(states) > 1 else remark
    pending = {each.package: each.pending for state in states for each in state if each.pending}
    if pending:
        number = sum(each.pending for state in states for each in state)
        yield f"{counted(number)} of {listed([*pending], PACKAGES)} {'is' if number == 1 else 'are'} pending."
    elif _worst(states) is Status.UP_TO_DATE and _have_revisions(states):
        yield "All revisions are applied."


def _steps(states: Sequence[DatabaseStatus], groups: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield what to type for packages with revisions, and for groups of databases."""
    worst = _worst(states)
    for package in dict.fromkeys(each.package for state in states for each in state if each.is_in_conflict):
        yield (
            f"db-merge {package}",
            f"merge the heads of {package}; or use db-rebase, if one of them is not applied in any database",
        )
    if worst in _READY_FOR_UPGRADE and any(state.pending for state in states):
        yield "db-up --plan", "show the pending revisions, and which may lose data"
        post = any(state.post for state in states)
        yield "db-up", "apply them; in production, see 'ampho db-up --help' about --phase" if post else "apply them"
    elif worst is Status.AHEAD and any(
        f"db-down {MISSING}" in each.means for state in states for each in state.missing
    ):
        yield f"db-down {MISSING}", "revert the revisions of another branch of the code"
    elif worst is Status.UP_TO_DATE and _have_revisions(states):
        yield "db-check", "compare the models with the database"
        yield 'db-rev -a "MESSAGE"', "write revisions for the changes in the models"
    for group in groups:
        yield f"db-status --database {group}", f"count the databases of {group} by status"


def _worst(states: Iterable[DatabaseStatus]) -> Status:
    return min((state.status for state in states), key=list(Status).index, default=Status.UP_TO_DATE)


def _have_revisions(states: Iterable[DatabaseStatus]) -> bool:
    return any(not each.is_empty for state in states for each in state)
