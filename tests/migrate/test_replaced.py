"""Revisions that replace others: what a database has of them, and what it runs.

``AMPHO_PROPERTY_REPLACED`` is the number of random histories that are squashed and split, with a database that follows.
A failure names the seed.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from graphs import PACKAGES, log_engine, logged, random_history, version_rows
from sqlalchemy import Engine, make_url

from ampho.database.journal import Journal
from ampho.database.version_rows import Applied
from ampho.errors import DependentsError, SpecifierError, UnknownRevisionsError
from ampho.history.package import MigrationPackage
from ampho.migrate import executor as execute
from ampho.migrate import queries
from ampho.migrate.project import Project
from ampho.migrate.queries import query
from ampho.migrate.sql import upgrade_sql
from ampho.status.state import Mark

HISTORIES = int(os.environ.get("AMPHO_PROPERTY_REPLACED", "40"))

# Histories that once showed a fault: replaced revisions counted before what replaced the same ones did.
RARE = (3148, 9973)

pytestmark = pytest.mark.timeout(max(120, HISTORIES))

FILE = """\
from alembic import op

revision = {id!r}
down_revision = {down!r}
branch_labels = None
depends_on = {depends_on!r}
replaces = {replaces!r}


def upgrade():
    for leaf in {leaves!r} + ("#{id}",):
        op.execute(f"INSERT INTO log (id) VALUES ('{{leaf}}')")


def downgrade():
    for leaf in {leaves!r} + {marks!r}:
        op.execute(f"DELETE FROM log WHERE id = '{{leaf}}'")
