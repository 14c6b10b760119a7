"""The page of an app with several databases, with groups of databases, and after a change of the git branch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from facade import FRAMEWORKS, Facade, facade
from pending.asking import ask, press, watch_of
from project import Project
from servers import Database

from ampho import Database as Member


@pytest.fixture(params=FRAMEWORKS)
def each(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    for package in ("core", "stats"):
        project.package(package)
        table = f"op.create_table('{package}', sa.Column('id', sa.Integer))"
        project.revision(package, f"{package}_1700000001", upgrade=table)
    driver = "sqlite+aiosqlite" if request.param == "quart" else "sqlite"
    with facade(
        project,
        request.param,
        ["core", "stats"],
        f"{driver}:///app.db",
        SQLALCHEMY_BINDS={"reports": f"{driver}:///reports.db"},
        AMPHO_DATABASES={"default": ["core"], "reports": ["stats"]},
        DEBUG=True,
    ) as made:
        yield made


def test_one_button_upgrades_all_databases(each: Facade) -> None:
    page = ask(each)
    assert "2 revisions are pending" in page.words
    assert "core_1700000001 of core in default" in page.words
    assert "stats_1700000001 of stats in reports" in page.words
    assert "The history in default" in page.words
    assert "The history in reports" in page.words
    assert press(each, "Apply 2 revisions", page).code == 303
    assert ask(each).code == 404  # the app has no view
    assert set(ask(each, accept="application/json").text) != set(page.text)


def test_the_databases_that_are_not_behind_are_not_shown(each: Facade) -> None:
    each.call("upgrade", database="default")
    page = ask(each)
    assert "1 revision is pending" in page.words
    assert "The history in reports" in page.words
    assert "The history in default" not in page.words
    assert list(ask(each, accept="application/json").json["databases"]) == ["reports"]


def test_one_database_that_fails_is_named(each: Facade, project: Project) -> None:
    project.revision("stats", "stats_1700000002", "stats_1700000001", upgrade="op.execute('no sql')")
    page = press(each, "Apply 3 revisions")
    assert page.code == 503
    assert "reports: Revision stats_1700000002 of stats failed" in page.words
    assert "Apply 1 revision" in page.buttons


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_database_that_cannot_be_reached_hides_no_other(framework: str, project: Project) -> None:
    for package in ("core", "stats"):
        project.package(package)
        project.revision(package, f"{package}_1700000001")
    url, other = {
        "flask": ("sqlite:///app.db", "postgresql+psycopg://ann:s3cret@127.0.0.1:1/stats"),
        "quart": ("sqlite+aiosqlite:///app.db", "postgresql+asyncpg://ann:s3cret@127.0.0.1:1/stats"),
    }[framework]
    binds = {"SQLALCHEMY_BINDS": {"reports": other}, "AMPHO_DATABASES": {"default": ["core"], "reports": ["stats"]}}
    with facade(project, framework, ["core", "stats"], url, DEBUG=True, **binds) as each:
        page = ask(each)
        assert page.code == 503
        assert "1 revision is pending" in page.words
        assert "The databases cannot be upgraded" in page.words
        assert "reports: Cannot connect to postgresql" in page.words
        assert "s3cret" not in page.text
        each.call("upgrade", database="default")
        watch_of(each).forget()
        assert ask(each).code == 404  # the app tells of a database that cannot be reached


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_group_that_cannot_be_listed_is_explained(framework: str, project: Project) -> None:
    project.package("orders")
    project.revision("orders", "orders_1700000001")
    driver = "sqlite+aiosqlite" if framework == "quart" else "sqlite"

    def fail() -> list[Member]:
        raise RuntimeError("no table of tenants")

    with facade(project, framework, [], f"{driver}:///app.db", DEBUG=True) as each:
        each.ampho.databases("tenants", packages=["orders"])(fail)
        page = ask(each)
        assert page.code == 503
        assert "no table of tenants" in page.words


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_databases_of_groups_are_counted(framework: str, project: Project) -> None:
    project.package("orders")
    project.revision("orders", "orders_1700000001")
    driver = "sqlite+aiosqlite" if framework == "quart" else "sqlite"
    with facade(project, framework, [], f"{driver}:///app.db", DEBUG=True) as each:
        each.ampho.databases("tenants", packages=["orders"])(
            lambda: [Member(name, url=f"{driver}:///{name}.db") for name in ("acme", "zeta")]
        )
        each.call("upgrade", database="tenants/acme", create=True)
        page = ask(each)
        assert page.code == 503
        assert "Databases of tenants are behind the code" in page.words
        assert "1 behind, 1 up to date (of 2). Run ampho db-up --database tenants" in page.words
        assert list(page.buttons) == ["Continue to the app anyway"]
        assert ask(each, accept="application/json").json["groups"]["tenants"]["total"] == 2
        each.call("upgrade", database="tenants", create=True)
        watch_of(each).forget()
        assert ask(each).code == 404


def test_what_another_branch_applied_can_be_reverted(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1700000001")
    project.revision(
        "core",
        "core_1700000002",
        "core_1700000001",
        upgrade="op.create_table('mine', sa.Column('id', sa.Integer))",
        downgrade="op.drop_table('mine')",
    )
    with facade(project, FRAMEWORKS[database.is_async], ["core"], database.url, DEBUG=True) as each:
        each.call("upgrade")
        next(project.folder.glob("core/migrations/versions/core_1700000002*")).unlink()
        project.revision("core", "core_1700000003", "core_1700000001")
        page = ask(each)
        assert "The database is ahead of the code" in page.words
        assert "which another branch of the code may have applied" in page.words
        assert "op.drop_table('mine')" in page.words
        assert "may lose data: drops the table mine" in page.words
        assert "or run AMPHO_JOURNAL_SOURCE=1 ampho db-down missing" in page.words
        assert "The databases cannot be upgraded" in page.words
        assert press(each, "Revert 1 revision", page).code == 303
        page = ask(each)
        assert "1 revision is pending" in page.words
        assert press(each, "Apply 1 revision", page).code == 303
        assert "mine" not in database.tables()
        assert ask(each).code == 404


def test_a_protected_database_is_only_changed_by_a_command(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1700000001")
    config = {"DEBUG": True, "AMPHO_PROTECTED": True}
    with facade(project, "flask", ["core"], "sqlite:///app.db", **config) as each:
        each.call("upgrade")
        next(project.folder.glob("core/migrations/versions/core_1700000001*")).unlink()
        page = ask(each)
        assert "Run AMPHO_JOURNAL_SOURCE=1 ampho db-down missing" in page.words
        assert list(page.buttons) == ["Continue to the app anyway"]
