"""``reflect()``: the tables as they are at that point of a revision, on every driver."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from facade import facade
from project import Project
from servers import Database

from ampho import reflect

TABLES = """
op.create_table(
    "teams",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(50), nullable=False),
)
op.create_table(
    "users",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(50), nullable=False),
    sa.Column("team_id", sa.Integer, sa.ForeignKey("teams.id")),
    sa.Column("since", sa.DateTime),
    sa.Column("is_admin", sa.Boolean),
)
op.execute("INSERT INTO teams (id, name) VALUES (1, 'red'), (2, 'blue')")
op.execute("INSERT INTO users (id, name, team_id) VALUES (1, 'Ann', 1), (2, 'Bob', 2)")
"""

FILLED = """
from datetime import datetime
from ampho import reflect

before = reflect("users")
with op.batch_alter_table("users") as batch:
    batch.add_column(sa.Column("team", sa.String(50)))
    assert "team" not in reflect("users").c  # the batch runs at its end
users, teams = reflect("users", "teams")
assert "team" in users.c and "team" not in before.c and isinstance(users, sa.Table)
assert users.join(teams).onclause.compare(users.c.team_id == teams.c.id)
name = sa.select(teams.c.name).where(teams.c.id == users.c.team_id).scalar_subquery()
op.execute(users.update().values(team=name))
op.bulk_insert(users, [{"id": 3, "name": "Cat", "since": datetime(2026, 1, 5), "is_admin": True}])
op.alter_column("users", "team", new_column_name="team_name", existing_type=sa.String(50))
users = reflect("users")
found = op.get_bind().execute(sa.select(users).order_by(users.c.id)).mappings().all()
assert [row["team_name"] for row in found] == ["red", "blue", None]
assert found[2]["since"] == datetime(2026, 1, 5) and found[2]["is_admin"]
op.execute(users.update().where(users.c.id == 3).values(team_name="red"))
op.rename_table("teams", "groups")
reflect("groups")
op.execute("CREATE VIEW names AS SELECT name FROM users")
assert sorted(op.get_bind().scalars(sa.select(reflect("names")))) == ["Ann", "Bob", "Cat"]
op.execute("DROP VIEW names")
"""

BACK = """
from ampho import reflect

users = reflect("users")
op.execute(users.delete().where(users.c.id == 3))
op.drop_column("users", "team_name")
op.rename_table("groups", "teams")
"""


def write_history(project: Project, upgrade: str, downgrade: str = "pass") -> None:
    project.package("blog")
    project.revision("blog", "blog_1", upgrade=TABLES, downgrade="op.drop_table('users'); op.drop_table('teams')")
    project.revision("blog", "blog_2", "blog_1", upgrade=upgrade, downgrade=downgrade)


@pytest.mark.usefixtures("unmeasured")
def test_a_revision_reads_its_own_changes(project: Project, database: Database) -> None:
    write_history(project, FILLED, BACK)
    with facade(project, "quart" if database.is_async else "flask", ["blog"], database.url) as each:
        each.call("upgrade")
        assert database.query("SELECT name, team_name FROM users ORDER BY id") == [
            ("Ann", "red"),
            ("Bob", "blue"),
            ("Cat", "red"),
        ]

        each.call("downgrade")
        each.call("upgrade")

    assert database.query("SELECT count(*) FROM users") == [(3,)]


def test_a_table_in_a_schema_is_reflected_with_the_key_to_one_in_another(
    project: Project, make_database: Callable[[str], Database]
) -> None:
    database = make_database("postgresql+psycopg")
    body = """
        from ampho import reflect
        op.execute("CREATE SCHEMA old")
        op.create_table("users", sa.Column("id", sa.Integer, sa.ForeignKey("users.id")), schema="old")
        users = reflect("users", schema="old")
        assert users.fullname == "old.users" and list(users.c.keys()) == ["id"]
        op.execute(users.insert().values(id=1))
    """
    write_history(project, body)
    with facade(project, "flask", ["blog"], database.url) as each:
        each.call("upgrade")

    assert database.query("SELECT id FROM old.users") == [(1,)]


@pytest.mark.parametrize(
    ("body", "command", "expected"),
    [
        ("reflect('users')", ("db-up", "-s"), "RuntimeError: reflect() reads the database. The revision needs a live"),
        ("reflect('users', 'people')", ("db-up",), "the database has no table or view people at this point of the"),
    ],
)
def test_what_cannot_be_reflected_is_named(
    project: Project, body: str, command: tuple[str, ...], expected: str
) -> None:
    write_history(project, f"from ampho import reflect\n{body}")
    with facade(project, "flask", ["blog"], "sqlite:///app.db") as each:
        line = each.error_line(*command)

    assert "blog_2_by_hand.py:14: " in line
    assert expected in line


def test_reflect_is_refused_outside_of_the_functions_of_a_revision(project: Project) -> None:
    write_history(project, "pass")
    path = project.revision("blog", "blog_3", "blog_2")
    path.write_text(path.read_text("utf-8") + "\n\nfrom ampho import reflect\n\nusers = reflect('users')\n", "utf-8")
    with facade(project, "flask", ["blog"], "sqlite:///app.db") as each:
        assert "reflect() works only inside upgrade() and downgrade(). Call it there." in each.error_line("db-up")

    with pytest.raises(RuntimeError, match="works only inside"):
        reflect("users")


@pytest.mark.parametrize("options", [(), ("--sql",)])
def test_reflect_works_under_plain_alembic(project: Project, options: tuple[str, ...]) -> None:
    project.package("blog")
    project.app("flask", ["blog"], "sqlite:///app.db")
    project.run("ampho", "db-init", "blog")
    write_history(project, FILLED, BACK)

    done = project.run("alembic", "-c", "blog/migrations/alembic.ini", "upgrade", "heads", *options, check=False)

    assert (done.exit_code == 0) is (not options)
    assert ("RuntimeError: reflect() reads the database" in done.stderr) is bool(options)
