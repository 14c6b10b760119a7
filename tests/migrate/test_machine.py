"""Whatever is done to revision files and a database, in whatever order, Ampho's picture of both stays true.

Hypothesis makes the order up. A model in here knows what each rule must come to, from what was written and run alone.
By default these are the same few examples each time; ``AMPHO_MACHINE_EXAMPLES`` asks for that many new ones,
``AMPHO_MACHINE_SEED`` for those of a seed, and ``AMPHO_MACHINE_SHRINK=1`` for the shortest order that fails.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from facade import Facade, facade
from flask import Flask
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from project import Project
from servers import Database, _execute
from sqlalchemy import inspect, text

from ampho import Ampho, AmphoError, Status
from ampho.errors import ConfigurationError, DependentsError, HistoryError, RevisionFailedError, UnfinishedRevisionError

PACKAGES = ("app", "app_more", "acme.shop")  # one is the beginning of another, and one is dotted
ASKED = os.environ.get("AMPHO_MACHINE_EXAMPLES")
SHRINK = os.environ.get("AMPHO_MACHINE_SHRINK") == "1"
SEED = os.environ.get("AMPHO_MACHINE_SEED")
STEPS = int(os.environ.get("AMPHO_MACHINE_STEPS", "20"))
FEW = {"sqlite+pysqlite": 6, "sqlite+aiosqlite": 2, "postgresql+psycopg": 3, "mariadb+pymysql": 2}

pytestmark = [pytest.mark.timeout(max(120, 10 * int(ASKED or 0))), pytest.mark.usefixtures("unmeasured")]

Seen: TypeAlias = tuple[list[str], dict[str, tuple[str, ...]], list[tuple[Any, ...]]]

UPGRADE = """
op.drop_table({table!r}, if_exists=True)
op.create_table({table!r}, sa.Column("id", sa.Integer, primary_key=True))
if context.get_x_argument(as_dictionary=True).get("doomed") == revision:
    raise ValueError("doomed")
op.add_column({table!r}, sa.Column({column!r}, sa.Integer))
"""
DOWNGRADE = """
op.drop_table({table!r}, if_exists=True)
if context.get_x_argument(as_dictionary=True).get("doomed") == revision:
    raise ValueError("doomed")
