"""What the pending page shows: how the databases differ from the code, and what can be done about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ampho._text import counted
from ampho.commands import Commands
from ampho.errors import AmphoError, DatabaseError
from ampho.history.specifier import MISSING
from ampho.migrate.observers import Observer
from ampho.migrate.plan import Direction, Plan, Run
from ampho.settings import JOURNAL_SOURCE
from ampho.status.deployment import Deployment, Status
from ampho.status.fleet import FleetStatus, MemberState
from ampho.status.graph_view import Picture

SHOWN = (Status.CORRUPT, Status.INTERRUPTED, Status.DIVERGED, Status.AHEAD, Status.BEHIND)
"""The statuses that make the page appear. Edited files, and packages that are not installed, are normal."""

PATIENCE = 1.0
"""The number of seconds for which a request waits for the answer of a server, which it may not even need."""

_WITHOUT_FILES = (Status.AHEAD, Status.MISSING)


@dataclass(frozen=True, slots=True)
class Action:
    """What a button of the page does: an upgrade, or a downgrade of missing revisions.

    :ivar plan: its plan, which is on the page. If another one would run, nothing runs.
    :ivar database: the database of the downgrade; None if the app has only one, and for an upgrade of all.
    :ivar setting: the environment variable that its command needs, such as ``NAME=1``; may be empty.
    """

    plan: Plan
    database: str | None = None
    setting: str = ""

    @property
    def command(self) -> str:
        """What to type instead."""
        if self.plan.direction is Direction.UPGRADE:
            return "ampho db-up"
        option = f" --database {self.database}" if self.database else ""
        return f"{self.setting} ampho db-down {MISSING}{option}".lstrip()

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
        return _digest((self.command, steps))


@dataclass(frozen=True, slots=True)
class Report:
    """How the databases differ from the code, and what can be done about it.

    :ivar deployments: the differences, by the name of the database, without those that the page does not show.
    :ivar groups: the states of the databases in groups, by the name of the group, if they were looked at.
    :ivar actions: what the page offers.
    :ivar problems: why the history cannot be read, or why the databases cannot be upgraded.
    :ivar pictures: the picture of each database that differs.
    :ivar folders: the folders whose revision files were read.
    :ivar is_known: whether the databases could be looked at.
    """

    deployments: Mapping[str, Deployment] = field(default_factory=dict[str, Deployment])
    groups: Mapping[str, FleetStatus] = field(default_factory=dict[str, FleetStatus])
    actions: Sequence[Action] = ()
    problems: Sequence[str] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict[str, Picture])
    folders: Sequence[Path] = ()
    is_known: bool = True

    @property
    def is_clean(self) -> bool:
        """Whether the app can answer instead of the page."""
        return not (self.deployments or self.problems or self.behind_groups)

    @property
    def behind_groups(self) -> Mapping[str, FleetStatus]:
        """The groups with a database that is a reason for the page."""
        return {name: found for name, found in self.groups.items() if any(map(_reasons, found.others))}

    @property
    def status(self) -> Status | None:
        """The worst status; None if it is not known."""
        states: list[Deployment | MemberState] = [*self.deployments.values()]
        states += [each for group in self.behind_groups.values() for each in group.others]
        found = [status for each in states for status in _reasons(each)]
        return min(found, key=SHOWN.index, default=None)

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of revisions, or of version rows, by status."""
        counts: dict[str, int] = {}
        for deployment in self.deployments.values():
            for finding in deployment.findings:
                counts[finding.status.value] = counts.get(finding.status.value, 0) + len(finding.revisions)
        return counts

    @property
    def key(self) -> str:
        """A value that is the same for the same differences."""
        findings = [
            (name, finding.status, finding.revisions)
            for name, each in self.deployments.items()
            for finding in each.findings
        ]
        members = [
            (each.database, each.status, each.rows) for group in self.behind_groups.values() for each in group.others
        ]
        return _digest((findings, members, list(self.problems)))


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:32]


def look(commands: Commands, *, has_groups: bool) -> Report:
    """Return how the databases of an app differ from the code.

    :param has_groups: whether to look at the databases in groups, too, of which there may be many.
    :raises DatabaseError: if a database cannot be reached.
    """
    try:
        project = commands.project()
        deployments, problems = _deployments(commands, project.homes.names)
        groups = {name: commands.survey(name) for name in project.homes.groups} if has_groups else {}
    except AmphoError as exc:
        if not _is_shown(exc):
            raise
        return Report(problems=[str(exc)])
    folders = [Path(folder) for package in project.packages for folder in package.layout[0]]
    different = {name: each for name, each in deployments.items() if _reasons(each)}
    if not (different or problems):
        return Report(groups=groups, folders=folders)
    actions = list(_reverting(commands, different))
    if not problems:
        try:
            actions += [Action(commands.plan())]
        except AmphoError as exc:
            problems = [str(exc)]
    pictures: Mapping[str, Picture] = {}
    with suppress(AmphoError):
        drawn = commands.graph(database=list(different) if project.has_several_databases else None)
        pictures = {**drawn.databases} or {drawn.database: drawn}
    return Report(different, groups, actions, problems, pictures, folders)


def _deployments(commands: Commands, names: Sequence[str]) -> tuple[Mapping[str, Deployment], list[str]]:
    """Return how each database differs from the code, and why databases cannot be looked at, if that matters.

    :param names: the databases, without those of groups.
    :raises AmphoError: if none of them can be looked at.
    """
    found, errors = dict[str, Deployment](), dict[str, AmphoError]()
    for name in names:
        try:
            commands.reach(name, PATIENCE)
            found[name] = commands.deployment(database=name)
        except AmphoError as exc:
            errors[name] = exc
    if errors and not (any(map(_reasons, found.values())) or any(map(_is_shown, errors.values()))):
        raise next(iter(errors.values()))
    return found, [str(error) for error in errors.values()]


def _is_shown(error: AmphoError) -> bool:
    """Return whether an error is a reason for the page. The app itself reports a database that cannot be reached."""
    return not isinstance(error, DatabaseError) or error.is_missing


def _reasons(state: Deployment | MemberState) -> list[Status]:
    """Return the statuses of a database that are a reason for the page.

    Its own status is the worst one, which may be one that the page does not show, such as that of an edited file.
    """
    if isinstance(state, MemberState) and state.error is not None:
        return [state.status] if state.status in SHOWN else []
    return [each.status for each in state.findings if each.status in SHOWN and not each.is_harmless]


def _reverting(commands: Commands, different: Mapping[str, Deployment]) -> list[Action]:
    """Return the downgrades of missing revisions whose sources are in the journal."""
    found = list[Action]()
    project = commands.project()
    # Outside debug mode, the command line only reads the sources with this setting.
    setting = "" if project.settings.journal_source else f"{JOURNAL_SOURCE}=1"
    for name, deployment in different.items():
        if any(finding.status in _WITHOUT_FILES for finding in deployment.findings):
            database = name if project.has_several_databases else None
            with suppress(AmphoError):  # the journal does not have the sources; the finding has the other remedies
                plan = commands.plan(MISSING, direction="downgrade", database=database)
                found.append(Action(plan, database, setting))
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
