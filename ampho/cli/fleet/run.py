"""Run ``db-up`` on groups of databases: survey them, upgrade those that are behind in worker processes, and report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING

import click

from ampho.cli.call import Terminated, call, ended_by_signals, load
from ampho.cli.fleet.options import Options, jobs_by_default
from ampho.cli.fleet.output import observer
from ampho.cli.fleet.worker import Source, upgrades
from ampho.cli.group import Failure
from ampho.cli.lines import say, warn
from ampho.errors import AmphoError
from ampho.fleet.report import Ending, FleetOutcome
from ampho.history.homes import ANY, is_pattern
from ampho.migrate.plan import check_upgrade
from ampho.status.deployment import Status

if TYPE_CHECKING:
    from flask.sansio.app import App

    from ampho.commands import Commands
    from ampho.fleet.report import FleetReport, Tally
    from ampho.fleet.upgrade import FleetObserver
    from ampho.migrate.project import Member
    from ampho.status.fleet import MemberState


def split(ctx: click.Context, names: Sequence[str], specifier: str) -> tuple[list[str], list[str]]:
    """Return the databases that names select: those that are upgraded in this process, and those in worker processes.

    A single database of a group is upgraded in this process, like any other single database.
    """

    def select(commands: Commands) -> tuple[list[str], list[str]]:
        project = commands.project()
        found, groups = project.databases(names, [specifier]), project.homes.groups
        if len(found) == 1 and not is_pattern(found[0]):
            return list(found), []
        project.check_specifier(specifier)
        named = [name for name in found if project.homes.home(name) not in groups]
        for home in {project.homes.home(name) for name in found if name not in named}:
            check_upgrade(project.graph_of(home), specifier)  # a survey would not, if everything is applied
        return named, [name for name in found if name not in named]

    return call(ctx, select)


def report_groups(commands: Commands, remedy: str) -> None:
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


def upgrade_members(
    ctx: click.Context, specifier: str, patterns: Sequence[str], options: Options, x: Sequence[str]
) -> tuple[FleetReport, int]:
    """Upgrade databases of groups, and return the report and the exit code.

    :param patterns: the names of databases, and patterns such as ``tenants/*``.
    """
    from ampho.fleet.driver import CANARY_FAILED, Driver
    from ampho.fleet.report import Tally
    from ampho.fleet.upgrade import FleetUpgrade
    from ampho.fleet.workers import Workers

    given = [*([] if specifier == "heads" else [specifier]), *(["--create"] if options.create else [])]
    given += [word for each in x for word in ("-x", quote(each))]
    tally, shown = Tally(" ".join(["ampho db-up", *given, "-d"])), observer()
    survey = _Survey(tally, shown, options)
    signals: list[type[KeyboardInterrupt]] = []

    def end(kind: type[KeyboardInterrupt]) -> None:
        signals.append(kind)
        upgrade.interrupt()
        if workers.is_upgrading:
            raise kind

    make = partial(upgrades, Source(ctx.obj), specifier, x, create=options.create)
    workers = Workers(make, options.jobs or jobs_by_default())
    with ended_by_signals():
        with _changing_nothing(shown):
            call(ctx, survey.look, patterns, x)
            driver = Driver(*survey.split(), options.limit)
        if survey.is_canary_unreachable:
            driver.stop(CANARY_FAILED)
        upgrade = FleetUpgrade(driver, tally, shown)
        with ended_by_signals(end):
            try:
                report = upgrade.run(workers)
            finally:
                _close_kept(load(ctx.obj))
    return report, (143 if signals[0] is Terminated else 130) if signals else report.exit_code


def _close_kept(app: App) -> None:
    """Close the connection that the upgrades in this process shared, because the process may go on, as in a test."""
    from ampho.extension import extension_of

    extension = extension_of(app)
    kept, extension.kept = extension.kept, None
    if kept is not None:
        kept.close()


@contextmanager
def _changing_nothing(shown: FleetObserver) -> Iterator[None]:
    """Turn an interruption of a survey into an error that says that nothing was changed."""
    try:
        yield
    except KeyboardInterrupt as exc:
        how, code = ("Terminated", 143) if isinstance(exc, Terminated) else ("Interrupted", 130)
        raise Failure(f"{how} before the first upgrade. No database of a group was changed.", code) from exc
    finally:
        shown.finished()


class _Survey:
    """Finds the databases to upgrade, and counts the others.

    :ivar is_canary_unreachable: whether the database that ``--canary`` names could not be reached.
    """

    def __init__(self, tally: Tally, shown: FleetObserver, options: Options) -> None:
        self._tally = tally
        self._shown = shown
        self._options = options
        self._behind: list[Member] = []
        canary = options.canary or ""
        self._number, self._canary = (int(canary), "") if canary.isdecimal() else (0, canary)
        self._is_canary_known = not self._canary
        self.is_canary_unreachable = False

    def look(self, commands: Commands, patterns: Sequence[str], x: Sequence[str]) -> None:
        """Look at all databases, many at the same time."""
        for message in commands.project().misplaced():
            warn(message)
        creates = self._options.create
        with closing(commands.surveyed(patterns, finds_missing=creates, x=x)) as found:
            self._shown.looked(0)
            for number, (member, state) in enumerate(found, 1):
                self._shown.looked(number)
                self._is_canary_known |= self._is_canary(state.database)
                if state.status is Status.UP_TO_DATE:
                    self._tally.add(Ending(state.database, FleetOutcome.UP_TO_DATE))
                    if self._is_canary(state.database):
                        self._shown.printed("", f"The canary {state.database} is already up to date.")
                elif state.status is Status.UNREACHABLE or (state.status is Status.NOT_CREATED and not creates):
                    self._unreachable(state)
                elif member is not None:
                    self._behind.append(member)

    def _unreachable(self, state: MemberState) -> None:
        self.is_canary_unreachable |= self._is_canary(state.database)
        cause = str(state.error).removeprefix(f"{state.database}: ")
        ending = Ending(state.database, FleetOutcome(state.status), cause=cause)
        self._tally.add(ending)
        self._shown.ended(ending)

    def _is_canary(self, database: str) -> bool:
        return bool(self._canary) and self._canary in (database, database.partition("/")[2])

    def split(self) -> tuple[list[Member], list[Member]]:
        """Return the canaries and the other databases to upgrade, by name.

        :raises click.UsageError: if there is no database with the name of the canary.
        """
        if not self._is_canary_known:
            raise click.UsageError(f"--canary names {self._canary}, which is not one of the databases.")
        self._behind.sort(key=lambda member: (not self._is_canary(member.name), member.name))
        number = self._number or sum(self._is_canary(each.name) for each in self._behind)
        return self._behind[:number], self._behind[number:]