"""
WITH_CONTEXT = "from alembic import context\n"


@dataclass
class Made:
    """A revision that was written once.

    :ivar column: what its table has beside the id; None for a merge, which has no table.
    :ivar text: what its file says, or said when it was last there.
    """

    id: str
    package: str
    parents: tuple[str, ...]
    column: str | None
    path: Path
    text: bytes
    on_disk: bool = True

    @property
    def table(self) -> str:
        return f"t_{self.id}"

    @property
    def tables(self) -> dict[str, tuple[str, ...]]:
        return {self.table: ("id", self.column)} if self.column else {}


@dataclass
class Model:
    """What there is, from what was written and run.

    :ivar applied: ids; the value is the text of the file that ran, or that there was when it was said to be applied.
    :ivar ran: those of them that ran, and the text of the file that did.
    :ivar unfinished: what was left half done, where the database cannot roll it back.
    """

    made: dict[str, Made] = field(default_factory=dict)
    listed: set[str] = field(default_factory=lambda: set(PACKAGES))
    applied: dict[str, bytes | None] = field(default_factory=dict)
    ran: dict[str, bytes] = field(default_factory=dict)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unfinished: str | None = None

    @property
    def present(self) -> set[str]:
        return {one.id for one in self.made.values() if one.on_disk and one.package in self.listed}

    @property
    def pending(self) -> set[str]:
        return self.present - set(self.applied)

    @property
    def missing(self) -> set[str]:
        return set(self.applied) - self.present

    @property
    def needed(self) -> set[str]:
        """What files stand on that is in none, each of a package that is not listed, unless the history is broken."""
        return {parent for one in self.present for parent in self.made[one].parents} - self.present

    @property
    def is_broken(self) -> bool:
        return any(self.made[one].package in self.listed for one in self.needed)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is in the way of any run."""
        return not (self.missing or self.needed or self.unfinished)

    def of_package(self, package: str, among: Iterable[str]) -> set[str]:
        return {one for one in among if self.made[one].package == package}

    def ancestors(self, ids: Iterable[str]) -> set[str]:
        found: set[str] = set()
        todo = list(ids)
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self.made[one].parents
        return found

    def above(self, ids: Iterable[str], among: Iterable[str]) -> set[str]:
        start = set(ids)
        return {one for one in among if self.ancestors([one]) & start} - start

    def above_within(self, revision: str) -> set[str]:
        """What stands on a revision by ways that do not leave its package."""
        found = {revision}
        own = self.of_package(self.made[revision].package, self.made)
        for one in sorted(own):  # in the order in which they were made
            if found.intersection(self.made[one].parents):
                found.add(one)
        return found - {revision}

    def tips(self, ids: Iterable[str]) -> set[str]:
        listed = set(ids)
        return {one for one in listed if not any(one in self.made[other].parents for other in listed)}

    def step(self, revision: str, *, up: bool) -> None:
        """Run a revision, or take it back."""
        one = self.made[revision]
        if up:
            assert revision not in self.applied
            assert self.applied.keys() >= set(one.parents), f"{revision} ran before what it stands on"
            self.applied[revision] = self.ran[revision] = one.text
            self.tables |= one.tables
            return
        del self.applied[revision]
        self.ran.pop(revision, None)
        assert not self.above([revision], self.applied), f"{revision} was taken back before what stands on it"
        self.tables.pop(one.table, None)

    def say(self, applied: set[str], packages: Iterable[str]) -> None:
        """Let this be applied, from the files as they are now where it was not, or of packages that were named."""
        kept = {one: text for one, text in self.applied.items() if self.made[one].package not in packages}
        known = {one: text for one, text in self.applied.items() if text is None or one not in self.present} | kept
        self.applied = {one: known.get(one, self.made[one].text if one in self.present else None) for one in applied}
        self.ran = {one: text for one, text in self.ran.items() if one in applied}

    def findings(self) -> dict[Status, set[str]]:
        """What is wrong between the files and the database."""
        edited = {
            one for one in self.present & self.applied.keys() if self.applied[one] not in (None, self.made[one].text)
        }
        found = {
            Status.INTERRUPTED: {self.unfinished} if self.unfinished else set(),
            Status.AHEAD: {one for one in self.missing if self.made[one].package in self.listed},
            Status.MISSING: {one for one in self.missing if self.made[one].package not in self.listed},
            Status.EDITED: edited,
            Status.BEHIND: self.pending,
        }
        return {status: ids for status, ids in found.items() if ids}


picks = st.integers(0, 63)


def picked(ids: Iterable[str], pick: int) -> str:
    listed = sorted(ids)
    return listed[pick % len(listed)]


