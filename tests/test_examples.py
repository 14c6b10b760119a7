"""The examples: the demo runs, and the shop is what a newcomer may copy."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from project import Project
from servers import Database
from sqlalchemy import Engine, create_engine, event

ROOT = Path(__file__).parent.parent
SHOP = ROOT / "examples" / "shop"
PACKAGES = ("accounts", "catalog", "orders")
TABLES = ("alembic_version", "authors", "books", "customers", "order_lines", "orders")

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    """A copy of the shop, so that a test leaves nothing behind."""
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("instance", "__pycache__"))
    return Project(folder)


def test_the_demo_runs_both_apps_and_leaves_nothing_behind(project: Project, tmp_path: Path) -> None:
    before = set((ROOT / "examples").rglob("*"))

    done = project.run(sys.executable, str(ROOT / "examples" / "demo.py"), env={"TMPDIR": str(tmp_path)}, timeout=110)

    assert done.stderr == ""
    for app in ("flask_app", "quart_app"):
        assert f"$ export AMPHO_APP={app}\n" in done.stdout
    assert done.stdout.count("$ ampho db-up\nUpgrading (heads): 7 revisions of accounts, catalog, orders\n") == 2
    assert done.stdout.count("Run 'ampho db-down accounts@base --cascade' to revert them, too.") == 2
    assert list(tmp_path.glob("ampho-demo-*")) == []
    assert set((ROOT / "examples").rglob("*")) == before


def test_the_demo_fails_when_a_command_does_something_else(tmp_path: Path, project: Project) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("instance", "__pycache__"))
    revision = next((tmp_path / "examples/shop/accounts/migrations/versions").glob("accounts_1767607200_*.py"))
    revision.write_text(revision.read_text("utf-8").replace("op.create_table(", "op.create_tabel("), "utf-8")

    done = project.run(sys.executable, str(tmp_path / "examples" / "demo.py"), check=False)

    assert done.exit_code == 1
    assert "accounts_1767607200" in done.stdout
    assert "This is not as it should be: exit code 1, where 0 is right" in done.stderr


def test_the_migrations_of_the_shop_make_what_its_models_say_and_can_be_taken_back(shop: Project) -> None:
    shop.run("ampho", "--app", "flask_app", "db-up")

    with shop.importing():
        import orders.models  # noqa: F401  # registers the tables of all three
        from database import Base, enforce_foreign_keys

        event.remove(Engine, "connect", enforce_foreign_keys)  # or it would serve the tests after this one, too
        engine = create_engine(f"sqlite:///{shop.folder}/instance/shop.db")
        with engine.connect() as connection:
            options = {"render_as_batch": True, "compare_type": True}
            options["include_name"] = lambda name, *_: name != "ampho_journal"
            context = MigrationContext.configure(connection, opts=options)
            difference = compare_metadata(context, Base.metadata)
        engine.dispose()

    assert difference == []
    down = shop.run("ampho", "--app", "quart_app", "db-down", "base")
    assert "Reverted 7 revisions" in down.stdout


def test_the_shop_goes_up_and_down_and_up_on_every_database(shop: Project, database: Database) -> None:
    app = "quart_app" if database.is_async else "flask_app"
    there = {"SHOP_DATABASE_URL": database.url.render_as_string(hide_password=False)}

    for command, done in (("db-up", "Applied"), ("db-down", "Reverted"), ("db-up", "Applied")):
        target = ["base"] if command == "db-down" else []
        told = shop.run("ampho", "--app", app, command, *target, env=there)
        assert f"{done} 7 revisions" in told.stdout
        assert database.tables() == (["alembic_version"] if target else [*TABLES])


@pytest.mark.parametrize("package", PACKAGES)
def test_the_folders_of_the_shop_are_what_db_init_writes_in_a_quart_app(package: str) -> None:
    templates = ROOT / "ampho" / "templates"

    for name, source in {"env.py": "aio/env.py", "script.py.mako": "script.py.mako", "README": "README"}.items():
        written = (SHOP / package / "migrations" / name).read_text("utf-8")
        assert written == (templates / source).read_text("utf-8"), f"copy ampho/templates/{source} to {package}"


def test_the_commands_of_the_page_work_in_the_folder_of_the_makefile(tmp_path: Path) -> None:
    if not (Path(sys.prefix) / "bin" / "activate").exists():
        pytest.skip("the tests do not run in a virtual environment")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("instance", "__pycache__"))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    typed = "\n".join(re.findall(r"^    (.+)$", page, re.MULTILINE))

    done = Project(tmp_path).run("sh", "-e", "-c", f"{typed}\n../../.venv/bin/ampho db-current")

    assert typed.startswith(". .venv/bin/activate")
    assert "Applied 7 revisions" in done.stdout
    assert "orders    orders_1769421600 (head)" in done.stdout
    assert (tmp_path / "examples/shop/instance/shop.db").exists()


def test_the_ids_of_the_shop_have_the_form_that_db_rev_gives() -> None:
    for path in SHOP.glob("*/migrations/versions/*.py"):
        assert re.fullmatch(rf"{path.parts[-4]}_\d{{10}}_[a-z_]+\.py", path.name)
