"""What belongs to a table of SQLite is still there after a batch replaced the table, or the step fails and names it."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy
from facade import Facade, facade
from packaging.version import Version
from project import Project
from servers import Database
from store import open_store

from ampho.database.sqlite_table import tokens
from ampho.errors import RevisionFailedError

SQLITE, PYSQLITE = pytest.mark.drivers("sqlite"), pytest.mark.drivers("sqlite+pysqlite")
ROUNDS = int(os.environ.get("AMPHO_SQLITE_ROUNDS", "1"))
"""How many times random tables are created, 30 each time."""

TABLES = 30

# Each is a table with a column "title" of VARCHAR(20), which a batch changes to VARCHAR(30), with what belongs to it.
KINDS = {
    "collations": ["CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20) COLLATE NOCASE, tag TEXT COLLATE RTRIM)"],
    "autoincrement": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20))",
        "INSERT INTO t VALUES (7, 'a'), (9, 'b')",
        "DELETE FROM t WHERE id = 9",
    ],
    "autoincrement of an empty table": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20))",
        "INSERT INTO t VALUES (7, 'a')",
        "DELETE FROM t",
    ],
    "strict": ["CREATE TABLE t (id INTEGER PRIMARY KEY, n INT, x ANY, title VARCHAR(20)) WITHOUT ROWID"],
    "unknown types": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, price MONEY, at DATETIME2(3, 1), none, title VARCHAR(20))"
    ],
    "no primary key": ["CREATE TABLE t (a, title VARCHAR(20), UNIQUE (a) ON CONFLICT IGNORE)"],
    "generated columns": [
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20), low TEXT AS (lower(title)) VIRTUAL, long"
            " INT GENERATED ALWAYS AS (length(title) + id) STORED NOT NULL)"
        ),
        "INSERT INTO t (title) VALUES ('Ab')",
        "CREATE INDEX low_of_t ON t (low)",
    ],
    "checks": [
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20) CHECK (title <> ')' /* , */), n INT"
            " CONSTRAINT pos"
            " CHECK (n > 0), CHECK (n < 9), CONSTRAINT both CHECK (length(title) < n), CHECK (title IN ('a,', 'b')))"
        ),
    ],
    "conflicts": [
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, title VARCHAR(20) NOT NULL ON CONFLICT IGNORE"
            " UNIQUE ON CONFLICT REPLACE, n INT NULL DEFAULT NULL, UNIQUE (n, title) ON CONFLICT FAIL)"
        ),
    ],
    "foreign keys": [
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20), up INT REFERENCES t DEFERRABLE INITIALLY"
            " DEFERRED,"
            " a INT CONSTRAINT to_t REFERENCES t (id) ON DELETE SET NULL ON UPDATE SET DEFAULT NOT NULL,"
            " FOREIGN KEY (up) REFERENCES t (id) MATCH FULL ON DELETE CASCADE NOT DEFERRABLE)"
        ),
    ],
    "defaults": [
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20) DEFAULT 'it''s, (', at TEXT DEFAULT"
            " (datetime('now')), n INT DEFAULT -1, b DEFAULT x'00ff', c TEXT DEFAULT CURRENT_TIMESTAMP, d DEFAULT word)"
        ),
    ],
    "comments and quotes": [
        (
            'CREATE TABLE "t" ( -- the table\n  [id] INTEGER PRIMARY KEY, -- its number, always\n  `title`'
            " VARCHAR(20) -- what"
            ' it\'s called\n, /* a, b */ "a "" b" TEXT -- the last (of all)\n)'
        ),
    ],
    "indexes": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20), n INT)",
        "CREATE INDEX desc_of_t ON t (n DESC, title)",
        "CREATE UNIQUE INDEX part_of_t ON t (title COLLATE NOCASE) WHERE n > 0",
        "CREATE INDEX lower_of_t ON t (lower(title), n + 1)",
        'CREATE INDEX "plain of t" ON "t" (n)',
    ],
    "triggers": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20))",
        "CREATE TABLE log_of_t (what TEXT)",
        "CREATE TRIGGER added_to_t AFTER INSERT ON t BEGIN INSERT INTO log_of_t VALUES (NEW.title); END",
        "CREATE TRIGGER into_t AFTER DELETE ON log_of_t BEGIN DELETE FROM t WHERE title = OLD.what; END",
        "CREATE TRIGGER changed_t AFTER UPDATE OF title ON t WHEN OLD.id > 1 BEGIN SELECT RAISE(ABORT, 'no;'); END",
    ],
    "views": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20))",
        "CREATE VIEW titles AS SELECT title FROM t",
        "CREATE VIEW twice AS SELECT a.title FROM titles AS a JOIN titles AS b",
        "CREATE TRIGGER into_titles INSTEAD OF INSERT ON titles BEGIN INSERT INTO t (title) VALUES (NEW.title); END",
        "INSERT INTO t (title) VALUES ('a')",
    ],
    "keys of other tables": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20) UNIQUE)",
        "CREATE TABLE child (t INT REFERENCES t ON DELETE CASCADE, title TEXT REFERENCES t (title))",
        "INSERT INTO t VALUES (1, 'a')",
        "INSERT INTO child VALUES (1, 'a')",
    ],
    "full text": [
        "CREATE TABLE t (title VARCHAR(20))",
        "CREATE VIRTUAL TABLE found USING fts5 (title, content='t')",
        (
            "CREATE TRIGGER into_found AFTER INSERT ON t BEGIN INSERT INTO found (rowid, title) VALUES (NEW.rowid,"
            " NEW.title);"
            " END"
        ),
        "INSERT INTO t VALUES ('one'), ('two'), ('three')",
        "DELETE FROM t WHERE title = 'one'",
    ],
    "statistics": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20), n INT)",
        "CREATE INDEX n_of_t ON t (n)",
        "INSERT INTO t (n) VALUES (1), (1), (2)",
        "ANALYZE",
    ],
}
LENGTH = "with op.batch_alter_table('t') as batch:\n    batch.alter_column('title', type_=sa.String({}))"


def code(statements: Sequence[str]) -> str:
    return "\n".join(f"op.get_bind().exec_driver_sql({statement!r})" for statement in statements)


def normal(sql: str) -> list[str]:
    """The tokens of a statement, without comments and without the quotes that a rename adds."""
    return [token.text if token.text[0] == "'" else token.name or token.text for token in tokens(sql)]


def contents(database: Database) -> dict[str, Any]:
    """Every object with its definition, and every row with its number."""
    with database.connect() as connection:
        objects = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master").all()
        found: dict[str, Any] = {f"{kind} {name}": normal(sql) for kind, name, sql in objects if sql}
        for kind, name, sql in objects:
            if kind == "table" and not name.startswith(("alembic", "ampho", "found_")):
                rowid = "" if "WITHOUT ROWID" in sql or name.startswith("sqlite_") else "rowid, "
                found[name] = sorted(map(str, connection.exec_driver_sql(f'SELECT {rowid}* FROM "{name}"').all()))
    return {name: what for name, what in found.items() if not re.search("alembic|ampho", name)}


def longer(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: ["30" if value == "20" else value for value in what] if name.startswith("table ") else what
        for name, what in found.items()
    }


@pytest.fixture
def open_core(project: Project, database: Database) -> Iterator[Any]:
    def opened(*revisions: tuple[str, str]) -> Any:
        project.package("core")
        for number, (upgrade, downgrade) in enumerate(revisions):
            down = f"core_{number - 1}" if number else None
            project.revision("core", f"core_{number}", down, upgrade=upgrade, downgrade=downgrade)
        return facade(project, "quart" if database.is_async else "flask", ["core"], database.url)

    return opened


@pytest.mark.measured(
    "pysqlite-statistics", "pysqlite-comments and quotes", "pysqlite-strict", "pysqlite-unknown types"
)
@SQLITE
@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_belongs_to_a_table_is_kept(kind: str, open_core: Any, database: Database) -> None:
    with open_core((code(KINDS[kind]), "pass"), (LENGTH.format(30), LENGTH.format(20))) as each:
        each.call("upgrade", "core_0")
        before = contents(database)
        each.call("upgrade")
        assert contents(database) == longer(before)
        each.call("downgrade", "core@-1")
    assert contents(database) == before


NOTES = [
    "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20) COLLATE NOCASE UNIQUE, n INT"
        " CONSTRAINT pos CHECK (n > 0), a INT REFERENCES parent, b INT, CHECK (a <> b), UNIQUE (a, b))"
    ),
    "INSERT INTO parent VALUES (1)",
    "INSERT INTO t VALUES (1, 'one', 10, 1, 2), (4, 'two', 20, 1, 3)",
]
# What a batch does, and the definition that it leaves.
CHANGES = {
    "drop_column('n')": "id INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20) COLLATE NOCASE UNIQUE,"
    " a INT REFERENCES parent, b INT, CHECK (a <> b), UNIQUE (a, b)",
    "drop_column('title')": "id INTEGER PRIMARY KEY AUTOINCREMENT, n INT CONSTRAINT pos CHECK (n > 0),"
    " a INT REFERENCES parent, b INT, CHECK (a <> b), UNIQUE (a, b)",
    "alter_column('title', nullable=False)": "id INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20) COLLATE NOCASE"
    " UNIQUE NOT NULL, n INT CONSTRAINT pos CHECK (n > 0), a INT REFERENCES parent, b INT, CHECK (a <> b),"
    " UNIQUE (a, b)",
    "alter_column('title', type_=sa.String(20, collation='BINARY'), server_default='x')": "id INTEGER PRIMARY KEY"
    " AUTOINCREMENT, title VARCHAR(20) COLLATE binary UNIQUE DEFAULT 'x', n INT CONSTRAINT pos CHECK (n > 0),"
    " a INT REFERENCES parent, b INT, CHECK (a <> b), UNIQUE (a, b)",
    "alter_column('n', new_column_name='m', nullable=False)": "id INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20)"
    " COLLATE NOCASE UNIQUE, m INT CONSTRAINT pos CHECK (m > 0) NOT NULL, a INT REFERENCES parent, b INT,"
    " CHECK (a <> b), UNIQUE (a, b)",
    "alter_column('a', new_column_name='b')\n    batch.alter_column('b', new_column_name='a')": "id INTEGER PRIMARY KEY"
    " AUTOINCREMENT, title VARCHAR(20) COLLATE NOCASE UNIQUE, n INT CONSTRAINT pos CHECK (n > 0), b INT REFERENCES"
    " parent, a INT, CHECK (b <> a), UNIQUE (b, a)",
    "add_column(sa.Column('c', sa.Integer, sa.ForeignKey('parent.id', name='to_parent')), insert_before='n')": "id"
    " INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20) COLLATE NOCASE UNIQUE, c INTEGER, n INT CONSTRAINT pos"
    " CHECK (n > 0), a INT REFERENCES parent, b INT, CHECK (a <> b), UNIQUE (a, b), CONSTRAINT to_parent FOREIGN KEY"
    " (c) REFERENCES parent (id)",
    "drop_constraint('pos', type_='check')": "id INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20) COLLATE NOCASE"
    " UNIQUE, n INT, a INT REFERENCES parent, b INT, CHECK (a <> b), UNIQUE (a, b)",
    "create_unique_constraint('unique_n', ['n', 'b'])": "id INTEGER PRIMARY KEY AUTOINCREMENT, title VARCHAR(20)"
    " COLLATE"
    " NOCASE UNIQUE, n INT CONSTRAINT pos CHECK (n > 0), a INT REFERENCES parent, b INT, CHECK (a <> b), UNIQUE (a, b),"
    " CONSTRAINT unique_n UNIQUE (n, b)",
    "create_primary_key('pk_t', ['id'])": "id INTEGER CONSTRAINT pk_t PRIMARY KEY AUTOINCREMENT, title VARCHAR(20)"
    " COLLATE NOCASE UNIQUE, n INT CONSTRAINT pos CHECK (n > 0), a INT REFERENCES parent, b INT, CHECK (a <> b),"
    " UNIQUE (a, b)",
    "drop_constraint('pk_t', type_='primary')\n    batch.create_primary_key('pk_t', ['b', 'id'])": (
        "id INTEGER, title VARCHAR(20) COLLATE NOCASE UNIQUE, n INT CONSTRAINT pos CHECK (n > 0), a INT REFERENCES"
        " parent, b INT, CHECK (a <> b), UNIQUE (a, b), CONSTRAINT pk_t PRIMARY KEY (b, id)"
    ),
}


CONVENTION = ", naming_convention={'uq': 'uq_%(table_name)s_%(column_0_name)s', 'pk': 'pk_%(table_name)s'}"
# Alembic can only drop a constraint whose name SQLAlchemy reads.
READS_NAMES = pytest.mark.skipif(
    Version(sqlalchemy.__version__) < Version("2.1"),
    reason="SQLAlchemy 2.0 does not read the names of constraints in the columns of SQLite's tables",
)
KEYS = ", naming_convention={'pk': 'pk_%(table_name)s'}"


def definition(database: Database, name: str = "t") -> list[str]:
    with database.connect() as connection:
        query = f"SELECT sql FROM sqlite_master WHERE name = '{name}' AND type = 'table'"
        return normal(str(connection.exec_driver_sql(query).scalar()))[4:-1]


def same(found: list[str], wanted: str) -> bool:
    return [word.lower() for word in found] == [word.lower() for word in normal(wanted)]


@PYSQLITE
@pytest.mark.parametrize(
    "change", [pytest.param(change, marks=READS_NAMES if "'pos'" in change else ()) for change in CHANGES]
)
def test_change_changes_nothing_else(change: str, open_core: Any, database: Database) -> None:
    with open_core((code(NOTES), "pass"), (batch(change, KEYS * ("pk_t" in change)), "pass")) as each:
        each.call("upgrade")
    assert same(definition(database), CHANGES[change])
    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM t").scalars().all() == [1, 4]


def batch(change: str, options: str = "") -> str:
    return f"with op.batch_alter_table('t', recreate='always'{options}) as batch:\n    batch.{change}"


@PYSQLITE
@READS_NAMES
def test_constraints_without_a_name_get_it_from_a_naming_convention(open_core: Any, database: Database) -> None:
    table = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a INT UNIQUE, b INT, UNIQUE (b))"
    drop = batch("drop_constraint('uq_t_a', type_='unique')", CONVENTION)
    again = batch("drop_constraint('uq_t_b', type_='unique')")  # which has its name from the first batch
    with open_core((code([table]), "pass"), (drop, "pass"), (again, "pass")) as each:
        each.call("upgrade")
    assert same(definition(database), "id INTEGER CONSTRAINT pk_t PRIMARY KEY AUTOINCREMENT, a INT, b INT")


@PYSQLITE
def test_checks_of_types_follow_their_columns(open_core: Any, database: Database) -> None:
    table = "CREATE TABLE t (a VARCHAR(1), b INT, CONSTRAINT kinds CHECK (a IN ('x', 'y')))"
    kind = "sa.Enum({}, name='kinds', create_constraint=True)"
    old, new = kind.format("'x', 'y'"), kind.format("'x', 'z'")
    rename = batch(f"alter_column('a', new_column_name='c', existing_type={old})", ", partial_reordering=[('b', 'a')]")
    change = batch(f"alter_column('c', type_={new}, existing_type={old})")
    with open_core((code([table]), "pass"), (rename, "pass"), (change, "pass")) as each:
        each.call("upgrade", "core_1")
        assert same(definition(database), "b INT, c VARCHAR(1), CONSTRAINT kinds CHECK (c IN ('x', 'y'))")
        each.call("upgrade")
    assert same(definition(database), "b INT, c VARCHAR(1), CONSTRAINT kinds CHECK (c IN ('x', 'z'))")


@PYSQLITE
def test_dates_and_times_keep_their_values(open_core: Any, database: Database) -> None:
    table = "CREATE TABLE t (d DATE, m DATETIME, n DATETIME, s VARCHAR(20))"
    rows = "INSERT INTO t VALUES ('2024-02-29', '2024-02-29 10:20:30.000000', '2024-02-29 10:20:30.5', '2024-02-29')"
    types = {"d": "sa.DateTime", "m": "sa.Date", "n": "sa.Time", "s": "sa.Date"}
    changes = [batch(f"alter_column('{name}', type_={type_}())") for name, type_ in types.items()]
    with open_core((code([table, rows]), "pass"), *((change, "pass") for change in changes)) as each:
        each.call("upgrade")
    assert database.query("SELECT * FROM t") == [("2024-02-29", "2024-02-29", "10:20:30.5", "2024-02-29")]


@PYSQLITE
def test_batch_may_restate_the_checks_and_ask_for_options(open_core: Any, database: Database) -> None:
    table = "CREATE TABLE t (id INTEGER NOT NULL, a INT, b INT, CHECK (a<b), CHECK (b < 9), PRIMARY KEY (id))"
    options = ", table_args=[sa.CheckConstraint('a < b'), sa.CheckConstraint('b < 8')]"
    options += ", table_kwargs={'sqlite_autoincrement': True}"
    with open_core((code([table]), "pass"), (batch("alter_column('a', nullable=False)", options), "pass")) as each:
        each.call("upgrade")
    wanted = "id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, a INT NOT NULL, b INT, CHECK (a<b), CHECK (b < 8)"
    assert same(definition(database), wanted)


@PYSQLITE
def test_table_may_be_described_by_the_revision(open_core: Any, database: Database) -> None:
    columns = (
        "sa.Column('id', sa.Integer, primary_key=True), sa.Column('title', sa.String(20)), sa.Column('n', sa.Integer)"
    )
    columns += ", sa.Column('a', sa.Integer, sa.ForeignKey('parent.id')), sa.Column('b', sa.Integer)"
    change = batch("alter_column('title', type_=sa.String(30))", f", copy_from=sa.Table('t', sa.MetaData(), {columns})")
    short = batch(
        "drop_column('n')",
        ", copy_from=sa.Table('t', sa.MetaData(), sa.Column('id', sa.Integer), sa.Column('n', sa.Integer))",
    )
    with open_core((code(NOTES), "pass"), (change, "pass"), (short, "pass")) as each:
        each.call("upgrade", "core_1")
        assert same(definition(database), " ".join(NOTES[1].split("t (", 1)[1][:-1].replace("20", "30").split()))
        refused(each, "copy_from= lacks the columns a, b, title. Add them, or drop them explicitly")


def refused(each: Facade, *words: str) -> None:
    """Check that the last revision fails with these words, and that nothing of it remains."""
    before = each.call("current")
    with pytest.raises(RevisionFailedError) as info:
        each.call("upgrade")
    assert all(word in str(info.value) for word in (*words, "Its transaction was rolled back.")), info.value
    assert each.call("current") == before


USED = [
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20), n INT, code TEXT UNIQUE, CONSTRAINT both CHECK"
        " (length(title) < n))"
    ),
    "CREATE TABLE child (ref TEXT REFERENCES t (code))",
    "CREATE INDEX both_of_t ON t (title, n)",
    "CREATE INDEX lower_of_t ON t (lower(title))",
    "CREATE VIEW titles AS SELECT title FROM t",
    "CREATE TRIGGER added AFTER INSERT ON t BEGIN SELECT NEW.title; END",
    "CREATE TRIGGER other AFTER DELETE ON child BEGIN SELECT title FROM t; END",
]
CHECKED = "both CHECK (length(title) < n) would be lost with a column that it mentions. Drop the constraint, too"
DROPS = (
    "batch.drop_constraint('both', type_='check')",
    "op.execute('DROP INDEX both_of_t')",
    "op.drop_index('lower_of_t', 't')",
    "op.execute('DROP VIEW titles')",
    "op.execute('DROP TRIGGER added')",
    "op.execute('DROP TRIGGER IF EXISTS other')",
)


@PYSQLITE
def test_column_in_use_is_not_dropped_until_its_uses_are(open_core: Any, database: Database) -> None:
    steps = ["\n".join([*DROPS[1:count], batch("drop_column('title')")]) for count in range(1, 7)]
    without_check = [step.replace("batch.drop_column", f"{DROPS[0]}\n    batch.drop_column") for step in steps]
    said = [
        CHECKED,
        "The index both_of_t would be lost with the column title. Drop the index before the column",
        "The index lower_of_t would be lost with the column title. Drop the index before the column",
        "It changes a table, and breaks the view titles (no such column: title), the trigger added (no such",
        "It changes a table, and breaks the trigger added (no such column: NEW.title), the trigger other (no such",
        "It changes a table, and breaks the trigger other (no such column: title). Drop or change it in this revision",
    ]
    for step, words in zip([steps[0], *without_check[:5]], said, strict=True):
        with open_core((code(USED), "pass"), (step, "pass")) as each:
            each.call("upgrade", "core_0")
            refused(each, words)
    with open_core((code(USED), "pass"), (without_check[5], "pass")) as each:
        each.call("upgrade")
    assert not {"index lower_of_t", "index both_of_t", "view titles", "trigger added", "trigger other"} & {
        *contents(database)
    }


@PYSQLITE
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "drop_column('code')",
            "It changes a table, and breaks the foreign key of child to t (code). Drop or change it in this revision",
        ),
        ("drop_constraint('uq_t_code', type_='unique')", "the foreign key of child to t (code)"),
    ],
)
def test_key_of_another_table_is_an_obstacle(change: str, words: str, open_core: Any) -> None:
    with open_core((code(USED), "pass"), (batch(change, CONVENTION), "pass")) as each:
        each.call("upgrade", "core_0")
        refused(each, words)


@PYSQLITE
def test_renamed_column_is_renamed_wherever_it_is_used(open_core: Any, database: Database) -> None:
    there = batch("alter_column('title', new_column_name='name')\n    batch.alter_column('code', new_column_name='c')")
    back = batch("alter_column('name', new_column_name='title')\n    batch.alter_column('c', new_column_name='code')")
    with open_core((code(USED), "pass"), (there, back)) as each:
        each.call("upgrade", "core_0")
        before = contents(database)
        each.call("upgrade")
        after = contents(database)
        assert "c" in after["table child"]
        assert "name" in after["trigger other"]
        assert "name" in after["view titles"]
        assert {name for name, what in after.items() if " " in name and {"title", "code"} & {*what}} == set()
        each.call("downgrade", "core@-1")
    assert contents(database) == before


@PYSQLITE
@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("CREATE VIRTUAL TABLE t USING fts5 (title)", "alter_column('title', nullable=False)", "t is a virtual table"),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)",
            "alter_column('id', type_=sa.BigInteger())",
            "AUTOINCREMENT of the column id would be lost, because SQLite allows it only with the type INTEGER. Use",
        ),
    ],
)
def test_what_cannot_be_kept_is_an_error(table: str, change: str, words: str, open_core: Any) -> None:
    with open_core((code([table]), "pass"), (batch(change), "pass")) as each:
        each.call("upgrade", "core_0")
        refused(each, words)


@SQLITE
@pytest.mark.parametrize("place", ["before", "after"])
def test_what_a_revision_drops_does_not_come_back(place: str, open_core: Any, database: Database) -> None:
    drops = "op.execute('DROP TRIGGER added')\nop.drop_index('lower_of_t', 't')\nop.execute('DROP VIEW titles')"
    steps = [batch("alter_column('n', nullable=False)"), drops]
    with open_core((code(USED), "pass"), ("\n".join(steps if place == "after" else steps[::-1]), "pass")) as each:
        each.call("upgrade")
    found = contents(database)
    assert not {"trigger added", "index lower_of_t", "view titles"} & {*found}
    assert {"trigger other", "index both_of_t"} <= {*found}


@SQLITE
def test_revision_may_create_again_what_batches_used_to_lose(open_core: Any, database: Database) -> None:
    change = batch("alter_column('n', nullable=False)")
    again = code(
        ["CREATE TRIGGER added AFTER INSERT ON t BEGIN SELECT 2; END", "CREATE INDEX lower_of_t ON t (upper(title))"]
    )
    with open_core((code(USED), "pass"), (f"{change}\n{again}", "pass")) as each:
        each.call("upgrade")
    found = contents(database)
    assert "2" in found["trigger added"]
    assert "upper" in found["index lower_of_t"]


@SQLITE
def test_a_batch_may_replace_an_index_that_an_earlier_one_kept(open_core: Any, database: Database) -> None:
    first = ["CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20), n INT)", "CREATE INDEX n_of_t ON t (n)"]
    change = "drop_index('n_of_t')\n    batch.create_index('n_of_t', ['title'])\n    batch.drop_column('n')"
    steps = "\n".join([batch("alter_column('n', nullable=False)"), batch(change)])
    with open_core((code(first), "pass"), (steps, "pass")) as each:
        each.call("upgrade")
    assert "title" in contents(database)["index n_of_t"]


BY_HAND = ["CREATE TABLE new (id INTEGER PRIMARY KEY, title VARCHAR(30))", "INSERT INTO new SELECT id, title FROM t"]
MOVES = {
    "new to old": [*BY_HAND, "DROP TABLE t", "ALTER TABLE new RENAME TO t"],
    "old away": ["ALTER TABLE t RENAME TO old", BY_HAND[0].replace("new", "t"), "DROP TABLE IF EXISTS old"],
}
TRIGGERED = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, title VARCHAR(20))",
    "CREATE INDEX titles ON t (title)",
    "CREATE TRIGGER added AFTER INSERT ON t BEGIN SELECT NEW.title; END",
]


@SQLITE
@pytest.mark.parametrize("moves", MOVES)
def test_table_replaced_by_hand_keeps_what_belongs_to_it(moves: str, open_core: Any, database: Database) -> None:
    again = [*MOVES[moves], TRIGGERED[1], "DROP TRIGGER IF EXISTS added"]
    with open_core((code(TRIGGERED), "pass"), (code(MOVES[moves]), "pass")) as each:
        each.call("upgrade", "core_0")
        refused(each, "It replaces the table t with another one, and loses the index titles, the trigger added. Create")
    with open_core((code(TRIGGERED), "pass"), (code(again), "pass")) as each:
        each.call("upgrade")
    assert {*contents(database)} == {"t", "table t", "index titles"}


@PYSQLITE
def test_table_that_is_dropped_and_created_again_is_another_table(open_core: Any, database: Database) -> None:
    create = "op.create_table('t', sa.Column('id', sa.Integer))"
    with open_core((code(TRIGGERED), "pass"), (f"op.drop_table('t')\n{create}", "pass")) as each:
        each.call("upgrade")
    assert {*contents(database)} == {"t", "table t"}


INDEXES = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'notes' ORDER BY sql"
NOTE = """
class Note(db.Model):
    __tablename__ = "notes"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(20))
