"""The ready-made tests pass for the example, and each fails when its fault is planted."""

from __future__ import annotations

import re

import pytest
from project import Project
from suites import copy_shop, left_behind, run_pytest

ONE_LINE = "from ampho.testing.tests import *\n"


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("test_history.py", ONE_LINE)
    return copy_shop(project)


@pytest.mark.parametrize("app", ["flask_app", "quart_app"])
def test_they_pass_for_the_example_and_touch_nothing(shop: Project, app: str) -> None:
    result = run_pytest(shop, "--import-mode=importlib", ini=f"ampho_app = {app}")

    assert "5 passed" in result.stdout, str(result)
    assert not list(shop.folder.rglob("*.db"))
    assert left_behind(shop) == []


def failures(shop: Project) -> dict[str, str]:
    """Run the ready-made tests, and return the messages of those that failed."""
    result = run_pytest(shop, ini="ampho_app = flask_app")
    assert "Traceback" not in result.stdout
    assert "ampho/testing" not in result.stdout
    assert "Captured log" not in result.stdout
    found = re.split(
        r"^_+ (test_\w+) _+$", re.split("=+ (PASSES|short test summary)", result.stdout)[0], flags=re.MULTILINE
    )
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_what_cannot_be_reflected_or_filled_is_no_failure(shop: Project) -> None:
    shop.revision(
        "accounts",
        "accounts_1770000000",
        "accounts_1768816800",
        upgrade="""
            op.execute("CREATE TABLE odd (a INTEGER REFERENCES odder (b), c GEOMETRY, d CHAR CHECK (d = 'y') NOT NULL)")
            op.execute("CREATE TABLE odder (b INTEGER PRIMARY KEY REFERENCES odd (a))")
            op.execute("CREATE INDEX odd_a ON odd (a + 1)")
            """,
        downgrade="""
            op.drop_table("odder")
            op.drop_table("odd")
            """,
    )
    shop.revision("accounts", "accounts_1780000000", "accounts_1770000000", upgrade="op.get_bind()")

    result = run_pytest(shop, ini="ampho_app = flask_app")

    assert "5 passed" in result.stdout, str(result)


def test_two_heads_other_models_and_tables_that_stay_are_found(shop: Project) -> None:
    shop.revision("catalog", "catalog_1769000000", "catalog_1767690000")
    create = 'op.create_table("left", sa.Column("id", sa.Integer, primary_key=True))'
    shop.revision("accounts", "accounts_1770000000", "accounts_1768816800", upgrade=create, downgrade="op.get_bind()")
    models = shop.read("catalog/models.py")
    shop.write("catalog/models.py", models + "\n    pages: Mapped[int | None] = mapped_column()\n")

    failed = failures(shop)

    assert "test_every_revision_runs_on_data" not in failed
    assert "After all downgrades, the schema has" in failed["test_up_and_down_and_up_again_leaves_the_same_schema"]
    assert "\n    + table left\n" in failed["test_up_and_down_and_up_again_leaves_the_same_schema"]
    assert "After the downgrade of accounts_1770000000" in failed["test_every_downgrade_works"]
    assert "catalog has 2 heads: catalog_1768298400, catalog_1769000000." in failed["test_every_package_has_one_head"]
    models = failed["test_the_models_match_the_migrated_database"]
    assert "does not match the models of accounts:\n    - table left" in models
    assert "does not match the models of catalog:\n    + column books.pages  INTEGER" in models


def test_downgrades_that_leave_something_and_revisions_that_fail_on_rows_are_found(shop: Project) -> None:
    (indexes,) = shop.migrations("orders").glob("versions/orders_1769421600_*.py")
    text = shop.read(indexes)
    shop.write(indexes, text[: text.index("def downgrade")] + 'def downgrade():\n    op.execute("SELECT 1")\n')
    shop.revision(
        "accounts",
        "accounts_1770000000",
        "accounts_1768816800",
        upgrade="""
            with op.batch_alter_table("customers") as batch:
                batch.add_column(sa.Column("points", sa.Integer, nullable=False))
            """,
        downgrade='op.drop_column("customers", "points")',
    )

    failed = failures(shop)

    left = "the schema has 2 differences:\n    - index orders.ix_orders_customer_id  "
    assert f"After the downgrade of orders_1769421600, {left}" in failed["test_every_downgrade_works"]
    assert "After an upgrade, a downgrade" not in failed["test_every_downgrade_works"]
    on_data = failed["test_every_revision_runs_on_data"]
    assert "All tables had rows. Revision accounts_1770000000 of accounts failed" in on_data
    assert "NOT NULL" in on_data


def test_a_downgrade_that_fails_is_found(shop: Project) -> None:
    shop.revision("accounts", "accounts_1770000000", "accounts_1768816800", downgrade='op.drop_table("nothing")')

    failed = failures(shop)

    for test in ("test_every_downgrade_works", "test_up_and_down_and_up_again_leaves_the_same_schema"):
        assert "accounts_1770000000 of accounts failed" in failed[test]


WITHOUT_DOWNGRADE = """
revision = "accounts_1770000000"
down_revision = "accounts_1768816800"


def upgrade():
    pass
"""


def test_downgrades_that_do_nothing_are_found_unless_only_data_changes(shop: Project) -> None:
    create = 'op.create_table("points", sa.Column("id", sa.Integer, primary_key=True))'
    shop.revision("accounts", "accounts_1770000000", "accounts_1768816800", upgrade=create)
    shop.revision("accounts", "accounts_1780000000", "accounts_1770000000", upgrade='op.execute("DELETE FROM points")')

    failed = failures(shop)

    assert failed.keys() >= {"test_every_downgrade_works", "test_up_and_down_and_up_again_leaves_the_same_schema"}
    for name in ("test_every_downgrade_works", "test_up_and_down_and_up_again_leaves_the_same_schema"):
        assert "\n    + table points\n" in failed[name]
        assert "The downgrade() of accounts_1770000000 does nothing, but upgrade() changes the schema." in failed[name]


def test_a_revision_without_a_downgrade_is_found(shop: Project) -> None:
    shop.write("accounts/migrations/versions/accounts_1770000000_none.py", WITHOUT_DOWNGRADE)

    failed = failures(shop)

    for name in ("test_every_downgrade_works", "test_up_and_down_and_up_again_leaves_the_same_schema"):
        assert "accounts_1770000000" in failed[name]
        assert "downgrade" in failed[name]


@pytest.mark.parametrize(("error", "found"), [("NotImplementedError", 0), ("RuntimeError", 2)])
def test_only_downgrades_that_raise_one_exception_are_left_out(shop: Project, error: str, found: int) -> None:
    create = 'op.create_table("points", sa.Column("id", sa.Integer, primary_key=True))'
    shop.revision(
        "accounts", "accounts_1770000000", "accounts_1768816800", upgrade=create, downgrade=f'raise {error}("never")'
    )

    failed = failures(shop)

    assert len([name for name in failed if "down" in name]) == found, failed
