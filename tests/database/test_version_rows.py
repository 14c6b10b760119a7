"""The version rows are exact after every step, whatever the graph: real revisions, run through Alembic on SQLite.

``AMPHO_PROPERTY_GRAPHS`` is the number of random graphs; each gets 12 random commands. A failure names the seed of its
graph and what was typed until then. In every fourth graph, some packages have version tables of their own, and are
taken over or kept, which changes from time to time.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from graphs import History, failing, log_engine, logged, random_history, version_rows
from sqlalchemy import Engine, make_url

from ampho.errors import AmphoError, DependentsError, RevisionFailedError, SpecifierError
from ampho.migrate import executor as execute
from ampho.migrate import queries
from ampho.migrate.observers import Observer
from ampho.migrate.plan import Run, Step
from ampho.migrate.project import Project
from ampho.settings import Settings

GRAPHS = int(os.environ.get("AMPHO_PROPERTY_GRAPHS", "100"))
PARTS = 4  # so that several workers share them
COMMANDS = 12

pytestmark = [pytest.mark.timeout(max(120, GRAPHS)), pytest.mark.usefixtures("unmeasured")]


@dataclass(frozen=True)
class Command:
    """What is typed, and what the model says of it.

    :ivar changed: the revisions that it applies or takes back; None where the model leaves a choice of ``count``.
    :ivar error: what it is refused with, if it is.
    """

    up: bool
    specifier: str
    cascade: bool = False
    changed: frozenset[str] | None = None
    count: int = 0
    error: type[AmphoError] | None = None

    def __str__(self) -> str:
        return f"db-{'up' if self.up else 'down'} {self.specifier}{' --cascade' if self.cascade else ''}"


@dataclass
class Model:
    """What is applied, and what a command means, from what was made up alone."""

    history: History
    applied: set[str] = field(default_factory=set)

    def any_command(self, rng: random.Random) -> Command:
        forms = [self.up_all, self.up_package, self.up_id, self.up_next, self.up_next_of_package]
        if self.applied:
            forms += [self.down_id, self.down_package, self.down_last, self.down_last_of_package]
            forms += [self.down_all] if rng.random() < 0.3 else []
        return rng.choice(forms)(rng)

    def up_all(self, rng: random.Random) -> Command:
        return self._up("heads", self.history.revisions)

    def up_package(self, rng: random.Random) -> Command:
        package = rng.choice(self.history.packages)
        form = rng.choice(["{}", "{}@heads", "{}@head"])
        if form == "{}@head" and len(self.history.heads(package)) > 1:
            return Command(True, form.format(package), error=SpecifierError)
        return self._up(form.format(package), self.history.of_package(package))

    def up_id(self, rng: random.Random) -> Command:
        revision = rng.choice(list(self.history.revisions))
        package = self.history.revisions[revision].package
        return self._up(rng.choice([revision, f"{package}@{revision}"]), [revision])

    def up_next(self, rng: random.Random) -> Command:
        count = rng.randint(1, 4)
        if count > len(self.history.revisions) - len(self.applied):
            return Command(True, f"+{count}", error=SpecifierError)
        return Command(True, f"+{count}", count=count)

    def up_next_of_package(self, rng: random.Random) -> Command:
        package, count = rng.choice(self.history.packages), rng.randint(1, 2)
        typed, done = f"{package}@+{count}", set(self.applied)
        for _ in range(count):
            ready = [one for one in self.history.of_package(package) if self._is_next(one, done)]
            if len(ready) != 1:
                return Command(True, typed, error=SpecifierError)
            done.add(ready[0])
        return self._up(typed, done)

    def _is_next(self, revision: str, done: set[str]) -> bool:
        return revision not in done and self.history.own_parents(revision) <= done

    def _up(self, typed: str, targets: object) -> Command:
        wanted = self.history.with_ancestors(targets)  # type: ignore[arg-type]  # any of the collections above
        return Command(True, typed, changed=frozenset(wanted - self.applied))

    def down_all(self, rng: random.Random) -> Command:
        return self._down(rng, "base", set(self.applied))

    def down_package(self, rng: random.Random) -> Command:
        package = rng.choice(self.history.packages)
        return self._down(rng, f"{package}@base", set(self.history.of_package(package)) & self.applied)

    def down_id(self, rng: random.Random) -> Command:
        revision = rng.choice(list(self.history.revisions))
        if revision not in self.applied:
            return Command(False, revision, error=SpecifierError)
        removed: set[str] = set()
        own = [one for one in self.history.of_package(self.history.revisions[revision].package) if one in self.applied]
        for one in own:  # in the order in which they were made, so parents come first
            if self.history.own_parents(one) & ({revision} | removed):
                removed.add(one)
        return self._down(rng, revision, removed)

    def down_last(self, rng: random.Random) -> Command:
        return self._down_last(rng, set(self.applied), "-{}")

    def down_last_of_package(self, rng: random.Random) -> Command:
        package = rng.choice(self.history.packages)
        return self._down_last(rng, set(self.history.of_package(package)) & self.applied, package + "@-{}")

    def _down_last(self, rng: random.Random, left: set[str], form: str) -> Command:
        count = rng.randint(1, 2)
        removed: set[str] = set()
        for _ in range(count):
            last = self.history.tips(left - removed)
            if len(last) != 1:
                return Command(False, form.format(count), error=SpecifierError)
            removed |= last
        return self._down(rng, form.format(count), removed)

    def _down(self, rng: random.Random, typed: str, removed: set[str]) -> Command:
        along = self.history.standing_on(removed, self.applied)
        cascade = rng.random() < 0.5
        if along and not cascade:
            return Command(False, typed, error=DependentsError)
        return Command(False, typed, cascade, changed=frozenset(removed | along))


class Witness(Observer):
    """Looks at the database after every step, from within the run."""

    def __init__(self, model: Model, engine: Engine) -> None:
        self.model = model
        self.engine = engine
        self.tables: dict[str, dict[str, Any]] | None = None
        self.is_final = True

    def applied(self, step: Step, duration: float) -> None:
        revision, applied = step.revision.id, self.model.applied
        if step.direction == "upgrade":
            assert self.model.history.revisions[revision].parents <= applied, f"{revision} before what it stands on"
            applied.add(revision)
        else:
            applied.remove(revision)
            assert not self.model.history.standing_on([revision], applied), f"{revision} before what stands on it"
        self.is_final = True
        self.check()

    def check(self) -> None:
        applied = self.model.applied
        assert logged(self.engine) == applied
        if self.tables is not None:
            self.check_tables()
        else:
            assert version_rows(self.engine) == self.model.history.tips(applied)

    def check_tables(self) -> None:
        """Check the rows of each table, or only that all are there, before a run has moved them."""
        history, found = self.model.history, dict[str, set[str]]()
        for revision in self.model.applied:
            table = (self.tables or {}).get(history.revisions[revision].package, {})
            found.setdefault(table["table"] if table.get("keep") else "alembic_version", set()).add(revision)
        present = {name: version_rows(self.engine, name) for name in self.names}
        if self.is_final:
            assert present == {name: history.tips(found.get(name, ())) for name in self.names}
        rows = set().union(*present.values())
        assert history.with_ancestors(rows) == self.model.applied, "whatever the tables"

    @property
    def names(self) -> list[str]:
        return ["alembic_version", *(f"{name}_version" for name in self.model.history.packages)]


@dataclass
class Tally:
    """How much was run, for the closing figures."""

    commands: int = 0
    steps: int = 0
    refused: int = 0
    failed: int = 0


@pytest.mark.parametrize("part", range(PARTS))
def test_rows_are_exact_after_every_step_of_random_commands_on_random_graphs(
    part: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    tally, began, seeds = Tally(), time.monotonic(), range(part, GRAPHS, PARTS)
    for seed in seeds:
        run_graph(seed, tmp_path / "graph", tally)
    with capsys.disabled():
        if GRAPHS > 1000:
            sys.stdout.write(f"\npart {part}: {len(seeds)} graphs, {tally}, {time.monotonic() - began:.0f} s\n")
    assert tally.commands == COMMANDS * len(seeds)
    assert tally.steps > tally.commands


def run_graph(seed: int, folder: Path, tally: Tally) -> None:
    rng = random.Random(seed)
    history = random_history(rng, odd=seed % 2 == 1)
    settings = Settings({"AMPHO_JOURNAL_TABLE": None}, {})  # without a journal, the order of what ran is not recorded
    project = Project(history.write(folder), make_url("sqlite://"), "sync", settings=settings)
    engine = log_engine()
    witness = Witness(Model(history), engine)
    typed: list[str] = []
    try:
        for _ in range(COMMANDS):
            command = witness.model.any_command(rng)
            if seed % 4 == 3 and rng.random() < 0.4:
                project = with_tables(project, witness, rng)
                typed.append(f"{witness.tables}")
            typed.append(str(command))
            run_command(project, witness, command, rng, tally)
        typed.append("db-up")
        check_up_to_date(project, witness)
    except Exception as exc:
        exc.add_note(f"seed {seed}: {', '.join(typed)}")
        raise
    finally:
        engine.dispose()
        shutil.rmtree(folder)


def with_tables(project: Project, witness: Witness, rng: random.Random) -> Project:
    """Return the project with other version tables of packages."""
    chosen = [name for name in witness.model.history.packages if rng.random() < 0.6]
    witness.tables = {name: {"table": f"{name}_version", "keep": rng.random() < 0.7} for name in chosen}
    for name in (name for name in witness.names[1:] if not version_rows(witness.engine, name)):
        with witness.engine.begin() as connection:  # an empty table means that all was reverted
            connection.exec_driver_sql(f'DROP TABLE IF EXISTS "{name}"')
    every = {f"{name}_version" for name in witness.model.history.packages if name not in chosen}
    for name in (name for name in every if version_rows(witness.engine, name)):
        witness.tables[name.removesuffix("_version")] = {"table": name, "keep": False}
    witness.is_final = False
    settings = Settings({"AMPHO_JOURNAL_TABLE": None, "AMPHO_VERSION_TABLES": witness.tables}, {})
    found = dataclasses.replace(project, settings=settings)
    found.__dict__.pop("graph", None)
    return found


def run_command(project: Project, witness: Witness, command: Command, rng: random.Random, tally: Tally) -> None:
    tally.commands += 1
    before = set(witness.model.applied)
    doomed = rng.choice(sorted(command.changed)) if command.changed and rng.random() < 0.05 else None
    run, error = None, None
    try:
        with failing(witness.engine, doomed):
            run = type_it(project, witness, command)
    except AmphoError as exc:
        error = exc
    witness.is_final = witness.is_final or (run is not None and bool(run.steps))
    changed = frozenset(witness.model.applied ^ before)
    tally.steps += len(changed)
    witness.check()
    if doomed:
        tally.failed += 1
        assert isinstance(error, RevisionFailedError)
        assert error.revision == doomed
        assert set(error.applied) == changed
    elif command.error:
        tally.refused += 1
        assert type(error) is command.error, f"{command}: {error!r}"
        assert not changed
    else:
        assert run is not None, f"{command}: {error!r}"
        assert [one.step for one in run.steps] == list(run.plan.steps)
        assert {one.step.revision.id for one in run.steps} == changed
        assert len(changed) == command.count if command.changed is None else changed == command.changed


def type_it(project: Project, witness: Witness, command: Command) -> Run:
    with witness.engine.connect() as connection:
        if command.up:
            return execute.upgrade(project, connection, command.specifier, observer=witness)
        return execute.downgrade(project, connection, command.specifier, cascade=command.cascade, observer=witness)


def check_up_to_date(project: Project, witness: Witness) -> None:
    type_it(project, witness, Command(True, "heads"))
    assert witness.model.applied == set(witness.model.history.revisions)
    with witness.engine.connect() as connection:
        assert execute.plan(project, connection, "heads")().steps == ()
    with witness.engine.connect() as connection:
        state = queries.current(project, connection)
    assert all(package.is_up_to_date for package in state)
    assert state.unknown == ()
