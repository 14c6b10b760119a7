"""Running on a connection: where the database is, what would be done, and doing it.

Everything here takes a sync ``Connection``. Flask passes one; Quart passes the one that ``AsyncConnection.run_sync``
gives. Nothing is printed: an :class:`Observer` is told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from ampho._describe import describe, location
from ampho._hints import with_hint
from ampho.errors import AmphoError, RevisionFailedError
from ampho.graph import Graph
from ampho.plan import Direction, Plan, Step, plan_downgrade, plan_upgrade
from ampho.project import Project
from ampho.state import CurrentState, current_state
from ampho.url import redact

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection

    from ampho._alembic import EnvironmentRun

_log = logging.getLogger("ampho")


class Observer:
    """Is told what a run does. Override what you want to hear of."""

    def planned(self, plan: Plan) -> None:
        """Hear that the plan is accepted, and about to run."""

    def started(self, step: Step) -> None:
        """Hear that a step begins."""

    def applied(self, step: Step, duration: float) -> None:
        """Hear that a step is committed, after ``duration`` seconds."""

    def failed(self, step: Step, error: AmphoError) -> None:
        """Hear that a step failed; the run ends with ``error``."""

    def interrupted(self, step: Step) -> None:
        """Hear that a step was interrupted, by Ctrl-C or a cancelled task, which ends the run."""

    def warned(self, message: str) -> None:
        """Hear that something about the configuration is odd; unless overridden, the logger ``ampho`` does."""
        _log.warning(message)


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step that was run.

    :ivar duration: seconds, the commit included.
    """

    step: Step
    duration: float


@dataclass(frozen=True, slots=True)
class Run:
    """What a command did.

    :ivar plan: what it set out to do; a plan without steps means that there was nothing to do.
    :ivar steps: what it did.
    """

    plan: Plan
    steps: tuple[StepRun, ...]


@contextmanager
def migrating(connection: Connection) -> Iterator[Connection]:
    """Give the connection on which revisions run, with real transactions; what it needs ends with it.

    :param connection: a fresh connection, on which nothing was executed.
    """
    if connection.dialect.name == "sqlite":
        from ampho._sqlite import transactional

        with transactional(connection) as shadow:
            yield shadow
        return
    if _autocommits(connection):
        level = connection.default_isolation_level
        connection = connection.execution_options(
            isolation_level="READ COMMITTED" if level in (None, "AUTOCOMMIT") else level
        )
    yield connection


def _autocommits(connection: Connection) -> bool:
    """Tell whether the driver commits each statement; ``get_isolation_level()`` knows that on few drivers."""
    try:
        return connection.dialect.detect_autocommit_setting(connection.connection.dbapi_connection)  # type: ignore[arg-type]  # never None here
    except (AttributeError, NotImplementedError):  # SQLAlchemy before 2.0.43, or another dialect
        options = connection.get_execution_options()
        engines_own = getattr(connection.dialect, "_on_connect_isolation_level", None)
        return "AUTOCOMMIT" in (options.get("isolation_level"), engines_own, connection.get_isolation_level())


