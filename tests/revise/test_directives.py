"""``process_revision_directives``: every script that a hook returns counts, and so does what it sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project
from servers import Database
from store import BOOKS, Store, open_store

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

EACH = pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
SPLIT = """
from alembic.autogenerate import rewriter
from alembic.operations import ops
from alembic.util import rev_id

def kinds(script, *wanted):
    return [one for each in script.upgrade_ops.ops for one in getattr(each, "ops", [each]) if isinstance(one, wanted)]

def script(script, *wanted, id=None, **values):
    return ops.MigrationScript(id or rev_id(), ops.UpgradeOps(kinds(script, *wanted)), ops.DowngradeOps([]), **values)

def expand_and_contract(context, rows, directives):
    expand = script(directives[0], ops.CreateTableOp, ops.AddColumnOp, message="Expand")
    directives[:] = [expand, script(directives[0], ops.DropColumnOp, message="Contract")]

def branches(context, rows, directives):
    if directives[0].head != "base":
        expand = script(directives[0], ops.AddColumnOp, head="base", branch_label="expand")
        directives[:] = [expand, script(directives[0], ops.DropColumnOp, head="base", branch_label="contract")]

def setting(**values):
    def hook(context, rows, directives):
        for name, value in values.items():
            setattr(directives[0], name, value)
    return hook

def nothing(context, rows, directives):
    directives[:] = []

def wrong(context, rows, directives):
    directives.append("more")

first, second = rewriter.Rewriter(), rewriter.Rewriter()

@first.rewrites(ops.AddColumnOp)
def no_added(context, rows, operation):
    return []

@second.rewrites(ops.MigrationScript)
def twice(context, rows, directive):
    return [directive, ops.MigrationScript(None, ops.UpgradeOps([ops.ExecuteSQLOp("SELECT 1")]), ops.DowngradeOps([]))]

chained = first.chain(second)
"""
CHANGED = BOOKS.replace("title = sa.Column(sa.String(200), nullable=False)", "text = sa.Column(sa.String(200))")


@pytest.fixture
def shop(project: Project, database: Database) -> Store:
    """One package with one applied revision, and a changed model: one column comes, and one goes."""
    project.write("split.py", SPLIT)
    shop = open_store(project, database, {"catalog": BOOKS})
    shop.auto("catalog")
    shop.run("db-up")
    shop.models("catalog", CHANGED)
    return shop


def with_hook(shop: Store, hook: str) -> Store:
    found = Store(shop.project, shop.framework, shop.packages, shop.url, f"dict(process_revision_directives={hook})")
    found.write_app()
    return found


def hooked(shop: Store, hook: str) -> Store:
    return with_hook(shop, f"__import__('split').{hook}")


def written(shop: Store, *command: str) -> list[Path]:
    before = set(shop.files("catalog"))
    shop.run("db-rev", *command, "-a")
    return sorted(set(shop.files("catalog")) - before, key=lambda path: path.stat().st_mtime_ns)


@EACH
@pytest.mark.parametrize("command", [("catalog", "Change"), ("Change",)], ids=" ".join)
def test_each_script_becomes_a_file_that_revises_the_one_before(shop: Store, command: tuple[str, ...]) -> None:
    shop = hooked(shop, "expand_and_contract")
    drift = shop.run("db-check", exit_code=1).stdout  # in words, and what the hook returned as code
    assert "text" in drift
    assert "- column books.title" in drift
    assert "\n      op.drop_column('books', 'title')\n" in drift
    assert shop.run("db-check", "-v", exit_code=1).stdout == drift
    before = shop.read("catalog", shop.files("catalog")[0])

    expand, contract = (shop.read("catalog", path) for path in written(shop, *command))

    assert (expand.message, contract.message) == ("Expand", "Contract")
    assert (expand.down_revisions, contract.down_revisions) == ((before.id,), (expand.id,))
    assert "add_column" in expand.path.read_text("utf-8")
    assert "drop_column" in contract.path.read_text("utf-8")
    shop.run("db-up")
    shop.nothing_to_do("catalog")


@EACH
def test_scripts_may_be_branches(shop: Store) -> None:
    shop = hooked(shop, "branches")
    expand, contract = (shop.read("catalog", path) for path in written(shop, "catalog", "Change"))
    assert (expand.labels, contract.labels) == (("expand",), ("contract",))
    assert expand.down_revisions == contract.down_revisions == ()


@EACH
def test_what_a_hook_sets_counts(shop: Store) -> None:
    first = shop.read("catalog", shop.files("catalog")[0]).id
    shop = hooked(shop, f"setting(rev_id='0002', message='Said by the hook', depends_on='{first}')")
    (path,) = written(shop, "catalog", "Change")
    assert path.name == "0002_said_by_the_hook.py"
    new = shop.read("catalog", path)
    assert (new.id, new.down_revisions, new.depends_on) == ("0002", (first,), ())


REFUSED = {
    "rev_id='a b'": "rev_id 'a b' is not a valid id",
    "rev_id='catalog'": "rev_id 'catalog' is not a valid id",
    "rev_id='x' * 40": "is not a valid id",
    "message=' '": "The message is empty",
    "head='nope'": "nope is neither",
    "head='heads'": "head heads does not name a revision",
    "depends_on=['nope']": "nope is neither",
    "branch_label='a b'": "branch_label 'a b' is already used, or is not valid",
    "branch_label='catalog@x'": "is not valid",
    "version_path='/somewhere'": "version_path /somewhere is not a folder from which",
}


@pytest.mark.measured("branch_label='catalog@x'", "version_path='/somewhere'", "rev_id='a b'")
@EACH
@pytest.mark.parametrize(("values", "error"), REFUSED.items())
def test_what_an_option_would_not_accept_is_refused(shop: Store, values: str, error: str) -> None:
    shop = hooked(shop, f"setting({values})")
    for command in (("db-rev", "catalog", "Change", "-a"), ("db-rev", "Change", "-a")):
        found = shop.refused(*command)
        assert found.startswith("process_revision_directives returned a revision that cannot be written: ")
        assert error in found


@EACH
def test_a_hook_may_discard_everything_or_return_what_is_no_script(shop: Store) -> None:
    hooked(shop, "nothing").nothing_to_do("catalog")
    assert "returned a str among the directives" in hooked(shop, "wrong").refused("db-rev", "catalog", "Change", "-a")


@EACH
def test_rewriters_are_hooks(shop: Store) -> None:
    shop = hooked(shop, "chained")
    dropping, more = (path.read_text("utf-8") for path in written(shop, "catalog", "Change"))
    assert "drop_column" in dropping
    assert "add_column" not in dropping
    assert "SELECT 1" in more
