"""Plans: the steps that a command would run on a database, from the graph, the version rows, and a specifier.

This module uses no Alembic, and does no I/O, except that :class:`Phases` reads files. It decides what each specifier
means, and rejects specifiers that Alembic would interpret differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from graphlib import TopologicalSorter

from ampho._text import counted, listed
from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.version_rows import Applied
from ampho.errors import DatabaseError, DependentsError, PlanChangedError, SpecifierError, UnfinishedRevisionError
from ampho.history.graph import Branch, Graph
from ampho.history.phases import Phases
from ampho.history.revision import Phase, Revision
from ampho.history.specifier import MISSING, Specifier, check_one_head, find_branch, find_target, parse
from ampho.settings import DEFAULT_DATABASE
from ampho.status import advice
from ampho.status.phases import Schedule

_SHOWN = 10


class Direction(StrEnum):
    """Whether a step applies or reverts its revision."""

    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"


class Cause(StrEnum):
    """Why a step is in a plan."""

    ASKED = "asked for"
    """The specifier names the revision."""
    REQUIRED = "required by"
    """Another step of an upgrade depends on the revision."""
    STANDS = "stands on"
    """The revision depends on another step of a downgrade."""
    REPLACES = "replaces"
    """The revision is only recorded, because all that it replaces is applied by then."""


class InTransaction(StrEnum):
    """Whether a step runs in a transaction, so that a failure leaves nothing behind."""

    WHOLE = "yes"
    PARTLY = "partly"
    """The step has an ``autocommit_block()``, which commits the statements in the block and before it, or a backfill,
    which commits each batch of a large table."""
    NONE = "no"
    """The database commits each statement that changes the schema, as MariaDB and MySQL do."""


@dataclass(frozen=True, slots=True)
class Step:
    """A revision to apply or to revert.

    The attributes after ``direction`` are for reviewing a plan before it runs. They are only set in plans from
    ``plan()``, except for the cause of a revision that is only recorded.

    :ivar revision: the revision.
    :ivar direction: whether to apply or to revert the revision.
    :ivar cause: why the step is in the plan.
    :ivar because_of: the ids of the revisions that are the cause, or that the revision replaces; empty if the
        specifier names this revision.
    :ivar in_transaction: whether the step runs in a transaction, so that a failure leaves nothing behind.
    :ivar losses: how the step may lose data, according to its file, such as ``drops the column stock``.
    :ivar risks: how the step may fail on a table with rows, according to its file, such as ``makes the column stock
        NOT NULL``.
    :ivar phase: whether the step runs before a new release of the app starts, or after the old release is gone; only
        for an upgrade.
    :ivar phase_reason: why, in words.
    :ivar is_phase_inferred: whether the phase was inferred from what the revision does.
    :ivar phase_conflict: what else the revision does that the new release needs, if its phase was inferred as ``post``;
        empty if nothing.
    :ivar database: the name of the database in which the step runs.
    """

    revision: Revision
    direction: Direction
    cause: Cause | None = field(default=None, compare=False)
    because_of: tuple[str, ...] = field(default=(), compare=False)
    in_transaction: InTransaction | None = field(default=None, compare=False)
    losses: tuple[str, ...] = field(default=(), compare=False)
    risks: tuple[str, ...] = field(default=(), compare=False)
    phase: Phase | None = field(default=None, compare=False)
    phase_reason: str = field(default="", compare=False)
    is_phase_inferred: bool = field(default=False, compare=False)
    phase_conflict: str = field(default="", compare=False)
    database: str = DEFAULT_DATABASE

    @property
    def is_recorded(self) -> bool:
        """Whether the revision is only recorded, because all that it replaces is applied by then."""
        return self.cause is Cause.REPLACES

    @property
    def reason(self) -> str:
        """Why the step is in the plan, in words; empty unless ``plan()`` made the plan."""
        if self.cause is None:
            return ""
        more = f" and {len(self.because_of) - 1} more" if len(self.because_of) > 1 else ""
        words = "depends on" if self.cause is Cause.STANDS else self.cause
        return " ".join([words, *self.because_of[:1]]) + more


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered steps that a command would run.

    :ivar specifier: the specifier as it was typed.
    :ivar direction: whether the steps apply or revert their revisions.
    :ivar steps: the steps, in the order in which they run.
    :ivar rows: the version rows that the plan was made from.
    :ivar missing: a description of the missing revisions; empty if there are none.
    :ivar failed: the revision whose upgrade just failed, if the specifier is only a number of steps to revert;
        otherwise empty.
    :ivar asked: the ids of the revisions that the specifier names; they are the cause of the other steps.
    :ivar protected: the name of the database, if a user has to confirm the plan by typing this name; otherwise empty.
    :ivar fingerprint: what ``AMPHO_CONFIRM`` has to contain after the name of a protected database; otherwise empty.
    :ivar is_of_several: whether the packages of the app live in several databases.
    :ivar left_out: the databases of groups that the plan leaves out, because they cannot be used.
    :ivar phase: the phase of the upgrade, if it is limited to one.
    :ivar held_back: the steps that an upgrade in phase ``pre`` leaves for phase ``post``.
    :ivar only_upgrades: the ids of the revisions of a downgrade whose ``downgrade()`` does nothing, although their
        ``upgrade()`` changes the schema.
    """

    specifier: str
    direction: Direction
    steps: tuple[Step, ...]
    rows: tuple[str, ...] = ()
    missing: str = ""
    asked: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    protected: str = field(default="", compare=False)
    fingerprint: str = field(default="", compare=False)
    failed: str = field(default="", compare=False)
    is_of_several: bool = field(default=False, compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)
    phase: Phase | None = field(default=None, compare=False)
    held_back: tuple[Step, ...] = field(default=(), compare=False)
    only_upgrades: tuple[str, ...] = field(default=(), compare=False)

    def in_database(self, name: str, *, is_of_several: bool) -> Plan:
        """Return this plan with the name of the database in which all of its steps run."""
        if not is_of_several:
            return self
        steps, held_back = (
            tuple(replace(step, database=name) for step in each) for each in (self.steps, self.held_back)
        )
        return replace(self, steps=steps, held_back=held_back, is_of_several=True)

    @property
    def databases(self) -> tuple[str, ...]:
        """The databases of the steps, in the order of the steps."""
        return tuple(dict.fromkeys(step.database for step in self.steps))

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages of the steps, in the order of the steps."""
        return tuple(dict.fromkeys(step.revision.package for step in self.steps))

    @property
    def warning(self) -> str:
        """A warning about missing revisions, a failed upgrade, or what a downgrade leaves; empty if there is none."""
        warnings = []
        if self.failed:
            warnings.append(
                f"The upgrade of {self.failed} just failed and left nothing to revert, so this command reverts"
                " earlier revisions."
            )
        if self.missing:
            have = "There are" if self.is_of_several else "The database has"
            warnings.append(f"{have} missing revisions: {self.missing}; see 'ampho db-current'.")
        if self.only_upgrades:
            warnings.append(
                f"The downgrade() of {listed(self.only_upgrades)} does nothing, but upgrade() changes the schema, so"
                " the database will not match the history. Write a downgrade(), or raise NotImplementedError"
                " there if the revision is irreversible."
            )
        for step in self.held_back:
            if step.phase_conflict:
                also = "" if step.phase_conflict == step.phase_reason else f", and also {step.phase_conflict}"
                warnings.append(
                    f"{step.revision.id} waits for phase post, because it {step.phase_reason}{also}, which the new"
                    " release needs. Split it into two revisions."
                )
        return " ".join(dict.fromkeys(warnings))  # once, even if a step is held back in several databases

    @property
    def along(self) -> tuple[str, ...]:
        """The packages whose steps the specifier does not name, in the order of the steps."""
        asked = {step.revision.package for step in self.steps if step.revision.id in self.asked}
        return tuple(package for package in self.packages if package not in asked)

    def fingerprint_with(self, journal: Journal) -> str:
        """Return the fingerprint of this plan for a database with a journal."""
        steps = [(step.revision.id, step.direction, step.revision.checksum) for step in self.steps]
        return journal.fingerprint([steps, self.rows])

    def check_agreed(self, agreed: Plan | None) -> None:
        """Check that this plan has the same steps as the confirmed plan.

        :param agreed: the plan that was confirmed; None if no confirmation was requested.
        :raises PlanChangedError: if the steps, or their files, are different.
        """
        if agreed is not None and _contents(self) != _contents(agreed):
            command = "db-up" if self.direction is Direction.UPGRADE else "db-down"
            raise PlanChangedError(
                f"The plan of 'ampho {command} {self.specifier}' changed after you confirmed it"
                f"{_what_changed(agreed, self)}. Review the new plan, and run the command again; nothing was changed."
            )


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step that was run.

    :ivar step: the step.
    :ivar duration: how long the step took, in seconds, including the commit.
    """

    step: Step
    duration: float

    @property
    def revision(self) -> Revision:
        """The revision of the step."""
        return self.step.revision

    @property
    def direction(self) -> Direction:
        """Whether the step was an upgrade or a downgrade."""
        return self.step.direction


