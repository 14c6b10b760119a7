"""Run ``db-up`` on groups of databases: survey them, upgrade those that are behind in worker processes, and report."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING

import click

from ampho.cli.call import Terminated, call, ended_by_signals, load
from ampho.cli.fleet.options import Options
from ampho.cli.fleet.output import Lines, observer
from ampho.cli.fleet.worker import MemberUpgrades, Source
from ampho.cli.group import Failure
from ampho.cli.lines import warn
from ampho.fleet.driver import CANARY_FAILED, Driver
from ampho.fleet.report import Ending, FleetOutcome, FleetReport, Tally
from ampho.fleet.workers import SECONDS_TO_END, Workers
from ampho.migrate.project import Member
from ampho.status.deployment import Status

if TYPE_CHECKING:
    from flask.sansio.app import App

    from ampho.commands import Commands

SECONDS_TO_FINISH = 10.0
"""How long running upgrades may continue after Ctrl-C or SIGTERM, before they are interrupted."""

_TICK = 0.1  # seconds


def upgrade_members(
    ctx: click.Context,
    specifier: str,
    patterns: Sequence[str],
    options: Options,
    x: Sequence[str],
    *,
    phase: str | None,
) -> tuple[FleetReport, int]:
    """Upgrade databases of groups, and return the report and the exit code.

    :param patterns: the names of databases, and patterns such as ``tenants/*``.
    """
    given = [*([] if specifier == "heads" else [specifier]), *(["--create"] if options.create else [])]
    given += ["--phase", phase] if phase else []
    given += [word for each in x for word in ("-x", quote(each))]
    tally, shown = Tally(" ".join(["ampho db-up", *given, "-d"])), observer()
    make = partial(MemberUpgrades, Source(ctx.obj), specifier, x, phase=phase, create=options.create)
    with ended_by_signals():
        upgrade = _FleetUpgrade(options, tally, shown, Workers(make, options.processes, shown.printed))
        with _changing_nothing(shown):
            call(ctx, upgrade.survey, patterns, x)
        with ended_by_signals(upgrade.interrupt):
            try:
                report = upgrade.run()
            finally:
                _close_kept(load(ctx.obj))
    return report, upgrade.exit_code or report.exit_code


def _close_kept(app: App) -> None:
    """Close the connection that the upgrades in this process shared, because the process may go on, as in a test."""
    from ampho.extension import extension_of

    extension = extension_of(app)
    kept, extension.kept = extension.kept, None
    if kept is not None:
        kept.close()


@contextmanager
def _changing_nothing(shown: Lines) -> Iterator[None]:
    """Turn an interruption of a survey into an error that says that nothing was changed."""
    try:
        yield
    except KeyboardInterrupt as exc:
        how, code = ("Terminated", 143) if isinstance(exc, Terminated) else ("Interrupted", 130)
        raise Failure(f"{how} before the first upgrade. No database of a group was changed.", code) from exc
    finally:
        shown.clear()


class _FleetUpgrade:
    """The survey, and then the loop between the driver, the workers, and the output.

    :ivar exit_code: the exit code after an interruption; before one, it is 0.
    """

    def __init__(self, options: Options, tally: Tally, shown: Lines, workers: Workers) -> None:
        self._options = options
        self._tally = tally
        self._shown = shown
        self._workers = workers
        self._driver = Driver((), ())
        self._interruptions = 0
        self._obeyed = 0
        self._deadline = math.inf
        self.exit_code = 0

    def survey(self, commands: Commands, patterns: Sequence[str], x: Sequence[str]) -> None:
        """Look at all databases, many at the same time, and decide on the order of those that are behind.

        :raises click.UsageError: if there is no database with the name of the canary.
        """
        for message in commands.project().misplaced():
            warn(message)
        options, behind, canary = self._options, list[Member](), dict[Status, str]()
        ends = {Status.UNREACHABLE} if options.create else {Status.UNREACHABLE, Status.NOT_CREATED}
        with closing(commands.surveyed(patterns, finds_missing=options.create, x=x)) as found:
            self._shown.looked(0)
            for number, (member, state) in enumerate(found, 1):
                self._shown.looked(number)
                if options.is_canary(state.database):
                    canary[state.status] = state.database
                if state.status is Status.UP_TO_DATE and not state.taken:
                    self._tally.add(Ending(state.database, FleetOutcome.UP_TO_DATE))
                elif state.status in ends:
                    cause = str(state.error).removeprefix(f"{state.database}: ")
                    self._end(Ending(state.database, FleetOutcome(state.status), cause=cause))
                elif member is not None:
                    behind.append(member)
        if isinstance(options.canary, str) and not canary:
            raise click.UsageError(f"--canary names {options.canary}, which is not one of the databases.")
        if Status.UP_TO_DATE in canary:
            self._shown.printed("", f"The canary {canary[Status.UP_TO_DATE]} is already up to date.")
        behind.sort(key=lambda member: (not options.is_canary(member.name), member.name))
        named = sum(options.is_canary(member.name) for member in behind)
        first = options.canary if isinstance(options.canary, int) else named
        self._driver = Driver(behind[:first], behind[first:], options.limit)
        if ends & canary.keys():
            self._driver.stop(CANARY_FAILED)

    def _end(self, ending: Ending) -> None:
        self._tally.add(ending)
        self._shown.ended(ending)

    def run(self) -> FleetReport:
        """Upgrade the databases, and return the report."""
        with closing(self._workers):
            while not self._driver.is_over:
                self._obey()
                while not self._workers.is_full and (turn := self._driver.next()) is not None:
                    self._workers.begin(turn)
                self._shown.progressed(self._driver)
                for ending in self._workers.wait(_TICK):
                    if self._driver.ended(ending):
                        self._end(ending)
        self._shown.clear()
        for ending in self._driver.rest():
            self._tally.add(ending)
        return self._tally.report(self._driver.stopped)

    def interrupt(self, kind: type[KeyboardInterrupt]) -> None:
        """Stop soon, as a signal handler asks: finish what is running. The second time, interrupt it at once."""
        self._interruptions += 1
        self.exit_code = self.exit_code or (143 if kind is Terminated else 130)
        if self._workers.is_upgrading:
            raise kind

    def _obey(self) -> None:
        """Do what the user asked for by Ctrl-C, step by step: stop, interrupt, kill."""
        now = time.monotonic()
        if now >= self._deadline:
            self._interruptions += 1
        if self._interruptions <= self._obeyed:
            return
        self._obeyed = self._interruptions
        self._driver.stop("interrupted")
        if self._interruptions == 1:
            self._deadline = now + SECONDS_TO_FINISH
            self._shown.stopping(SECONDS_TO_FINISH)
        elif self._interruptions == 2:
            self._deadline = now + SECONDS_TO_END
            self._workers.terminate()
        else:
            self._deadline = math.inf
            self._workers.kill()