class Machine(RuleBasedStateMachine):
    def __init__(self, database: Database, folder: Path, framework: str) -> None:
        super().__init__()
        self.model = Model()
        self.database = database
        self.rolls_back = database.backend != "mariadb"
        self.columns = (f"c{number}" for number in itertools.count())
        self.number = 1700000000
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.project = Project(folder)
        for package in PACKAGES:
            self.project.package(package)
            (self.project.migrations(package) / "versions").mkdir(parents=True)
        self.stack = ExitStack()
        self.connection = self.stack.enter_context(database.connect())
        for table in inspect(self.connection).get_table_names():
            _execute(self.connection, f"DROP TABLE {table}")
        self.facade: Facade = self.stack.enter_context(facade(self.project, framework, list(PACKAGES), database.url))
        self.seen = self.look()

    def teardown(self) -> None:
        self.stack.close()

    # Looking

    def look(self) -> Seen:
        """The version rows, the columns of the tables, and the journal, by no way of Ampho's."""
        query = {
            "sqlite": "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c"
            " WHERE m.type = 'table' ORDER BY 1, c.cid",
            "postgresql": "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY 1, ordinal_position",
            "mariadb": "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() ORDER BY 1, ordinal_position",
        }[self.database.backend]
        tables: dict[str, tuple[str, ...]] = {}
        for table, column in self.rows_of(query):
            tables[table] = (*tables.get(table, ()), column)
        rows = self.rows_of("SELECT version_num FROM alembic_version") if "alembic_version" in tables else []
        journal = (
            self.rows_of("SELECT id, revision, direction, outcome, checksum FROM ampho_journal ORDER BY id")
            if "ampho_journal" in tables
            else []
        )
        own = {table: columns for table, columns in tables.items() if table.startswith("t_")}
        return sorted(row[0] for row in rows), own, journal

    def rows_of(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(text(query))]

    @invariant()
    def everything_agrees(self) -> None:
        model = self.model
        self.seen = rows, tables, journal = self.look()
        assert rows == sorted(model.tips(model.applied))
        assert model.applied.keys() == model.ancestors(model.applied)
        assert tables == model.tables
        effective = {row[1]: row for row in journal if row[3] in ("done", "stamped", "forgotten")}
        assert {one for one, row in effective.items() if row[2] == "upgrade"} == model.applied.keys()
        for one, ran in model.applied.items():
            assert effective[one][4] == (hashlib.sha256(ran).hexdigest() if ran is not None else None)
        unfinished = [row[1] for row in journal if row[3] in ("started", "partial")]
        assert unfinished == ([model.unfinished] if model.unfinished else [])
        for method in ("current", "deployment"):
            answer, error = self.attempt(method)
            if method == "deployment" and not model.listed:
                assert isinstance(error, ConfigurationError), error
                continue
            assert isinstance(error, HistoryError) if model.is_broken else error is None, error
            if answer is not None:
                getattr(self, f"check_{method}")(answer)

    def check_current(self, state: Any) -> None:
        applied = {record.id for package in state for record in package.applied}
        pending = {record.id for package in state for record in package.pending}
        missing = {one for each in state.missing for one in each.revisions}
        assert missing == self.model.missing
        assert applied == self.model.present & self.model.applied.keys()
        assert pending - self.model.needed == self.model.pending
        assert not state.uncertain
        for each in state.missing:
            assert {self.model.made[one].package for one in each.revisions} == {each.package}

    def check_deployment(self, deployment: Any) -> None:
        found: dict[Status, set[str]] = {}
        for finding in deployment.findings:
            found.setdefault(finding.status, set()).update(finding.revisions)
        assert found == self.model.findings()
        assert (deployment.status is Status.UP_TO_DATE) is (not found)

    def attempt(self, method: str, *args: object, **kwargs: object) -> tuple[Any, AmphoError | None]:
        """Call a method, which changes nothing if it refuses."""
        try:
            return self.facade.call(method, *args, **kwargs), None
        except RevisionFailedError as exc:
            return None, exc
        except AmphoError as exc:
            error = exc
        assert self.look() == self.seen, f"{error!r}, and yet something was changed"
        return None, error

    # The files

    @initialize(
        turns=st.lists(st.tuples(st.integers(0, 2), picks, st.lists(picks, max_size=2)), min_size=5, max_size=9)
    )
    def begin(self, turns: list[tuple[int, int, list[int]]]) -> None:
        for number, pick, others in turns:
            self.write(PACKAGES[number], "any" if pick % 3 == 0 else "head", pick, others)

    @rule(package=st.sampled_from(PACKAGES), parent=st.sampled_from(["head", "head", "any", "none"]), pick=picks)
    def add(self, package: str, parent: str, pick: int) -> None:
        self.write(package, parent, pick, [])

    @rule(package=st.sampled_from(PACKAGES), pick=picks, others=st.lists(picks, min_size=1, max_size=2))
    def add_that_depends(self, package: str, pick: int, others: list[int]) -> None:
        self.write(package, "head", pick, others)

    def write(self, package: str, parent: str, pick: int, others: list[int]) -> None:
        model = self.model
        own = model.of_package(package, [one.id for one in model.made.values() if one.on_disk])
        base = model.tips(own) if parent == "head" else own if parent == "any" else set()
        down = picked(base, pick) if base else None
        foreign = model.present - model.of_package(package, model.present)
        depends = sorted({picked(foreign, other) for other in others} if foreign else ())
        self.number += 1
        revision = f"{package.replace('.', '_')}_{self.number}"
        column = next(self.columns)
        is_first = not model.of_package(package, model.made)
        path = self.project.revision(
            package,
            revision,
            down,
            depends or None,
            labels=(package,) if is_first else None,
            **self.code(revision, column),
        )
        parents = tuple(filter(None, (down, *depends)))
        model.made[revision] = Made(revision, package, parents, column, path, path.read_bytes())

    @staticmethod
    def code(revision: str, column: str) -> dict[str, str]:
        table = f"t_{revision}"
        return {
            "upgrade": WITH_CONTEXT + UPGRADE.format(table=table, column=column),
            "downgrade": WITH_CONTEXT + DOWNGRADE.format(table=table),
        }

    @precondition(lambda self: self.model.present)
    @rule(what=st.sampled_from(["tip", "tip", "tip", "any"]), pick=picks)
    def delete(self, what: str, pick: int) -> None:
        present = self.model.present
        one = self.model.made[picked(self.model.tips(present) if what == "tip" else present, pick)]
        one.path.unlink()
        one.on_disk = False

    @precondition(lambda self: any(not one.on_disk for one in self.model.made.values()))
    @rule(pick=picks)
    def restore(self, pick: int) -> None:
        one = self.model.made[picked((one.id for one in self.model.made.values() if not one.on_disk), pick)]
        one.path.write_bytes(one.text)
        one.on_disk = True

    @precondition(lambda self: self.model.present)
    @rule(pick=picks)
    def edit(self, pick: int) -> None:
        one = self.model.made[picked(self.model.present, pick)]
        if one.column is None:
            one.text += b"\n# more\n"
        else:
            column = next(self.columns)
            one.text = one.text.replace(repr(one.column).encode(), repr(column).encode())
            one.column = column
        one.path.write_bytes(one.text)

    @precondition(lambda self: self.parallel())
    @rule(pick=picks)
    def merge(self, pick: int) -> None:
        model = self.model
        package = picked(self.parallel(), pick)
        self.number += 1
        revision = f"{package.replace('.', '_')}_{self.number}"
        heads = model.tips(model.of_package(package, model.present))
        files = self.project.files()
        new, error = self.attempt("merge", package, rev_id=revision)
        if error is not None:
            assert model.is_broken, error
            assert self.project.files() == files
            return
        assert set(new.down_revisions) == heads
        path = self.project.folder / new.path
        model.made[revision] = Made(revision, package, tuple(new.down_revisions), None, path, path.read_bytes())

    def parallel(self) -> list[str]:
        """The packages with several heads."""
        present = self.model.present
        return [one for one in PACKAGES if len(self.model.tips(self.model.of_package(one, present))) > 1]

    @rule(package=st.sampled_from(PACKAGES))
    def uninstall_or_install(self, package: str) -> None:
        self.model.listed ^= {package}
        self.list_packages()

    def list_packages(self) -> None:
        self.facade.app.config["AMPHO_MIGRATION_PACKAGES"] = [one for one in PACKAGES if one in self.model.listed]

    # Runs

    @precondition(lambda self: self.model.pending)
    @rule(form=st.sampled_from(["heads", "heads", "package", "id", "+1", "package@+1"]), pick=picks)
    def upgrade(self, form: str, pick: int) -> None:
        model = self.model
        one = picked(model.pending, pick)
        package = model.made[one].package
        typed = {"package": package, "id": one, "package@+1": f"{package}@+1"}.get(form, form)
        targets = {"heads": model.present, "package": model.of_package(package, model.present), "id": {one}}.get(form)
        before = set(model.applied)
        run, error = self.attempt("upgrade", typed)
        if error is not None:
            self.check_refusal(error, may=targets is not None)
            return
        changed = self.follow(run, up=True)
        if targets is not None:
            assert changed == model.ancestors(targets) - before
        elif form == "+1":
            assert len(changed) == 1
        else:
            assert len(model.of_package(package, changed)) == 1

    @precondition(lambda self: self.model.applied)
    @rule(form=st.sampled_from(["-1", "base", "package@base", "id", "package@-1"]), pick=picks, cascade=st.booleans())
    def downgrade(self, form: str, pick: int, cascade: bool) -> None:
        model = self.model
        before = set(model.applied)
        one = picked(before, pick)
        package = model.made[one].package
        typed = {"package@base": f"{package}@base", "package@-1": f"{package}@-1", "id": one}.get(form, form)
        meant = {
            "-1": self.last_applied,
            "base": lambda: before,
            "package@base": lambda: model.of_package(package, before),
            "id": lambda: model.above_within(one) & before,
            "package@-1": lambda: model.tips(model.of_package(package, before)),
        }[form]()
        along = model.above(meant, before)
        run, error = self.attempt("downgrade", typed, cascade=cascade)
        if error is not None:
            self.check_refusal(error, may=form != "package@-1" and (cascade or not along))
            if isinstance(error, DependentsError):
                assert not cascade
                assert set(error.dependents) == along
            return
        assert cascade or not along
        assert self.follow(run, up=False) == meant | along

    def last_applied(self) -> set[str]:
        numbers = {row[1]: row[0] for row in self.seen[2] if row[3] in ("done", "stamped", "forgotten")}
        return {max(self.model.tips(self.model.applied), key=lambda one: numbers[one])}

    def check_refusal(self, error: AmphoError, *, may: bool) -> None:
        """Check that a run was refused for a reason.

        :param may: whether it may go, where nothing is missing or half done.
        """
        model = self.model
        assert not isinstance(error, RevisionFailedError)
        assert not (may and model.is_whole), error
        assert isinstance(error, HistoryError) or not model.is_broken
        if not model.listed:
            assert isinstance(error, ConfigurationError)
        elif model.unfinished and not model.is_broken:
            assert isinstance(error, HistoryError | UnfinishedRevisionError)

    def follow(self, run: Any, *, up: bool) -> set[str]:
        """Do in the model what a run did, step by step."""
        assert not self.model.unfinished
        assert tuple(each.step for each in run.steps) == run.plan.steps
        ids = [each.step.revision.id for each in run.steps]
        for one in ids:
            self.model.step(one, up=up)
        return set(ids)

    @rule(up=st.booleans(), pick=picks)
    def crash(self, up: bool, pick: int) -> None:
        model = self.model
        able = {
            one for one in (model.pending if up else model.present & model.applied.keys()) if model.made[one].column
        }
        if not able:
            return
        doomed = picked(able, pick)
        run, error = self.attempt("upgrade" if up else "downgrade", "heads" if up else "base", x=[f"doomed={doomed}"])
        assert run is None
        if not isinstance(error, RevisionFailedError):
            assert not model.is_whole, error
            return
        assert error.revision == doomed
        for one in error.applied:
            model.step(one, up=up)
        if self.rolls_back:
            return
        model.unfinished = doomed
        if up:
            model.tables[model.made[doomed].table] = ("id",)
        else:
            model.tables.pop(model.made[doomed].table, None)

    def able(self, *, up: bool) -> set[str]:
        """What can fail halfway."""
        model = self.model
        ids = model.pending if up else model.present & model.applied.keys()
        return {one for one in ids if model.made[one].column}

    # What is said

    @precondition(lambda self: self.model.present and not self.model.needed)
    @rule(form=st.sampled_from(["heads", "base", "package", "id", "package@base"]), pick=picks, purge=st.booleans())
    def stamp(self, form: str, pick: int, purge: bool) -> None:
        model = self.model
        one = picked(model.present, pick)
        package = model.made[one].package
        typed = {"package": package, "id": one, "package@base": f"{package}@base"}.get(form, form)
        kept = set() if purge else set(model.applied)
        own = model.of_package(package, model.present)
        meant = {
            "heads": kept | model.present,
            "base": kept & model.missing,
            "package": kept | model.ancestors(own),
            "id": (kept - model.above_within(one)) | model.ancestors([one]),
            "package@base": kept - model.of_package(package, model.made),
        }[form]
        named = model.listed if form in ("heads", "base") else {package}
        self.said(self.attempt("stamp", typed, purge=purge), meant, named)

    @precondition(lambda self: self.model.missing)
    @rule(by_package=st.booleans(), pick=picks)
    def forget(self, by_package: bool, pick: int) -> None:
        model = self.model
        one = picked(model.missing, pick)
        package = model.made[one].package
        by_package = by_package and package not in model.listed
        gone = model.of_package(package, model.missing) if by_package else {one}
        self.said(self.attempt("forget", package if by_package else one), set(model.applied) - gone)

    @precondition(lambda self: self.model.unfinished)
    @rule(applied=st.booleans())
    def resolve(self, applied: bool) -> None:
        model = self.model
        assert model.unfinished
        one = model.made[model.unfinished]
        meant = model.applied.keys() | model.ancestors([one.id]) if applied else model.applied.keys() - {one.id}
        is_gone = one.id not in model.present | model.applied.keys()
        if not self.said(self.attempt("resolve", one.id, applied=applied), set(meant), may_refuse=is_gone):
            return
        model.unfinished = None
        _execute(self.connection, f"DROP TABLE IF EXISTS {one.table}")
        model.tables.pop(one.table, None)
        if applied:
            _execute(self.connection, f"CREATE TABLE {one.table} (id INTEGER PRIMARY KEY, {one.column} INTEGER)")
            model.tables |= one.tables

    def said(
        self,
        outcome: tuple[Any, AmphoError | None],
        meant: set[str],
        named: Iterable[str] = (),
        *,
        may_refuse: bool = False,
    ) -> bool:
        stamped, error = outcome
        if error is not None:
            model = self.model
            assert may_refuse or model.missing or model.needed or model.above(model.applied.keys() - meant, meant), (
                error
            )
            return False
        assert self.model.ancestors(meant) == meant
        assert set(stamped.after) == self.model.tips(meant)
        self.model.say(meant, named)
        return True

    # The way out

    @precondition(lambda self: self.model.applied and self.model.findings().keys() - {Status.EDITED})
    @rule()
    def mend(self) -> None:
        """All files come back, and an upgrade brings the database to where an empty one would be."""
        model = self.model
        model.listed = set(PACKAGES)
        self.list_packages()
        for one in model.made.values():
            if not one.on_disk:
                one.path.write_bytes(one.text)
                one.on_disk = True
        if model.unfinished:
            self.seen = self.look()
            self.resolve(applied=model.unfinished in model.applied)
            assert not model.unfinished
        run, error = self.attempt("upgrade")
        assert error is None, error
        self.follow(run, up=True)
        assert model.applied.keys() == set(model.made)
        if all(model.ran.get(one.id) == one.text for one in model.made.values()):
            assert self.replayed() == model.tables

    def replayed(self) -> dict[str, tuple[str, ...]]:
        """The tables that the files make of an empty database."""
        path = self.project.folder / "replay.db"
        path.unlink(missing_ok=True)
        app = Flask("app", root_path=".")
        app.config.update(SQLALCHEMY_DATABASE_URI=f"sqlite:///{path}", AMPHO_MIGRATION_PACKAGES=list(PACKAGES))
        ampho = Ampho(app)
        with app.app_context():
            ampho.upgrade()
            inspector = inspect(ampho.db.engine)
            found = {
                table: tuple(column["name"] for column in inspector.get_columns(table))
                for table in inspector.get_table_names()
                if table.startswith("t_")
            }
            ampho.db.engine.dispose()
        return found


@pytest.mark.drivers(*FEW)
def test_random_histories_of_files_and_a_database(database: Database, tmp_path: Path) -> None:
    framework = "quart" if database.is_async else "flask"

    def machine() -> RuleBasedStateMachine:
        return Machine(database, tmp_path / "machine", framework)

    start: Callable[[], RuleBasedStateMachine] = seed(int(SEED))(machine) if SEED else machine
    run_state_machine_as_test(
        start,
        _min_steps=STEPS,
        settings=settings(
            max_examples=int(ASKED) if ASKED else FEW[database.driver],
            stateful_step_count=STEPS,
            derandomize=not (ASKED or SEED),
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
        ),
    )
