"""alembic-postgresql-enum, a plug-in that compares the enums of a whole schema, beside ``db-rev -a`` for one package.

In real processes: once imported, it compares for the rest of a process's life.
"""

from __future__ import annotations

import pytest
from project import Project
from servers import Database
from store import Store, open_store

ENUM = """
class {0}(db.Model):
    __tablename__ = "{1}"
    id = sa.Column(sa.Integer, primary_key=True)
    state = sa.Column(sa.Enum({2}, name="{1}_state"), nullable=False)
"""
SHIPS = ENUM.format("Ship", "ships", "'built', 'sunk'")
TRAINS = ENUM.format("Train", "trains", "'fast', 'slow'")


def run(store: Store, *command: str) -> str:
    return store.project.run("ampho", "--app", "wsgi", *command).stdout


def newest(store: Store, package: str, *command: str) -> str:
    before = set(store.files(package))
    run(store, "db-rev", package, "Change", "-a", *command)
    (written,) = set(store.files(package)) - before
    return written.read_text("utf-8")


@pytest.mark.drivers("postgresql+psycopg")
def test_a_package_s_enums_are_its_own(project: Project, database: Database) -> None:
    store = open_store(project, database, {"ships": SHIPS, "trains": TRAINS})
    wsgi = project.folder / "wsgi.py"
    wsgi.write_text("import alembic_postgresql_enum\n" + wsgi.read_text("utf-8"), "utf-8")

    ships, trains = newest(store, "ships"), newest(store, "trains")
    assert 'sa.Enum("built", "sunk", name="ships_state").create(op.get_bind())' in ships
    assert "trains_state" not in ships
    assert "ships_state" not in trains
    run(store, "db-up")
    assert run(store, "db-check").count("matches its models") == 2

    store.models("trains", TRAINS.replace("'slow'", "'slow', 'stopped'"))
    store.models("ships", SHIPS.replace("'sunk'", "'sunk', 'lost'"))
    changed = newest(store, "trains")
    assert "op.sync_enum_values(" in changed
    assert "stopped" in changed
    assert "ships" not in changed
    run(store, "db-up")
    database.run("INSERT INTO trains (id, state) VALUES (1, 'stopped')")
    found = project.run("ampho", "--app", "wsgi", "db-check", check=False)
    assert found.exit_code == 1
    assert "trains  matches its models" in found.stdout

    store.models("trains", "")
    gone = newest(store, "trains")
    assert "op.drop_table" in gone
    assert "ships" not in gone
    run(store, "db-up", "trains")
    assert [enum["name"] for enum in database.schema()["enums"]] == ["ships_state"]