@dataclass(frozen=True, slots=True)
class Run:
    """The result of an upgrade or a downgrade.

    :ivar plan: the plan; it has no steps if there was nothing to do.
    :ivar steps: the steps that ran.
    """

    plan: Plan
    steps: tuple[StepRun, ...]

    @property
    def duration(self) -> float:
        """How long the steps took, in seconds."""
        return sum(step.duration for step in self.steps)


def check_finished(journal: Journal) -> None:
    """Raise an UnfinishedRevisionError if a revision is unfinished."""
    for entry in journal.unresolved:
        raise unfinished_error(entry)


def check_direction(journal: Journal, direction: str) -> None:
    """Raise an UnfinishedRevisionError if a backfill of a revision has to continue in the other direction first."""
    for entry in journal.unfinished:
        if entry.direction != direction and (stopped := journal.stopped(entry)):
            raise UnfinishedRevisionError(
                f"The {entry.direction} of {entry.revision} of {entry.package} has stopped in a backfill ({stopped})."
                f" Continue it with {stopped.continued_by}, or mark the revision with 'ampho db-resolve"
                f" {entry.revision} --applied' or '--not-applied', which discards its progress.",
                revision=entry.revision,
                package=entry.package,
            )


def unfinished_error(entry: Entry, left: str = "") -> UnfinishedRevisionError:
    """Return the error for an unfinished revision.

    :param left: a sentence about what the revision left in the database, with a leading space; may be empty.
    """
    began = f" on {entry.started:%Y-%m-%d at %H:%M:%S} UTC" if entry.started else ""
    what = "failed halfway" if entry.outcome is Outcome.PARTIAL else "was interrupted"
    remains = "some of its changes may remain"
    if entry.statements is not None:
        first = "its first statement" if entry.statements == 1 else f"its first {entry.statements} statements"
        remains = f"the changes of {first} may remain"
    why = f" The error was: {entry.error.rstrip('.')}." if entry.error else ""
    return UnfinishedRevisionError(
        f"The {entry.direction} of {entry.revision} of {entry.package}, which began{began} on the machine {entry.host},"
        f" {what}, so {remains}.{why}{left} {repair_hint(entry.revision)}",
        revision=entry.revision,
        package=entry.package,
    )


