"""Two addresses of one database, and two databases whose addresses are alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path

import pytest
import zigzag
from facade import URLS, facade
from inside import inside, member
from project import Project
from servers import Database
from sqlalchemy import URL, Engine

from ampho.database.connection import connect
from ampho.database.identity import identity


def identity_of(engine: Engine, url: URL | None = None, schema: str | None = None) -> Hashable:
    with connect(member(engine, url, schema), "tenants") as connection:
        return identity(connection)


def test_one_database_has_one_identity(
    project: Project, database: Database, make_database: Callable[[str], Database], tmp_path: Path
) -> None:
    project.package("core")
    url, other = database.url, make_database(database.driver)
    if database.backend == "sqlite":
        (tmp_path / "link").symlink_to(tmp_path)
        (tmp_path / "hard.db").hardlink_to(_created(database))
        same = [
            url.set(database=str(tmp_path / "link" / Path(database.name).name)),
            url.set(database=f"{tmp_path}/hard.db"),
        ]
    else:
        same = [
            url.set(host="localhost"),
            url.update_query_dict({"connect_timeout": "9"} if "asyncpg" not in url.drivername else {}),
        ]

    def use(engine: Engine) -> None:
        mine = identity_of(engine)
        assert [identity_of(engine, each) for each in same] == [mine] * 2
        assert len({mine, identity_of(engine, other.url)}) == 2

    with facade(project, zigzag.framework_of(database), ["core"], url) as each:
        inside(each, use)


def _created(database: Database) -> Path:
    database.run("CREATE TABLE t (id integer)")
    return Path(database.name)


@pytest.mark.drivers("postgresql")
def test_schemas_of_one_database(project: Project, database: Database) -> None:
    project.package("core")
    database.run("CREATE SCHEMA acme")

    def use(engine: Engine) -> None:
        assert identity_of(engine) == identity_of(engine, schema="public") != identity_of(engine, schema="acme")

    with facade(project, zigzag.framework_of(database), ["core"], database.url) as each:
        inside(each, use)


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_databases_in_memory(project: Project, framework: str) -> None:
    project.package("core")
    url = URLS[framework].partition("/app")[0]
    found: list[Hashable] = []
    for _ in range(2):
        with facade(project, framework, ["core"], url) as each:
            inside(each, lambda engine: found.extend([identity_of(engine), identity_of(engine)]))
    assert found[0] == found[1] != found[2] == found[3]
