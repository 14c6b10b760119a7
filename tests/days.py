"""Random histories of several packages as they come about day by day: each revision fits the tables of its day.

Most revisions do not declare what they need of other packages, because a database that is migrated every day has it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("app", "blog", "zoo.main")
NAMES = ("colors", "shirts", "sizes", "shops", "orders", "prices")
BEGIN = 1_600_000_000
DAY = 86_400

_FILE = '''\
"""{what}

Create Date: {date}
"""

import sqlalchemy as sa
from alembic import op

revision = {id!r}
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = {depends_on!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
'''


@dataclass(eq=False)
class Table:
    """A table of a day.

    :ivar columns: its columns besides ``id``, each with the table that it points at, if it does.
    """

    name: str
    owner: str
    columns: dict[str, Table | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Day:
    """What was written on a day: a revision, and the folder of its package."""

    id: str
    package: str
    text: str

    def write(self, folder: Path) -> None:
        versions = folder.joinpath(*self.package.split("."), "migrations", "versions")
        versions.mkdir(parents=True, exist_ok=True)
        (versions / f"{self.id}.py").write_text(self.text, "utf-8")


@dataclass
class World:
    """The tables as they are, and what the packages' histories have come to."""

    rng: random.Random
    tables: dict[str, Table] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    counter: int = 0

    def days(self, count: int) -> Iterator[Day]:
        for number in range(count):
            yield self._day(number)

    def _day(self, number: int) -> Day:
        package = self.rng.choice(PACKAGES)
        steps = [self._step(package) for _ in range(self.rng.randint(1, 2))]
        time = BEGIN + number * DAY + self.rng.randrange(DAY // 2)
        has_time = self.rng.random() < 0.5
        date = datetime.fromtimestamp(time, UTC)
        revision = f"{package.replace('.', '_')}_{time}" if has_time else f"{self.rng.getrandbits(48):012x}"
        others = [head for name, head in self.heads.items() if name != package and self.rng.random() < 0.2]
        text = _FILE.format(
            what=f"Day {number}",
            date=date.isoformat(" ") if not has_time else "unknown",
            id=revision,
            down=self.heads.get(package),
            labels=None if package in self.heads else package,
            depends_on=tuple(others) or None,
            upgrade="\n".join(f"    {line}" for up, _ in steps for line in up),
            downgrade="\n".join(f"    {line}" for _, down in reversed(steps) for line in down),
        )
        self.heads[package] = revision
        return Day(revision, package, text)

    def _step(self, package: str) -> tuple[list[str], list[str]]:
        """Change the tables, and return the lines that do it and those that undo it."""
        own = [table for table in self.tables.values() if table.owner == package]
        choices: list[Callable[[], tuple[list[str], list[str]]]] = []
        if len(self.tables) < len(NAMES):
            choices += [lambda: self._create(package)] * 2
        if own:
            table = self.rng.choice(own)
            choices += [lambda: self._add(table)] * 2
            if table.columns:
                choices += [lambda: self._remove(table)] * 2
            if not self._pointing_at(table):
                choices += [lambda: self._drop(table)] * 2
            if len(self.tables) < len(NAMES):
                choices += [lambda: self._rename(table)]
        return self.rng.choice(choices)() if choices else (["pass"], ["pass"])

    def _pointing_at(self, table: Table) -> list[Table]:
        return [other for other in self.tables.values() if other is not table and table in other.columns.values()]

    def _free_name(self) -> str:
        return self.rng.choice([name for name in NAMES if name not in self.tables])

    def _create(self, package: str) -> tuple[list[str], list[str]]:
        table = Table(self._free_name(), package)
        if self.tables and self.rng.random() < 0.7:
            table.columns[self._column()] = self.rng.choice(list(self.tables.values()))
        self.tables[table.name] = table
        return [_creation(table)], [f"op.drop_table({table.name!r})"]

    def _drop(self, table: Table) -> tuple[list[str], list[str]]:
        del self.tables[table.name]
        return [f"op.drop_table({table.name!r})"], [_creation(table)]

    def _rename(self, table: Table) -> tuple[list[str], list[str]]:
        old, new = table.name, self._free_name()
        del self.tables[old]
        table.name = new
        self.tables[new] = table
        return [f"op.rename_table({old!r}, {new!r})"], [f"op.rename_table({new!r}, {old!r})"]

    def _add(self, table: Table) -> tuple[list[str], list[str]]:
        column = self._column()
        others = [other for other in self.tables.values() if other is not table]
        target = self.rng.choice(others) if others and self.rng.random() < 0.7 else None
        table.columns[column] = target
        return _addition(table, column, target), _removal(table, column, target)

    def _remove(self, table: Table) -> tuple[list[str], list[str]]:
        column = self.rng.choice(list(table.columns))
        target = table.columns.pop(column)
        return _removal(table, column, target), _addition(table, column, target)

    def _column(self) -> str:
        self.counter += 1
        return f"c{self.counter}"


def _creation(table: Table) -> str:
    parts = [repr(table.name), "sa.Column('id', sa.Integer, primary_key=True, autoincrement=False)"]
    for column, target in table.columns.items():
        key = f", sa.ForeignKey('{target.name}.id', name='fk_{column}')" if target else ""
        parts.append(f"sa.Column({column!r}, sa.Integer{key})")
    return f"op.create_table({', '.join(parts)})"


def _addition(table: Table, column: str, target: Table | None) -> list[str]:
    lines = [f"with op.batch_alter_table({table.name!r}) as batch:"]
    lines.append(f"    batch.add_column(sa.Column({column!r}, sa.Integer))")
    if target:
        lines.append(f"    batch.create_foreign_key('fk_{column}', {target.name!r}, [{column!r}], ['id'])")
    return lines


def _removal(table: Table, column: str, target: Table | None) -> list[str]:
    lines = [f"with op.batch_alter_table({table.name!r}) as batch:"]
    if target:
        lines.append(f"    batch.drop_constraint('fk_{column}', type_='foreignkey')")
    return [*lines, f"    batch.drop_column({column!r})"]