def repair_hint(revision_id: str, *, has_journal: bool = True) -> str:
    """Return instructions for repairing an unfinished revision."""
    mark = f"mark the revision with 'ampho db-resolve {revision_id} --applied' or '--not-applied'"
    finish = mark if has_journal else "run the command again"
    return f"Compare the database with the revision's file, repair the database by hand, and {finish}."


def _contents(plan: Plan) -> list[tuple[str, Direction, str, str]]:
    return [(step.revision.id, step.direction, step.revision.checksum, step.database) for step in plan.steps]


def _what_changed(agreed: Plan, plan: Plan) -> str:
    """Return a clause that says how a plan differs from the confirmed one."""
    if [(each.database, each.revision.id) for each in agreed.steps] != [
        (each.database, each.revision.id) for each in plan.steps
    ]:
        why = "Another process migrated the database, or files were added or removed"
        return f", from '{_in_words(agreed)}' to '{_in_words(plan)}'. {why}"
    both = zip(agreed.steps, plan.steps, strict=True)
    edited = [one.revision.id for one, other in both if one.revision.checksum != other.revision.checksum]
    return f": the {'file' if len(edited) == 1 else 'files'} of {listed(edited, _SHOWN)} changed"


def _in_words(plan: Plan) -> str:
    ids = [step.revision.id for step in plan.steps]
    return f"{plan.direction} {listed(ids, _SHOWN)}" if ids else "do nothing"


