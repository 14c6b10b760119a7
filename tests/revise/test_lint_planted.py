"""How many planted faults db-lint finds, and how often it reports a harmless revision."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.metadata import version

import pytest
from facade import facade
from planted import BACKENDS, Case, cases, drafted, exact, redrafted, reported, strong_migrations
from project import Project
from servers import Database
from sqlalchemy.exc import DBAPIError

from ampho.revise.lint.lint import lint

FAULTS = HARMLESS = 60
FLOORS = {"sqlite": (60, 0), "postgresql": (60, 1), "mariadb": (60, 1)}
"""How many faults have to be found, and how many harmless revisions may be reported.

The false alarms are squawk's ``ban-drop-default``, and a ``MODIFY`` in text, which does not say what the type was.
"""

# The figures are those of the rules of a present squawk. The lowest version that Ampho allows has fewer.
of_present_rules = pytest.mark.skipif(version("squawk-cli").startswith("2.0."), reason="this squawk has fewer rules")


def test_there_are_as_many_faults_as_harmless_revisions() -> None:
    for backend in BACKENDS:
        given = cases(backend)
        assert len(given) == len({case.upgrade + case.downgrade + str(case.rules) for case in given})
        assert sum(bool(case.rules) for case in given) == FAULTS, backend
        assert sum(not case.rules for case in given) == HARMLESS, backend


@of_present_rules
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_planted_faults_are_found_and_harmless_revisions_are_not_reported(project: Project, database: Database) -> None:
    given = cases(database.backend)
    found_rules = reported(drafted(project, given, database.url))
    missed, alarms = list[str](), list[str]()
    for case, rules in zip(given, found_rules, strict=True):
        if case.rules and not case.rules & rules:
            missed.append(f"{sorted(case.rules)}, but {sorted(rules)}: {case.upgrade}")
        elif not case.rules and rules:
            alarms.append(f"{sorted(rules)}: {case.upgrade}")
    found, most = FLOORS[database.backend]
    assert FAULTS - len(missed) >= found, "\n".join(missed)
    assert len(alarms) <= most, "\n".join(alarms)


@of_present_rules
@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_what_strong_migrations_checks_is_reported(project: Project, database: Database) -> None:
    checks = strong_migrations(database.backend)
    assert len(checks) == {"postgresql": 21, "mariadb": 15}[database.backend]
    rules = reported(drafted(project, list(checks.values()), database.url))
    missed = [name for name, found in zip(checks, rules, strict=True) if not found]
    assert missed == ["keeping non-unique indexes to three columns or less"]  # which is about style


FILLS = """\
backfill("book", {"pages": 0, "note": None}, where="pages IS NULL")
backfill("book", {"pages": sa.text("pages + 1")})
"""
SAFE = {
    'create_index("ix_book_pages", "book", ["pages"])': "create_index",
    'create_index("ix_book_isbn", "book", ["isbn"], unique=True)': "create_index",
    'drop_index("ix_book_title", "book")': "drop_index",
    'create_foreign_key("fk_book_author", "book", "author", ["author_id"], ["id"])': "create_foreign_key",
    'create_check_constraint("ck_book_pages", "book", "pages > 0")': "create_check_constraint",
    'create_unique_constraint("uq_book_isbn", "book", ["isbn"])': "create_unique_constraint",
    'alter_column("book", "pages", existing_type=sa.BigInteger(), nullable=False)': "alter_column",
    'add_column("book", sa.Column("first_id", sa.BigInteger(), sa.ForeignKey("author.id")))': "add_column",
    'add_column("book", sa.Column("code", sa.Text(), unique=True))': "add_column",
    'add_column("book", sa.Column("code", sa.Text(), index=True))': "add_column",
    'add_column("book", sa.Column("uid", sa.Uuid(), server_default=sa.text("gen_random_uuid()")))': "add_column",
}
"""Calls of Alembic's operations that block the app, with the name of the function that is recommended instead."""


@of_present_rules
@pytest.mark.drivers("postgresql+psycopg")
def test_the_operations_that_ampho_recommends_are_not_reported(project: Project, database: Database) -> None:
    lines = [*SAFE, *FILLS.splitlines()]
    given = [Case(frozenset(), f"import ampho.operations\nampho.operations.{line}") for line in lines]
    rules = reported(drafted(project, given, database.url))
    assert {case.upgrade: found for case, found in zip(given, rules, strict=True) if found} == {}


