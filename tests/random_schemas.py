"""Random models with tables of all kinds of columns, and random changes of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

NAMES = ["email", "select", "class", "größe", "Camel", "with space", "per%cent", "it's", "from", "a" * 50]
INDEXES = ["plain", "descending", "function", "partial"]
IDENTITIES = [None, None, {"always": True}, {"always": False}, {"always": True, "start": 5, "increment": 2}]
LABELS = ["new", "in use", "it's", "50 %", ":gone", "a:b", "ünique"]


class Money(sa.types.TypeDecorator[Any]):
    """A type whose arguments its ``repr()`` does not show."""

    impl = sa.Numeric
    cache_ok = True

    def __init__(self, digits: int) -> None:
        super().__init__(digits, 2)


TYPES: dict[str, tuple[Callable[[], Any], str | None]] = {
    "string": (lambda: sa.String(50), 'it\'s 5 % : "quoted"'),
    "text": (sa.Text, None),
    "integer": (sa.Integer, "5"),
    "big": (sa.BigInteger, None),
    "number": (lambda: sa.Numeric(8, 2), "1.50"),
    "date": (sa.Date, None),
    "variant": (lambda: sa.String(20).with_variant(sa.String(30), "mysql", "mariadb"), None),
    "money": (lambda: Money(9), None),
    "computed": (sa.Integer, None),
    "enum": (sa.Text, None),
    "array": (sa.Text, None),
}


@dataclass
class Col:
    name: str
    kind: str
    nullable: bool
    default: bool
    comment: str | None = None


@dataclass
class Model:
    """The tables of a model: their columns, and the columns of unique constraints, indexes, and foreign keys.

    :ivar indexed: the columns with an index, with the kind of the index.
    :ivar identities: the options of the Identity of the primary key; None if it has no Identity.
    :ivar factor: what computed columns multiply with.
    """

    tables: dict[str, list[Col]]
    schemas: dict[str, str | None]
    unique: dict[str, list[str]]
    indexed: dict[str, dict[str, str]]
    keys: set[tuple[str, str]]
    identities: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    factor: int = 2
    labels: list[str] = field(default_factory=lambda: LABELS[:2])

    def metadata(self, dialect: str) -> sa.MetaData:
        metadata = sa.MetaData()
        for name, columns in self.tables.items():
            schema = self.schemas[name]
            identity = [] if self.identities[name] is None else [sa.Identity(**self.identities[name])]
            items: list[Any] = [sa.Column("id", sa.Integer, *identity, primary_key=True), sa.Column("n", sa.Integer)]
            items += [self.column(each, dialect) for each in columns]
            for target in sorted(target for source, target in self.keys if source == name):
                key = f"{self.schemas[target]}.{target}.id" if self.schemas[target] else f"{target}.id"
                alter = {} if target == name else {"use_alter": True, "name": f"{name}_{target}"}
                items.append(sa.Column(f"{target}_id", sa.ForeignKey(key, **alter)))
            items += [sa.UniqueConstraint(each) for each in self.unique[name]]
            table = sa.Table(name, metadata, *items, schema=schema)
            for each, kind in self.indexed[name].items():
                self.index(table.c[each], kind, dialect)
        return metadata

    def index(self, column: sa.Column[Any], kind: str, dialect: str) -> None:
        name, options = f"ix_{column.table.name}_{column.name}", dict[str, Any]()
        expression: Any = column
        if kind == "descending":
            expression = column.desc()
        elif kind == "function" and isinstance(column.type, sa.String) and dialect not in ("mysql", "mariadb"):
            expression = sa.func.lower(column)
        elif kind == "partial":
            options = dict.fromkeys(["sqlite_where", "postgresql_where"], column.is_not(None))
        sa.Index(name, expression, **options)

    def column(self, col: Col, dialect: str) -> sa.Column[Any]:
        make, default = TYPES[col.kind]
        if col.kind == "computed":
            return sa.Column(col.name, make(), sa.Computed(f"n * {self.factor}", persisted=True))
        type_ = make()
        if col.kind in ("enum", "array"):
            type_ = sa.Enum(*self.labels, name="State of things")
            default = LABELS[0]
            if dialect == "postgresql" and col.kind == "array":
                type_, default = postgresql.ARRAY(type_), None
        server_default = default if col.default else None
        comment = col.comment if dialect != "sqlite" else None
        return sa.Column(col.name, type_, nullable=col.nullable, server_default=server_default, comment=comment)


def random_column(rng: random.Random, name: str) -> Col:
    comment = rng.choice([None, None, "50 % of it's :worth"])
    return Col(name, rng.choice([*TYPES]), rng.random() < 0.6, rng.random() < 0.4, comment)


def add_table(rng: random.Random, model: Model, name: str, dialect: str) -> None:
    columns = [random_column(rng, each) for each in rng.sample(NAMES, rng.randint(2, 5))]
    short = [each.name for each in columns if each.kind in ("string", "integer", "number")]
    model.tables[name] = columns
    model.schemas[name] = rng.choice([None, None, "audit", "public"]) if dialect == "postgresql" else None
    model.unique[name] = [each for each in short if rng.random() < 0.4]
    model.indexed[name] = {each: rng.choice(INDEXES) for each in short if rng.random() < 0.4}
    model.identities[name] = rng.choice(IDENTITIES) if dialect == "postgresql" else None
    for target in model.tables:
        if rng.random() < 0.3:
            model.keys.add((name, target))
        if target != name and rng.random() < 0.2:
            model.keys.add((target, name))


def random_model(rng: random.Random, dialect: str) -> Model:
    model = Model({}, {}, {}, {}, set())
    for name in rng.sample(["users", "order", "größen", "Things"], rng.randint(1, 3)):
        add_table(rng, model, name, dialect)
    return model


def changed(rng: random.Random, old: Model, dialect: str) -> Model:
    model = deepcopy(old)
    if len(model.tables) > 1 and rng.random() < 0.3:
        gone = rng.choice([*model.tables])
        del model.tables[gone]
        model.keys = {key for key in model.keys if gone not in key}
    if rng.random() < 0.4:
        add_table(rng, model, "extras", dialect)
    for name, columns in model.tables.items():
        constrained = {*model.unique[name], *model.indexed[name]}
        free = [each for each in columns if each.name not in constrained]
        if free and rng.random() < 0.5:
            columns.remove(rng.choice(free))
        known = {column.name for column in [*columns, *old.tables.get(name, [])]}
        unused = [each for each in NAMES if each not in known]
        columns.append(random_column(rng, rng.choice(unused)))
        for each in columns:
            each.nullable ^= rng.random() < 0.2
            each.default ^= rng.random() < 0.2
        short = [each.name for each in columns if each.kind in ("string", "integer", "number")]
        model.unique[name] = [each for each in short if (each in model.unique[name]) ^ (rng.random() < 0.3)]
        indexed = model.indexed[name]
        kinds = {each: rng.choice([indexed.get(each), *INDEXES[1:], None]) for each in short}
        model.indexed[name] = {each: kind for each, kind in kinds.items() if kind}
        if dialect == "postgresql" and rng.random() < 0.4:
            model.identities[name] = rng.choice(IDENTITIES)
        others = [target for target in model.tables if rng.random() < 0.2]
        model.keys ^= {(name, target) for target in others}
    model.factor = rng.choice([2, 3])
    if rng.random() < 0.6:
        model.labels = [*rng.sample(LABELS[1:], rng.randint(1, 4)), LABELS[0]]
    return model


def clear(connection: Connection) -> None:
    metadata = sa.MetaData()
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("DROP SCHEMA IF EXISTS audit CASCADE"))
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    elif connection.dialect.name == "sqlite":
        for name in sa.inspect(connection).get_table_names():
            connection.exec_driver_sql(f'DROP TABLE "{name}"')
    else:
        connection.exec_driver_sql("SET foreign_key_checks = 0")
        for name in sa.inspect(connection).get_table_names():
            connection.exec_driver_sql(f"DROP TABLE `{name}`")
        connection.exec_driver_sql("SET foreign_key_checks = 1")
    metadata.clear()
    connection.commit()