def plan_upgrade(
    graph: Graph,
    rows: Iterable[str],
    specifier: str = "heads",
    *,
    journal: Journal | None = None,
    phases: Phases | None = None,
    phase: Phase | None = None,
) -> Plan:
    """Plan an upgrade.

    :param rows: the version rows of the database.
    :param journal: the journal of the database, which may lack changes made by other tools.
    :param phases: tells the phases of revisions; None if neither the steps nor ``phase`` need them.
    :param phase: the phase to which the upgrade is limited. ``post`` runs everything that is left.
    :raises PhaseError: if the plan has a revision in phase ``pre`` that depends on a pending one in phase ``post``.
    :raises SpecifierError: if the specifier does not name revisions to apply.
    :raises PackageNotFoundError: if the specifier means all packages, and one of them is neither installed nor applied.
    :raises UnknownRevisionsError: if missing revisions prevent the upgrade.
    :raises VersionTableError: if one of the rows cannot be a revision.
    :raises DivergedError: if the upgrade needs a revision that has diverged.
    """
    rows, spec, journal = tuple(rows), parse(specifier), journal or Journal()
    applied = Applied.from_rows(graph, rows, journal)
    advice.check_sound(applied)
    schedule = Schedule.of(applied, set(applied.graph.ids) - applied.known, phases) if phases else None
    held = schedule.held if schedule and phase is Phase.PRE else frozenset[str]()
    targets = _upgrade_targets(applied, spec, held)
    if spec.branch is None and (spec.offset or spec.target == "heads"):
        advice.check_installed(applied)
    elif targets and targets <= applied.missing:
        advice.check_has_files(applied, targets, f"'ampho db-up {spec.text}'")
    ids = set() if applied.known.issuperset(targets) else applied.graph.ancestors(targets) - applied.known
    ids |= _completed(applied, ids)
    advice.check_appliable(applied, ids)
    advice.check_not_diverged(applied, targets, journal)
    asked = ids if spec.branch is None and spec.target == "heads" else targets
    plan = _plan(applied, spec, Direction.UPGRADE, applied.graph.sort(ids - held), rows, asked=asked, schedule=schedule)
    if schedule is None or phase is None:
        return plan
    left = applied.graph.sort(ids & held)
    schedule.check(left)
    return replace(plan, phase=phase, held_back=tuple(_step(applied, revision_id, schedule) for revision_id in left))


def plan_new(graph: Graph, new: AbstractSet[str], phases: Phases) -> Plan:
    """Plan the upgrade in phase ``pre`` of a database that only lacks new revisions, and what depends on them.

    :raises PhaseError: as for :func:`plan_upgrade`.
    """
    rows = graph.exact_rows(set(graph.ids) - new - graph.descendants(new))
    return plan_upgrade(graph, rows, phases=phases, phase=Phase.PRE)


def _step(applied: Applied, revision_id: str, schedule: Schedule) -> Step:
    """Return a step of an upgrade, with its phase."""
    found = schedule.placements[revision_id]
    return Step(
        applied.graph[revision_id],
        Direction.UPGRADE,
        phase=found.phase,
        phase_reason=found.reason,
        is_phase_inferred=found.is_inferred and not found.is_neutral,
        phase_conflict=found.conflict,
    )


def _completed(applied: Applied, ids: AbstractSet[str]) -> set[str]:
    """Return the revisions of which everything is applied, except for their record, once the given ones are."""
    graph, known = applied.graph, {*applied.known, *ids}
    found: set[str] = set()
    for revision_id in graph.ids if graph.has_replacements else ():
        if graph.is_recorded(revision_id) and revision_id not in known and known.issuperset(graph.parents(revision_id)):
            found.add(revision_id)
            known.add(revision_id)
    return found


def check_upgrade(graph: Graph, specifier: str) -> None:
    """Check the specifier of an upgrade as far as this is possible without the state of a database.

    :raises SpecifierError: if no database can be upgraded to it.
    """
    spec = parse(specifier)
    if spec.offset > 0:
        ids = graph.ids if spec.branch is None else find_branch(graph, spec.branch, spec.text).ids
        check_enough(spec, ids, "to apply")
    else:
        _upgrade_targets(Applied.from_rows(graph, (), Journal()), spec)


