"""``--plan``: what would run, why, in which transaction, and what it may lose; and what is asked before a downgrade."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import _NamedTextIOWrapper
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from revisions import graph
from screen import interrupt, spawn
from servers import Database

import ampho
from ampho import Cause, InTransaction, Observer, Step
from ampho.errors import PlanChangedError, RevisionFileError, UnfinishedRevisionError
from ampho.history.graph import Graph
from ampho.migrate.explain import explained
from ampho.migrate.plan import Plan, plan_downgrade, plan_upgrade

ALL = graph(
    """
    core: core_1
    core: core_2 < core_1
    shop: shop_1 & core_2
    shop: shop_2 < shop_1
    plug: plug_1 & core_1 shop_1
    """
)


def reasons(plan: Plan, of: Graph = ALL) -> dict[str, str]:
    return {step.revision.id: step.reason for step in explained(plan, of, lambda _: "sqlite").steps}


def test_of_an_upgrade_each_step_was_asked_for_or_is_required_by_another() -> None:
    assert reasons(plan_upgrade(ALL, [], "plug")) == {
        "core_1": "required by plug_1 and 1 more",
        "core_2": "required by shop_1",
        "shop_1": "required by plug_1",
        "plug_1": "asked for",
    }
    plan = explained(plan_upgrade(ALL, [], "plug"), ALL, lambda _: "sqlite")
    assert plan.steps[0].because_of == ("plug_1", "core_2")
    assert (plan.steps[0].cause, plan.steps[-1].cause) == (Cause.REQUIRED, Cause.ASKED)
    assert plan.along == ("core", "shop")
    assert set(reasons(plan_upgrade(ALL, [], "heads")).values()) == {"asked for"}
    assert set(reasons(plan_upgrade(ALL, [], "+2")).values()) == {"asked for"}
    assert reasons(plan_upgrade(ALL, ["core_1"], "shop_1")) == {"core_2": "required by shop_1", "shop_1": "asked for"}


def test_of_a_downgrade_each_step_was_asked_for_or_depends_on_another() -> None:
    plan = plan_downgrade(ALL, ["shop_2", "plug_1"], "core_1", cascade=True)
    assert reasons(plan) == {
        "plug_1": "depends on shop_1",
        "shop_2": "depends on shop_1",
        "shop_1": "depends on core_2",
        "core_2": "asked for",
    }
    assert plan.along == ("plug", "shop")
    assert set(reasons(plan_downgrade(ALL, ["shop_2", "plug_1"], "base")).values()) == {"asked for"}


def test_an_ordinary_plan_does_not_ask_why() -> None:
    plan = plan_upgrade(ALL, [], "heads")
    assert {(step.reason, step.cause, step.in_transaction, step.losses) for step in plan.steps} == {
        ("", None, None, ())
    }
    assert explained(plan, ALL, lambda _: "sqlite") == plan


LOSSES: dict[str, tuple[str, list[str]]] = {
    "nothing": ("op.add_column('books', sa.Column('stock', sa.Integer))", []),
    "a column": ("op.drop_column('books', 'stock')", ["drops the column stock"]),
    "in batch mode": (
        "with op.batch_alter_table('books') as batch:\n    batch.drop_column('stock')",
        ["drops the column stock"],
    ),
    "a table": ("op.drop_table('books')", ["drops the table books"]),
    "by a name that is computed": (
        "for name in NAMES:\n    op.drop_table(name)\n    op.drop_column('books', name)",
        ["drops a column", "drops a table"],
    ),
    "SQL": ("op.execute('TRUNCATE TABLE books')", ["empties the table books"]),
    "all rows of a table": ("op.execute(sa.delete(sa.table('books')))", ["empties the table books"]),
    "some rows of a table": ("op.execute(sa.table('books').delete().where(sa.true()))", []),
    "a table of its own SQL": ("op.execute('CREATE TABLE tmp (id INT)')\nop.execute('DROP TABLE tmp')", []),
    "its own table": ("op.create_table('tmp')\nop.drop_table('tmp')", []),
    "a column called like its own table": (
        "op.create_table('stock')\nop.drop_column('books', 'stock')",
        ["drops the column stock"],
    ),
    "in a function of the file": ("helper()", ["drops the table helped"]),
    "a table that is made anew": ("op.drop_table('tmp')\nop.create_table('tmp')", ["drops the table tmp"]),
    "one of another schema": (
        "op.create_table('tmp', schema='archive')\nop.drop_table('tmp')",
        ["drops the table tmp"],
    ),
    "several tables": ("op.execute('TRUNCATE a, b')", ["empties the table a", "empties the table b"]),
    "said in passing": ("'''Drop nothing.'''", []),
    "text that becomes a longer text": ("op.alter_column('b', 'c', existing_type=sa.CHAR(9), type_=sa.Text())", []),
    "text that becomes a number": (
        "op.batch_alter_table('b').alter_column('sku', existing_type=sa.VARCHAR(9), type_=sa.Integer())",
        ["converts the text in the column sku to INTEGER, where text that is not a number becomes 0"],
    ),
}
HELPER = "\n\ndef helper():\n    op.drop_table('helped')\n\n\ndef other():\n    op.drop_table('never')\n"


@pytest.mark.parametrize("case", LOSSES)
def test_what_a_step_may_lose_is_read_from_its_file(case: str, project: Project) -> None:
    body, losses = LOSSES[case]
    project.package("core")
    path = project.revision("core", "core_1", upgrade=body)
    path.write_text(path.read_text("utf-8") + HELPER, "utf-8")
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        (step,) = each.call("plan").steps
        assert sorted(step.losses) == losses
        path.unlink()
        project.revision("core", "core_1", downgrade=body)  # the same the other way, and with no helper
        assert each.call("plan").steps[0].losses == ()
        each.call("upgrade")
        (step,) = each.call("plan", "base", direction="downgrade").steps
        assert sorted(step.losses) == (losses if "function" not in case else [])


@pytest.mark.parametrize("broken", ["op.drop_table(", "op.add_column(]", "x = 1\n  y = 2", "await soon()"])
def test_a_file_that_python_refuses_is_the_same_error_as_in_the_run(broken: str, project: Project) -> None:
    """Whichever step it is of, and whether a look at what it loses would have parsed it or not."""
    project.package("core")
    project.revision("core", "core_1", upgrade="print('executed')")
    path = project.revision("core", "core_2", "core_1", upgrade=broken)
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        refused = each.error_line("db-up", "--plan")
        assert f"{path.name} of core cannot be parsed: line " in refused
        assert refused == each.error_line("db-up")
        with pytest.raises(RevisionFileError) as caught:
            each.call("plan")
        assert caught.value.path == path
        assert [step.revision.id for step in each.call("plan", "core_1").steps] == ["core_1"]
        assert "executed" not in each.run("db-up", "--plan", "core_1").output


ONE_WAY = {
    "nothing": "",
    "a constant of another name": "DOWNGRADE = None",
    "a method": "class Steps:\n    def downgrade(self): ...",
    "a comment": "# def downgrade(): ...",
}


@pytest.mark.parametrize("case", ONE_WAY)
def test_a_step_without_its_function_is_the_same_error_as_in_the_run(case: str, project: Project) -> None:
    project.package("core")
    path = project.revision("core", "core_1")
    text = path.read_text("utf-8")
    path.write_text(text[: text.index("def downgrade")] + ONE_WAY[case], "utf-8")
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        assert each.run("db-up").exit_code == 0
        refused = each.error_line("db-down", "base", "--plan")
        assert f"{path.name} of core has no function downgrade(). Add one" in refused
        assert refused == each.error_line("db-down", "base")
        with pytest.raises(RevisionFileError) as caught:
            each.call("plan", "base", direction="downgrade")
        assert (caught.value.path, caught.value.revision) == (path, "core_1")
        assert each.run("db-current").stdout == "core  core_1 (head)\n"


OTHER_WAYS = {
    "imported": "from json import dumps as downgrade",
    "imported with all": "from steps import *",
    "assigned": "downgrade = lambda: None",
    "where a condition holds": "if True:\n    def downgrade(): ...",
    "by its name": "globals()['down' + 'grade'] = upgrade",
}


@pytest.mark.parametrize("case", OTHER_WAYS)
def test_a_function_may_be_made_in_any_way(case: str, project: Project) -> None:
    project.package("core")
    project.write("steps.py", "def downgrade(): ...")
    path = project.revision("core", "core_1")
    text = path.read_text("utf-8")
    path.write_text(text[: text.index("def downgrade")] + OTHER_WAYS[case], "utf-8")
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        assert each.run("db-up").exit_code == 0
        assert len(each.call("plan", "base", direction="downgrade").steps) == 1


def test_what_is_nested_too_deep_is_left_to_the_run(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=f"op.drop_table('books')\nx = {'+'.join('1' * 3000)}")
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        assert len(each.call("plan").steps) == 1


def test_a_function_that_is_named_in_another_way_is_read_as_a_whole(project: Project) -> None:
    project.package("core")
    path = project.revision("core", "core_1", upgrade="autocommit_block()")
    text = path.read_text("utf-8").replace("def upgrade", "def _up")
    path.write_text(text + "\n\nupgrade = _up\n", "utf-8")
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        assert each.call("plan").steps[0].in_transaction is InTransaction.PARTLY


@pytest.mark.parametrize("ends", ["op.execute('COMMIT')", "op.get_bind().commit()"])
def test_who_ends_the_transaction_does_not_run_in_one(ends: str, project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=ends)
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        assert each.call("plan").steps[0].in_transaction is InTransaction.PARTLY


BLOCK = "with op.get_context().autocommit_block():\n    pass"


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_whether_a_step_runs_in_a_transaction(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1")
    project.revision("core", "core_2", "core_1", upgrade=BLOCK)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url) as each:
        found = [step.in_transaction for step in each.call("plan").steps]
        if database.backend == "mariadb":
            assert found == [InTransaction.NONE, InTransaction.NONE]
        else:
            assert found == [InTransaction.WHOLE, InTransaction.PARTLY]
        each.call("upgrade")
        back = each.call("plan", "base", direction="downgrade")
        assert back.steps[0].in_transaction is (
            InTransaction.NONE if database.backend == "mariadb" else InTransaction.WHOLE
        )


# ---- as it is shown ----


def write(project: Project) -> list[str]:
    for package in ("accounts", "shop"):
        project.package(package)
    table = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True))".format
    project.revision(
        *("accounts", "accounts_1700000000"),
        upgrade=table("customers"),
        downgrade="op.drop_table('customers')",
        message="Make customers",
    )
    project.revision("accounts", "accounts_1700000100", "accounts_1700000000", upgrade=BLOCK, message="Index customers")
    project.revision(
        *("shop", "shop_1700000001", None, "accounts_1700000000"),
        upgrade=table("orders"),
        downgrade="op.drop_table('orders')",
        message="Make orders",
    )
    return ["accounts", "shop"]


@pytest.fixture(params=FRAMEWORKS)
def each(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    with facade(project, request.param, write(project), URLS[request.param]) as made:
        yield made


def cells(text: str) -> list[list[str]]:
    assert all(line == line.rstrip() for line in text.splitlines())
    return [re.split("  +", line.strip()) for line in text.splitlines()]


def test_an_upgrade_in_a_pipe(each: Facade) -> None:
    assert cells(each.run("db-up", "shop", "--plan").stdout) == [
        ["Plan (db-up shop): 2 revisions of accounts, shop"],
        ["#", "Revision", "Package", "Why", "Transaction", "May lose data", "Message"],
        ["1", "accounts_1700000000", "accounts", "required by shop_1700000001", "yes", "-", "Make customers"],
        ["2", "shop_1700000001", "shop", "asked for", "yes", "-", "Make orders"],
        ["Also applies: accounts (1)"],
    ]
    assert "1 revision does not run entirely in a transaction; a failure may leave it partly applied\n" in (
        each.run("db-up", "--plan").stdout
    )
    assert each.call("current")["shop"].applied == ()
    each.call("upgrade")
    assert each.run("db-up", "--plan").stdout == "Nothing to do: everything is applied.\n"


def test_a_downgrade_in_a_pipe(each: Facade) -> None:
    each.call("upgrade")
    refused = each.error_line("db-down", "accounts@base", "--plan")
    assert refused == each.error_line("db-down", "accounts@base")
    assert "shop_1700000001 (shop)" in refused
    assert cells(each.run("db-down", "accounts@base", "--cascade", "--plan").stdout) == [
        ["Plan (db-down accounts@base): 3 revisions of accounts, shop"],
        ["#", "Revision", "Package", "Why", "Transaction", "May lose data", "Message"],
        ["1", "accounts_1700000100", "accounts", "asked for", "yes", "-", "Index customers"],
        [
            *("2", "shop_1700000001", "shop", "depends on accounts_1700000000", "yes", "drops the table orders"),
            "Make orders",
        ],
        ["3", "accounts_1700000000", "accounts", "asked for", "yes", "drops the table customers", "Make customers"],
        ["Also reverts: shop (1)"],
        ["May lose data: 2 revisions"],
    ]
    assert each.call("current")["shop"].pending == ()
    assert each.run("db-down", "--plan").stdout.startswith("Plan (db-down -1): 1 revision of ")


@pytest.mark.parametrize(
    "command",
    ["db-up --plan -s", "db-down --plan -s", "db-up --plan --start base", "db-down --plan --confirm app.db"],
)
def test_options_that_contradict_it(each: Facade, command: str) -> None:
    assert each.run(*command.split()).exit_code == 2


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[Facade, int, str], str]:
    """Run a command on a terminal of some columns, and return what it shows."""
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda stream: True)
    monkeypatch.setenv("TERM", "xterm-256color")

    def run(each: Facade, width: int, command: str) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        shown = re.sub(r"\x1b\[[0-9;]*m", "", each.run(*command.split()).stdout)
        assert max(map(len, shown.splitlines())) <= width
        return shown

    return run


NARROW = """If a step has no note, you asked for it, and it runs in a transaction.
partly outside a transaction
phase post (inferred)
may lose data: drops the table orders"""
Terminal: TypeAlias = Callable[[Facade, int, str], str]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_on_a_terminal(each: Facade, width: int, terminal: Terminal) -> None:
    everything = " ".join(terminal(each, width, "db-up --plan").split())
    assert ("partly outside a transaction" in everything) is (width == 40)
    assert ("# Revision Transaction Message" in everything) is (width in (60, 80))
    for revision in ("accounts_1700000000", "accounts_1700000100", "shop_1700000001"):
        assert f" {revision} " in everything
    assert "required by shop_1700000001" in " ".join(terminal(each, width, "db-up shop --plan").split())
    each.call("upgrade")
    downgrade = " ".join(terminal(each, width, "db-down base --plan").split())
    assert "drops the table customers" in downgrade
    assert ("If a step has no note" in downgrade) is (width < 200)


def test_no_word_is_broken_on_a_terminal_of_whatever_width(each: Facade, project: Project, terminal: Terminal) -> None:
    message = "Count what the customers of a quarter left behind in the storehouses of the south"
    project.revision("shop", "shop_1700000002", "shop_1700000001", message=message, upgrade="op.drop_table('orders')")
    for command in ("db-up --plan", "db-up shop --plan"):
        whole = terminal(each, 300, command)
        words = {*whole.split(), *NARROW.split()}
        for width in range(32, 200, 7):
            shown = terminal(each, width, command)
            assert set(shown.split()) <= words
            assert {word for word in whole.split() if "_1700" in word} <= set(shown.split())


@pytest.mark.usefixtures("unmeasured")
def test_a_table_of_many_rows_has_one_head_and_the_same_columns_all_along(project: Project, terminal: Terminal) -> None:
    project.package("core")
    below = None
    for number in range(1100):
        project.revision("core", f"core_{number}", below)
        below = f"core_{number}"
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        for width in (80, 200):
            shown = [line.rstrip() for line in terminal(each, width, "db-up --plan").splitlines()]
            rows = [line for line in shown if line.endswith(("by hand", "Message"))]
            assert len(rows) == 1101
            assert len({line.index("Message" if "Revision" in line else "by hand") for line in rows}) == 1
            assert rows[0].startswith("   #  Revision")


def test_a_plan_is_refused_as_the_run_is_while_a_revision_is_unfinished(each: Facade, project: Project) -> None:
    bad = f"{BLOCK}\nop.execute('SELECT nonsense')"
    project.revision("shop", "shop_1700000002", "shop_1700000001", upgrade=bad)
    assert each.run("db-up").exit_code == 1
    for command in ("db-up --plan", "db-down base --plan"):
        line = each.error_line(*command.split())
        assert line == each.error_line(*command.replace(" --plan", "").split())
        assert "ampho db-resolve shop_1700000002" in line
    with pytest.raises(UnfinishedRevisionError):
        each.call("plan")
    assert each.error_line("db-up", "-s") == each.error_line("db-up")
    assert "(head; unfinished)" in each.run("db-status", "--all").stdout
    assert each.run("db-status", "--check").exit_code == 15


def test_a_plan_warns_as_the_run_does(each: Facade, project: Project) -> None:
    assert each.run("db-up").exit_code == 0
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["accounts"]
    for command in ("db-up", "db-up --plan"):
        result = each.run(*command.split())
        assert "Warning: The database has missing revisions: shop_170000000" in result.stderr, command
    assert each.call("plan").warning in result.stderr


# ---- what was agreed to ----


LEFT = {
    "a dropped column": ('op.drop_column("a", "b")', True),
    "a dropped column, in a batch": ('with op.batch_alter_table("a") as batch:\n    batch.drop_column("b")', True),
    "an operation of Ampho": ('create_index("ix_b", "a", ["b"])', True),
    "SQL": ('op.execute(f"""\n-- Not used.\ndrop table {name}""")', True),
    "SQL that replaces a view": ("op.execute(sa.text('CREATE OR REPLACE VIEW v AS SELECT 1'))", True),
    "an extension": ("op.execute('CREATE EXTENSION IF NOT EXISTS citext')", False),
    "rows": ("op.execute('DELETE FROM a'); op.bulk_insert(a, [{'title': 'Create a table'}])", False),
    "nothing": ("pass", False),
}


@pytest.mark.parametrize("case", LEFT)
def test_a_downgrade_that_leaves_the_schema_is_warned_of(case: str, project: Project) -> None:
    upgrade, is_left = LEFT[case]
    project.package("core")
    path = project.revision("core", "core_1", upgrade=upgrade, downgrade='"""A no-op, see op.x()."""')
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        each.call("stamp", "core")
        warning = (
            "The downgrade() of core_1 does nothing, but upgrade() changes the schema, so the database will not match"
            " the history. Write a downgrade(), or raise NotImplementedError there if the revision is irreversible."
        )
        plan = each.call("plan", "base", direction="downgrade")
        assert plan.warning == (warning if is_left else "")
        assert plan.only_upgrades == (("core_1",) if is_left else ())
        if case != "a dropped column":
            return
        assert f"Warning: {warning}\n" in each.run("db-down", "core@base", "--plan").stderr
        for downgrade in ('op.drop_column("a", "c")', "raise NotImplementedError", "revert()"):
            project.revision("core", "core_1", upgrade=upgrade, downgrade=downgrade)
            assert each.call("plan", "base", direction="downgrade").warning == ""
        project.revision("core", "core_1", upgrade="_change()", downgrade="pass")
        path.write_text(f"{path.read_text('utf-8')}\n\ndef _change():\n    {upgrade}\n", "utf-8")
        done = each.run("db-down", "core@base")
        assert done.stderr.count(warning) == 1
        assert "Reverted 1 revision" in done.stdout


def test_who_sits_at_a_terminal_is_asked_before_the_schema_is_left(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=LEFT["a dropped column"][0], downgrade="pass")
    project.app("flask", ["core"], URLS["flask"])
    project.run("ampho", "db-stamp", "core")
    answered = project.type("ampho", "db-down", answer="n")
    assert answered.exit_code == 1
    said = " ".join(answered.stdout.split())
    assert said.count("The downgrade() of core_1 does nothing") == 1
    assert said.index("does nothing") < said.index("Plan (db-down -1): 1 revision of core") < said.index("Revert these")


def test_a_file_that_has_changed_since_it_was_read_is_not_executed(project: Project) -> None:
    project.package("core")
    path = project.revision("core", "core_1", upgrade="print('as it was')")
    env = (Path(ampho.__file__).parent / "templates" / "sync" / "env.py").read_text("utf-8")
    text = path.read_text("utf-8").replace("as it was", "of another")
    change = f"import pathlib\npathlib.Path({str(path)!r}).write_text({text!r})\n\n\ndef run_migrations("
    project.write("core/migrations/env.py", env.replace("def run_migrations(", change))
    with facade(project, "flask", ["core"], URLS["flask"]) as each:
        result = each.run("db-up")
        assert (result.exit_code, "of another" in result.output) == (1, False)
        assert (
            f"The file of core_1, {path.relative_to(project.folder)}, has changed since it was read." in result.stderr
        )
        assert each.call("current")["core"].applied == ()


def test_another_plan_than_the_one_that_was_agreed_to_does_not_run(each: Facade, project: Project) -> None:
    up = each.call("plan")
    each.call("upgrade", "accounts_1700000000")
    with pytest.raises(PlanChangedError, match=r"from 'upgrade accounts_1700000000, .*; nothing was changed"):
        each.call("upgrade", agreed=up)
    assert len(each.call("upgrade", agreed=each.call("plan")).steps) == 2

    down = each.call("plan", "base", direction="downgrade")
    path = project.migrations("shop") / "versions" / "shop_1700000001_Make_orders.py"
    path.write_text(path.read_text("utf-8").replace("op.drop_table('orders')", "op.drop_table('customers')"), "utf-8")
    with pytest.raises(PlanChangedError):
        each.call("downgrade", "base", agreed=down)
    down = each.call("plan", "shop@base", direction="downgrade")
    each.call("stamp", "shop@base")
    with pytest.raises(PlanChangedError, match="to 'do nothing'"):
        each.call("downgrade", "shop@base", agreed=down)
    assert len(each.call("current")["accounts"].applied) == 2


def up(project: Project) -> None:
    """Upgrade in this process, which is quicker."""
    with facade(project, "flask", ["accounts", "shop"], URLS["flask"]) as here:
        here.call("upgrade")


def test_who_sits_at_a_terminal_is_asked_once_about_several_packages(project: Project) -> None:
    project.app("flask", write(project), URLS["flask"])
    up(project)
    refused = project.type("ampho", "db-down", "base", answer="n")
    assert refused.exit_code == 1
    assert "Plan (db-down base): 3 revisions of accounts, shop\n" in refused.stdout
    assert "Revert these revisions? [y/N]: " in refused.stdout
    assert "Downgrading" not in refused.stdout

    named = project.type("ampho", "db-down", "base", answer="app.db", env={"AMPHO_PROTECTED": "1"})
    assert named.exit_code == 0, named
    assert "Plan (db-down base)" in named.stdout
    assert "Revert these revisions?" not in named.stdout
    assert "Type its name to continue: " in named.stdout
    assert "Reverted 3 revisions" in named.stdout

    up(project)
    assert "Reverted 3 revisions" in project.type("ampho", "db-down", "base", answer="y").stdout
    up(project)
    unasked = project.type("ampho", "db-down", "base", "--yes", answer="")
    assert "Plan" not in unasked.stdout
    assert "Reverted 3 revisions" in unasked.stdout


def test_who_sits_at_a_terminal_is_asked_before_data_is_lost(project: Project) -> None:
    project.package("core")
    table = {"upgrade": "op.create_table('a', sa.Column('id', sa.Integer))", "downgrade": "op.drop_table('a')"}
    project.revision("core", "core_1", **table)
    project.revision("core", "core_2", "core_1")
    project.app("flask", ["core"], URLS["flask"])
    project.run("ampho", "db-up")
    harmless = project.type("ampho", "db-down", answer="n")
    assert (harmless.exit_code, "Reverted 1 revision" in harmless.stdout) == (0, True)
    refused = project.type("ampho", "db-down", answer="n")
    assert (refused.exit_code, "Reverted" in refused.stdout) == (1, False)
    assert "May lose data: 1 revision\nRevert these revisions? [y/N]: " in refused.stdout
    assert "Reverted 1 revision" in project.type("ampho", "db-down", answer="y").stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_downgrade_after_a_failed_upgrade_says_that_and_asks(project: Project, framework: str) -> None:
    project.package("other")
    project.package("core")
    project.revision("other", "other_1")
    project.app(framework, ["other", "core"], URLS[framework])
    project.run("ampho", "db-up")
    project.revision("core", "core_1", upgrade="op.execute('nonsense')")
    project.run("ampho", "db-up", check=False)

    refused = project.type("ampho", "db-down", answer="n")
    said = "The upgrade of core_1 just failed and left nothing to revert"
    assert refused.exit_code == 1
    assert " ".join(refused.stdout.split()).startswith(f"n Warning: {said}, so this command reverts earlier revisions.")
    assert "Revert these revisions? [y/N]: " in refused.stdout
    assert "Reverted" not in refused.stdout
    named = project.run("ampho", "db-down", "other@-1", "--plan")
    assert "just failed" not in named.stderr
    piped = project.run("ampho", "db-down")
    assert piped.stderr.startswith(f"Warning: {said}")
    assert "  - other_1" in piped.stdout
    project.run("ampho", "db-up", "other")
    assert "just failed" not in project.run("ampho", "db-down", "--plan").stderr


def test_of_many_steps_the_first_are_shown_with_the_question(project: Project) -> None:
    """A question below a thousand lines would be asked about what nobody can see."""
    below = "shop_1700000001"
    names = write(project)
    for number in range(2, 60):
        project.revision("shop", f"shop_{number}", below)
        below = f"shop_{number}"
    project.app("flask", names, URLS["flask"])
    up(project)
    total = len(project.run("ampho", "db-down", "base", "--plan").stdout.splitlines())

    refused = project.type("ampho", "db-down", "base", answer="n")

    assert total > 60
    assert "\n40  " in refused.stdout
    assert "\n41  " not in refused.stdout
    assert "\nand 21 more; --plan lists all of them\n" in refused.stdout


@pytest.mark.parametrize(("typed", "exit_code", "said"), [("\x03", 130, "Interrupted."), ("\x04", 1, "Aborted!")])
def test_who_is_asked_may_interrupt_or_end_the_input(typed: str, exit_code: int, said: str, project: Project) -> None:
    project.app("flask", write(project), URLS["flask"])
    up(project)
    for command in (["db-down", "base"], ["db-down", "base", "--json"]):
        child, process = spawn(project, "ampho", *command)
        child.expect("Revert these.*: ")
        interrupt(child, process) if exit_code == 130 else child.send(typed)
        shown = re.sub(r"\x1b\[\d+m", "", child.read())
        assert process.wait(30) == exit_code
        assert said in shown
        assert (f'"exit_code": {exit_code}' in shown) is ("--json" in command)
        assert ('"type": "KeyboardInterrupt"' in shown) is ("--json" in command and exit_code == 130)
        assert ("\r\nError: Interrupted. Nothing was changed." in shown) is (exit_code == 130)
    with facade(project, "flask", ["accounts", "shop"], URLS["flask"]) as here:
        assert [len(package.applied) for package in here.call("current")] == [2, 1]


def test_a_run_begins_on_the_line_after_the_answer(project: Project) -> None:
    project.app("flask", write(project), URLS["flask"])
    up(project)
    child, process = spawn(project, "ampho", "db-down", "base")
    child.expect("Revert these.*: ")
    child.sendline("y")
    shown = child.read()
    assert process.wait(30) == 0
    begin = shown[: shown.index("Reverted")]
    assert "Downgrading (base)" in begin
    assert "\r\n\r\n" not in re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\x1b[78D]", "", begin)


def test_what_another_process_does_before_the_answer_ends_it(project: Project) -> None:
    project.app("flask", write(project), URLS["flask"])
    up(project)
    child, process = spawn(project, "ampho", "db-down", "base")
    child.expect("Revert these")
    with facade(project, "flask", ["accounts", "shop"], URLS["flask"]) as here:
        here.call("downgrade", "shop@base")
        child.sendline("y")
        said = " ".join(child.read().split())
        assert process.wait(30) == 1
        said = re.sub(r"\x1b\[\d+m", "", said)
        assert (
            "Error: The plan of 'ampho db-down base' changed after you confirmed it, from 'downgrade"
            " accounts_1700000100, " in said
        )
        assert len(here.call("current")["accounts"].applied) == 2


def test_in_a_pipe_nobody_is_asked(each: Facade) -> None:
    each.call("upgrade")
    done = each.run("db-down", "base")
    assert done.exit_code == 0
    assert done.stdout.startswith("Downgrading (base): 3 revisions of accounts, shop\n")


class Meanwhile(Observer):
    """Does what another process may do on SQLite between two steps."""

    def applied(self, step: Step, duration: float) -> None:
        if step.revision.id == "plug_1":
            with closing(sqlite3.connect("instance/app.db")) as connection:
                connection.execute("DELETE FROM alembic_version WHERE version_num = 'shop_1700000001'")
                connection.commit()


def test_nor_does_what_is_left_of_it_after_another_process(each: Facade, project: Project) -> None:
    project.package("plug")
    project.revision("plug", "plug_1", None, "shop_1700000001")
    each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["accounts", "shop", "plug"]
    each.call("upgrade")
    plan = each.call("plan", "base", direction="downgrade")
    with pytest.raises(PlanChangedError, match="this command ran plug_1"):
        each.call("downgrade", "base", agreed=plan, observer=Meanwhile())
    assert [len(package.applied) for package in each.call("current")] == [2, 0, 0]
