"""What ``db-status``, ``--plan`` and ``db-graph`` say is what then happens, on random histories, and after a failure.

Hypothesis makes up a history and what is typed; what is right is found naively, from what was made up alone. Now and
then a package is gone for a while, or a revision fails, and may leave a part behind.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from graphs import History, failing, log_engine, random_history, step_file
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from servers import Database
from sqlalchemy import Engine, create_engine, make_url
from world import World

from ampho.errors import AmphoError, RevisionFailedError, UnfinishedRevisionError
from ampho.migrate.plan import Direction, InTransaction, Plan
from ampho.migrate.project import Project
from ampho.migrate.stamp import resolve

pytestmark = pytest.mark.usefixtures("unmeasured")


def specifiers(history: History) -> st.SearchStrategy[tuple[str, Direction]]:
    ids, packages = st.sampled_from(sorted(history.revisions)), st.sampled_from(history.packages)
    up = st.one_of(st.just("heads"), packages, ids, st.integers(1, 3).map("+{}".format))
    down = st.one_of(st.just("base"), packages.map("{}@base".format), packages.map("{}@-1".format), ids, st.just("-1"))
    return st.one_of(
        st.tuples(up, st.just(Direction.UPGRADE)),
        st.tuples(up, st.just(Direction.UPGRADE)),
        st.tuples(down, st.just(Direction.DOWNGRADE)),
    )


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # to shrink one takes minutes
    )


@examples(20)
@given(st.data(), st.randoms(use_true_random=False), st.booleans())
def test_what_is_shown_is_what_then_happens(data: st.DataObject, rng: object, odd: bool) -> None:
    history = random_history(rng, odd=odd)  # type: ignore[arg-type]  # Hypothesis's own kind of Random
    with written(history) as project, disposed(log_engine()) as engine:
        world = World(history, project, engine)
        may_go = st.sampled_from([None, *removable(history)])
        for specifier, direction in data.draw(st.lists(specifiers(history), min_size=2, max_size=6)):
            gone = data.draw(may_go)
            foresee(world.without(gone) if gone else world, specifier, direction, data)


@contextmanager
def disposed(engine: Engine) -> Iterator[Engine]:
    """An engine, whose connections are closed at the end, also where Hypothesis ends an example early."""
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def written(
    history: History, url: str = "sqlite://", template: Callable[[str], str] | None = None
) -> Iterator[Project]:
    """A history on disk, in a folder of its own."""
    folder, writes = Path(tempfile.mkdtemp(prefix="ampho-foreseen-")), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    packages = history.write(folder) if template is None else history.write(folder, template)
    try:
        yield Project(packages, make_url(url), "sync")
    finally:
        sys.dont_write_bytecode = writes
        shutil.rmtree(folder)


def removable(history: History) -> list[str]:
    """The packages without which the others still form a history: no revision of another has a parent in them."""
    made = history.revisions
    parents = {
        made[parent].package for one in made.values() for parent in one.down if made[parent].package != one.package
    }
    labels = {name for one in made.values() for name in one.depends_on}
    return [package for package in history.packages if package not in parents | labels]


def foresee(world: World, specifier: str, direction: Direction, data: st.DataObject) -> None:
    world.check_told()
    plan = planned(world, specifier, direction)
    if plan is None:
        return
    doomed = data.draw(st.sampled_from([None, None, *(step.revision.id for step in plan.steps)]))
    if doomed is None:
        carry_out(world, plan)
        return
    with failing(world.engine, doomed):
        fail(world, plan, doomed)
    world.check_told()
    go_on(world, plan, doomed)


def planned(world: World, specifier: str, direction: Direction) -> Plan | None:
    """Return the plan, whose reasons are checked; None where it is refused, and then in the run's own words."""
    before = world.logged()
    try:
        plan = world.plan(specifier, direction)
    except AmphoError as shown:
        with pytest.raises(type(shown), match=re.escape(str(shown))):
            world.run(specifier, direction, None)
        assert world.logged() == before
        return None
    world.check_reasons(plan)
    return plan