def plan_downgrade(
    graph: Graph,
    rows: Iterable[str],
    specifier: str = "-1",
    *,
    cascade: bool = False,
    journal: Journal | None = None,
) -> Plan:
    """Plan a downgrade.

    :param rows: the version rows of the database.
    :param cascade: whether to also revert revisions of other packages that depend on the reverted ones.
    :param journal: the journal of the database, which may lack changes made by other tools.
    :raises SpecifierError: if the specifier does not name revisions to revert.
    :raises DependentsError: if other applied revisions depend on the reverted ones, and ``cascade`` is false.
    :raises UnknownRevisionsError: if missing revisions prevent the downgrade.
    :raises VersionTableError: if one of the rows cannot be a revision.
    :raises DivergedError: if the dependencies changed after the revisions ran, so that no order is possible.
    """
    rows, spec, journal = tuple(rows), parse(specifier), journal or Journal()
    applied = Applied.from_rows(graph, rows, journal)
    advice.check_sound(applied)
    applied = advice.as_ran(applied, journal)
    removed = _downgrade_targets(applied, spec, journal)
    dependents = (applied.graph.descendants(removed) & applied.known) - removed
    touched = set(map(applied.package, removed))
    ahead = {rid for rid in applied.missing if removed and applied.package(rid) in applied.ahead & touched}
    advice.check_has_files(applied, removed | dependents | ahead, f"'ampho db-down {spec.text}'")
    if dependents and not cascade:
        raise _dependents_error(applied.graph, spec, dependents)
    steps = reversed(_as_applied(applied.graph, removed | dependents, journal))
    plan = _plan(applied, spec, Direction.DOWNGRADE, steps, rows, asked=removed)
    is_unnamed = spec.offset and spec.branch is None
    return replace(plan, failed=journal.failed) if is_unnamed and plan.steps else plan


def _as_applied(graph: Graph, ids: Iterable[str], journal: Journal) -> list[str]:
    """Return applied revisions in the order in which they were applied.

    A revision without an entry in the journal comes right after its dependencies, or first if it has none.
    """
    positions: dict[str, int] = {}
    for revision_id in graph.sort(ids):
        needed = [positions[parent] for parent in graph.parents(revision_id) if parent in positions]
        positions[revision_id] = max([journal.positions.get(revision_id, 0), *needed])
    return sorted(positions, key=positions.__getitem__)


def graph_of(plan: Plan, graph: Graph, rows: Iterable[str], journal: Journal) -> Graph:
    """Return the graph of a plan, with missing revisions and, for a downgrade, the dependencies in the journal."""
    upgrades = plan.direction is Direction.UPGRADE
    if upgrades and not plan.missing and not graph.has_replacements:
        return graph
    applied = Applied.from_rows(graph, rows, journal)
    return applied.graph if upgrades else advice.as_ran(applied, journal).graph


def rest_of(plan: Plan, applied: Applied) -> Plan:
    """Return the remaining steps of a plan, even if another process has migrated the database since the plan was made.

    :raises DatabaseError: if one of these steps no longer fits the version rows.
    """
    done = applied.known.difference(applied.taken)
    left = [step for step in plan.steps if (step.revision.id in done) is (step.direction is Direction.DOWNGRADE)]
    known = set(applied.known)
    for step in left:
        revision_id = step.revision.id
        if step.direction is Direction.DOWNGRADE:
            known.discard(revision_id)
            fits = known.isdisjoint(applied.graph.children(revision_id))
        else:
            fits = known.issuperset(applied.graph.parents(revision_id))
            known.add(revision_id)
        if not fits:
            raise DatabaseError("Another process has migrated the database in the meantime. Run the command again.")
    return replace(plan, steps=tuple(left), rows=applied.graph.exact_rows(applied.known))