@of_present_rules
@pytest.mark.drivers("postgresql+psycopg")
def test_the_operation_that_does_not_block_is_recommended(project: Project, database: Database) -> None:
    draft = drafted(project, [Case(frozenset(), f"op.{line}") for line in SAFE], database.url)
    for revision, (line, name) in zip(draft.revisions, SAFE.items(), strict=True):
        helps = [each.help for each in lint(replace(draft, revisions=(revision,))).violations]
        assert [help_.rpartition("se ")[2] for help_ in helps] == [
            f"{name}() of ampho.operations, which does not block the app."
        ], line


@of_present_rules
@pytest.mark.drivers("postgresql+psycopg")
def test_the_help_of_squawk_is_completed(project: Project, database: Database) -> None:
    """What squawk has no help for gets Ampho's. A generated column is rewritten by any function."""
    helps = {
        'op.rename_table("book", "books")': "Add a new table, copy the data in batches",
        'op.alter_column("book", "title", new_column_name="name")': "Add a new column, copy the data in batches",
        'op.alter_column("book", "pages", type_=sa.Text())': "Add a new column, copy the data in batches",
        'op.add_column("book", sa.Column("n", sa.Text(), sa.Computed("pages", persisted=True)))': "Add the column as",
        'op.execute("ALTER TABLE book ADD CONSTRAINT x EXCLUDE (pages WITH =)")': "Use `NOT VALID`",
    }
    draft = drafted(project, [Case(frozenset(), line) for line in helps], database.url)
    for revision, (line, start) in zip(draft.revisions, helps.items(), strict=True):
        (violation,) = lint(replace(draft, revisions=(revision,))).violations
        assert violation.help.startswith(start), line


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_columns_of_the_same_name_are_lost_one_by_one(project: Project, database: Database) -> None:
    upgrade = 'op.drop_column("author", "name")\nop.drop_column("book", "name")'
    draft = drafted(project, [Case(frozenset(), upgrade)], database.url)
    lost = [each.statement for each in lint(draft).violations if each.rule == "data-loss"]
    assert lost == [f"ALTER TABLE {table} DROP COLUMN name" for table in ("author", "book")]


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_table_that_a_later_revision_creates_is_not_new(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade='op.drop_table("book")')
    project.revision("core", "core_2", "core_1", upgrade='op.create_table("book", sa.Column("id", sa.Integer))')
    with facade(project, "flask", ["core"], database.url) as each:
        assert [one.rule for one in each.call("lint", "core_1").violations] == ["data-loss", "irreversible"]


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+pymysql")
def test_a_new_column_without_values_breaks_no_constraint(project: Project, database: Database) -> None:
    """NULL is no duplicate of NULL, and refers to no row."""
    new = 'op.add_column("book", sa.Column("code", sa.String(9){}))\n'
    unique = 'op.create_index("ix_book_code", "book", ["title", "code"], unique=True)'
    given = {new.format("") + unique: set[str](), new.format(', server_default="x"') + unique: {"existing-rows"}}
    if database.backend == "mariadb":
        given |= {
            new.format(", nullable=False") + unique: {"existing-rows", "not-null"},
            new.format("") + 'op.create_unique_constraint("uq", "book", ["code"])': set(),
            new.format("") + 'op.create_unique_constraint("uq", "book", ["title"])': {"existing-rows"},
            'op.add_column("book", sa.Column("by_id", sa.BigInteger(), sa.ForeignKey("author.id")))': {"blocks-writes"},
        }
    rules = reported(drafted(project, [Case(frozenset(), upgrade) for upgrade in given], database.url))
    assert dict(zip(given, rules, strict=True)) == given


@of_present_rules
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_each_finding_is_reported_once_and_on_its_line(project: Project, database: Database) -> None:
    given = exact(database.backend)
    draft = drafted(project, [case for _, case in given], database.url)
    for revision, (expected, case) in zip(draft.revisions, given, strict=True):
        before = revision.path.read_text("utf-8").partition("def upgrade")[0].count("\n") + 1
        found = [f"{one.rule} {one.line - before}" for one in lint(replace(draft, revisions=(revision,))).violations]
        assert sorted(found) == sorted(filter(None, expected.split(", "))), f"{case.upgrade}\n{found}"