"""


@SQLITE
def test_the_downgrade_restores_an_index_that_autogenerate_drops_as_it_was(
    project: Project, database: Database
) -> None:
    shop = open_store(project, database, {"core": NOTE})
    first = shop.auto("core")
    indexes = [
        "CREATE INDEX newest ON notes (id DESC, title)",
        "CREATE INDEX titles ON notes (title COLLATE NOCASE)",
        "CREATE INDEX short ON notes (lower(title)) WHERE length(title) < 5",
    ]
    upgrade = "\n".join(f"op.execute({sql!r})" for sql in indexes)
    project.revision("core", "core_by_hand", first.id, upgrade=upgrade)
    shop.run("db-up")
    shop.auto("core")
    shop.run("db-up")
    assert database.query(INDEXES) == []
    shop.run("db-down", "core@-1")
    assert [" ".join(sql.split()) for (sql,) in database.query(INDEXES)] == sorted(indexes)


# ---- Random tables ----

PARTS = ["UNIQUE", "UNIQUE ON CONFLICT IGNORE", "COLLATE NOCASE", "DEFAULT (1 + 2)", "NOT NULL DEFAULT 'a,('", "NULL"]
PARTS += ["CHECK ({0} <> 'x')", "CONSTRAINT c{1} CHECK ({0} > ')')", "REFERENCES parent ON DELETE SET NULL", "/* , */"]
PARTS += ["CONSTRAINT r{1} REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED", "DEFAULT NULL", "DEFAULT -1.5"]
NAMES = ["a", '"order"', "[b c]", "`d`", "Énd", "key", '"e ""f"""']
TYPES = ["INT", "MONEY", "", "DOUBLE PRECISION", "DECIMAL(5, 2)", "BLOB", "UNSIGNED BIG INT"]
WHOLE = ["UNIQUE ({0}, {1})", "CHECK ({0} <> {1})", "CONSTRAINT w{place} UNIQUE ({1}, {0}) ON CONFLICT FAIL"]
WHOLE += ["FOREIGN KEY ({0}) REFERENCES parent (id)", "CONSTRAINT k{place} FOREIGN KEY ({1}) REFERENCES parent"]