def _plan(
    applied: Applied,
    spec: Specifier,
    direction: Direction,
    ids: Iterable[str],
    rows: tuple[str, ...],
    *,
    asked: set[str],
    schedule: Schedule | None = None,
) -> Plan:
    if schedule is None:
        steps = tuple(Step(applied.graph[revision_id], direction) for revision_id in ids)
    else:
        steps = tuple(_step(applied, revision_id, schedule) for revision_id in ids)
    if direction is Direction.UPGRADE and applied.graph.has_replacements:
        taken = tuple(_recorded(Step(applied.graph[revision_id], direction)) for revision_id in applied.taken)
        is_recorded = applied.graph.is_recorded
        steps = (*taken, *(_recorded(step) if is_recorded(step.revision.id) else step for step in steps))
    missing = advice.describe_missing(applied) if applied.missing else ""
    return Plan(spec.text, direction, steps, tuple(sorted(rows)), missing, frozenset(asked))


def _recorded(step: Step) -> Step:
    return replace(step, cause=Cause.REPLACES, because_of=step.revision.replaces)


def _upgrade_targets(state: Applied, spec: Specifier, held: AbstractSet[str] = frozenset()) -> set[str]:
    graph = state.graph
    if spec.target == "base" or spec.offset < 0:
        raise _invalid(spec, f"that is a downgrade. Run 'ampho db-down {spec.text}' to revert revisions")
    match spec:
        case Specifier(branch=None, target="heads"):
            return {head for name in graph.packages for head in graph.heads(name)}
        case Specifier(branch=None, target="head"):
            raise _invalid(
                spec, "each package has its own head. Type 'heads' for all packages, or PACKAGE@head for one"
            )
        case Specifier(branch=name, target=""):
            pending = [revision_id for revision_id in graph.ids if revision_id not in state.known | held]
            if name is not None:
                return _next_of_branch(graph, find_branch(graph, name, spec.text), pending, spec)
            check_enough(spec, pending, "to apply")
            return set(pending[: spec.offset])
        case Specifier(branch=str(name), target="head" | "heads"):
            branch = find_branch(graph, name, spec.text)
            if spec.target == "head":
                check_one_head(graph, branch, spec)
            return set(branch.ids)
    target = find_target(graph, spec, "+")
    return set(target.ids) if isinstance(target, Branch) else {target}


def _downgrade_targets(state: Applied, spec: Specifier, journal: Journal) -> set[str]:
    graph, applied = state.graph, state.known
    if spec.target in {"head", "heads"} or spec.offset > 0:
        typed = "heads" if spec.text == "head" else spec.text
        raise _invalid(spec, f"that is an upgrade. Run 'ampho db-up {typed}' to apply revisions")
    if spec.text == MISSING and graph.branch(MISSING) is None and MISSING not in graph:
        return _missing(state, spec)
    match spec:
        case Specifier(branch=None, target="base"):
            return set(applied)
        case Specifier(branch=None, target=""):
            return _last_steps(graph, applied, spec, journal)
        case Specifier(branch=str(name), target=""):
            return _next_of_branch(graph, find_branch(graph, name, spec.text), applied, spec)
        case Specifier(branch=str(name), target="base"):
            return set(find_branch(graph, name, spec.text).ids) & applied
    target = find_target(graph, spec, "-")
    if isinstance(target, Branch):
        raise _invalid(
            spec,
            f"this does not say how far to downgrade. Type {target.name}@-1 to revert its last revision,"
            f" or {target.name}@base to revert all of them",
        )
    if target not in applied:
        which = "that" if target == spec.text else target
        raise _invalid(spec, f"{which} is not applied. Type the id of an applied revision; see 'ampho db-current'")
    return graph.after(target) & applied


def _missing(state: Applied, spec: Specifier) -> set[str]:
    """Return the applied revisions without a file, including those whose source is from the journal."""
    found = {rid for rid in state.known if state.graph.is_missing(rid) or state.graph[rid].source}
    if not found:
        raise _invalid(spec, "no applied revision is missing. See 'ampho db-current'")
    return found