@of_present_rules
@pytest.mark.drivers("mariadb+pymysql")
def test_mariadb_gives_existing_rows_a_value_and_the_old_release_cannot_insert(
    project: Project, database: Database
) -> None:
    draft = drafted(
        project, [Case(frozenset(), 'op.add_column("t", sa.Column("n", sa.Integer, nullable=False))')], database.url
    )
    (violation,) = lint(draft).violations
    assert violation.message == (
        "It adds the column n that must not be NULL and has no default: existing rows get a value such as 0 or '', and"
        " the running release cannot insert rows."
    )
    database.run(
        "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)", "ALTER TABLE t ADD COLUMN n INTEGER NOT NULL"
    )
    assert database.query("SELECT n FROM t") == [(0,)]
    with pytest.raises(DBAPIError, match="doesn't have a default value"):
        database.run("INSERT INTO t (id) VALUES (2)")


@of_present_rules
@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_a_type_that_another_function_changes_is_looked_at(project: Project, database: Database) -> None:
    draft = drafted(project, [Case(frozenset(), "change('isbn')")], database.url)
    change = 'op.alter_column("book", name, existing_type=sa.String(20), type_=sa.String({}), existing_nullable=True)'
    body = "\n".join(f"    {change.format(size)}" for size in (30, 10))
    path = draft.revisions[0].path
    path.write_text(f"{path.read_text('utf-8')}\n\ndef change(name):\n{body}\n", "utf-8")
    draft = redrafted(project, database.url)
    last = path.read_text("utf-8").count("\n")
    expected = {"postgresql": "changing-column-type", "mariadb": "blocks-writes"}[database.backend]
    found = [(one.rule, one.line) for one in lint(draft).violations]
    assert sorted(found) == sorted([(expected, last), ("data-loss", last)])


@pytest.mark.parametrize(
    ("helper", "upgrade", "expected"),
    [
        (
            "def add(table, column):\n    op.add_column(table, column)",
            'add("book", sa.Column("x", sa.Integer, nullable=False))',
            {"sqlite": {"not-null"}, "mariadb": {"not-null"}},
        ),
        (
            "def alter(*names, **options):\n    op.alter_column(*names, **options)",
            'alter("book", "title", existing_type=sa.String(50), type_=sa.String(5))',
            {"sqlite": set(), "mariadb": {"blocks-writes"}},
        ),
        (
            'def finish():\n    op.alter_column("book", "pages", existing_type=sa.Integer(), nullable=False)',
            'op.execute("UPDATE book SET pages = 0 WHERE pages IS NULL AND id < 100")\nfinish()',
            {"sqlite": set(), "mariadb": {"rebuilds-table"}},
        ),
        (
            "def drop(table):\n    op.drop_table(table)",
            'op.create_table("own", sa.Column("id", sa.Integer))\ndrop("own")',
            {"sqlite": set(), "mariadb": set()},
        ),
    ],
    ids=["add", "alter", "fill", "drop"],
)
@pytest.mark.drivers("sqlite+pysqlite", "mariadb+pymysql")
def test_functions_above_upgrade_are_looked_at_in_the_order_of_their_calls(
    project: Project, database: Database, helper: str, upgrade: str, expected: dict[str, set[str]]
) -> None:
    path = drafted(project, [Case(frozenset(), upgrade)], database.url).revisions[0].path
    path.write_text(path.read_text("utf-8").replace("def upgrade", f"{helper}\n\n\ndef upgrade"), "utf-8")
    assert {one.rule for one in lint(redrafted(project, database.url)).violations} == expected[database.backend]


@pytest.mark.drivers("mariadb+pymysql")
def test_a_long_insert_takes_no_longer_than_reading_it(project: Project, database: Database) -> None:
    rows = """op.execute("INSERT INTO author (name) VALUES " + ", ".join("('x')" for _ in range(20_000)))"""
    columns = """op.execute("ALTER TABLE book " + ", ".join(f"ADD COLUMN c{n} INT" for n in range(500)))"""
    draft = drafted(project, [Case(frozenset(), rows), Case(frozenset(), columns)], database.url)
    begun = time.process_time()
    assert not lint(draft).violations
    assert time.process_time() - begun < 10
