"""What ``db-status`` and ``--plan`` say is what then happens, on random histories, and after a failure half-way.

Hypothesis makes up a history and what is typed; what is right is found naively, from what was made up alone.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from graphs import History, failing, log_engine, logged, random_history
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, make_url

from ampho import execute
from ampho.errors import AmphoError, RevisionFailedError
from ampho.plan import Cause, Direction, Plan
from ampho.project import Project
from ampho.state import Mark
from ampho.status import DatabaseStatus

pytestmark = pytest.mark.usefixtures("unmeasured")


@dataclass(frozen=True)
class World:
    """A history on disk and a database in memory."""

    history: History
    project: Project
    engine: Engine

    def plan(self, specifier: str, direction: Direction) -> Plan:
        with self.engine.connect() as connection:
            return execute.plan(self.project, connection, specifier, direction=direction, cascade=True)()

    def run(self, specifier: str, direction: Direction, agreed: Plan | None) -> list[str]:
        with self.engine.connect() as connection:
            if direction is Direction.UPGRADE:
                run = execute.upgrade(self.project, connection, specifier, agreed=agreed)
            else:
                run = execute.downgrade(self.project, connection, specifier, cascade=True, agreed=agreed)
        return [one.step.revision.id for one in run.steps]

    def status(self) -> DatabaseStatus:
        with self.engine.connect() as connection:
            return execute.status(self.project, connection, all=True)

    def check_status(self) -> None:
        """Check that the status is what the revisions themselves have logged."""
        applied, status = logged(self.engine), self.status()
        assert [package.package for package in status] == list(self.history.packages)
        for package in status:
            own = set(self.history.of_package(package.package))
            others = self.history.with_ancestors(applied - own)
            assert package.applied == len(own & applied)
            assert package.pending == len(own - applied)
            assert package.implied == len(own & applied & others)
            assert package.missing == 0
            assert set(package.heads) == set(self.history.heads(package.package))
            assert {one.id for one in package.revisions if one.mark is Mark.APPLIED} == own & applied
            assert {one.id for one in package.revisions if one.mark is Mark.PENDING} == own - applied
            assert (package.last is None) == (not own & applied)
            assert package.last is None or (package.last in applied and package.when is not None)
        assert status.pending == len(self.history.revisions) - len(applied)

    def check_reasons(self, plan: Plan) -> None:
        """Check that each step was asked for, or that what it names needs it and is in the plan, too."""
        ids = [step.revision.id for step in plan.steps]
        for step in plan.steps:
            if step.cause is Cause.ASKED:
                assert step.because_of == ()
                continue
            assert step.because_of
            for other in step.because_of:
                child, parent = (other, step.revision.id) if plan.direction == "upgrade" else (step.revision.id, other)
                assert other in ids
                assert parent in self.history.revisions[child].parents
        if ids:
            assert Cause.ASKED in {step.cause for step in plan.steps}


def specifiers(history: History) -> st.SearchStrategy[tuple[str, Direction]]:
    ids, packages = st.sampled_from(sorted(history.revisions)), st.sampled_from(history.packages)
    up = st.one_of(st.just("heads"), packages, ids, st.integers(1, 3).map("+{}".format))
    down = st.one_of(st.just("base"), packages.map("{}@base".format), packages.map("{}@-1".format), ids, st.just("-1"))
    return st.one_of(
        st.tuples(up, st.just(Direction.UPGRADE)),
        st.tuples(up, st.just(Direction.UPGRADE)),
        st.tuples(down, st.just(Direction.DOWNGRADE)),
    )


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # to shrink one takes minutes
)
@given(st.data(), st.randoms(use_true_random=False), st.booleans())
def test_what_is_shown_is_what_then_happens(data: st.DataObject, rng: object, odd: bool) -> None:
    history = random_history(rng, odd=odd)  # type: ignore[arg-type]  # Hypothesis's own kind of Random
    folder, writes = Path(tempfile.mkdtemp(prefix="ampho-foreseen-")), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    project = Project(history.write(folder), make_url("sqlite://"), "sync", journal="ampho_journal")
    world = World(history, project, log_engine())
    try:
        for specifier, direction in data.draw(st.lists(specifiers(history), min_size=2, max_size=6)):
            foresee(world, specifier, direction, data)
    finally:
        sys.dont_write_bytecode = writes
        world.engine.dispose()
        shutil.rmtree(folder)


def foresee(world: World, specifier: str, direction: Direction, data: st.DataObject) -> None:
    before = logged(world.engine)
    world.check_status()
    try:
        plan = world.plan(specifier, direction)
    except AmphoError as shown:
        with pytest.raises(type(shown), match=re.escape(str(shown))):
            world.run(specifier, direction, None)
        assert logged(world.engine) == before
        return
    ids = [step.revision.id for step in plan.steps]
    world.check_reasons(plan)
    doomed = data.draw(st.sampled_from([None, None, *ids]))
    if doomed is None:
        assert world.run(specifier, direction, plan) == ids
    else:
        with pytest.raises(RevisionFailedError), failing(world.engine, doomed):
            world.run(specifier, direction, plan)
        ids = ids[: ids.index(doomed)]
    assert logged(world.engine) == before ^ set(ids)
    world.check_status()
    if doomed is not None and direction is Direction.UPGRADE and not specifier.startswith("+"):
        rest = [step.revision.id for step in world.plan(specifier, direction).steps]
        assert rest == [step.revision.id for step in plan.steps][len(ids) :]