def _next_of_branch(graph: Graph, branch: Branch, candidates: Iterable[str], spec: Specifier) -> set[str]:
    """Return the revisions of a branch that an upgrade applies next, or that a downgrade reverts next.

    :param candidates: the pending revisions for an upgrade, or the applied revisions for a downgrade.
    :raises SpecifierError: if several revisions may be next.
    """

    def only(ends: Sequence[str]) -> Sequence[str]:
        if len(ends) == 1:
            return ends
        which = "possible next revisions" if spec.offset > 0 else "heads to revert from"
        text = f"{branch.name} has {len(ends)} {which}: {', '.join(ends)}."
        if spec.offset > 0:
            raise _invalid(spec, f"{text} Type one of them")
        ways = " or ".join([*_below(graph, ends, branch), f"{branch.name}@base"])
        raise _invalid(spec, f"{text} Type {ways} to revert all of them")

    ids = set(branch.ids).intersection(candidates)
    check_enough(spec, ids, f"to {'apply' if spec.offset > 0 else 'revert'} in {branch.name}")
    return _taken(graph, ids, spec.offset, only)


def _last_steps(graph: Graph, applied: frozenset[str], spec: Specifier, journal: Journal) -> set[str]:
    """Return the revisions applied last, according to the journal if the graph allows several orders."""

    def last(ends: Sequence[str]) -> Sequence[str]:
        if len(ends) == 1:
            return ends
        if stopped := _stopped(ends, journal):
            return stopped
        if all(map(journal.records_applied, ends)):
            return [max(ends, key=journal.positions.__getitem__)]
        if all(map(graph.is_missing, ends)):
            return ends  # refused later, because they are missing
        packages = dict.fromkeys(graph[end].package for end in ends if not graph.is_missing(end))
        ways = " or ".join(f"'ampho db-down {name}@-1'" for name in packages)
        raise _invalid(spec, f"no record says which of {len(ends)} revisions was applied last. Run {ways}")

    check_enough(spec, applied, "to revert")
    return _taken(graph, applied, spec.offset, last)


def _stopped(ends: Sequence[str], journal: Journal) -> Sequence[str]:
    """Return the first of some revisions whose downgrade has stopped in a backfill; empty if there is none."""
    stopped = {entry.revision for entry in journal.interrupted if journal.stopped(entry)}
    return [end for end in ends if end in stopped][:1]


def _taken(graph: Graph, ids: Iterable[str], offset: int, choose: Callable[[Sequence[str]], Sequence[str]]) -> set[str]:
    """Return ``abs(offset)`` revisions from the beginning of ``ids``, or from the end if ``offset`` is negative.

    :param choose: picks the next revision from the candidates; if it picks several, this function returns those.
    """
    needs = graph.parents if offset > 0 else graph.children
    members, taken = set(ids), set[str]()
    sorter = TopologicalSorter({revision_id: members.intersection(needs(revision_id)) for revision_id in members})
    sorter.prepare()
    ends = set(sorter.get_ready())
    while len(taken) < abs(offset):
        chosen = choose(graph.sort(ends))
        if len(chosen) > 1:
            return set(chosen)
        sorter.done(*chosen)
        taken.update(chosen)
        ends = ends.difference(chosen).union(sorter.get_ready())
    return taken


def _below(graph: Graph, tips: Iterable[str], branch: Branch) -> list[str]:
    """Return the branch's latest revision that all ``tips`` depend on, if any. A downgrade to it reverts the tips."""
    common = set.intersection(*(set(graph.ancestors([tip])) - {tip} for tip in tips)) & set(branch.ids)
    return list(graph.sort(common)[-1:])


def _dependents_error(graph: Graph, spec: Specifier, dependents: Iterable[str]) -> DependentsError:
    ids = graph.sort(dependents)
    shown = listed([f"{revision_id} ({graph[revision_id].package})" for revision_id in ids], _SHOWN)
    return DependentsError(
        f"Other applied revisions depend on those that 'ampho db-down {spec.text}' reverts: {shown}."
        f" Run 'ampho db-down {spec.text} --cascade' to revert them, too.",
        specifier=spec.text,
        dependents=ids,
    )


def _invalid(spec: Specifier, why: str) -> SpecifierError:
    return SpecifierError(f"{spec.text}: {why}.", specifier=spec.text)


def check_enough(spec: Specifier, ids: Sized, what: str) -> None:
    """Check that there are enough revisions for the offset of a specifier."""
    if abs(spec.offset) > len(ids):
        only = f"{'is' if len(ids) == 1 else 'are'} only {counted(len(ids))}" if ids else "is nothing"
        raise SpecifierError(f"There {only} {what}.", specifier=spec.text)
