"""A history as an app gets it in some years: the files of Flask-Migrate, and the models at its end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from textwrap import indent

TYPES = ("sa.Integer()", "sa.String(20)", "sa.Numeric(8, 2)", "sa.Boolean()", "sa.DateTime()", "sa.Text()")

_FILE = '''\
"""{kind} {number}

Revision ID: {id}
Revises: {down}
Create Date: 2024-01-{day:02} {hour:02}:{minute:02}:00

"""
from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision = {id!r}
down_revision = {down!r}
branch_labels = None
depends_on = None


def upgrade():
{upgrade}


def downgrade():
{downgrade}
'''


@dataclass
class Table:
    """A table at the end of the history, as its model describes it."""

    name: str
    package: str
    columns: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)

    @property
    def own(self) -> list[str]:
        """The columns that may be renamed or dropped."""
        return [name for name in self.columns if name.startswith("c")]

    @property
    def model(self) -> str:
        columns = "".join(f"    {name} = mapped_column({text})\n" for name, text in self.columns.items())
        arguments = "".join(f"{each}, " for each in self.arguments)
        args = f"    __table_args__ = ({arguments})\n" if arguments else ""
        return f"class {self.name.title()}(Base):\n    __tablename__ = {self.name!r}\n{columns}{args}"


@dataclass(frozen=True)
class Written:
    """A revision of the history."""

    id: str
    kind: str
    upgrade: str
    source: str


@dataclass
class LongHistory:
    """Makes the history step by step.

    :ivar packages: the packages that the tables will belong to; foreign keys lead to earlier ones only.
    :ivar has_types: whether the database has enum types, which a revision creates by itself.
    """

    packages: Sequence[str]
    has_types: bool
    seed: int = 5
    tables: dict[str, Table] = field(default_factory=dict)
    revisions: list[Written] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        kinds: list[Callable[[int, Table], tuple[Sequence[str], Sequence[str]] | None]] = [
            *(self._column, self._column, self._drop, self._index, self._unique, self._rename, self._rename_table),
            *(self._data, self._widen, self._enum, self._key, self._default),
        ]
        self._kinds = kinds

    def write(self, count: int) -> None:
        """Add revisions."""
        for _ in range(count):
            number = len(self.revisions) + 1
            made = None
            while made is None:
                # Each package gets a table first.
                if number <= len(self.packages) or self._random.random() < 0.12:
                    kind, made = "table", self._table(number, self.packages[(number - 1) % len(self.packages)])
                else:
                    chosen = self._random.choice(self._kinds)
                    kind = chosen.__name__.strip("_")
                    made = chosen(number, self._random.choice([*self.tables.values()]))
            self._add(number, kind, *made)

    def _add(self, number: int, kind: str, upgrade: Sequence[str], downgrade: Sequence[str]) -> None:
        down = self.revisions[-1].id if self.revisions else None
        revision_id = f"{self._random.getrandbits(48):012x}"
        lines = indent("\n".join(upgrade), "    ")
        source = _FILE.format(
            kind=kind,
            number=number,
            id=revision_id,
            down=down,
            day=1 + number // 24,
            hour=number % 24,
            minute=0,
            upgrade=lines,
            downgrade=indent("\n".join(downgrade), "    "),
        )
        self.revisions.append(Written(revision_id, kind, "\n".join(upgrade), source))

    def models(self, package: str) -> str:
        """Return the models of a package, which import those of the earlier ones for their foreign keys."""
        own = [table.model for table in self.tables.values() if table.package == package]
        return "\n\n".join(own)

    def _table(self, number: int, package: str) -> tuple[Sequence[str], Sequence[str]]:
        name = f"t{number}"
        text = {"id": "sa.Integer(), primary_key=True", "name": "sa.String(50), nullable=False, server_default='x'"}
        self.tables[name] = Table(name, package, dict(text))
        columns = ", ".join(f"sa.Column({key!r}, {value})" for key, value in text.items())
        return [f"op.create_table({name!r}, {columns})"], [f"op.drop_table({name!r})"]

    def _column(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]]:
        name, type_ = f"c{number}", self._random.choice(TYPES)
        table.columns[name] = type_
        return [f"op.add_column({table.name!r}, sa.Column({name!r}, {type_}))"], _batch(table, f"drop_column({name!r})")

    def _drop(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]] | None:
        plain = [name for name in table.own if table.columns[name] in TYPES]
        if not plain:
            return None
        name = self._random.choice(plain)
        type_ = table.columns.pop(name)
        return _batch(table, f"drop_column({name!r})"), [f"op.add_column({table.name!r}, sa.Column({name!r}, {type_}))"]

    def _index(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]]:
        name = f"ix_{number}"
        table.arguments.append(f"sa.Index({name!r}, 'name', 'id')")
        return [f"op.create_index({name!r}, {table.name!r}, ['name', 'id'])"], [
            f"op.drop_index({name!r}, {table.name!r})"
        ]

    def _unique(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]] | None:
        if any("Unique" in each for each in table.arguments):
            return None
        name = f"uq_{number}"
        table.arguments.append(f"sa.UniqueConstraint('id', 'name', name={name!r})")
        drop = f"drop_constraint({name!r}, type_='unique')"
        return _batch(table, f"create_unique_constraint({name!r}, ['id', 'name'])"), _batch(table, drop)

    def _rename(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]] | None:
        if not table.own:
            return None
        old, new = self._random.choice(table.own), f"c{number}r"
        type_ = table.columns[old]
        table.columns = {new if name == old else name: text for name, text in table.columns.items()}
        alter = "alter_column({!r}, new_column_name={!r}, existing_type={})"
        return _batch(table, alter.format(old, new, type_)), _batch(table, alter.format(new, old, type_))

    def _rename_table(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]]:
        old, new = table.name, f"t{number}r"
        self.tables[new] = self.tables.pop(old)
        table.name = new
        for other in self.tables.values():
            other.arguments = [each.replace(f"'{old}.id'", f"'{new}.id'") for each in other.arguments]
        return [f"op.rename_table({old!r}, {new!r})"], [f"op.rename_table({new!r}, {old!r})"]

    def _data(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]]:
        insert = f"op.bulk_insert(sa.table({table.name!r}, sa.column('name')), [{{'name': 'n{number}'}}])"
        return [f"op.execute(\"UPDATE {table.name} SET name = 'y' WHERE name = 'x'\")", insert], ["pass"]

    def _widen(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]]:
        alter = "alter_column('name', type_=sa.String({}), existing_type=sa.String({}), existing_nullable=False,"
        alter += " existing_server_default={})"
        old = table.columns["name"]
        size, default = old.partition("(")[2].partition(")")[0], old.rpartition("=")[2]
        table.columns["name"] = old.replace(f"({size})", f"({60 + number})")
        up, down = alter.format(60 + number, size, default), alter.format(size, 60 + number, default)
        return _batch(table, up), _batch(table, down)

    def _default(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]]:
        type_, _, default = table.columns["name"].partition(", nullable=False, server_default=")
        table.columns["name"] = f"{type_}, nullable=False, server_default='d{number}'"
        alter = "alter_column('name', server_default={}, existing_type={}, existing_nullable=False)"
        return _batch(table, alter.format(f"'d{number}'", type_)), _batch(table, alter.format(default, type_))

    def _enum(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]]:
        name, enum = f"c{number}", f"sa.Enum('a', 'b', name='e{number}')"
        table.columns[name] = enum
        create = [f"{enum}.create(op.get_bind())"] if self.has_types else []
        drop = [f"{enum}.drop(op.get_bind())"] if self.has_types else []
        add = f"op.add_column({table.name!r}, sa.Column({name!r}, {enum}))"
        return [*create, add], [*_batch(table, f"drop_column({name!r})"), *drop]

    def _key(self, number: int, table: Table) -> tuple[Sequence[str], Sequence[str]]:
        order = list(self.packages)
        place = order.index(table.package)
        others = [each for each in self.tables.values() if order.index(each.package) <= place]
        target, name = self._random.choice(others), f"f{number}"
        table.columns[name] = "sa.Integer()"
        table.arguments.append(f"sa.ForeignKeyConstraint([{name!r}], ['{target.name}.id'], name='fk_{number}')")
        add = [f"add_column(sa.Column({name!r}, sa.Integer()))"]
        add.append(f"create_foreign_key('fk_{number}', {target.name!r}, [{name!r}], ['id'])")
        drop = [f"drop_constraint('fk_{number}', type_='foreignkey')", f"drop_column({name!r})"]
        return _batch(table, *add), _batch(table, *drop)


def _batch(table: Table, *operations: str) -> list[str]:
    return [f"with op.batch_alter_table({table.name!r}) as batch:", *(f"    batch.{each}" for each in operations)]
