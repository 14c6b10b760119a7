"""What is dangerous in revisions before they run: squawk's findings, lost data, and irreversible revisions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database

from ampho import LintReport
from ampho.errors import LinterError, SpecifierError

MAKE = 'op.create_table("{0}", sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False))'
DROP = 'op.drop_table("{0}")'


def found(report: LintReport, rule: str = "") -> list[tuple[str, str]]:
    """The rules that are broken, but for those on timeouts, which differ from one squawk to the next."""
    rules = [(one.revision, one.rule) for one in report.violations if rule in ("", one.rule)]
    return [each for each in rules if "timeout" not in each[1]]


@pytest.fixture
def postgres(project: Project, database: Database) -> Iterator[Facade]:
    for package in ("core", "shop"):
        project.package(package)
    project.revision("core", "core_1", upgrade=MAKE.format("author"), downgrade=DROP.format("author"))
    project.revision(
        "core",
        "core_2",
        "core_1",
        upgrade='op.create_index("author_id", "author", ["id"])',
        downgrade='op.drop_index("author_id", "author")',
    )
    project.revision(
        "shop",
        "shop_1",
        None,
        "core_1",
        upgrade='op.add_column("author", sa.Column("age", sa.BigInteger, nullable=False))',
        downgrade='op.drop_column("author", "age")',
    )
    with facade(project, "quart" if database.is_async else "flask", ["core", "shop"], database.url) as each:
        yield each


@pytest.mark.drivers("postgresql")
def test_squawk_looks_at_the_sql_of_each_revision_that_is_not_applied(postgres: Facade, project: Project) -> None:
    assert postgres.run("db-lint", "core_1").stdout == "No findings in 1 revision.\n"
    postgres.call("upgrade", "core_1")
    report = postgres.call("lint")
    assert (report.revisions, report.has_squawk) == (("core_2", "shop_1"), True)
    assert found(report) == [("core_2", "require-concurrent-index-creation"), ("shop_1", "adding-required-field")]
    statements = {one.rule: one.statement for one in report.violations}
    assert statements["require-concurrent-index-creation"] == "CREATE INDEX author_id ON author (id)"
    assert statements["adding-required-field"] == "ALTER TABLE author ADD COLUMN age BIGINT NOT NULL"
    assert {one.package: one.path.name for one in report.violations} == {
        "core": "core_2_by_hand.py",
        "shop": "shop_1_by_hand.py",
    }
    assert postgres.call("lint", "shop").revisions == ("shop_1",)
    assert postgres.call("lint", "core").revisions == ("core_2",)
    assert postgres.call("lint", "core_1", "shop").revisions == ("core_1", "shop_1")

    result = postgres.run("db-lint", "core_2")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "core_2  (core/migrations/versions/core_2_by_hand.py)"
    assert lines[1] == "  line 13: CREATE INDEX author_id ON author (id)"
    assert lines[2].startswith("    require-concurrent-index-creation: During normal index creation, table updates are")
    assert lines[3] == "      Fix: Use create_index() of ampho.operations, which does not block the app."
    for one in postgres.call("lint", "core_2").violations:
        assert one.line == 13
        assert not one.help or f"      Fix: {one.help.rstrip('.')}." in result.stdout
    assert lines[-1].endswith("in 1 revision.")
    postgres.call("upgrade")
    assert postgres.run("db-lint").stdout == "Nothing to check: no revision is pending.\n"


@pytest.mark.drivers("postgresql+psycopg")
def test_settings_of_the_project_count(postgres: Facade, project: Project) -> None:
    postgres.call("upgrade", "core_1")
    rules = {rule for _, rule in found(postgres.call("lint"))}
    assert "require-concurrent-index-creation" in rules
    postgres.app.config["AMPHO_STATEMENT_LOCK_TIMEOUT"] = 5
    assert "require-lock-timeout" not in {one.rule for one in postgres.call("lint").violations}
    project.write(".squawk.toml", 'excluded_rules = ["require-concurrent-index-creation"]\n')
    assert "require-concurrent-index-creation" not in {rule for _, rule in found(postgres.call("lint"))}
    project.write(".squawk.toml", 'excluded_rules = ["nonsense"]\n')
    line = postgres.error_line("db-lint")
    assert line.startswith("squawk failed: ")
    assert ".squawk.toml" in line


@pytest.mark.drivers("postgresql+psycopg")
def test_squawk_is_asked_for_by_its_extra(postgres: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *args, **kwargs: None)
    with pytest.raises(LinterError, match=r"pip install 'ampho\[lint\]'"):
        postgres.call("lint")


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_what_cannot_be_written_as_sql_is_told_and_the_others_are_looked_at(postgres: Facade, project: Project) -> None:
    postgres.call("upgrade", "core_1")
    project.revision("core", "core_3", "core_2", upgrade='op.get_bind().execute(sa.text("SELECT 1")).scalar()')
    project.revision(
        "core", "core_4", "core_3", upgrade='op.create_index("author_2", "author", ["id"])', downgrade="op.execute('')"
    )
    report = postgres.call("lint", "core_3", "core_4")
    assert found(report, "no-sql") == [("core_3", "no-sql")]
    assert report.violations[0].message == (
        "Only its code was checked. Revision core_3 of core cannot be written as SQL, at"
        " core/migrations/versions/core_3_by_hand.py:13: RuntimeError: the revision reads data."
    )
    assert found(report, "require-concurrent-index-creation") == [("core_4", "require-concurrent-index-creation")]


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_an_async_revision_does_not_keep_the_others_from_being_looked_at(postgres: Facade, project: Project) -> None:
    postgres.call("upgrade", "core_1")
    upgrade = "await connection.execute(sa.text('SELECT 1'))"
    path = project.revision("core", "core_3", "core_2", upgrade=upgrade, downgrade="op.execute('')")
    path.write_text(path.read_text("utf-8").replace("def upgrade(", "async def upgrade(connection"), "utf-8")
    report = postgres.call("lint")
    assert found(report, "no-sql") == [("core_3", "no-sql")]
    assert found(report, "require-concurrent-index-creation")[0][0] == "core_2"
    (message,) = [one.message for one in report.violations if one.rule == "no-sql"]
    assert "core_3 of core cannot be written as SQL" in message


def write_one(project: Project, upgrade: str, downgrade: str = "op.execute('SELECT 1')", head: str = "") -> None:
    path = project.revision("core", "core_2", "core_1", upgrade=upgrade, downgrade=downgrade)
    path.write_text(head + path.read_text("utf-8"), "utf-8")


LOSES = {
    'op.drop_table("author")': "drops the table author",
    'op.drop_column("author", "age")': "drops the column age",
    'with op.batch_alter_table("author") as batch_op:\n    batch_op.drop_column("age")': "drops the column age",
    'op.execute("DROP TABLE IF EXISTS author")': "drops the table author",
    "op.execute('drop table public.\"author\"')": "drops the table author",
    'op.execute("ALTER TABLE author DROP COLUMN age, DROP CONSTRAINT c")': "drops the column age",
    'op.execute("ALTER TABLE author DROP age")': "drops the column age",
    'op.execute("TRUNCATE TABLE author")': "empties the table author",
    'op.execute("DROP TABLE author"); op.execute("CREATE TABLE author (id INTEGER)")': "drops the table author",
    'name = "auth" + "or"\nop.drop_table(name)': "drops the table author",
    'op.execute("-- why\\nDROP TABLE author")': "drops the table author",
    'op.execute("UPDATE author SET id = 1; /* and */ DROP TABLE author")': "drops the table author",
    'with op.batch_alter_table("author") as b:\n    b.drop_column(column_name="age")': "drops the column age",
    'op.drop_column("author", column_name="age")': "drops the column age",
    'op.rename_table("author", "z")\nop.drop_table("z")': "drops the table z",
    'op.execute("DELETE FROM author")': "empties the table author",
    'op.execute("ALTER TABLE author DROP PARTITION p1")': "drops the partition p1",
}
LOSES_NOTHING = (
    "op.execute(\"ALTER TABLE author ADD COLUMN c TEXT DEFAULT 'please drop me'\")",
    "op.execute(\"COMMENT ON TABLE author IS 'no; DROP TABLE author;'\")",
    'op.execute("DELETE FROM author WHERE id = 1")',
    'op.execute("-- DROP TABLE author")',
    'op.drop_index("author_id", "author")',
    'op.execute("ALTER TABLE author DROP CONSTRAINT c, ALTER COLUMN age DROP NOT NULL")',
    "op.execute(\"INSERT INTO log VALUES ('DROP TABLE author')\")",
    'op.create_table("author_copy"); op.drop_table("author_copy")',
    'op.create_table("new", sa.Column("id", sa.Integer)); op.drop_table("author"); op.rename_table("new", "author")',
    '"""DROP TABLE author"""\nop.execute("SELECT 1")',
    "pass",
)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_lost_data_is_told_for_every_database(project: Project, framework: str) -> None:
    project.package("core")
    project.revision("core", "core_1")
    with facade(project, framework, ["core"], URLS[framework]) as each:
        for upgrade, what in LOSES.items():
            write_one(project, upgrade)
            report = each.call("lint", "core_2")
            lost = [one for one in report.violations if one.rule == "data-loss"]
            assert [one.message for one in lost] == [f"It {what}, and the data in it is lost."], upgrade
            others = {("core_2", "breaks-release")} if "rename" in upgrade else set()
            assert (set(found(report)) - others, report.has_squawk) == ({("core_2", "data-loss")}, False)
        write_one(project, "op.alter_column('author', 'age', existing_type=sa.String(9), type_=sa.Integer())")
        (one,) = each.call("lint", "core_2").violations
        what = "converts the text in the column age to INTEGER, where text that is not a number becomes 0"
        assert (one.rule, one.message) == ("data-loss", f"It {what}.")
        for upgrade in LOSES_NOTHING:
            write_one(project, upgrade)
            assert found(each.call("lint", "core_2")) == [], upgrade
        result = each.run("db-lint", "core_2")
        assert (result.exit_code, result.stdout) == (
            0,
            "No findings in 1 revision (without squawk, which only checks SQL for PostgreSQL).\n",
        )


NARROWS = {
    "sa.Double()": ("sa.Integer()", "rounds the numbers in the column age to integers"),
    "sa.Numeric(10, 4)": ("sa.Numeric(10, scale=1)", "rounds the numbers in the column age to 1 decimal place"),
    "sa.Float": ("sa.Numeric(10, 2)", "rounds the numbers in the column age to 2 decimal places"),
    "sa.VARCHAR(length=200)": (
        "sa.String(20)",
        "limits the column age to 20 characters, so that longer values are cut off or rejected",
    ),
    "sa.Text()": (
        "sa.String(length=9)",
        "limits the column age to 9 characters, so that longer values are cut off or rejected",
    ),
    "postgresql.TIMESTAMP()": ("sa.Date()", "keeps only the date of the values in the column age"),
}
NARROWS_NOTHING = {
    "sa.Integer()": "sa.Double()",
    "sa.Numeric(10, 2)": "sa.Numeric(12, 2)",
    "sa.Numeric(10)": "sa.BigInteger()",
    "sa.Numeric": "sa.Numeric(SIZE, SCALE)",
    "sa.String(20)": "sa.Text()",
    "sa.String(LENGTH)": "sa.String(20)",
    "sa.Date()": "sa.DateTime()",
    "sa.Enum('a')": "sa.String(1)",
}
TYPE = "op.alter_column('author', 'age', existing_type={}, type_={})"


@pytest.mark.drivers("mariadb+pymysql", "sqlite+pysqlite")
def test_types_that_hold_less_are_reported_for_databases_that_cut_values(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1")
    cuts = database.backend != "sqlite"
    with facade(project, "flask", ["core"], database.url) as each:
        for old, (new, what) in NARROWS.items():
            write_one(project, TYPE.format(old, new))
            messages = [one.message for one in each.call("lint", "core_2").violations if one.rule == "data-loss"]
            assert messages == ([f"It {what}."] if cuts else []), old
            assert each.call("plan").steps[-1].losses == ((what,) if cuts else ()), old
        for old, new in NARROWS_NOTHING.items():
            write_one(project, TYPE.format(old, new))
            assert found(each.call("lint", "core_2"), "data-loss") == [], old
            assert each.call("plan").steps[-1].losses == (), old


ADDS = "op.add_column('author', {})"
AGE = ADDS.format("sa.Column('age', sa.Integer, nullable=False)")
NULL = ADDS.format("sa.Column('age', sa.Integer)")
ALTER = "with op.batch_alter_table('author') as batch_op:\n    batch_op.alter_column('age', nullable=False)"
IS_ADDED = "adds the column age that must not be NULL and has no default"
IS_ALTERED = "makes the column age NOT NULL"
REQUIRES = {
    AGE: IS_ADDED,
    "with op.batch_alter_table('author') as b:\n    b.add_column(sa.Column('age', sa.INT, nullable=False))": IS_ADDED,
    ADDS.format(
        "sa.Column('age', sa.Integer, sa.CheckConstraint('age > 1'), nullable=False, server_default=None)"
    ): IS_ADDED,
    ALTER: IS_ALTERED,
    "op.alter_column('author', 'age', existing_type=sa.Integer, nullable=False)": IS_ALTERED,
    f"{NULL}\nop.execute('UPDATE author SET size = 0')\n{ALTER}": IS_ALTERED,
    f"{ALTER}\nop.execute('UPDATE author SET age = 0')": IS_ALTERED,
    f"op.execute('CREATE INDEX i ON author (id)')\n{ALTER}": IS_ALTERED,
    f"op.create_table('book', sa.Column('id', sa.Integer))\n{ALTER}": IS_ALTERED,
}
REQUIRES_NOTHING = (
    NULL,
    ADDS.format("sa.Column('age', sa.Integer, nullable=False, server_default='0')"),
    ADDS.format("sa.Column('age', sa.Integer, nullable=False, server_default=sa.text('0'))"),
    ADDS.format("sa.Column('age', sa.Integer, sa.Computed('id + 1'), nullable=False)"),
    f"op.create_table('author', sa.Column('id', sa.Integer))\n{AGE}",
    f"op.create_table('author', sa.Column('age', sa.Integer))\n{ALTER}",
    f"{NULL}\nop.execute('UPDATE author SET age = 0')\n{ALTER}",
    f"author = sa.table('author', sa.column('age'))\nop.execute(author.update().values(age=0))\n{ALTER}",
    f"author = sa.table('author', sa.column('age'))\nop.execute(author.update().values({{author.c.age: 0}}))\n{ALTER}",
    f"statement = 'UPDATE author SET ' + 'age = 0'\nop.get_bind().execute(sa.text(statement))\n{ALTER}",
    f"for name in ['age']:\n    op.execute(f'UPDATE author SET {{name}} = 0')\n{ALTER}",
    f"fill_ages(op.get_bind())\n{ALTER}",
    f"for author in authors:\n    author.age = 0\n{ALTER}",
    ADDS.format("sa.Column('age', sa.Integer, server_default='0')") + f"\n{ALTER}",
    "op.alter_column('author', 'age', nullable=False, existing_nullable=False, type_=sa.BigInteger)",
    "op.alter_column('author', 'age', new_column_name='years', existing_nullable=False)",
    "op.alter_column('author', 'age', nullable=True)",
)


def test_columns_that_fail_on_rows_are_told(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1")
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        for upgrade, what in REQUIRES.items():
            write_one(project, upgrade)
            report = each.call("lint", "core_2")
            assert [(one.rule, one.message) for one in report.violations] == [
                ("not-null", f"It {what}, so it may fail on a table with rows.")
            ], upgrade
            assert each.call("plan").steps[-1].risks == (what,), upgrade
        shown = each.run("db-up", "--plan").stdout
        assert "May fail on rows" in shown
        assert what in shown
        assert shown.endswith("\nMay fail on a table with rows: 1 revision\n")
        write_one(project, "name = 'a' + 'ge'\n" + ADDS.format("sa.Column(name, sa.Integer, nullable=False)"))
        assert each.call("lint", "core_2").violations[0].message.startswith(f"It {IS_ADDED}")  # as its SQL tells
        assert each.call("plan").steps[-1].risks == ("adds a column that must not be NULL and has no default",)
        for upgrade in REQUIRES_NOTHING:
            write_one(project, upgrade)
            assert found(each.call("lint", "core_2"), "not-null") == [], upgrade
            assert each.call("plan").steps[-1].risks == (), upgrade
        write_one(project, ADDS.format("sa.Column('age', sa.Integer, sa.Identity(always=True), nullable=False)"))
        assert each.call("plan").steps[-1].risks == ()
        assert "May fail" not in each.run("db-up", "--plan").stdout
        assert found(each.call("lint", "core_2"), "not-null")  # SQLite's SQL leaves out the identity


@pytest.mark.parametrize(
    "before",
    ["op.execute('UPDATE author SET age = 0')", ADDS.format("sa.Column('age', sa.Integer, server_default='0')")],
)
def test_a_column_that_an_earlier_revision_fills_does_not_fail_on_rows(project: Project, before: str) -> None:
    project.package("core")
    project.package("shop")
    project.revision("core", "core_1", upgrade=before)
    with facade(project, "flask", ["core", "shop"], URLS["flask"]) as each:
        write_one(project, ALTER)
        assert found(each.call("lint"), "not-null") == []
        assert [step.risks for step in each.call("plan").steps] == [(), ()]
        assert found(each.call("lint", "core_2"), "not-null") == [("core_2", "not-null")]
        project.revision("core", "core_1")
        project.revision("shop", "shop_1", upgrade=before)
        assert found(each.call("lint"), "not-null") == [("core_2", "not-null")]
        assert {step.risks for step in each.call("plan").steps} == {(), (IS_ALTERED,)}


IRREVERSIBLE = {
    "raise NotImplementedError": "Its downgrade() raises an exception.",
    "pass": "Its downgrade() does nothing, but its upgrade() does something.",
    '"""Nothing to do."""\nreturn': "Its downgrade() does nothing, but its upgrade() does something.",
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_way_back_is_told_for_every_database(project: Project, framework: str) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=MAKE.format("author"), downgrade=DROP.format("author"))
    with facade(project, framework, ["core"], URLS[framework]) as each:
        for downgrade, message in IRREVERSIBLE.items():
            write_one(project, MAKE.format("book"), downgrade)
            report = each.call("lint")
            assert [(one.rule, one.message) for one in report.violations] == [("irreversible", message)]
        path = project.revision("core", "core_2", "core_1", upgrade=MAKE.format("book"))
        path.write_text(path.read_text("utf-8").partition("def downgrade")[0], "utf-8")
        assert [one.message for one in each.call("lint").violations] == ["It has no downgrade()."]
        path.write_text(path.read_text("utf-8") + "\nfrom ast import parse as downgrade\n", "utf-8")
        assert found(each.call("lint")) == []
        write_one(project, "pass", "pass")
        assert found(each.call("lint")) == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_was_looked_at_by_a_person_may_be_allowed(
    project: Project, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.package("core")
    project.revision("core", "core_1")
    with facade(project, framework, ["core"], URLS[framework]) as each:
        write_one(project, 'op.drop_table("author")', "pass")
        assert found(each.call("lint")) == [("core_2", "data-loss"), ("core_2", "irreversible")]
        assert found(each.call("lint", exclude=["data-loss"])) == [("core_2", "irreversible")]
        assert each.run("db-lint", "--exclude", "data-loss", "--exclude", "irreversible").exit_code == 0
        assert each.run("db-lint", "--exclude", "prefer-text-field").exit_code == 1  # a rule of squawk's
        assert each.error_line("db-lint", "--exclude", "data-los").endswith("Did you mean data-loss?")
        assert "There is no rule 'nonsense' to exclude." in each.error_line("db-lint", "--exclude", "nonsense")
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        monkeypatch.setenv("PATH", "")
        assert each.run("db-lint", "--exclude", "nonsense").exit_code == 1  # which squawk would know, if it were there
        assert each.error_line("db-lint", "--exclude", "data-los").endswith("Did you mean data-loss?")
        write_one(project, 'op.drop_table("author")', "pass", head="# ampho: allow data-loss\n")
        assert found(each.call("lint")) == [("core_2", "irreversible")]
        write_one(project, 'op.drop_table("author")', "pass", head="# ampho: allow data-loss, irreversible\n")
        assert each.run("db-lint").exit_code == 0


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_name_that_is_none_is_refused(project: Project, framework: str) -> None:
    project.package("core")
    project.revision("core", "core_1")
    with facade(project, framework, ["core"], URLS[framework]) as each:
        for name in ("acore", "core@head", "core@+1", "heads", "-1", "nothing"):
            with pytest.raises(SpecifierError):
                each.call("lint", name)
        assert "Did you mean core" in each.error_line("db-lint", "cores")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_table_of_a_statement_is_named(project: Project, framework: str) -> None:
    project.package("core")
    project.revision("core", "core_1")
    with facade(project, framework, ["core"], URLS[framework]) as each:
        write_one(project, 'op.execute("DROP TABLE a, b")')
        assert [one.message.split(",")[0] for one in each.call("lint", "core_2").violations] == [
            "It drops the table a",
            "It drops the table b",
        ]


@pytest.mark.drivers("postgresql+psycopg")
def test_the_password_is_in_no_finding(postgres: Facade, project: Project, database: Database) -> None:
    project.revision("core", "core_3", "core_2", upgrade=f"raise RuntimeError('no login with {database.url.password}')")
    assert f"no login with {database.url.password and '***'}" in postgres.run("db-lint", "core_3").output
