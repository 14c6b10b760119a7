"""Upgrade several databases under one plan.

A revision may depend on a revision in another database, which then has to be applied first. So the steps of all
databases are put into one order, and then run in segments: consecutive steps of one database, under the lock of that
database only. This is not a transaction: if a segment fails, the segments before it stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from ampho._text import counted, listed
from ampho.database.journal import Journal
from ampho.database.version_rows import Applied, owing_state
from ampho.errors import (
    AmphoError,
    ConfigurationError,
    DatabaseError,
    DatabaseNameError,
    DependentsError,
    NotUpToDateError,
    PhaseError,
)
from ampho.history.graph import Graph
from ampho.history.revision import Phase
from ampho.history.specifier import parse
from ampho.migrate.plan import Direction, Plan, Run, Step, StepRun, check_enough, check_finished, plan_upgrade, rest_of
from ampho.migrate.project import Project
from ampho.results import databases_error, naming
from ampho.status import advice


@dataclass(frozen=True)
class State:
    """The state of one database.

    :ivar project: the part of the project that belongs to the database.
    :ivar rows: the version rows.
    :ivar journal: the journal, which was read completely.
    """

    project: Project
    rows: tuple[str, ...]
    journal: Journal

    @cached_property
    def applied(self) -> Applied:
        """The applied revisions."""
        return Applied.from_rows(self.project.graph, self.rows, self.journal)

    @property
    def is_owing(self) -> bool:
        """Whether version rows have to move to other tables."""
        places = self.journal.places
        return bool(places.own) and owing_state(self.applied, self.rows, places) is not None

    def plan(self, specifier: str, phase: Phase | None, *, explains: bool) -> Plan:
        """Plan the upgrade of this database alone.

        :param explains: whether to tell the phases of the steps, even if ``phase`` does not need them.
        :raises UnfinishedRevisionError: if a revision is unfinished.
        """
        with naming(self.project.database):
            check_finished(self.journal)
            phases = self.project.phases if explains or phase else None
            return plan_upgrade(
                self.project.graph, self.rows, specifier, journal=self.journal, phases=phases, phase=phase
            )


@dataclass
class UpgradePlanner:
    """Plans the upgrade of several databases together.

    :ivar whole: the project of the app.
    :ivar databases: the names of the databases to upgrade.
    :ivar is_limited: whether other databases must not be upgraded, even if the steps depend on them.
    :ivar state: reads the state of a database, which need not be one of ``databases``.
    :ivar keeps_going: whether to plan without a database whose state cannot be read, or that cannot be upgraded. For a
        database of a group that cannot be used, that is always so.
    :ivar phase: the phase to which the upgrade is limited.
    :ivar explains: whether the plan is only shown, with the phase of each step.
    :ivar errors: the errors of databases that are left out of the plan.
    """

    whole: Project
    databases: Sequence[str]
    is_limited: bool
    state: Callable[[str], State]
    keeps_going: bool = False
    phase: Phase | None = None
    explains: bool = False
    errors: dict[str, AmphoError] = field(default_factory=dict[str, AmphoError], init=False)
    _plans: dict[str, Plan] = field(default_factory=dict[str, Plan], init=False)

    def plan(self, specifier: str) -> Plan:
        """Return the plan, whose steps are in the order in which they run.

        :raises NotUpToDateError: if a step depends on a revision that is pending in a database that is not upgraded.
        :raises DatabasesError: if several databases cannot be upgraded.
        """
        spec = parse(specifier)
        is_count = spec.branch is None and spec.offset > 0
        for name in self.databases:
            try:
                self._plans[name] = self._plan("heads" if is_count else specifier, name)
            except DatabaseNameError:
                raise
            except AmphoError as exc:
                self.errors[name] = exc
        if self.errors and not self._goes_on:
            raise databases_error(self.errors, {}, others=self.databases)
        todo = [(name, step) for name, plan in self._plans.items() for step in plan.steps]
        while todo:
            todo += self._add_needed(*todo.pop(0))
        steps = [replace(step, database=name) for name, step in self._in_order()]
        if is_count:
            check_enough(spec, steps, "to apply")
            steps = steps[: spec.offset]
        plans = self._plans.values()
        return Plan(
            specifier,
            Direction.UPGRADE,
            tuple(steps),
            rows=tuple(row for plan in plans for row in plan.rows),
            missing=", ".join(f"{plan.missing} in {name}" for name, plan in self._plans.items() if plan.missing),
            asked=frozenset(rid for plan in plans for rid in plan.asked),
            is_of_several=True,
            left_out=tuple(self.errors),
            phase=self.phase,
            held_back=tuple(
                replace(step, database=name) for name, plan in self._plans.items() for step in plan.held_back
            ),
        )

    def _plan(self, specifier: str, database: str) -> Plan:
        return self.state(database).plan(specifier, self.phase, explains=self.explains)

    def _check_not_held_back(self, step: Step, needed: str, plan: Plan) -> None:
        """Raise a PhaseError if a step depends on a revision in another database that has to wait for its phase."""
        if needed in [each.revision.id for each in plan.held_back]:
            revision = step.revision
            raise PhaseError(
                f"{revision.id} of {revision.package} is in phase pre, but depends on {needed} in another database,"
                f' which waits for phase post. Let {revision.id} wait, too, with phase = "post" in its file.',
                package=revision.package,
                revision=revision.id,
                needed=needed,
            )

    @property
    def _goes_on(self) -> bool:
        """Whether the errors of some databases leave a plan for the others."""
        homes = self.whole.homes
        return self.keeps_going or (
            bool(self._plans)
            and all(homes.home(name) in homes.groups for name in self.errors)
            and all(isinstance(error, (DatabaseError, ConfigurationError)) for error in self.errors.values())
        )

    def _add_needed(self, database: str, step: Step) -> Iterator[tuple[str, Step]]:
        """Add the pending steps in other databases that a step depends on, and yield them."""
        for other, needed in self.needed_elsewhere(database, step):
            if other in self.errors:
                continue  # the step is skipped when it is its turn
            found = self._plan(needed, other)
            self._check_not_held_back(step, needed, found)
            if found.steps and self.is_limited and other not in self.databases:
                raise NotUpToDateError(
                    f"{step.revision.id} of {step.revision.package} depends on {needed}, which is not applied to the"
                    f" database {other}. Run 'ampho db-up {needed} --database {other}' first, or upgrade both databases"
                    " together, without --database.",
                    package=self.whole.graph[needed].package,
                    revisions=(needed,),
                )
            plan = self._plans.setdefault(other, replace(found, steps=()))
            known = {each.revision.id: each for each in plan.steps}
            new = [each for each in found.steps if each.revision.id not in known]
            known |= {each.revision.id: each for each in new}
            in_order = self.state(other).applied.graph.sort(known)
            self._plans[other] = replace(plan, steps=tuple(known[rid] for rid in in_order))
            yield from ((other, each) for each in new)

    def _in_order(self) -> Iterator[tuple[str, Step]]:
        """Yield all steps, each after the steps that it depends on, with as few changes of the database as possible."""
        left = {name: list(plan.steps) for name, plan in self._plans.items() if plan.steps}
        waiting = {(name, step.revision.id) for name, steps in left.items() for step in steps}
        while left:
            for name, steps in list(left.items()):
                while steps and waiting.isdisjoint(self.needed_elsewhere(name, steps[0])):
                    waiting.discard((name, steps[0].revision.id))
                    yield name, steps.pop(0)
                if not steps:
                    del left[name]

    def needed_elsewhere(self, database: str, step: Step) -> tuple[tuple[str, str], ...]:
        """Return the revisions in other databases on which a step depends directly: their databases and ids."""
        return self.state(database).project.needed_elsewhere(step.revision.id)


def segment_plan(segment: Plan) -> Callable[[Graph, tuple[str, ...], Journal], Plan]:
    """Return a function that plans the steps of a segment that are still pending when it runs."""

    def make_plan(graph: Graph, rows: tuple[str, ...], journal: Journal) -> Plan:
        applied = Applied.from_rows(graph, rows, journal)
        advice.check_sound(applied)
        rest = rest_of(replace(segment, rows=rows), applied)
        ids = [step.revision.id for step in rest.steps]
        advice.check_appliable(applied, ids)
        advice.check_not_diverged(applied, ids, journal)
        return rest

    return make_plan


def check_not_needed_elsewhere(whole: Project, database: str, plan: Plan, states: Mapping[str, State]) -> None:
    """Check that a downgrade reverts nothing that applied revisions in other databases depend on.

    :param database: the name of the database of the downgrade.
    :param states: the states of the other databases, by name.
    :raises DependentsError: if there are such revisions.
    """
    reverted = {(database, step.revision.id) for step in plan.steps}
    found: dict[str, list[str]] = {}
    for name, state in states.items():
        for rid in state.project.graph.sort(state.applied.known.intersection(state.project.graph.ids)):
            if reverted.intersection(state.project.needed_elsewhere(rid)):
                found.setdefault(name, []).append(rid)
    if found:
        (name, dependents), several = next(iter(found.items())), len(found) > 1
        package = whole.graph[dependents[0]].package
        raise DependentsError(
            f"Revisions in the {'databases' if several else 'database'} {listed(list(found))} depend on those that"
            f" '{plan.specifier}' reverts: {listed(dependents)}. First revert them{' in each' if several else ''}, with"
            f" 'ampho db-down {package}@-1 --database {name}'.",
            specifier=plan.specifier,
            dependents=tuple(dependents),
        )


class Progress:
    """Keeps track of the segments of a plan: which have run, which have failed, and which cannot run any more.

    :param planner: made the plan, and decides whether other databases continue after a failure.
    :ivar errors: the errors of segments that have failed, by database, and those of the planner.
    """

    def __init__(self, plan: Plan, planner: UpgradePlanner) -> None:
        self._plan = plan
        self._planner = planner
        self._left = {(step.database, step.revision.id) for step in plan.steps}  # what has not run
        self._steps: list[StepRun] = []
        self._results: dict[str, Run] = {}  # one for each database, also if it had several segments
        self.errors: dict[str, AmphoError] = dict(planner.errors)
        self._skipped: dict[str, str] = {}

    def segments(self) -> Iterator[tuple[str, Plan]]:
        """Yield the parts of the plan that consist of consecutive steps of one database, with the database.

        Steps that cannot run, because others failed, are left out, and the reason is recorded. A part without steps is
        for a database whose version rows have to move to other tables.
        """
        for database, steps in groupby(self._plan.steps, key=lambda step: step.database):
            if runnable := self._runnable(database, [*steps]):
                yield database, replace(self._plan, steps=tuple(runnable))
        for database in self._planner.databases:
            if database not in self._results and database not in self.errors and self._planner.state(database).is_owing:
                yield database, replace(self._plan, steps=())

    def _runnable(self, database: str, steps: Sequence[Step]) -> Sequence[Step]:
        if database in self.errors or database in self._skipped:
            return ()
        failed = next((name for name in self.errors if name not in self._planner.errors), "")
        if failed and not self._planner.keeps_going:
            self._skipped[database] = f"{counted(len(steps))} did not begin, because {failed} failed"
            return ()
        for number, step in enumerate(steps):
            if reason := self._reason(step):
                self._skipped[database] = reason
                return steps[:number]
        return steps

    def _reason(self, step: Step) -> str:
        """Return why a step cannot run: a step in another database that it depends on has not run."""
        for other, needed in self._planner.needed_elsewhere(step.database, step):
            if (other, needed) in self._left or other in self._planner.errors:
                why = "failed" if other in self.errors else "was skipped"
                return f"{step.revision.id} depends on {needed}, and {other} {why}"
        return ""

    def finished(self, database: str, run: Run) -> None:
        """Record a segment that has run."""
        self._left -= {(database, step.revision.id) for step in run.plan.steps}
        self._steps += run.steps
        before = self._results.get(database, Run(replace(run.plan, steps=()), ()))
        plan = replace(before.plan, steps=before.plan.steps + run.plan.steps)
        self._results[database] = Run(plan, before.steps + run.steps)

    def result(self) -> Run:
        """Return the run of the whole plan.

        :raises DatabasesError: if a segment failed.
        """
        if not self.errors:
            return Run(self._plan, tuple(self._steps))
        results = {name: run for name, run in self._results.items() if name not in self.errors}
        raise databases_error(self.errors, results, self._skipped, self._planner.databases)
