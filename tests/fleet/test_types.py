"""Types outside of a tenant's schema, which its migrations do not find, and what docs/tenants.md does about it."""

from __future__ import annotations

import re

import pytest
from documents import ROOT
from project import Project
from servers import Database

pytestmark = [
    pytest.mark.usefixtures("unmeasured_processes"),
    pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg"),
]

APP = """
from {framework} import {kind}
{imports}
from ampho import {extension}, Database
from sqlalchemy.types import UserDefinedType


class Pair(UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **kw):
        return "{name}"


app = {kind}(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "{url}"
db = SQLAlchemy(app)
ampho = {extension}(app, db)
ampho.databases("tenants", packages=["orders"])(lambda: [Database("acme", schema="ac'me")])
db.Table("places", db.Column("id", db.Integer, primary_key=True), db.Column("pair", Pair))
"""
FLASK = {"kind": "Flask", "imports": "from flask_sqlalchemy import SQLAlchemy", "extension": "Ampho"}
QUART = {"kind": "Quart", "imports": "from ampho import AsyncSQLAlchemy as SQLAlchemy", "extension": "AsyncAmpho"}
CREATE = """from app import Pair
op.create_table("places", sa.Column("id", sa.Integer, primary_key=True), sa.Column("pair", Pair()))"""


def remedy() -> str:
    """Return the line of the guide that adds ``public`` to the path."""
    (line,) = re.findall(r"^    (op\.execute\(.*set_config.*)$", (ROOT / "docs/tenants.md").read_text(), re.MULTILINE)
    return str(line)


@pytest.mark.parametrize("way", ["neither", "in the path", "in the name"])
def test_a_type_in_public_is_found_as_the_guide_says(project: Project, database: Database, way: str) -> None:
    database.run("CREATE TYPE public.pair AS (a integer, b integer)")
    project.package("orders")
    path = f"{remedy()}\n" if way == "in the path" else ""
    project.revision("orders", "orders_1", upgrade=path + CREATE, downgrade="op.drop_table('places')")
    last = project.revision("orders", "orders_2", "orders_1", upgrade="op.execute('SELECT NULL::pair')")
    kind = QUART if database.is_async else FLASK
    url = database.url.render_as_string(hide_password=False)
    name = "public.pair" if way == "in the name" else "pair"
    project.write("app.py", APP.format(framework=kind["kind"].lower(), url=url, name=name, **kind))

    first = project.run("ampho", "db-up", "orders_1", "-d", "tenants/acme", "--create", check=False)
    if way == "neither":
        assert first.exit_code == 1
        assert 'type "pair" does not exist' in first.stderr
        return
    assert "Applied 1 revision" in first.stdout
    where = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('public', 'ac''me')"
    assert {schema for schema, _ in database.query(where)} == {"ac'me"}
    # The path of the first revision has ended.
    second = project.run("ampho", "db-up", "-d", "tenants/acme", check=False)
    assert 'type "pair" does not exist' in second.stderr
    last.unlink()
    assert "orders  matches its models" in project.run("ampho", "db-check", "-d", "tenants/acme").stdout
