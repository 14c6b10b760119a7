"""Random changes of models with planted renames: which are asked for, and that no row is lost if answered rightly."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import sqlalchemy as sa
from comparing import ONE_EACH, compare, connected, run
from servers import Database
from sqlalchemy.engine import Connection

from ampho.revise.autogenerate.write.render import body

CHANGES = int(os.environ.get("AMPHO_RENAMES", "12"))
AT_ONCE = 12
COUNTS: dict[str, list[tuple[int, int, int]]] = {}
"""The numbers of planted renames, of questions, and of right questions in each dozen, by the driver."""

TYPES: dict[str, Any] = {
    "string": sa.String(50),
    "longer": sa.String(100),
    "text": sa.Text(),
    "integer": sa.Integer(),
    "big": sa.BigInteger(),
    "number": sa.Numeric(8, 2),
    "boolean": sa.Boolean(),
    "date": sa.Date(),
}
WIDER = {"string": "longer", "integer": "big", "longer": "text"}
VALUES: dict[str, Sequence[object]] = {
    "string": ("a'b", "50 % :of", "ü"),
    "longer": ("a", "b", "c"),
    "text": ("long", "longer", ""),
    "integer": (1, 0, -5),
    "big": (1, 2, 3),
    "number": (1, 2, 3),
    "boolean": (True, False, True),
}
WORDS = [
    "email",
    "title",
    "city",
    "phone",
    "motto",
    "birthday",
    "weight",
    "color",
    "street",
    "country",
    "website",
    "fax",
    "salary",
    "rank",
    "note",
    "code",
]
OTHER_WORDS = [
    "label",
    "headline",
    "town",
    "mobile",
    "slogan",
    "born",
    "mass",
    "paint",
    "road",
    "nation",
    "homepage",
    "remark",
    "sum",
    "grade",
    "hint",
    "key",
]
TABLES = ["users", "orders", "carts", "invoices", "vehicles", "messages"]
OTHER_TABLES = ["people", "purchases", "baskets", "bills", "cars", "letters"]


@dataclass(frozen=True)
class Col:
    name: str
    kind: str
    nullable: bool = True
    indexed: bool = False


@dataclass
class Model:
    """The tables of a model, and the renames that lead to it, by the texts of ``--rename``."""

    tables: dict[str, list[Col]]
    renames: set[str] = field(default_factory=set)
    new_names: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)

    def metadata(self) -> sa.MetaData:
        metadata = sa.MetaData(
            naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"}
        )
        for name, columns in self.tables.items():
            sa.Table(
                name,
                metadata,
                sa.Column("id", sa.Integer, primary_key=True),
                *(
                    sa.Column(each.name, TYPES[each.kind], nullable=each.nullable, index=each.indexed)
                    for each in columns
                ),
            )
        return metadata


def random_column(rng: random.Random, words: list[str]) -> Col:
    kind = rng.choice([*TYPES])
    indexed = kind in ("string", "integer") and rng.random() < 0.25
    return Col(words.pop(), kind, rng.random() < 0.7, indexed)


def random_model(rng: random.Random) -> Model:
    tables = {}
    for name in rng.sample(TABLES, 3):
        words = rng.sample(WORDS, len(WORDS))
        tables[name] = [random_column(rng, words) for _ in range(rng.randint(4, 8))]
    return Model(tables)


def changed(rng: random.Random, old: Model) -> Model:
    """Return a model with planted renames, and with columns and tables that only went or came."""
    tables: dict[str, list[Col]] = {}
    renames: set[str] = set()
    new_names: dict[str, tuple[str, dict[str, str]]] = {}
    for number, (name, columns) in enumerate(old.tables.items()):
        new = name
        if number == 0 and rng.random() < 0.5:
            new = rng.choice([OTHER_TABLES[TABLES.index(name)], f"all_{name}"])
            renames.add(f"{name}={new}")
        elif number == 1 and rng.random() < 0.2:
            continue  # dropped
        tables[new], renamed = changed_columns(rng, columns)
        renames |= {f"{new}.{before}={after}" for before, after in renamed.items()}
        new_names[name] = (new, renamed)
    if rng.random() < 0.3:
        words = rng.sample(OTHER_WORDS, len(OTHER_WORDS))
        tables["extras"] = [random_column(rng, words) for _ in range(rng.randint(3, 6))]
    return Model(tables, renames, new_names)


def changed_columns(rng: random.Random, columns: list[Col]) -> tuple[list[Col], dict[str, str]]:
    found, renamed = list(columns), {}
    unused = rng.sample(OTHER_WORDS, len(OTHER_WORDS))
    if rng.random() < 0.6:  # a rename: in its place, with or without a wider type; or elsewhere with a similar name
        place = rng.randrange(len(found))
        column = found[place]
        is_similar = rng.random() < 0.6
        name = rng.choice([f"{column.name}_of_owner", f"full_{column.name}"]) if is_similar else unused.pop()
        kind = WIDER.get(column.kind, column.kind) if is_similar and rng.random() < 0.3 else column.kind
        renamed[column.name] = name
        found[place] = replace(column, name=name, kind=kind)
        if is_similar and rng.random() < 0.2:
            found.append(found.pop(place))
    droppable = [column for column in found if column.name not in renamed.values() and column.nullable]
    if droppable and rng.random() < 0.5:
        found.remove(rng.choice(droppable))
    for _ in range(rng.choice([0, 1, 1, 2])):
        column = replace(random_column(rng, unused), nullable=True)
        found.insert(rng.choice([len(found), rng.randint(0, len(found))]), column)
    return found, renamed


def rows(connection: Connection, table: str, columns: Sequence[str]) -> list[tuple[object, ...]]:
    reflected = sa.Table(table, sa.MetaData(), autoload_with=connection)
    found = [
        tuple(row)
        for row in connection.execute(sa.select(*(reflected.c[name] for name in columns)).order_by(reflected.c.id))
    ]
    connection.rollback()
    return [tuple(str(value) for value in row) for row in found]


def fill(connection: Connection, model: Model) -> None:
    metadata = model.metadata()
    metadata.drop_all(connection)
    metadata.create_all(connection)
    for table in metadata.sorted_tables:
        for number in range(3):
            values = {
                each.name: sa.func.current_date() if each.kind == "date" else VALUES[each.kind][number]
                for each in model.tables[table.name]
            }
            connection.execute(table.insert().values(id=number + 1, **values))
    connection.commit()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
@pytest.mark.parametrize("first", range(0, CHANGES, AT_ONCE))
def test_planted_renames_are_asked_for_and_keep_all_rows(database: Database, first: int) -> None:
    asked = right = planted = 0
    wrong: list[str] = []
    with connected(database) as connection:
        for seed in range(first, min(first + AT_ONCE, CHANGES)):
            rng = random.Random(seed)
            old = random_model(rng)
            new = changed(rng, old)
            fill(connection, old)
            found = questions(connection, new)
            hits = {text for text in new.renames if text in found}
            planted, asked, right = planted + len(new.renames), asked + len(set(found.values())), right + len(hits)
            wrong += [f"{seed}: {text}" for text in {*found.values()} - {found[hit] for hit in hits}]
            wrong += [f"{seed}: missed {text}" for text in new.renames - hits]
            check_rows(connection, seed, old, new)
            drop_everything(connection)
    sys.stdout.write(f"\n{database.driver}: from {first}, {planted} renames, {asked} questions, {right} right\n")
    COUNTS.setdefault(database.driver, []).append((planted, asked, right))
    assert right >= 0.9 * planted, wrong
    assert right >= 0.9 * asked, wrong


@pytest.mark.drivers(*ONE_EACH)
def test_hardly_any_question_is_missing_or_wrong(database: Database) -> None:
    """Recall and precision of all changes; the test above compares the rows of each."""
    counts = COUNTS.get(database.driver, [])
    if len(counts) < len(range(0, CHANGES, AT_ONCE)):
        pytest.skip("not all changes ran in this process")
    planted, asked, right = (sum(numbers) for numbers in zip(*counts, strict=True))
    sys.stdout.write(f"\n{database.driver}: recall {right}/{planted}, precision {right}/{asked}\n")
    least = 0.95 if CHANGES >= 200 else 0.9
    assert right >= least * planted
    assert right >= least * asked


def questions(connection: Connection, new: Model) -> dict[str, str]:
    """Ask until nothing is left to ask, and return the possible answers, each with the first answer of its question."""
    found: dict[str, str] = {}
    answers: list[str] = []
    while True:
        all_questions = compare(connection, new.metadata(), rename=answers).questions()["shop"]
        all_questions = tuple(each for each in all_questions if each.object in ("table", "column"))
        fresh = [
            each for each in all_questions if each.option == "--rename" and each.answer(each.choices[0]) not in found
        ]
        for each in fresh:
            found |= {each.answer(choice): each.answer(each.choices[0]) for choice in each.choices}
        accepted = [text for text in new.renames if text in found and text not in answers]
        if not accepted:
            return found
        answers += sorted(accepted, key=lambda text: "." in text)


def check_rows(connection: Connection, seed: int, old: Model, new: Model) -> None:
    before, kept = {}, {}
    for name, (other, renamed) in new.new_names.items():
        present = {each.name for each in new.tables[other]}
        columns = {each.name: renamed.get(each.name, each.name) for each in old.tables[name]}
        kept[name] = {a: b for a, b in columns.items() if b in present and (a in renamed or b not in renamed.values())}
        before[name] = rows(connection, name, ["id", *kept[name]])
    written = body(compare(connection, new.metadata(), rename=new.renames).packages["shop"])
    run(connection, written.upgrades, written.imports)
    for name, (other, _) in new.new_names.items():
        assert rows(connection, other, ["id", *kept[name].values()]) == before[name], (seed, written)
    left = compare(connection, new.metadata()).packages["shop"]
    assert left.is_empty, (seed, body(left), written)
    run(connection, written.downgrades, written.imports)
    for name in new.new_names:
        assert rows(connection, name, ["id", *kept[name]]) == before[name], (seed, written)


def drop_everything(connection: Connection) -> None:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    metadata.drop_all(connection)
    connection.commit()
