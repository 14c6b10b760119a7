"""An empty database goes through what a database went through that was migrated day by day, and both go down again.

``AMPHO_PROPERTY_DAYS`` is the number of random histories, half of which run on PostgreSQL. A failure names the seed.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from days import PACKAGES, World
from facade import FRAMEWORKS, URLS, facade
from project import Project as Files
from servers import JOURNAL, Database
from sqlalchemy import Engine, create_engine, event

from ampho.history.package import MigrationPackage
from ampho.migrate import executor as execute
from ampho.migrate.project import Project

HISTORIES = int(os.environ.get("AMPHO_PROPERTY_DAYS", "50"))
MANY = 1000

pytestmark = [pytest.mark.timeout(max(120, 2 * HISTORIES)), pytest.mark.usefixtures("unmeasured")]


@dataclass(frozen=True)
class Site:
    """A database that is migrated, with the files as they are."""

    folder: Path
    database: Database
    engine: Engine

    def call(self, function: Callable[..., Any], *args: str) -> list[str]:
        """Run an upgrade or a downgrade, and return the ids of its steps."""
        names = [name for name in PACKAGES if self.folder.joinpath(*name.split(".")).exists()]
        roots = [self.folder.joinpath(*name.split(".")) for name in names]
        packages = tuple(
            MigrationPackage(name, root, root / "migrations") for name, root in zip(names, roots, strict=True)
        )
        project = Project(packages, self.database.url, "sync")
        with self.engine.connect() as connection:
            return [step.step.revision.id for step in function(project, connection, *args).steps]

    def up(self, specifier: str = "heads") -> list[str]:
        return self.call(execute.upgrade, specifier)

    def down(self, specifier: str = "base") -> list[str]:
        return self.call(execute.downgrade, specifier)

    def check_empty(self) -> None:
        assert self.database.tables() == ["alembic_version"]
        assert self.database.rows() == []
        self.database.run(f"DELETE FROM {JOURNAL}")


@pytest.mark.parametrize("driver", ["sqlite+pysqlite", "postgresql+psycopg"])
def test_what_was_migrated_day_by_day_runs_on_an_empty_database_and_back(
    driver: str,
    make_database: Callable[[str], Database],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "history"
    daily, fresh = (Site(folder, database, engine_of(database)) for database in map(make_database, [driver] * 2))
    began, steps = time.monotonic(), 0
    seeds = range(driver.startswith("postgresql"), HISTORIES, 2)
    for seed in seeds:
        try:
            steps += check_history(random.Random(seed), daily, fresh)
        except BaseException as exc:
            exc.add_note(f"seed {seed}")
            raise
        shutil.rmtree(folder)
    for site in (daily, fresh):
        site.engine.dispose()
    assert steps > 4 * len(seeds)
    if HISTORIES > MANY:
        with capsys.disabled():
            spent = time.monotonic() - began
            sys.stdout.write(f"\n{driver}: {len(seeds)} histories of {steps} revisions, {spent:.0f} s\n")


def engine_of(database: Database) -> Engine:
    engine = create_engine(database.url)
    if database.backend == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    return engine


def check_history(rng: random.Random, daily: Site, fresh: Site) -> int:
    """Migrate a database day by day and an empty one at once, compare them, and take both back."""
    count = rng.randint(3, 8)
    back = rng.randint(1, count - 1)
    ids: list[str] = []
    for day in World(rng).days(count):
        day.write(daily.folder)
        assert daily.up() == [day.id]
        ids.append(day.id)
        if len(ids) == count - back:
            earlier = daily.database.schema()

    assert fresh.up(f"+{rng.randint(1, len(ids))}") + fresh.up() == ids
    assert fresh.database.schema() == daily.database.schema()

    assert fresh.down(f"-{back}") == ids[: -back - 1 : -1]
    assert tables_of(fresh.database.schema()) == tables_of(earlier)
    assert fresh.down() == ids[-back - 1 :: -1]
    fresh.check_empty()

    forget_beginning(daily.database, ids[: rng.randint(0, len(ids))])
    assert daily.down() == ids[::-1]
    daily.check_empty()
    return len(ids)


def forget_beginning(database: Database, ids: Sequence[str]) -> None:
    """Have no entry for the first revisions, as where they were applied before there was a journal."""
    listed = ", ".join(f"'{revision}'" for revision in ids)
    if ids:
        database.run(f"DELETE FROM {JOURNAL} WHERE revision IN ({listed})")


def tables_of(schema: dict[str, Any]) -> dict[str, tuple[set[str], set[tuple[str, str]]]]:
    """Return of each table what does not depend on how it came about: its columns, and where its keys lead."""
    return {
        name: (
            {column["name"] for column in table["columns"]},
            {(key["constrained_columns"][0], key["referred_table"]) for key in table["foreign keys"]},
        )
        for name, table in schema["tables"].items()
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_sqlite_is_not_left_with_a_key_to_a_table_that_is_gone_without_a_word(project: Files, framework: str) -> None:
    """Nothing tells that the shirts were made before the colors got another name: no date, and no ``depends_on``."""
    colors = "op.create_table('colors', sa.Column('id', sa.Integer, primary_key=True))"
    shirts = "op.create_table('shirts', sa.Column('color', sa.Integer, sa.ForeignKey('colors.id')))"
    ahead = "op.create_table('hats', sa.Column('shop', sa.Integer, sa.ForeignKey('shops.id')))"
    for package in ("a", "b"):
        project.package(package)
    project.revision("a", "a_1", upgrade=colors)
    project.revision("a", "a_2", "a_1", upgrade="op.rename_table('colors', 'hues')")
    project.revision("b", "b_1", upgrade=ahead)
    project.revision(
        "b", "b_2", "b_1", upgrade="op.create_table('shops', sa.Column('id', sa.Integer, primary_key=True))"
    )
    project.revision("b", "b_3", "b_2", upgrade=shirts)
    project.revision("b", "b_4", "b_3")
    with facade(project, framework, ["a", "b"], URLS[framework]) as each:
        assert each.run("db-up", "b_2").stderr == ""
        warning = " ".join(each.run("db-up", "b_3").stderr.split())
        again = each.run("db-up")

    assert warning.startswith(
        "Warning: This run leaves foreign keys to tables that do not exist: from the table shirts to"
    )
    assert "shirts to colors." in warning
    assert (again.exit_code, again.stderr) == (0, ""), again.output
