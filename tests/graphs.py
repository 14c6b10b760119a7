"""Random histories of several packages, as real files, and what must hold of their version rows.

Shared by the property test and by ``benchmarks/plain_alembic_rows.py``. Everything here is computed from what was made
up, and naively: nothing of Ampho decides what is right.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from ampho.history.package import MigrationPackage

# One is dotted, one is the beginning of another, and the ids of two begin alike.
PACKAGES = ("app", "acme.billing", "app_more", "blog", "zoo.main")

_FILE = """\
from alembic import op

revision = {id!r}
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = {depends_on!r}


def upgrade():
    op.execute("INSERT INTO log (id) VALUES ('{id}')")


def downgrade():
    op.execute("DELETE FROM log WHERE id = '{id}'")
"""


@dataclass(frozen=True)
class Made:
    """A revision that was made up: what its file says, and the ids that it stands on."""

    id: str
    package: str
    down: tuple[str, ...]
    depends_on: tuple[str, ...]
    labels: tuple[str, ...]
    parents: frozenset[str]


class History:
    """A made-up history: each revision after what it stands on."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages
        self.revisions: dict[str, Made] = {}

    def of_package(self, package: str) -> list[str]:
        return [made.id for made in self.revisions.values() if made.package == package]

    def heads(self, package: str) -> list[str]:
        ids = self.of_package(package)
        return [one for one in ids if not any(one in self.revisions[other].down for other in ids)]

    def own_parents(self, revision: str) -> set[str]:
        made = self.revisions[revision]
        return {parent for parent in made.parents if self.revisions[parent].package == made.package}

    def with_ancestors(self, ids: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for one in ids:
            found |= {one} | self.with_ancestors(self.revisions[one].parents - found)
        return found

    def standing_on(self, ids: Iterable[str], among: Iterable[str]) -> set[str]:
        """Those of ``among`` that stand on one of ``ids``, at whatever distance, and are none of them."""
        start = set(ids)
        return {one for one in among if one not in start and self.with_ancestors([one]) & start}

    def tips(self, applied: Iterable[str]) -> set[str]:
        """The exact version rows: the applied revisions that no other applied one stands on."""
        known = set(applied)
        return {one for one in known if not any(one in self.revisions[other].parents for other in known)}

    def write(
        self, folder: Path, template: Callable[[str], str] = lambda revision: _FILE
    ) -> tuple[MigrationPackage, ...]:
        """Write the files, and return the packages.

        :param template: gives what is in the file of a revision.
        """
        packages = {}
        for name in self.packages:
            root = folder.joinpath(*name.split("."))
            packages[name] = MigrationPackage(name, root, root / "migrations")
            (root / "migrations" / "versions").mkdir(parents=True)
        for made in self.revisions.values():
            text = template(made.id).format(
                id=made.id, down=made.down or None, labels=made.labels or None, depends_on=made.depends_on or None
            )
            (packages[made.package].folder / "versions" / f"{made.id}.py").write_text(text, "utf-8")
        return tuple(packages.values())


def random_history(
    rng: random.Random, *, most_dependencies: int = 3, layered: bool = False, odd: bool = False
) -> History:
    """Make a history up: 1 to 5 packages of 1 to 6 revisions, with several heads, bases and merges.

    Revisions of all packages are made in turns, so packages depend on each other to and fro.

    :param most_dependencies: how many dependencies in other packages a revision has at most.
    :param layered: whether a package depends on packages before it only.
    :param odd: whether there are also parents in another package, and dependencies within one.
    """
    history = History(PACKAGES[: rng.randint(1, 5)])
    turns = [name for name in history.packages for _ in range(rng.randint(1, 6))]
    rng.shuffle(turns)
    for number, package in enumerate(turns):
        revision = f"{package.replace('.', '_')}_{number}"
        own = history.of_package(package)
        down = _random_parents(rng, history, package)
        written = _random_dependencies(rng, history, package, most_dependencies, layered)
        if odd and history.revisions and rng.random() < 0.15:
            down, written = _oddly(rng, history, package, down, written)
        parents = frozenset(down) | {_resolved(history, name) for name in written}
        labels = () if own else (package,)
        history.revisions[revision] = Made(revision, package, down, written, labels, parents)
    return history


def _random_parents(rng: random.Random, history: History, package: str) -> tuple[str, ...]:
    own, heads = history.of_package(package), history.heads(package)
    kind = rng.random()
    if not own or kind < 0.05:
        return ()  # a first revision, or one more base
    if kind < 0.2:
        return (rng.choice(own),)  # perhaps a second head
    if kind < 0.45 and len(heads) > 1:
        return tuple(rng.sample(heads, rng.randint(2, min(3, len(heads)))))  # a merge
    return (rng.choice(heads),)


def _random_dependencies(
    rng: random.Random, history: History, package: str, most: int, layered: bool
) -> tuple[str, ...]:
    others = history.packages[: history.packages.index(package)] if layered else history.packages
    ids = [one for other in others if other != package for one in history.of_package(other)]
    chosen = rng.sample(ids, min(rng.randint(0, most), len(ids)))
    # Some by the label of a branch, which means its first revision.
    names = [history.revisions[one].package if rng.random() < 0.1 else one for one in chosen]
    return tuple(dict.fromkeys(names))


def _oddly(
    rng: random.Random, history: History, package: str, down: tuple[str, ...], written: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take one more parent from anywhere, or one more dependency from the own package."""
    if rng.random() < 0.5:
        return tuple(dict.fromkeys([*down, rng.choice(list(history.revisions))])), written
    own = [one for one in history.of_package(package) if one not in down]
    return down, tuple(dict.fromkeys([*written, *rng.sample(own, min(1, len(own)))]))


def _resolved(history: History, name: str) -> str:
    return name if name in history.revisions else history.of_package(name)[0]


def log_engine() -> Engine:
    """Return the engine of a fresh database in memory, with the table in which revisions log themselves."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE log (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE)")
    return engine


@contextmanager
def failing(engine: Engine, doomed: str | None) -> Iterator[None]:
    """Let one revision fail, whichever way it goes."""
    if doomed is None:
        yield
        return
    with engine.begin() as connection:
        for event, row in (("INSERT", "NEW"), ("DELETE", "OLD")):
            connection.exec_driver_sql(
                f"CREATE TRIGGER fail_{event} BEFORE {event} ON log WHEN {row}.id = '{doomed}'"
                " BEGIN SELECT RAISE(ABORT, 'doomed'); END"
            )
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER fail_INSERT")
            connection.exec_driver_sql("DROP TRIGGER fail_DELETE")


def logged(engine: Engine) -> set[str]:
    """Return the revisions that logged themselves, and so are applied."""
    return _column(engine, "SELECT id FROM log")


def version_rows(engine: Engine, table: str = "alembic_version") -> set[str]:
    """Return the rows of a version table, seen also from within a run; none if there is no table."""
    if not _column(engine, f"SELECT name FROM sqlite_master WHERE name = '{table}'"):
        return set()
    return _column(engine, f'SELECT version_num FROM "{table}"')


def _column(engine: Engine, statement: str) -> set[str]:
    # The pool's one connection, below SQLAlchemy's transactions; the run has committed its step by then.
    cursor: Any = engine.raw_connection().cursor()
    rows = [row[0] for row in cursor.execute(statement)]
    cursor.close()
    assert len(rows) == len(set(rows)), f"a row twice: {rows}"
    return set(rows)


_STEP = """\
import os

from alembic import op

revision = {{id!r}}
down_revision = {{down!r}}
branch_labels = {{labels!r}}
depends_on = {{depends_on!r}}


def fail():
    if os.environ.get("DOOMED") == revision:
        raise RuntimeError("doomed")


def upgrade():
    op.execute("CREATE TABLE t_{{id}} (id INTEGER)")
    {up}
    op.execute("INSERT INTO log (id) VALUES ('{{id}}')")


def downgrade():
    op.execute("DROP TABLE t_{{id}}")
    {down}
    op.execute("DELETE FROM log WHERE id = '{{id}}'")
"""
_OUTSIDE = "with op.get_context().autocommit_block():\n        fail()"


def step_file(revision: str) -> str:
    """Return the file of a revision that makes a table: each third one commits that before its end."""
    commits = int(revision.rpartition("_")[2]) % 3 == 0
    return _STEP.format(up=_OUTSIDE if commits else "fail()", down=_OUTSIDE if commits else "fail()")