def random_table(chance: random.Random, number: int) -> list[str]:
    """Return the statements that create a table and what belongs to it."""
    names = chance.sample(NAMES, 4)
    keys = [
        f"id INTEGER PRIMARY KEY{chance.choice([' AUTOINCREMENT', '', ' DESC', ' ASC'])}",
        "id INT PRIMARY KEY",
        "id",
    ]
    columns = [chance.choice(keys), "title VARCHAR(20)"]
    for place, name in enumerate(names):
        parts = chance.sample(PARTS, chance.randint(0, 2))
        parts = [] if "NULL" in parts and "NOT NULL DEFAULT 'a,('" in parts else parts
        words = [name, chance.choice(TYPES), *(part.format(name, place) for part in parts)]
        columns.append(" ".join(filter(None, words)))
    if chance.random() < 0.3:
        columns.append(f"made TEXT AS (lower({names[0]})) {chance.choice(['STORED', 'VIRTUAL', ''])}")
    chance.shuffle(columns)
    columns += [
        part.format(*names, place=place) for place, part in enumerate(chance.sample(WHOLE, chance.randint(0, 3)))
    ]
    without_rowid = " WITHOUT ROWID" if "PRIMARY" in str(columns) and "AUTO" not in str(columns) else ""
    table = f"t{number}"
    comma = chance.choice([", ", "\n-- (,\n, "])
    return [
        f"CREATE TABLE {table} ({comma.join(columns)}){chance.choice(['', without_rowid])}",
        f"CREATE INDEX i{number} ON {table} ({names[0]} DESC, lower({names[1]})) WHERE {names[2]} IS NOT NULL",
        f"CREATE TRIGGER b{number} BEFORE UPDATE OF {names[3]} ON {table} BEGIN SELECT NEW.{names[0]}; END",
        f"CREATE VIEW v{number} AS SELECT {names[1]}, title FROM {table}",
        f"INSERT OR IGNORE INTO {table} (id, title) VALUES (3, 'x'), (5, 'y')",
    ]


@pytest.mark.usefixtures("unmeasured")
@PYSQLITE
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_everything_of_random_tables_is_kept(seed: int, open_core: Any, database: Database) -> None:
    chance = random.Random(seed)
    create = ["CREATE TABLE parent (id INTEGER PRIMARY KEY)"]
    create += [line for number in range(TABLES) for line in random_table(chance, number)]
    changes = [
        "\n".join(LENGTH.format(length).replace("'t'", f"'t{number}'") for number in range(TABLES))
        for length in (30, 20)
    ]
    with open_core((code(create), "pass"), (changes[0], changes[1])) as each:
        each.call("upgrade", "core_0")
        before = contents(database)
        each.call("upgrade")
        assert contents(database) == longer(before)
        each.call("downgrade", "core@-1")
    assert contents(database) == before
