"""A package that is gone while its revisions are applied, and a database that is ahead of its files."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import zigzag
from facade import FRAMEWORKS, URLS
from graphs import History, random_history
from project import Project, Result
from revisions import graph
from servers import Database

from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.version_rows import Applied, VersionRows
from ampho.errors import AmphoError, MissingRevisionError, SpecifierError, UnknownRevisionsError, VersionTableError
from ampho.history.graph import Graph
from ampho.history.revision import Revision
from ampho.migrate.plan import Plan, plan_downgrade, plan_upgrade
from ampho.status import advice
from ampho.status.state import current_state

WHOLE = """
    core: core_1
    core: core_2 < core_1
    core: core_3 < core_2
    shop: shop_1
    shop: shop_2 < shop_1
    acme.billing: acme_billing_1 & core_1
    acme.billing: acme_billing_2 < acme_billing_1 & core_2
    acme.reports: acme_reports_1 & acme_billing_2 shop_1
"""
ALL = graph(WHOLE)
HERE = graph("\n".join(line for line in WHOLE.splitlines() if "acme" not in line))
BILLED = ("acme_billing_2",)


def journal(*ids: str, of: Graph = ALL) -> Journal:
    """What the journal says after these revisions were applied, in this order."""
    return Journal(
        lambda: [
            Entry(number, rid, of[rid].package, "upgrade", Outcome.DONE, of.parents(rid))
            for number, rid in enumerate(ids)
        ]
    )


ALL_APPLIED = journal("core_1", "core_2", "acme_billing_1", "acme_billing_2", "shop_1", "acme_reports_1")


def up(rows: Sequence[str], specifier: str = "heads", known: Journal | None = None, of: Graph = HERE) -> list[str]:
    return ids(plan_upgrade(of, rows, specifier, journal=known))


def down(
    rows: Sequence[str], specifier: str = "-1", known: Journal | None = None, *, cascade: bool = False
) -> list[str]:
    return ids(plan_downgrade(HERE, rows, specifier, cascade=cascade, journal=known))


def ids(plan: Plan) -> list[str]:
    return [step.revision.id for step in plan.steps]


def test_the_journal_tells_what_a_missing_revision_stands_on() -> None:
    applied = Applied.from_rows(HERE, BILLED, ALL_APPLIED)
    assert applied.known == {"core_1", "core_2", "acme_billing_1", "acme_billing_2"}
    assert applied.missing == {"acme_billing_1", "acme_billing_2"}
    assert not applied.uncertain
    assert applied.ahead == set()
    assert advice.describe_missing(applied) == "acme_billing_1, acme_billing_2 of acme.billing"


def test_the_journal_tells_which_revision_the_label_of_a_package_that_is_gone_means() -> None:
    whole = graph("core: core_1\nacme.plug: acme_plug_1 & core_1\nacme.plug: acme_plug_2 < acme_plug_1")
    here = graph("core: core_1\nblog: blog_1 & acme.plug\nblog: blog_2 < blog_1 & acme.plug")
    known = journal("core_1", "acme_plug_1", "acme_plug_2", of=whole)
    applied = Applied.from_rows(here, ["acme_plug_2", "blog_1"], known)
    assert applied.known == {"core_1", "acme_plug_1", "acme_plug_2", "blog_1"}
    assert applied.graph.parents("blog_1") == ("acme_plug_1",)
    assert not applied.uncertain
    assert up(["acme_plug_2", "blog_1"], known=known, of=here) == ["blog_2"]
    assert up(["acme_plug_2"], known=known, of=here) == ["blog_1", "blog_2"]
    with pytest.raises(
        MissingRevisionError, match=r"blog_1 of blog .* depends on acme\.plug, which no revision file defines"
    ):
        up(["core_1"], known=journal("core_1", of=whole), of=here)


def test_the_journal_is_asked_beyond_a_file_that_is_there() -> None:
    """What is gone stands on what is here, and that on another one that is gone, which only the journal knows."""
    whole = graph("core: core_1\nplug: plug_1 & core_1\nblog: blog_1 & plug_1\nplug: plug_2 & blog_1")
    here = graph("core: core_1\nblog: blog_1 & plug_1")
    known = journal("core_1", "plug_1", "blog_1", "plug_2", of=whole)
    applied = Applied.from_rows(here, ["plug_2"], known)
    assert applied.known == {"core_1", "plug_1", "blog_1", "plug_2"}
    assert applied.graph.parents("plug_1") == ("core_1",)
    assert up(["plug_2"], known=known, of=here) == []


@pytest.mark.parametrize(
    ("specifier", "steps"),
    [
        ("heads", ["core_3", "shop_1", "shop_2"]),
        ("core", ["core_3"]),
        ("core@+1", ["core_3"]),
        ("core_2", []),
        ("shop", ["shop_1", "shop_2"]),
        ("+2", ["core_3", "shop_1"]),
    ],
)
def test_other_packages_go_up(specifier: str, steps: list[str]) -> None:
    assert up(BILLED, specifier, ALL_APPLIED) == steps


def test_other_packages_go_down_as_far_as_nothing_missing_stands_on_them() -> None:
    rows = ("acme_billing_2", "core_3", "shop_2")
    assert down(rows, "core@-1", ALL_APPLIED) == ["core_3"]
    assert down(rows, "shop@base", ALL_APPLIED) == ["shop_2", "shop_1"]
    for specifier, cascade in (("core@-2", False), ("core@base", True), ("core_1", False), ("base", False)):
        with pytest.raises(UnknownRevisionsError, match=r"'ampho db-forget acme\.billing'") as caught:
            down(rows, specifier, ALL_APPLIED, cascade=cascade)
        assert "acme_billing_2" in caught.value.rows


@pytest.mark.parametrize("typed", ["acme.billing", "acme.billing@base", "acme.billing@-1", "acme_billing_2"])
def test_the_missing_package_itself_is_named(typed: str) -> None:
    for command in (up, down):
        specifier = typed if command is down or "@" not in typed else "acme.billing@head"
        if command is down and typed == "acme.billing":
            continue
        if command is down and typed == "acme_billing_2":
            assert down(BILLED, typed, ALL_APPLIED) == []  # nothing stands on it
            continue
        with pytest.raises(UnknownRevisionsError, match=r"acme_billing_2 of acme\.billing"):
            command(BILLED, specifier, ALL_APPLIED)


def test_version_rows_stay_exact_beside_missing_revisions() -> None:
    applied = Applied.from_rows(HERE, BILLED, ALL_APPLIED)
    rows = VersionRows(BILLED, applied.graph.parents)
    assert rows.upgrade("core_3") == ([], ["core_3"])  # acme_billing_2 stands on core_2
    assert rows.downgrade("core_3") == (["core_3"], [])
    assert rows.current == set(BILLED)


def test_the_last_revision_is_the_journals_last() -> None:
    both = graph("a: a_1\nb: b_1\nb: b_2 < b_1\nc: c_1")
    rows = ("a_1", "b_2", "c_1")
    for order in (["a_1", "b_1", "b_2", "c_1"], ["c_1", "b_1", "b_2", "a_1"], ["a_1", "c_1", "b_1", "b_2"]):
        known = journal(*order, of=both)
        assert ids(plan_downgrade(both, rows, "-1", journal=known)) == [order[-1]]
        assert set(ids(plan_downgrade(both, rows, "-3", journal=known))) == set(order[1:])
    with pytest.raises(SpecifierError, match="no record says which of 3"):
        plan_downgrade(both, rows, "-1", journal=journal("a_1", "b_1", "b_2", of=both))


def test_an_entry_that_was_undone_since_does_not_count() -> None:
    entries = [
        Entry(1, "a_1", "a", "upgrade", Outcome.DONE),
        Entry(2, "a_1", "a", "downgrade", Outcome.FAILED),
        Entry(3, "b_1", "b", "upgrade", Outcome.DONE),
        Entry(4, "b_1", "b", "downgrade", Outcome.FORGOTTEN),
        Entry(5, "c_1", "c", "upgrade", Outcome.STARTED),
    ]
    known = Journal(lambda: entries)
    assert known.applied("a_1") == entries[0]
    assert known.applied("b_1") is None
    assert known.applied("c_1") is None


class TestWithoutARecord:
    """Of a database that plain Alembic made, nothing tells what a missing revision stands on."""

    def test_what_stands_on_a_row_is_known_not_to_be_applied(self) -> None:
        assert up(("core_1", "acme_billing_9"), "core") == ["core_2", "core_3"]
        assert Applied.from_rows(HERE, ("core_1", "acme_billing_9")).uncertain == {"shop_1", "shop_2"}

    @pytest.mark.parametrize("specifier", ["heads", "core", "core@+1", "core_1", "+1"])
    def test_what_may_be_applied_is_not_applied_again(self, specifier: str) -> None:
        with pytest.raises(UnknownRevisionsError, match=r"It is unclear whether core_1 of core is applied.*db-stamp"):
            up(("acme_billing_9",), specifier)

    def test_stamping_what_is_applied_is_the_way_out(self) -> None:
        assert up(("acme_billing_9", "core_2", "shop_2")) == ["core_3"]

    def test_a_row_above_nothing_missing_goes_down(self) -> None:
        assert down(("acme_billing_9", "core_2"), "core@-1") == ["core_2"]

    def test_an_id_that_names_no_package(self) -> None:
        state = current_state(HERE, ("1f", "core_1"))
        assert [(one.package, one.revisions) for one in state.missing] == [("", ("1f",))]
        assert advice.ways_to_forget(Applied.from_rows(HERE, ("1f",)), ["1f"]) == ["'ampho db-forget 1f'"]


class TestNeeded:
    """The package that is gone is one that others depend on."""

    LEFT = graph("\n".join(line for line in WHOLE.splitlines() if "core:" not in line))

    def test_nothing_of_what_needs_it_is_applied_any_more(self) -> None:
        needs = r"of acme\.billing .* depends on core_[12], which no revision file defines"
        for specifier in ("heads", "acme.billing", "acme.billing@+1", "acme_reports_1", "+4"):
            with pytest.raises(MissingRevisionError, match=needs):
                up((), specifier, of=self.LEFT)

    def test_the_others_go_on(self) -> None:
        assert up((), "shop", of=self.LEFT) == ["shop_1", "shop_2"]

    def test_what_is_applied_of_what_needs_it_stays_so(self) -> None:
        applied = Applied.from_rows(self.LEFT, BILLED, ALL_APPLIED)
        assert applied.known == {"core_1", "core_2", "acme_billing_1", "acme_billing_2"}
        assert applied.missing == {"core_1", "core_2"}
        assert up(BILLED, "heads", ALL_APPLIED, self.LEFT) == ["shop_1", "shop_2", "acme_reports_1"]
        taken = plan_downgrade(self.LEFT, BILLED, "acme.billing@base", journal=ALL_APPLIED)
        assert ids(taken) == ["acme_billing_2", "acme_billing_1"]
        with pytest.raises(UnknownRevisionsError, match="'ampho db-forget core'"):
            plan_downgrade(self.LEFT, BILLED, "base", journal=ALL_APPLIED)


class TestAhead:
    def test_it_is_told_apart_from_a_package_that_is_gone(self) -> None:
        state = current_state(HERE, ("core_1759999999", "acme_billing_2"))
        assert [(one.package, one.is_ahead) for one in state.missing] == [("acme_billing", False), ("core", True)]

    def test_nothing_is_to_do_where_the_files_are_applied(self) -> None:
        known = journal("core_1", "core_2", "core_3", of=ALL)
        behind = graph("core: core_1\ncore: core_2 < core_1")
        assert up(("core_3",), "heads", known, behind) == []
        assert plan_upgrade(behind, ("core_3",), journal=known).missing == "core_3 of core"

    def test_it_is_never_taken_back(self) -> None:
        known = journal("core_1", "core_2", "core_3", of=ALL)
        behind = graph("core: core_1\ncore: core_2 < core_1\nshop: shop_1")
        for specifier in ("core@-1", "core@base", "core_1", "base"):
            with pytest.raises(UnknownRevisionsError, match="core_3 of core"):
                plan_downgrade(behind, ("core_3", "shop_1"), specifier, journal=known)
        assert ids(plan_downgrade(behind, ("core_3", "shop_1"), "shop@-1", journal=known)) == ["shop_1"]

    def test_another_line_of_its_package_is_not_applied_beside_it(self) -> None:
        other = graph("core: core_1\ncore: core_5 < core_1\nshop: shop_1")
        known = journal("core_1", "core_2", of=ALL)
        for specifier in ("heads", "core"):
            with pytest.raises(UnknownRevisionsError, match="The database is ahead of the code: core_2 of core is"):
                up(("core_2",), specifier, known, other)
        assert up(("core_2",), "shop", known, other) == ["shop_1"]


@pytest.mark.parametrize("row", ["", " ", "head", "heads", "base"])
def test_a_row_that_cannot_be_a_revision_is_an_error(row: str) -> None:
    for work in (up, down):
        with pytest.raises(VersionTableError, match="cannot be a revision") as caught:
            work(("core_1", row))
        assert caught.value.rows == (row,)


def graph_of(history: History, packages: Sequence[str]) -> Graph:
    made = [
        Revision(one.id, one.package, f"/srv/{one.id}.py", one.down, tuple(sorted(one.parents)), one.labels)
        for one in history.revisions.values()
        if one.package in packages
    ]
    return Graph(made, packages)


def needs_nobody(history: History, packages: set[str]) -> bool:
    """Whether something stays without these packages, and stands on none of them."""
    others = [one for one in history.revisions.values() if one.package not in packages]
    return bool(others) and all(
        history.revisions[parent].package not in packages for one in others for parent in one.parents
    )


@pytest.mark.parametrize("seed", range(100))
def test_random_graphs_with_a_package_less(seed: int) -> None:
    """With a journal, commands for the others do what they did when the package was there, or refuse."""
    rng = random.Random(seed)
    gone: set[str] = set()
    while not gone:  # and nothing that stays stands on what is gone
        history = random_history(rng, odd=True)
        chosen = {rng.choice(history.packages)}
        needing = history.standing_on((one for name in chosen for one in history.of_package(name)), history.revisions)
        packages = chosen | {history.revisions[one].package for one in needing}
        gone = packages if needs_nobody(history, packages) else set()
    whole = graph_of(history, history.packages)
    applied = history.with_ancestors(rng.sample(list(whole.ids), rng.randint(0, len(whole))))
    left = graph_of(history, [name for name in history.packages if name not in gone])
    rows = whole.exact_rows(applied)
    known = journal(*whole.sort(applied), of=whole)

    seen = Applied.from_rows(left, rows, known)
    assert seen.known == applied
    assert seen.missing == {one for one in applied if whole[one].package in gone}
    assert ids(plan_upgrade(left, rows, journal=known)) == [one for one in left.sort(left.ids) if one not in applied]
    for name in left.packages:
        try:
            steps = ids(plan_downgrade(left, rows, f"{name}@base", cascade=True, journal=known))
        except UnknownRevisionsError:
            own = {one for one in applied if whole[one].package == name}
            assert seen.missing & whole.descendants(own)
            continue
        except SpecifierError:
            continue
        version_rows = VersionRows(rows, seen.graph.parents)
        remaining = set(applied)
        for step in steps:
            version_rows.downgrade(step)
            remaining.discard(step)
            assert tuple(sorted(version_rows.current)) == whole.exact_rows(remaining)


# On real databases

REVIEWS = """
op.create_table(
    "reviews",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", name="reviews_user"), nullable=False),
)
"""
TABLE = "op.create_table({0!r}, sa.Column('id', sa.Integer, primary_key=True))"
DROP = "op.drop_table({!r})"


class Shop:
    """Packages ``app`` and ``shop``, and ``acme.reviews`` as if installed, which stands on ``app``."""

    def __init__(self, project: Project, framework: str, url: Any, *, listed: Sequence[str], **config: object) -> None:
        self.project = project
        self.installed = project.folder / "venv" / "lib" / "site-packages"
        self.away = project.folder / "uninstalled"
        for package in ("app", "shop"):
            project.package(package)
        project.revision("app", "app_1", upgrade=TABLE.format("users"), downgrade=DROP.format("users"))
        project.revision("app", "app_2", "app_1", upgrade=TABLE.format("teams"), downgrade=DROP.format("teams"))
        project.revision("shop", "shop_1", upgrade=TABLE.format("carts"), downgrade=DROP.format("carts"))
        third_party = Project(self.installed)
        third_party.package("acme.reviews")
        third_party.revision(
            *("acme.reviews", "acme_reviews_1", None, "app_1"), upgrade=REVIEWS, downgrade=DROP.format("reviews")
        )
        third_party.revision(
            *("acme.reviews", "acme_reviews_2", "acme_reviews_1", "app_2"),
            upgrade=TABLE.format("votes"),
            downgrade=DROP.format("votes"),
        )
        project.app(framework, listed, url, extra_config=config, path="wsgi.py", import_name="wsgi")

    def run(self, *command: str, exit_code: int = 0) -> Result:
        """Run a command in this process, in an app and with packages that are imported anew."""
        sys.path.append(str(self.installed))
        try:
            with zigzag.app_in(self.project) as app:
                done = app.test_cli_runner().invoke(args=["ampho", *command])
        finally:
            sys.path.remove(str(self.installed))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return self.checked(Result(("ampho", *command), done.exit_code, done.stdout, done.stderr), exit_code)

    def start(self, *command: str, exit_code: int = 0) -> Result:
        """Run a real process."""
        env = {"PYTHONPATH": str(self.installed)}
        return self.checked(self.project.run("ampho", *command, env=env, check=False), exit_code)

    def checked(self, result: Result, exit_code: int) -> Result:
        assert result.exit_code == exit_code, str(result)
        assert "Traceback" not in result.output
        return result

    def uninstall(self) -> None:
        shutil.move(self.installed / "acme", self.away)

    def reinstall(self) -> None:
        shutil.move(self.away, self.installed / "acme")


@pytest.mark.measured("psycopg")
@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_a_package_is_uninstalled_and_installed_again(project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    shop = Shop(project, framework, database.url, listed=["app", "acme.reviews", "shop"])
    shop.run("db-up")
    assert database.rows() == ["acme_reviews_2", "shop_1"]
    shop.uninstall()

    current = shop.start("db-current")
    assert "missing: acme_reviews_1, acme_reviews_2 are applied but have no files: a package" in current.stdout
    assert "app           app_2 (head)" in current.stdout
    assert "There is no package acme.reviews" in current.stderr
    up = shop.start("db-up")
    assert "Nothing to do: everything is applied." in up.stdout
    assert "The database has missing revisions: acme_reviews_1, acme_reviews_2 of acme.reviews" in up.stderr
    for command in (["db-show"], ["db-heads"], ["db-stamp", "shop"], ["db-up", "-s"], ["db-log"], ["db-up", "app"]):
        shop.run(*command)

    project.revision("app", "app_3", "app_2", upgrade=TABLE.format("roles"), downgrade=DROP.format("roles"))
    shop.run("db-up")
    assert database.rows() == ["acme_reviews_2", "app_3", "shop_1"]
    assert "acme_reviews_2" in shop.run("db-down", "app@-2", exit_code=1).stderr
    assert database.rows() == ["acme_reviews_2", "app_3", "shop_1"]
    shop.run("db-down")
    assert database.rows() == ["acme_reviews_2", "shop_1"]
    shop.run("db-down", "shop@base")
    shop.run("db-up", "shop")
    asked = shop.run("db-forget", "acme.reviews", exit_code=2)
    assert asked.stderr.count("There is no package acme.reviews") == 1
    refused = shop.run("db-down", "base", exit_code=1).stderr
    assert "acme_reviews_1, acme_reviews_2 of acme.reviews are applied but missing: a package" in refused
    assert "db-forget acme.reviews'" in refused
    shop.run("db-down", "acme.reviews@-1", exit_code=1)
    assert database.rows() == ["acme_reviews_2", "shop_1"]

    shop.reinstall()
    assert "missing" not in shop.run("db-current").output
    shop.run("db-down", "acme.reviews@-1")
    assert database.rows() == ["acme_reviews_1", "app_2", "shop_1"]
    shop.run("db-up")
    assert database.rows() == ["acme_reviews_2", "app_3", "shop_1"]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+asyncmy")
def test_a_database_forgets_a_package(project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    shop = Shop(project, framework, database.url, listed=["app", "acme.reviews", "shop"])
    shop.run("db-up")
    project.app(framework, ["app", "shop"], database.url, path="wsgi.py", import_name="wsgi")
    tables = database.tables()

    asked = shop.start("db-forget", "acme.reviews", exit_code=2)
    assert "2 revisions of acme.reviews will be forgotten:\n    acme_reviews_1\n    acme_reviews_2" in asked.stderr
    assert "Add --yes" in asked.stderr
    assert database.rows() == ["acme_reviews_2", "shop_1"]
    assert "see 'ampho db-current'" in shop.run("db-up").stderr

    done = shop.run("db-forget", "acme.reviews", "--yes")
    assert done.stdout.endswith("Before: acme_reviews_2, shop_1\nNow:    app_2, shop_1\n")
    assert database.rows() == ["app_2", "shop_1"]
    assert database.tables() == tables
    assert "reviews" not in shop.run("db-current").output
    assert "forgotten" in shop.run("db-log").stdout
    again = shop.run("db-forget", "acme.reviews", "--yes", exit_code=1).stderr
    assert "no missing revision has that name" in again
    assert "no missing revision has that name" in shop.run("db-forget", "app", "--yes", exit_code=1).stderr


def test_a_package_that_is_listed_and_was_never_there_stops_an_upgrade_of_everything(project: Project) -> None:
    shop = Shop(project, "flask", URLS["flask"], listed=["app", "acme.reviws", "shop"])
    for command in (
        ["db-up"],
        ["db-up", "+1"],
        ["db-up", "-s"],
        ["db-up", "acme.reviws"],
        ["db-rev", "acme.reviws", "x"],
    ):
        refused = shop.run(*command, exit_code=1)
        assert refused.stderr.startswith("Error: There is no package acme.reviws.")
        assert refused.stderr.count("\n") == 1
        assert refused.stdout == ""
    shop.run("db-up", "app")
    assert "Warning: There is no package acme.reviws" in shop.run("db-current").stderr


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_a_journal_it_says_what_it_cannot_know(project: Project, framework: str) -> None:
    shop = Shop(project, framework, URLS[framework], listed=["app", "acme.reviews", "shop"], AMPHO_JOURNAL_TABLE=None)
    shop.run("db-up")
    assert "AMPHO_JOURNAL_TABLE is None" in shop.run("db-log", exit_code=1).stderr
    shop.uninstall()
    current = shop.run("db-current").stdout
    assert "acme_reviews  missing: acme_reviews_2 is applied" in current
    assert "No record says what the missing revisions depend on" in current
    refused = shop.run("db-up", exit_code=1).stderr
    assert "It is unclear whether app_1 of app is applied" in refused
    shop.run("db-stamp", "app")
    assert "Nothing to do" in shop.run("db-up").stdout
    shop.reinstall()
    shop.run("db-down", "acme.reviews@-1")
    shop.run("db-up")


def test_rows_of_another_release_are_forgotten_by_id(project: Project) -> None:
    shop = Shop(project, "flask", URLS["flask"], listed=["app", "shop"])
    later = project.revision("app", "app_1759999999", "app_2")
    shop.run("db-up")
    later.unlink()
    assert "app   ahead of its files: app_1759999999 is applied" in shop.run("db-current").stdout
    project.revision("app", "app_4", "app_2")
    refused = shop.run("db-up", exit_code=1).stderr
    assert "The database is ahead of the code: app_1759999999 of app is applied but missing" in refused
    assert "'ampho db-forget app_1759999999'" in refused
    shop.run("db-forget", "app_1759999999", "--yes")
    shop.run("db-up")
    assert "app_4 (head)" in shop.run("db-current").stdout


def test_each_command_says_the_same_of_a_revision_without_its_file(project: Project) -> None:
    """Both causes, and what helps against each: which of them it is, nobody knows but who runs the command."""
    shop = Shop(project, "flask", URLS["flask"], listed=["app", "acme.reviews", "shop"])
    later = project.revision("app", "app_1759999999", "app_2")
    shop.run("db-up")
    later.unlink()
    ahead = (
        "the file was deleted, or an older release or another branch of the code is running. Restore the"
        " file, install the newer release or check out the other branch, or forget the revision with 'ampho db-forget"
        " app_1759999999'"
    )
    for command, exit_code, what in (
        ("db-status", 0, "app_1759999999 is applied but has no file"),
        ("db-current", 0, "app_1759999999 is applied but has no file"),
        ("db-check --deploy", 12, "app_1759999999 of app: applied but missing"),
        ("db-down app@-1", 1, "app_1759999999 of app is applied but missing"),
    ):
        assert f"{what}: {ahead}" in shop.run(*command.split(), exit_code=exit_code).output, command
    shop.uninstall()
    gone = (
        "a package is not installed or not listed. Install and list the package, or"
        " forget the revisions with 'ampho db-forget acme.reviews'"
    )
    for command, exit_code, what in (
        ("db-status", 0, "acme_reviews_1, acme_reviews_2 are applied but have no files"),
        ("db-current", 0, "acme_reviews_1, acme_reviews_2 are applied but have no files"),
        ("db-check --deploy", 13, "acme_reviews_1, acme_reviews_2 of acme.reviews: applied but missing"),
    ):
        assert f"{what}: {gone}" in shop.run(*command.split(), exit_code=exit_code).output, command
    both = (
        "files were deleted, an older release or another branch of the code is running, or a package is not installed"
        " or not listed"
    )
    assert both in shop.run("db-down", "base", exit_code=1).stderr


def test_of_many_revisions_without_files_not_each_command_is_written_out() -> None:
    """They are forgotten from the last one on, since the others stand on each other."""
    rows = [f"core_{number}" for number in range(4, 11)]
    ahead = Applied.from_rows(HERE, rows)
    assert advice.explain_missing(ahead, rows[:2]).endswith(
        "with 'ampho db-forget core_5' and 'ampho db-forget core_4'"
    )
    assert advice.explain_missing(ahead, rows).endswith(
        "forget the revisions with 'ampho db-forget REVISION', the last one first"
    )


def test_a_package_that_another_one_needs_is_uninstalled(project: Project) -> None:
    shop = Shop(project, "flask", URLS["flask"], listed=["app", "acme.reviews", "shop"])
    project.revision("shop", "shop_2", "shop_1", "acme_reviews_2", upgrade=TABLE.format("picks"))
    shop.run("db-up")
    shop.uninstall()
    assert "missing: acme_reviews_1, acme_reviews_2 are applied" in shop.run("db-current").stdout
    assert "Nothing to do" in shop.run("db-up").stdout
    project.revision("app", "app_3", "app_2")
    for command in ("db-show", "db-heads", "db-up", "db-up -s", "db-down app@-1", "db-rev app more"):
        shop.run(*command.split())
    assert "db-forget" in shop.run("db-down", "app@-2", exit_code=1).stderr
    (project.folder / "instance" / "app.db").unlink()
    refused = shop.run("db-up", exit_code=1).stderr
    assert "There is no package acme.reviews" in refused
    assert "depends on acme_reviews_2, which no revision file defines" in shop.run("db-up", "shop", exit_code=1).stderr
    shop.run("db-up", "app")


def test_two_missing_packages_are_forgotten_from_the_top() -> None:
    from ampho.migrate.stamp import _forgotten

    before = Applied.from_rows(HERE, ("acme_reports_1",), ALL_APPLIED)
    with pytest.raises(AmphoError, match=r"First run 'ampho db-forget acme\.reports'"):
        _forgotten(before, "acme.billing")
    assert _forgotten(before, "acme.reports") == {"acme_reports_1"}
