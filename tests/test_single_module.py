"""An app in one file, whose history lies beside it."""

from __future__ import annotations

import pytest
from project import Project

APPS = {
    "flask": """
        from flask import Flask
        from flask_sqlalchemy import SQLAlchemy
        from ampho import Ampho

        app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///site.db"
        db = SQLAlchemy(app)
        Ampho(app, db)
        """,
    "quart": """
        from quart import Quart
        from ampho import AsyncAmpho, AsyncSQLAlchemy

        app = Quart(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite+aiosqlite:///site.db"
        db = AsyncSQLAlchemy(app)
        AsyncAmpho(app, db)
        """,
}
MODEL = """

class {name}(db.Model):
    id = db.mapped_column(db.Integer, primary_key=True)
"""


def model(name: str) -> str:
    return MODEL.format(name=name).replace("db.mapped_column(db.", "sa.Column(sa.")


@pytest.mark.parametrize("framework", APPS)
def test_the_history_of_a_module_lies_beside_it(framework: str, project: Project) -> None:
    code = project.write("app.py", APPS[framework])
    code.write_text("import sqlalchemy as sa\n" + code.read_text() + model("Post"))
    init = project.run("ampho", "db-init", "app").stdout
    assert init.startswith("Wrote migrations: README, alembic.ini, env.py"), init
    assert "AMPHO_MIGRATION_PACKAGES" not in init, "the app's own module is listed already"
    assert "+ table post" in project.run("ampho", "db-rev", "app", "Create posts", "-a", "--rev-id", "app_1").stdout
    assert "Applied 1 revision" in project.run("ampho", "db-up").stdout
    assert project.run("ampho", "db-current").stdout == "app  app_1 (head)\n"
    assert project.run("ampho", "db-check").stdout == "app  matches its models\n"
    assert "app_1 (app)" in project.run("alembic", "-c", "migrations/alembic.ini", "heads").stdout

    # A package beside it has a history of its own, and a row in the lists of plain Alembic.
    project.package("shop", models="from app import db\nimport sqlalchemy as sa\n" + model("Item"))
    code.write_text(
        code.read_text().replace("app.config[", "app.config['AMPHO_MIGRATION_PACKAGES'] = 'app, shop'\napp.config[", 1)
    )
    assert "Added shop to migrations/alembic.ini" in project.run("ampho", "db-init", "shop").stdout
    assert "+ table item" in project.run("ampho", "db-rev", "-a", "Create items").stdout
    assert "Applied 1 revision" in project.run("ampho", "db-up").stdout
    assert "%(here)s/../../migrations/versions" in project.read("shop/migrations/alembic.ini")
    heads = project.run("alembic", "-c", "shop/migrations/alembic.ini", "heads").stdout
    assert (heads.count("(head)"), "app_1" in heads) == (2, True)
    assert project.run("alembic", "-c", "migrations/alembic.ini", "heads").stdout == heads
    assert "No new upgrade operations" in project.run("alembic", "-c", "migrations/alembic.ini", "check").output


def test_what_is_beside_a_module_is_named_and_completed(project: Project) -> None:
    code = project.write("app.py", APPS["flask"])
    project.package("shop")
    complete = {"_AMPHO_COMPLETE": "bash_complete", "COMP_WORDS": "ampho db-init ", "COMP_CWORD": "2"}
    assert project.run("ampho", env=complete).stdout.split() == ["plain,app", "plain,shop"]
    assert "Did you mean app?" in project.run("ampho", "db-init", "aap", check=False).stderr
    project.write("migrations/env.py", "from alembic import context\n")
    assert project.run("ampho", env=complete).stdout.split() == ["plain,shop"]
    assert "'ampho db-adopt migrations --into app'" in project.run("ampho", "db-init", "app", check=False).stderr
    complete |= {"COMP_WORDS": "ampho db-adopt migrations --into ", "COMP_CWORD": "4"}
    assert project.run("ampho", env=complete).stdout.split() == ["plain,app", "plain,shop"]
    assert code.exists()


def test_a_module_owns_the_tables_of_its_own_file(project: Project) -> None:
    project.write(
        "models.py",
        "from flask_sqlalchemy import SQLAlchemy\nimport sqlalchemy as sa\ndb = SQLAlchemy()\n" + model("Post"),
    )
    code = project.write("app.py", APPS["flask"].replace("SQLAlchemy(app)", "models.db"))
    code.write_text("import models\n" + code.read_text().replace("db = models.db", "db = models.db\ndb.init_app(app)"))
    project.run("ampho", "db-init", "app")
    result = project.run("ampho", "db-rev", "app", "Create posts", "-a")
    assert "no models in app. If there are any, list the module that contains them" in result.stderr
    env = {"AMPHO_MIGRATION_PACKAGES": "models"}
    assert "+ table post" in project.run("ampho", "db-rev", "models", "Create posts", "-a", env=env).stdout
