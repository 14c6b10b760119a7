"""Clones on a server are made ahead, and dropped while other tests run."""

from __future__ import annotations

import time

import pytest
from project import Project
from servers import Database

from ampho.testing.databases import AppDatabases


def present(database: Database) -> set[str]:
    query = "SELECT datname FROM pg_database WHERE datname LIKE 'ampho%clone%'"
    return {name for (name,) in database.query(query)}


@pytest.mark.drivers("postgresql+psycopg")
def test_clones_are_made_ahead_and_dropped_together(project: Project, sync_database: Database) -> None:
    project.package("blog")
    project.revision("blog", "blog_1", upgrade='op.create_table("posts", sa.Column("id", sa.Integer))')
    project.app("flask", ["blog"], sync_database.url)
    with project.importing():
        from app import app  # type: ignore[import-not-found]

        databases, used = AppDatabases(app, lambda: None), list[str]()
        for number in range(20):
            with databases.one_clone("default") as clone:
                assert clone.name in present(sync_database)
                used.append(clone.name)
            assert number == 19 or {*used} <= present(sync_database)
        deadline = time.monotonic() + 30
        while present(sync_database) & {*used}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run = used[0].rpartition("_")[0]
        assert len([name for name in present(sync_database) if name.startswith(run)]) == 1
        databases.close()
    assert not any(name.startswith(run) for name in present(sync_database))
    assert sync_database.tables() == []
