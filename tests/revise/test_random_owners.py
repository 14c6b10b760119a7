"""Random programs that define models in many ways: each table has the owner that is expected, or is reported."""

from __future__ import annotations

import os
import random
import re

import pytest
from project import Project
from servers import Database
from store import open_store

PROGRAMS = int(os.environ.get("AMPHO_PROPERTY_OWNERS", "3"))
PACKAGES = ("app", "app.blog", "core", "wiki")
HELPERS = """
import sqlalchemy as sa
from database import db
from sqlalchemy.orm import declared_attr, relationship


def key():
    return sa.Column("id", sa.Integer, primary_key=True)


def table(name, *columns):
    return sa.Table(name, db.metadata, key(), *columns)


def model(name):
    return type(name, (db.Model,), {"__tablename__": name, "id": key()})


def local_model(name):
    class Local(db.Model):
        __tablename__ = name
        id = key()

    return Local


class Linked:
    @declared_attr
    def links(cls):
        name = cls.__tablename__
        ends = [sa.Column(end, sa.ForeignKey(name + ".id")) for end in ("one", "two")]
        joins = [f"{name}.id == {name}_links.c.{end}" for end in ("one", "two")]
        made = table(name + "_links", *ends)
        return relationship(name, secondary=made, primaryjoin=joins[0], secondaryjoin=joins[1])


class Attached:
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "__tablename__" in vars(cls):
            cls.attached = model(cls.__tablename__ + "_attached")
"""
CLASS = "class {0}({1}db.Model):\n    __tablename__ = '{0}'\n    id = helpers.key()\n"
PLAIN = CLASS.format("{n}", "")
INDENTED = re.sub("^", "    ", PLAIN, flags=re.MULTILINE)
INLINE = (
    PLAIN
    + """
    others = sa.orm.relationship(
        "{n}",
        secondary=helpers.table("{n}_own", *(sa.Column(end, sa.ForeignKey("{n}.id")) for end in ("a", "b"))),
        primaryjoin="{n}.id == {n}_own.c.a",
        secondaryjoin="{n}.id == {n}_own.c.b",
    )
"""
)
# The source of each kind of definition, and the endings of the tables that it defines in its package, if it has these.
OWNED = {
    "a class": (PLAIN, ("",)),
    "a class in try": (
        "try:\n" + re.sub("^", "    ", CLASS.format("{n}", ""), flags=re.M) + "\nfinally:\n    pass",
        ("",),
    ),
    "a class in a function": (
        f"def define_{{n}}():\n{INDENTED}\n    return {{n}}\n\n\nL{{n}} = [define_{{n}}()]",
        ("",),
    ),
    "a class in a class": ("class Outer{n}:\n" + INDENTED, ("",)),
    "type() by a helper": ("{n} = helpers.model('{n}')", ("",)),
    "a local class of a helper": ("{n} = helpers.local_model('{n}')", ("",)),
    "a class in a dictionary": ("MODELS_{n} = {{}}\nMODELS_{n}['x'] = helpers.model('{n}')", ("",)),
    "a class in a list": ("MODELS_{n} = []\nMODELS_{n}.append(helpers.model('{n}'))", ("",)),
    "a table by a helper": ("{n} = helpers.table('{n}')", ("",)),
    "a table in if": ("if True:\n    {n} = helpers.table('{n}')", ("",)),
    "two tables at once": ("{n}, {n}_b = helpers.table('{n}'), helpers.table('{n}_b')", ("", "_b")),
    "a table in a loop": (
        "T{n} = {{}}\nfor name in ('{n}', '{n}_b'):\n    T{n}[name] = helpers.table(name)",
        ("", "_b"),
    ),
    "a table in a class": ("class Holder{n}:\n    table = helpers.table('{n}')", ("",)),
    "a global table": ("def make_{n}():\n    global {n}\n    {n} = helpers.table('{n}')\n\n\nmake_{n}()", ("",)),
    "a table that nothing keeps": ("sa.Table('{n}', db.metadata, helpers.key())", ("",)),
    "a mixin with an association table": (CLASS.format("{n}", "helpers.Linked, "), ("", "_links")),
    "a mixin with another class": (CLASS.format("{n}", "helpers.Attached, "), ("", "_attached")),
    "an inline association table": (INLINE, ("", "_own")),
    "info": ("helpers.table('{n}').info['ampho_package'] = '{p}'", ("",)),
    "a late import": ("import {p}.late_{n}", ("",)),
}
UNOWNED = {
    "a table of a helper that nothing keeps": "helpers.table('{n}')",
    "a computed name": "sa.Table('{n}'[:1] + '{n}'[1:], db.metadata, helpers.key())",
    "a class of a package that is not listed": "import outside_{n}",
}
THEFTS = (
    "from {m} import *",
    "import {m} as other\n{n}_taken = getattr(other, '{n}', None)",
    "from {m} import *\nALL = [*vars()]",
)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_every_table_has_the_expected_owner_or_is_reported(seed: int, project: Project, database: Database) -> None:
    choice = random.Random(seed)
    project.write("helpers.py", HELPERS)
    sources: dict[str, list[str]] = {package: ["import helpers", "import sqlalchemy.orm"] for package in PACKAGES}
    expected: dict[str, set[str]] = {package: set() for package in PACKAGES}
    reported = set()
    for number, kind in enumerate(choice.sample([*OWNED, *UNOWNED], 12)):
        package, name = choice.choice(PACKAGES), f"t{number}"
        if kind in OWNED:
            source, endings = OWNED[kind]
            expected[package] |= {name + ending for ending in endings}
        else:
            source = UNOWNED[kind]
            reported.add(name)
        sources[package].append(source.format(n=name, p=package))
        imports = "import sqlalchemy as sa\nimport helpers\nfrom database import db\n\n"
        if kind == "a late import":
            project.write(f"{package.replace('.', '/')}/late_{name}.py", imports + CLASS.format(name, ""))
        if "not listed" in kind:
            project.write(f"outside_{name}.py", imports + CLASS.format(name, ""))
        theft = choice.choice(THEFTS).format(m=f"{package}.models", n=name)
        if choice.random() < 0.5 and PACKAGES.index(package) < len(PACKAGES) - 1:
            sources[PACKAGES[-1]].insert(2, theft)
    shop = open_store(project, database, {each: "\n\n\n".join(lines) for each, lines in sources.items()})

    written = {}
    for package in PACKAGES:
        done = shop.run("db-rev", package, "Tables", "-a")
        files = shop.files(package)
        written[package] = shop.tables_in(shop.read(package, files[0])) if files else set()
        told = re.findall(r"No package owns the tables? ([\w, ]+) in the models", done.stderr)
        assert {name for names in told for name in names.split(", ")} == reported

    assert written == expected
    shop.run("db-up")
    checked = shop.run("db-check", exit_code=1 if reported else 0)
    assert set(re.findall(r"~ table (\w+)  belongs to no package", checked.stdout)) == reported