def carry_out(world: World, plan: Plan) -> None:
    """Run what was planned: each step of it and no other, in its order, as the revisions have logged it, too."""
    before, ids = world.logged(), [step.revision.id for step in plan.steps]
    assert world.run(plan.specifier, plan.direction, plan) == ids
    if plan.direction is Direction.UPGRADE:
        assert world.logged() == [*before, *ids]
    else:
        assert world.logged() == [one for one in before if one not in ids]
    world.check_told()


def fail(world: World, plan: Plan, doomed: str) -> None:
    """Run a plan, one step of which fails: what comes before it is done, and nothing else."""
    ids = [step.revision.id for step in plan.steps]
    done, before = set(ids[: ids.index(doomed)]), set(world.logged())
    with pytest.raises(RevisionFailedError) as raised:
        world.run(plan.specifier, plan.direction, plan)
    assert (raised.value.revision, set(raised.value.applied)) == (doomed, done)
    assert set(world.logged()) == before ^ done


def go_on(world: World, plan: Plan, doomed: str) -> None:
    """Type the same again: the rest of the plan is planned, and runs. What counts steps would mean other ones."""
    if plan.specifier.startswith(("+", "-")) or "@-" in plan.specifier:
        return
    ids = [step.revision.id for step in plan.steps]
    rest = world.plan(plan.specifier, plan.direction)
    assert [step.revision.id for step in rest.steps] == ids[ids.index(doomed) :]
    carry_out(world, rest)


# ---- where what fails may leave a part behind ----

_NUMBER = {"sqlite": "INTEGER", "postgresql": "SERIAL", "mariadb": "INTEGER AUTO_INCREMENT"}


@examples(3)
@given(st.data(), st.randoms(use_true_random=False), st.booleans())
def test_what_is_left_of_a_failure_is_shown_and_in_the_way_until_it_is_resolved(
    make_database: Callable[[str], Database], sync_database: Database, data: st.DataObject, rng: object, odd: bool
) -> None:
    history = random_history(rng, odd=odd)  # type: ignore[arg-type]  # Hypothesis's own kind of Random
    database = make_database(sync_database.driver)
    database.run(f"CREATE TABLE log (number {_NUMBER[database.backend]} PRIMARY KEY, id VARCHAR(40) NOT NULL UNIQUE)")
    url = database.url.render_as_string(hide_password=False)
    with written(history, url, step_file) as project, disposed(create_engine(database.url)) as engine:
        world = World(history, project, engine)
        for specifier, direction in data.draw(st.lists(specifiers(history), min_size=2, max_size=4)):
            world.check_told()
            plan = planned(world, specifier, direction)
            if plan is None or not plan.steps:
                continue
            doomed = data.draw(st.sampled_from(plan.steps))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DOOMED", doomed.revision.id)
                fail(world, plan, doomed.revision.id)
            if doomed.in_transaction is InTransaction.WHOLE:
                world.check_told()
                go_on(world, plan, doomed.revision.id)
            else:
                settle(replace(world, half_done=doomed.revision.id), plan, database, finish=data.draw(st.booleans()))


def settle(world: World, plan: Plan, database: Database, *, finish: bool) -> None:
    """Check that nothing runs, finish or undo by hand what was left half done, say so, and go on."""
    world.check_told()
    for typed, direction in ((plan.specifier, plan.direction), ("heads", Direction.UPGRADE), ("base", "downgrade")):
        assert planned(world, typed, Direction(direction)) is None
        with pytest.raises(UnfinishedRevisionError):
            world.plan(typed, Direction(direction))
    revision, upgrades = world.half_done, plan.direction is Direction.UPGRADE
    if upgrades is finish:
        ways = (
            [f"INSERT INTO log (id) VALUES ('{revision}')"] if upgrades else [f"CREATE TABLE t_{revision} (id INTEGER)"]
        )
    else:
        ways = [f"DROP TABLE t_{revision}"] if upgrades else [f"DELETE FROM log WHERE id = '{revision}'"]
    is_applied = upgrades is finish
    database.run(*ways)
    with world.engine.connect() as connection:
        resolve(world.project, connection, revision, applied=is_applied)
    world = replace(world, half_done="")
    world.check_told()
    if is_applied is upgrades:
        rest = planned(world, plan.specifier, plan.direction)
        assert rest is None or revision not in [step.revision.id for step in rest.steps]
    else:
        go_on(world, plan, revision)