"""


@dataclass(frozen=True)
class Node:
    """A revision as its file says; ``leaves`` are what it logs, beside the mark that it ran itself."""

    id: str
    package: str
    down: tuple[str, ...]
    depends_on: tuple[str, ...]
    leaves: tuple[str, ...]
    replaces: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.down, *self.depends_on)


@dataclass
class Files:
    """The revision files of several packages, which are squashed and split.

    :ivar every: all revisions that there ever were.
    :ivar current: the ids of those that have not been replaced.
    """

    rng: random.Random
    every: dict[str, Node]
    current: list[str] = field(default_factory=list)
    is_plain: bool = True

    def standing(self, name: str) -> list[str]:
        """What a parent means among the current revisions."""
        if name in self.current:
            return [name]
        return [found for one in self.every.values() if name in one.replaces for found in self.standing(one.id)]

    def parents(self, one: str) -> set[str]:
        return {found for name in self.every[one].names for found in self.standing(name)}

    def ancestors(self, ids: Iterable[str]) -> set[str]:
        found: set[str] = set()
        todo = list(ids)
        while todo:
            if (one := todo.pop()) not in found:
                found.add(one)
                todo += self.parents(one)
        return found

    def leaves_below(self, one: str) -> set[str]:
        """What a database that has a revision has at least, by the files as they are written."""
        found, todo = set[str](), [*self.every[one].names]
        while todo:
            if (name := todo.pop()) not in found:
                found.add(name)
                todo += self.every[name].names
        return {leaf for name in found for leaf in self.every[name].leaves}

    def has(self, one: str, log: set[str]) -> bool:
        """Whether a revision ran, or all that it replaces."""
        replaces = self.every[one].replaces
        return f"#{one}" in log or (bool(replaces) and all(self.has(old, log) for old in replaces))

    def marks(self, one: str) -> tuple[str, ...]:
        return (f"#{one}", *(mark for old in self.every[one].replaces for mark in self.marks(old)))

    def transform(self, number: int) -> None:
        """Replace some revisions by one, or by one for each of several packages."""
        chosen = self._convex()
        if not chosen:
            return
        order = [one for one in self.every if one in chosen]
        outside = {
            found
            for one in order
            for name in self.every[one].names
            for found in ([name] if chosen.isdisjoint(self.standing(name)) else set(self.standing(name)) - chosen)
        }
        self.is_plain = self.is_plain and outside <= {*self.current}
        leaves = [leaf for one in order for leaf in self.every[one].leaves]
        package = self.every[order[0]].package
        count = self.rng.choice([1, 1, 2, 3])
        self.rng.shuffle(leaves)
        made: list[Node] = []
        for part in range(count):
            owner = package if part == 0 else self.rng.choice(PACKAGES)
            needed = {*outside, *(each.id for each in made if self.rng.random() < 0.5)}
            known = {**self.every, **{each.id: each for each in made}}
            down = tuple(sorted(one for one in needed if known[one].package == owner))
            depends_on = tuple(sorted(needed.difference(down)))
            name = f"{owner.replace('.', '_')}_9{number}{part}"
            made.append(Node(name, owner, down, depends_on, tuple(leaves[part::count]), tuple(order)))
        self._follow(chosen, made)
        self.every |= {each.id: each for each in made}
        self.current = [one for one in self.current if one not in chosen] + [each.id for each in made]

    def _convex(self) -> set[str]:
        start = self.every[self.rng.choice(self.current)]
        own = [one for one in self.current if self.every[one].package == start.package or self.rng.random() < 0.1]
        chosen = {start.id, *self.rng.sample(own, self.rng.randint(0, len(own)))}
        below = self.ancestors(chosen)
        return {one for one in below if self.ancestors([one]) & chosen}

    def _follow(self, chosen: set[str], made: Sequence[Node]) -> None:
        """Write the new ids into the files that depend on the old ones, if none of them depends on only a part."""
        dependents = [one for one in self.current if one not in chosen and self.parents(one) & chosen]
        names = [set(self.standing(name)) for one in dependents for name in self.every[one].names]
        needed = {leaf for one in chosen for leaf in self.every[one].leaves}
        is_whole = all(needed <= self.leaves_below(one) for one in dependents)
        if is_whole and all(ids <= chosen or not ids & chosen for ids in names) and self.rng.random() < 0.7:
            for one in dependents:
                node = self.every[one]
                names = [name for name in node.names if not set(self.standing(name)) & chosen]
                ids = dict.fromkeys([*names, *(each.id for each in made)])
                packages = {each.id: each.package for each in (*self.every.values(), *made)}
                down = tuple(name for name in ids if packages[name] == node.package)
                self.every[one] = replace(node, down=down, depends_on=tuple(name for name in ids if name not in down))
        elif dependents:
            self.is_plain = False

    def write(self, folder: Path) -> tuple[MigrationPackage, ...]:
        packages = []
        for name in PACKAGES:
            root = folder.joinpath(*name.split("."))
            packages.append(MigrationPackage(name, root, root / "migrations"))
            for part in ("versions", "replaced"):
                path = root / "migrations" / part
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir(parents=True)
        for node in self.every.values():
            text = FILE.format(
                id=node.id,
                down=node.down or None,
                depends_on=node.depends_on or None,
                replaces=node.replaces or None,
                leaves=node.leaves,
                marks=self.marks(node.id),
            )
            folder_of = next(each.folder for each in packages if each.name == node.package)
            place = "versions" if node.id in self.current else "replaced"
            (folder_of / place / f"{node.id}.py").write_text(text, "utf-8")
        return tuple(packages)


@dataclass
class Follower:
    """A database that follows the files, and the checks that Ampho's picture of it is true."""

    files: Files
    folder: Path
    engine: Engine
    project: Project = field(init=False)

    def write(self) -> None:
        self.project = Project(self.files.write(self.folder), make_url("sqlite://"), "sync")

    def run(self, rng: random.Random) -> None:
        package = rng.choice(PACKAGES)
        current = rng.choice(self.files.current)
        ups = ["heads", package, current, "+1", "+2", f"{package}@+1", f"{package}@head"]
        downs = ["-1", "-2", f"{package}@base", f"{package}@-1", current, "base"]
        function, spec = (
            (execute.upgrade, rng.choice(ups)) if rng.random() < 0.7 else (execute.downgrade, rng.choice(downs))
        )
        more = {"cascade": rng.random() < 0.8} if function is execute.downgrade else {}
        try:
            with self.engine.connect() as connection:
                function(self.project, connection, spec, **more)  # type: ignore[operator]  # one of two
        except (SpecifierError, DependentsError):
            pass
        else:
            self.check(spec)

    def check(self, spec: str = "") -> Applied:
        with self.engine.connect() as connection:
            found = query(self.project, connection, (), self._applied)
        graph, every, log = found.graph, self.files.every, logged(self.engine)
        assert {leaf for one in found.known for leaf in every[one].leaves} == leaves_of(log), spec
        # A row may become superfluous when a file is rewritten; the next step removes it.
        superfluous = set(found.rows) - set(graph.exact_rows(found.known))
        assert {*found.rows} - superfluous == set(graph.exact_rows(found.known)), spec
        assert all(every[row].replaces and row in found.known for row in superfluous), (spec, superfluous)
        assert found.taken or version_rows(self.engine) == set(found.rows), spec
        for one in self.files.current:
            parents = self.files.parents(one)
            started = {parent for parent in parents if graph.is_recorded(parent)}  # it may stand on the part that ran
            assert one not in found.known or parents <= found.known | started, (spec, one)
            is_complete = parents <= found.known and self.files.has(one, log)
            assert one in found.known or not is_complete, (spec, one)
        return found

    def check_views(self) -> None:
        """Check that ``db-status`` and ``db-graph`` show what is applied, and what ``db-up`` would run."""
        found = self.check()
        with self.engine.connect() as connection:
            status = queries.status(self.project, connection)
            picture = queries.graph(self.project, connection, full=True)
            steps = execute.plan(self.project, connection)().steps
        drawn = {one for node in picture.nodes for one in node.revisions if node.mark in (Mark.APPLIED, Mark.EDITED)}
        shown = {one for node in picture.nodes for one in node.revisions}
        assert set(self.files.current) <= shown
        assert drawn == {*found.known} & shown
        assert {*self.files.current} - {*found.known} <= shown - drawn
        assert status.pending == len({step.revision.id for step in steps} - found.known)

    def check_sql(self) -> None:
        """Check that the SQL of an upgrade does what the upgrade does, or is refused if rows have to be exchanged."""
        is_replaced = bool(set(version_rows(self.engine)) - set(self.files.current))
        with self.engine.connect() as connection:
            try:
                script = upgrade_sql(self.project, connection)
            except SpecifierError:
                assert is_replaced
                return
        copy = log_engine()
        source, target = self.engine.raw_connection(), copy.raw_connection()
        source.driver_connection.backup(target.driver_connection)  # type: ignore[union-attr]  # an open connection
        target.driver_connection.executescript(script)  # type: ignore[union-attr]
        source.close()
        target.close()
        follower = Follower(self.files, self.folder, copy)
        follower.project = self.project
        follower.check()
        assert leaves_of(logged(copy)) == {leaf for one in self.files.current for leaf in self.files.every[one].leaves}
        copy.dispose()

    def check_pruned(self) -> None:
        """Check that without the old files, a database is as before, or is told that it needs them.

        What replaced a replacement does not say what that had replaced, so such histories are left out.
        """
        every = self.files.every
        if any(every[old].replaces for one in self.files.current for old in every[one].replaces):
            return
        before = logged(self.engine), version_rows(self.engine)
        folders = [package.folder / "replaced" for package in self.project.packages]
        for folder in folders:
            folder.rename(folder.with_name("put_away"))
        pruned = Project(self.project.packages, make_url("sqlite://"), "sync")
        with self.engine.connect() as connection:
            try:
                execute.upgrade(pruned, connection)
            except UnknownRevisionsError:
                assert (logged(self.engine), version_rows(self.engine)) == before
        for folder in folders:
            folder.with_name("put_away").rename(folder)

    def _applied(self, rows: tuple[str, ...], journal: Journal) -> Applied:
        return Applied.from_rows(self.project.graph, rows, journal)

    def finish(self, rng: random.Random) -> None:
        with self.engine.connect() as connection:
            execute.upgrade(self.project, connection)
        assert self.check().taken == ()
        current = set(self.files.current)
        below = {name for one in current for name in self.files.every[one].names}
        rows = version_rows(self.engine)
        assert current - below <= rows
        assert all(self.files.every[row].replaces for row in rows & below)
        assert leaves_of(logged(self.engine)) == {leaf for one in current for leaf in self.files.every[one].leaves}
        if self.files.is_plain:
            folders = [str(package.folder / "versions") for package in self.project.packages]
            config = Config()
            config.set_main_option("script_location", str(self.folder))
            config.set_main_option("version_locations", os.pathsep.join(folders))
            config.set_main_option("path_separator", "os")
            script = ScriptDirectory.from_config(config)
            heads = {revision.revision for revision in script.get_revisions("heads")}
            assert heads <= rows
            assert {each.revision for each in script.get_revisions(tuple(rows))} == rows
        if rng.random() < 0.5:
            with self.engine.connect() as connection:
                execute.downgrade(self.project, connection, "base", cascade=True)
            self.check()
            assert version_rows(self.engine) == logged(self.engine) == set()