def upgrade(
    project: Project,
    connection: Connection,
    specifier: str = "heads",
    *,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Upgrade the database of a connection.

    :param x: values for ``context.get_x_argument()``.
    :raises AmphoError: before anything is changed, or naming the revision that failed.
    """
    project.check_migratable(specifier)
    return _run(project, connection, lambda graph, rows: plan_upgrade(graph, rows, specifier), x, observer)


def downgrade(
    project: Project,
    connection: Connection,
    specifier: str = "-1",
    *,
    cascade: bool = False,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Downgrade the database of a connection.

    :param cascade: whether revisions of other packages that depend on what goes may go too.
    :param x: values for ``context.get_x_argument()``.
    :raises AmphoError: before anything is changed, or naming the revision that failed.
    """
    project.check_migratable(specifier)

    def make_plan(graph: Graph, rows: Iterable[str]) -> Plan:
        return plan_downgrade(graph, rows, specifier, cascade=cascade)

    return _run(project, connection, make_plan, x, observer)


def plan(
    project: Project,
    connection: Connection,
    specifier: str | None = None,
    *,
    direction: Direction | str = Direction.UPGRADE,
    cascade: bool = False,
    x: Sequence[str] = (),
) -> Plan:
    """Return what :func:`upgrade` or :func:`downgrade` would do now, and do nothing."""
    project.check_migratable(specifier)
    rows = read_rows(project, connection, x)
    if Direction(direction) is Direction.UPGRADE:
        return plan_upgrade(project.graph, rows, "heads" if specifier is None else specifier)
    return plan_downgrade(project.graph, rows, "-1" if specifier is None else specifier, cascade=cascade)


def current(project: Project, connection: Connection, *, x: Sequence[str] = ()) -> CurrentState:
    """Return what is applied, per package."""
    return current_state(project.graph, read_rows(project, connection, x))


def read_rows(project: Project, connection: Connection, x: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the rows of the version table that the host's ``env.py`` configures; none if there is no table."""
    found: list[tuple[str, ...]] = []

    def work(rows: tuple[str, ...], *context: object) -> Iterable[RevisionStep]:
        found.append(rows)
        return ()

    perform(project, connection, x, work)
    return found[0]


def perform(
    project: Project,
    connection: Connection,
    x: Sequence[str],
    work: Callable[[tuple[str, ...], MigrationContext, ScriptDirectory], Iterable[RevisionStep]],
) -> None:
    """Run the host's ``env.py`` once with ``work`` inside, for work that runs no step."""
    from ampho._alembic import EnvironmentRun

    if connection.dialect.name == "sqlite":
        from ampho._sqlite import check_not_in_use

        check_not_in_use(connection)
    environment = EnvironmentRun(project, connection, x)
    try:
        environment.perform(work)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 (raised again as an error of Ampho)
        raise_from(environment.failure(exc), exc)


def raise_from(error: AmphoError, exc: BaseException) -> NoReturn:
    """Raise what became of an exception, which may be that exception itself, and then is no cause of its own."""
    if error is exc:
        raise error
    raise error from exc


def _run(
    project: Project,
    connection: Connection,
    make_plan: Callable[[Graph, tuple[str, ...]], Plan],
    x: Sequence[str],
    observer: Observer | None,
) -> Run:
    from ampho._alembic import EnvironmentRun

    project.graph  # noqa: B018  # what is wrong with the files is said before the database is asked for anything
    with migrating(connection) as migrating_connection:
        runner = _Runner(project, make_plan, observer or Observer())
        environment = EnvironmentRun(project, migrating_connection, x)
        try:
            environment.perform(runner.work)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 (raised again as an error of Ampho)
            raise_from(runner.failure(exc, environment), exc)
        except BaseException:
            runner.interrupted()
            raise
        return runner.result(environment)


@dataclass
class _Runner:
    """Plans inside the run of ``env.py``, gives Alembic the steps, and keeps what became of them."""

    project: Project
    make_plan: Callable[[Graph, tuple[str, ...]], Plan]
    observer: Observer
    plan: Plan | None = None
    current: Step | None = None
    done: list[StepRun] = field(default_factory=list)
    dialect: str = ""
    _committed_early: bool = field(default=False, init=False)
    _observer_failed: bool = field(default=False, init=False)

    def tell(self, hear: Callable[..., None], *args: object) -> None:
        """Tell the observer, which has no say: what the first call of it raises is logged, and the run goes on."""
        try:
            hear(*args)
        except Exception as exc:  # noqa: BLE001 (an observer is anybody's)
            if not self._observer_failed:
                why = redact(f"{describe(exc)} ({location(exc, None)})", self.project.url)
                _log.warning("%s failed, and the run goes on without it: %s", type(self.observer).__name__, why)
            self._observer_failed = True

    def work(self, rows: tuple[str, ...], context: MigrationContext, script: ScriptDirectory) -> Iterator[RevisionStep]:
        from ampho._alembic import ensure_version_table, load_steps

        self.dialect = context.dialect.name
        self.plan = self.make_plan(self.project.graph, rows)
        steps = load_steps(script, self.project.graph, rows, self.plan.steps)
        self.tell(self.observer.planned, self.plan)
        if steps and not rows:
            ensure_version_table(context)
        self._watch_autocommit_blocks(context)
        for step, alembic_step in zip(self.plan.steps, steps, strict=True):
            self.current, self._committed_early = step, False
            self.tell(self.observer.started, step)
            begun = time.perf_counter()
            yield alembic_step
            self.done.append(StepRun(step, time.perf_counter() - begun))
            self.current = None
            self.tell(self.observer.applied, step, self.done[-1].duration)

    def _watch_autocommit_blocks(self, context: MigrationContext) -> None:
        """Learn of each ``op.get_context().autocommit_block()``, which commits what the revision did before it."""
        block = context.autocommit_block

        @contextmanager
        def watched() -> Iterator[None]:
            self._committed_early = True
            with block():
                yield

        context.autocommit_block = watched  # type: ignore[method-assign]  # of this run only

    def failure(self, exc: BaseException, environment: EnvironmentRun) -> AmphoError:
        """Return what was raised as an error that names the revision, if one was running."""
        finished = [run.step.revision.id for run in self.done]
        if self.current is None:
            return environment.failure(exc, finished)
        revision = self.current.revision
        where = location(exc, revision.path) or str(revision.path)
        before = ", ".join(finished) or "none"
        why = redact(with_hint(describe(exc)), self.project.url).rstrip(".")
        error = RevisionFailedError(
            f"Revision {revision.id} of {revision.package} failed at {where}: {why}."
            f" {self._what_is_left()} Finished before it: {before}.",
            revision=revision.id,
            package=revision.package,
            path=revision.path,
            applied=finished,
        )
        self.tell(self.observer.failed, self.current, error)
        return error

    def interrupted(self) -> None:
        """Tell of an interruption, if it met a revision."""
        if self.current is not None:
            self.tell(self.observer.interrupted, self.current)

    def _what_is_left(self) -> str:
        if self.dialect not in ("sqlite", "postgresql"):
            why = "This database commits DDL at once"
        elif self._committed_early:
            why = "Its autocommit_block() commits what is before and in it"
        else:
            return "Its transaction was rolled back."
        return f"{why}, so statements before the failing one may have stayed: compare, repair by hand, and run again."

    def result(self, environment: EnvironmentRun) -> Run:
        """Return the run, which came to its end."""
        if self.plan is None or self.current is not None:
            revision = self.current.revision.id if self.current else "of the run"
            raise environment.refused(f"hides the failure of revision {revision}. Let the error through")
        return Run(self.plan, tuple(self.done))
