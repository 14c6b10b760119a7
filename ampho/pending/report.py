"""What the pending page shows: how the databases differ from the code, and what can be done about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ampho._text import counted
from ampho.commands import Commands
from ampho.errors import AmphoError, DatabaseError, DatabasesError
from ampho.history.specifier import MISSING
from ampho.migrate.observers import Observer
from ampho.migrate.plan import Direction, Plan, Run
from ampho.status.deployment import Deployment, Finding, Status
from ampho.status.fleet import FleetStatus
from ampho.status.graph_view import Picture

SHOWN = (Status.CORRUPT, Status.INTERRUPTED, Status.DIVERGED, Status.AHEAD, Status.BEHIND)
"""What is a reason for the page. Packages that are not installed, and edited files, are everyday life."""

_WITHOUT_FILES = (Status.AHEAD, Status.MISSING)


@dataclass(frozen=True, slots=True)
class Action:
    """What a button of the page does: an upgrade, or a downgrade of missing revisions.

    :ivar plan: its plan, which is on the page. If another one would run, nothing runs.
    :ivar database: the database of the downgrade; None if the app has only one, and for an upgrade of all.
    """

    plan: Plan
    database: str | None = None

    @property
    def command(self) -> str:
        """What to type instead."""
        if self.plan.direction is Direction.UPGRADE:
            return "ampho db-up"
        return f"ampho db-down {MISSING}" + (f" --database {self.database}" if self.database else "")

    @property
    def label(self) -> str:
        """The text of the button."""
        verb = "Apply" if self.plan.direction is Direction.UPGRADE else "Revert"
        where = f" in {self.database}" if self.database else ""
        return f"{verb} {counted(len(self.plan.steps))}{where}"

    @property
    def is_offered(self) -> bool:
        """Whether there is a button; a protected database is only changed by a command."""
        return bool(self.plan.steps) and not self.plan.protected

    @property
    def key(self) -> str:
        """A value that is the same for the same plan."""
        steps = [(step.database, step.revision.id, step.revision.source) for step in self.plan.steps]
        return hashlib.sha256(repr((self.command, steps)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Report:
    """How the databases differ from the code, and what can be done about it.

    :ivar deployments: the differences, by the name of the database, without those that the page does not show.
    :ivar groups: the states of the databases in groups, by the name of the group, if they were looked at.
    :ivar actions: what the page offers.
    :ivar problems: why the history cannot be read, or why the databases cannot be upgraded.
    :ivar pictures: the picture of each database that differs.
    :ivar folders: the folders whose revision files were read.
    """

    deployments: Mapping[str, Deployment] = field(default_factory=dict[str, Deployment])
    groups: Mapping[str, FleetStatus] = field(default_factory=dict[str, FleetStatus])
    actions: Sequence[Action] = ()
    problems: Sequence[str] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict[str, Picture])
    folders: Sequence[Path] = ()

    @property
    def is_clean(self) -> bool:
        """Whether the app can answer instead of the page."""
        return not (self.deployments or self.problems or self.behind_groups)

    @property
    def behind_groups(self) -> Mapping[str, FleetStatus]:
        """The groups with a database that is a reason for the page."""
        return {
            name: found for name, found in self.groups.items() if any(each.status in SHOWN for each in found.others)
        }

    @property
    def status(self) -> Status | None:
        """The worst status; None if it is not known."""
        found = [each.status for each in self.deployments.values()]
        found += [each.status for fleet in self.behind_groups.values() for each in fleet.others]
        return min((each for each in found if each in SHOWN), key=SHOWN.index, default=None)

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of revisions, or of version rows, by status."""
        counts: dict[str, int] = {}
        for deployment in self.deployments.values():
            for finding in deployment.findings:
                counts[finding.status.value] = counts.get(finding.status.value, 0) + len(finding.revisions)
        return counts

    @property
    def key(self) -> object:
        """A value that is the same for the same differences."""
        findings = [
            (name, finding.status, finding.revisions)
            for name, each in self.deployments.items()
            for finding in each.findings
        ]
        members = [
            (each.database, each.status, each.rows) for group in self.behind_groups.values() for each in group.others
        ]
        return findings, members, self.problems


def look(commands: Commands, *, has_groups: bool) -> Report:
    """Return how the databases of an app differ from the code.

    :param has_groups: whether to look at the databases in groups, too, of which there may be many.
    :raises DatabaseError: if a database cannot be reached.
    """
    try:
        project = commands.project()
        has_own = bool(project.homes.names)  # otherwise, all packages live in groups
        deployments, problems = _deployments(commands) if has_own else ({}, [])
        groups = {name: commands.survey(name) for name in project.homes.groups} if has_groups else {}
    except AmphoError as exc:
        if not _is_shown(exc):
            raise
        return Report(problems=[str(exc)])
    folders = [Path(folder) for package in project.packages for folder in package.layout[0]]
    different = {name: each for name, each in deployments.items() if _findings(each)}
    if not (different or problems):
        return Report(groups=groups, folders=folders)
    actions = list(_reverting(commands, different, several=project.has_several_databases))
    try:
        actions += [Action(commands.plan())]
    except AmphoError as exc:
        problems += [str(exc)]
    pictures = dict[str, Picture]()
    with suppress(AmphoError):
        drawn = commands.graph()
        drawings: Mapping[str, Picture] = drawn.databases or {drawn.database: drawn}
        pictures = {name: each for name, each in drawings.items() if name in different}
    return Report(different, groups, actions, problems, pictures, folders)


def _deployments(commands: Commands) -> tuple[Mapping[str, Deployment], list[str]]:
    """Return how each database differs from the code, and why databases cannot be looked at."""
    try:
        found = commands.deployment()
    except DatabasesError as exc:
        results = {name: each for name, each in exc.results.items() if isinstance(each, Deployment)}
        problems = [str(each) for each in exc.errors.values() if _is_shown(each)]
        if not problems and not any(map(_findings, results.values())):
            raise
        return results, problems
    return found.databases or {found.database: found}, []


def _is_shown(error: AmphoError) -> bool:
    """Return whether an error is a reason for the page. The app itself reports a database that cannot be reached."""
    if isinstance(error, DatabasesError):
        return any(map(_is_shown, error.errors.values()))
    return not isinstance(error, DatabaseError) or error.is_missing


def _findings(deployment: Deployment) -> list[Finding]:
    return [each for each in deployment.findings if each.status in SHOWN and not each.is_harmless]


def _reverting(commands: Commands, different: Mapping[str, Deployment], *, several: bool) -> list[Action]:
    """Return the downgrades of missing revisions whose sources are in the journal."""
    found = []
    for name, deployment in different.items():
        if any(finding.status in _WITHOUT_FILES for finding in deployment.findings):
            database = name if several else None
            with suppress(AmphoError):  # the journal does not have the sources; the finding has the other remedies
                plan = commands.plan(MISSING, direction="downgrade", database=database)
                found.append(Action(plan, database))
    return found


def run(commands: Commands, action: Action, observer: Observer) -> Run:
    """Do what a button of the page offers.

    :raises PlanChangedError: if the plan is not that of the page any more.
    """
    if action.plan.direction is Direction.UPGRADE:
        return commands.upgrade(action.plan.specifier, agreed=action.plan, observer=observer)
    return commands.downgrade(
        MISSING, accept_sources=True, agreed=action.plan, database=action.database, observer=observer
    )
