"""Run ``db-up`` on groups of databases: survey them, upgrade those that are behind in worker processes, and report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from ampho.cli.call import Terminated, call, ended_by_signals
from ampho.cli.fleet.options import Options, jobs_by_default
from ampho.cli.fleet.output import observer
from ampho.cli.fleet.worker import Source, upgrades
from ampho.history.homes import is_pattern

if TYPE_CHECKING:
    from ampho.commands import Commands
    from ampho.fleet.report import FleetReport, Tally
    from ampho.migrate.project import Member


def split(ctx: click.Context, names: Sequence[str], specifier: str) -> tuple[list[str], list[str]]:
    """Return the databases that names select: those that are upgraded in this process, and those in worker processes.

    A single database of a group is upgraded in this process, like any other single database.
    """

    def select(commands: Commands) -> tuple[list[str], list[str]]:
        project = commands.project()
        found, groups = project.databases(names, [specifier]), project.homes.groups
        if len(found) == 1 and not is_pattern(found[0]):
            return list(found), []
        named = [name for name in found if project.homes.home(name) not in groups]
        return named, [name for name in found if name not in named]

    return call(ctx, select)


def upgrade_members(
    ctx: click.Context, specifier: str, patterns: Sequence[str], options: Options, x: Sequence[str]
) -> tuple[FleetReport, int]:
    """Upgrade databases of groups, and return the report and the exit code.

    :param patterns: the names of databases, and patterns such as ``tenants/*``.
    """
    from ampho.fleet.driver import Driver
    from ampho.fleet.report import Tally
    from ampho.fleet.upgrade import FleetUpgrade
    from ampho.fleet.workers import Workers

    target = "" if specifier == "heads" else f" {specifier}"
    tally = Tally(f"ampho db-up{target} -d {{}}")
    canaries, others = _canaries(_behind(ctx, patterns, tally), options.canary)
    upgrade = FleetUpgrade(Driver(canaries, others, options.limit), tally, observer())
    signals: list[type[KeyboardInterrupt]] = []

    def end(kind: type[KeyboardInterrupt]) -> None:
        signals.append(kind)
        upgrade.interrupt()

    make = partial(upgrades, Source(ctx.obj), specifier, x, create=options.create)
    with ended_by_signals(end):
        report = upgrade.run(Workers(make, options.jobs or jobs_by_default()))
    return report, (143 if signals[0] is Terminated else 130) if signals else report.exit_code


def _behind(ctx: click.Context, patterns: Sequence[str], tally: Tally) -> list[Member]:
    """Return the databases to upgrade, and count the others."""

    def list_members(commands: Commands) -> list[Member]:
        return list(commands.project().members(patterns))

    return call(ctx, list_members)


def _canaries(members: Sequence[Member], canary: str | None) -> tuple[list[Member], list[Member]]:
    """Return the databases to upgrade first, and the others."""
    if canary is None:
        return [], list(members)
    if canary.isdecimal():
        return list(members[: int(canary)]), list(members[int(canary) :])
    first = [member for member in members if canary in _names(member)]
    if not first:
        raise click.UsageError(f"--canary names {canary}, which is not one of the databases.")
    return first, [member for member in members if member not in first]


def _names(member: Member) -> Iterator[str]:
    """Yield the names that select a canary: with the group, and without."""
    yield member.name
    yield member.name.partition("/")[2]