def leaves_of(log: set[str]) -> set[str]:
    return {one for one in log if not one.startswith("#")}


def test_random_histories_are_squashed_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for seed in dict.fromkeys([*range(HISTORIES), *RARE]):
        try:
            check_history(random.Random(seed), tmp_path / str(seed))
        except BaseException as exc:
            exc.add_note(f"seed {seed}")
            raise
        shutil.rmtree(tmp_path / str(seed))


def check_history(rng: random.Random, folder: Path) -> None:
    history = random_history(rng, odd=rng.random() < 0.2)
    every = {
        made.id: Node(
            made.id,
            made.package,
            made.down,
            tuple(sorted(made.parents.difference(made.down))),
            (made.id,),
        )
        for made in history.revisions.values()
    }
    files = Files(rng, every, [*every])
    follower = Follower(files, folder, log_engine())
    for number in range(rng.randint(2, 5)):
        follower.write()
        follower.check()
        for _ in range(rng.randint(0, 2)):
            follower.run(rng)
        files.transform(number)
    follower.write()
    follower.check_views()
    for _ in range(rng.randint(0, 2)):
        follower.run(rng)
    follower.check_sql()
    if rng.random() < 0.3:
        follower.check_pruned()
    follower.check_views()
    follower.finish(rng)
    follower.engine.dispose()
