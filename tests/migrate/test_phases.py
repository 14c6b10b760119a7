"""What ``db-up --phase pre`` holds back, on random graphs, and what the commands say about it."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from revisions import graph
from servers import Database
from sqlalchemy import URL
from tenants import files

from ampho.errors import ConfigurationError, PhaseError, SpecifierError
from ampho.history.graph import Graph
from ampho.history.phases import Phases
from ampho.history.revision import Phase, Revision
from ampho.migrate.plan import plan_upgrade

GRAPHS = int(os.environ.get("TEST_PHASE_GRAPHS", "300"))


def random_graph(rng: random.Random) -> Graph:
    """Make a history of up to four packages, whose revisions name their phases or change nothing."""
    packages = ["app", "blog", "shop", "zoo"][: rng.randint(1, 4)]
    made: list[Revision] = []
    for number in range(rng.randint(1, 14)):
        package = rng.choice(packages)
        own = [each.id for each in made if each.package == package]
        down = rng.sample(own[-3:], k=min(len(own), 1 if rng.random() < 0.8 else 2))
        others = [each.id for each in made if each.package != package]
        depends_on = rng.sample(others, k=min(len(others), rng.choice([0, 0, 1, 2])))
        phase = rng.choice([Phase.PRE, Phase.PRE, Phase.POST])
        made.append(Revision(f"{package}_{number}", package, "", tuple(down), tuple(depends_on), phase=phase))
    return Graph(made, packages)


def told_apart(graph: Graph, known: set[str]) -> tuple[set[str], set[str]]:
    """Return the pending revisions that have to wait, and those of them that the new release needs; naively."""
    pending = set(graph.ids) - known
    below = {rid: {each for each in pending if rid in graph.ancestors([each]) - {each}} for rid in pending}
    post = {rid for rid in pending if graph[rid].phase is Phase.POST}
    started = {graph[rid].package for rid in known}
    while unneeded := {rid for rid in post if graph[rid].package not in started and below[rid] - post}:
        post -= unneeded
    held = post | {each for rid in post for each in below[rid]}
    return held, held - post


def test_pre_and_then_post_is_the_same_as_all_at_once() -> None:
    rng, refused, limited = random.Random(21), 0, 0
    for _ in range(GRAPHS):
        made = random_graph(rng)
        known = made.ancestors(rng.sample(made.ids, k=rng.randint(0, len(made.ids))))
        rows, every = made.exact_rows(known), plan_upgrade(made, made.exact_rows(known))
        held, needed = told_apart(made, known)
        if needed:
            refused += 1
            with pytest.raises(PhaseError) as told:
                plan_upgrade(made, rows, phases=Phases({}), phase=Phase.PRE)
            assert told.value.revision in needed
            assert told.value.needed in made.ancestors([told.value.revision]) & held - needed
            continue
        first = plan_upgrade(made, rows, phases=Phases({}), phase=Phase.PRE)
        steps, left = ([step.revision.id for step in each] for each in (first.steps, first.held_back))
        assert set(left) == held
        assert set(steps) == set(made.ids) - known - held
        limited += bool(steps and left)
        rows = made.exact_rows(known.union(steps))
        second = plan_upgrade(made, rows, phases=Phases({}), phase=Phase.POST)
        assert not second.held_back
        rest = [step.revision.id for step in second.steps]
        assert sorted(steps + rest) == sorted(step.revision.id for step in every.steps)
        done = set(known)
        for rid in steps + rest:
            assert done.issuperset(made.parents(rid)), "a revision ran before what it depends on"
            done.add(rid)
    assert refused > GRAPHS // 40
    assert limited > GRAPHS // 40


TEXT = """
    app: app_1
    app: app_2 < app_1
    app: app_3 < app_2
    blog: blog_1
    blog: blog_2 < blog_1 & app_2
"""


def with_phases(text: str, phases: str) -> Graph:
    """Make a graph whose revisions are in phase ``post`` if ``phases`` names them, and otherwise in phase ``pre``."""
    made, named = graph(text), phases.split()
    revisions = (replace(made[rid], phase=Phase.POST if rid in named else Phase.PRE) for rid in made.ids)
    return Graph(revisions, made.packages)


def steps_of(made: Graph, rows: str, specifier: str = "heads", **setting: Phase) -> tuple[list[str], list[str]]:
    plan = plan_upgrade(made, rows.split(), specifier, phases=Phases(setting), phase=Phase.PRE)
    return [each.revision.id for each in plan.steps], [each.revision.id for each in plan.held_back]


def test_each_specifier_with_a_phase() -> None:
    made = with_phases(TEXT, "app_3 blog_2")
    assert steps_of(made, "app_1 blog_1") == (["app_2"], ["app_3", "blog_2"])
    assert steps_of(made, "app_1 blog_1", "blog") == (["app_2"], ["blog_2"])
    assert steps_of(made, "app_1 blog_1", "app_3") == (["app_2"], ["app_3"])
    assert steps_of(made, "app_1 blog_1", "app@+1") == (["app_2"], [])
    assert steps_of(made, "app_1 blog_1", "+1") == (["app_2"], [])
    with pytest.raises(SpecifierError, match="There is only 1 revision to apply"):
        steps_of(made, "app_1 blog_1", "+2")


def test_a_pre_revision_that_needs_a_pending_post_one_is_refused() -> None:
    made = with_phases(TEXT, "app_2")
    with pytest.raises(
        PhaseError, match="app_3 of app is in phase pre, but depends on app_2, which is pending"
    ) as told:
        steps_of(made, "app_1 blog_1")
    assert (told.value.package, told.value.revision, told.value.needed) == ("app", "app_3", "app_2")
    assert "'ampho db-up app_2'" in str(told.value)
    with pytest.raises(PhaseError, match="blog_2 of blog"):
        steps_of(made, "app_1 blog_1", "blog")
    assert steps_of(made, "app_1 blog_1", "app_2") == ([], ["app_2"])
    assert steps_of(made, "app_2 blog_1") == (["app_3", "blog_2"], [])
    assert steps_of(made, "app_1 blog_1", app=Phase.PRE) == (["app_2", "app_3", "blog_2"], [])
    assert steps_of(made, "app_1 blog_1", app_2=Phase.PRE) == (["app_2", "app_3", "blog_2"], [])


def test_a_new_package_is_installed_as_far_as_it_can() -> None:
    made = with_phases(TEXT, "app_2 app_3")
    assert steps_of(made, "") == (["app_1", "app_2", "blog_1", "blog_2"], ["app_3"])
    with pytest.raises(PhaseError):
        steps_of(made, "app_1")


def test_a_new_package_gets_what_the_new_release_needs_although_it_also_drops(tmp_path: Path) -> None:
    made = Project(tmp_path)
    made.package("app")
    made.revision("app", "app_1", upgrade="op.execute('DROP TABLE IF EXISTS a')\nop.create_table('a', sa.Column('b'))")
    made.revision("app", "app_2", "app_1", upgrade="op.drop_column('a', 'b')")
    with facade(made, "flask", ["app"], URLS["flask"]) as each:
        (step,) = each.call("plan", phase="pre").steps
        assert (step.revision.id, step.phase) == ("app_1", Phase.PRE)
        assert step.phase_reason == "nothing of its package is applied, and it creates the table a"


DONE = "Applied 1 revision in"


@pytest.fixture
def users(tmp_path: Path) -> Project:
    """A project that has run its first revision; then come a column, the end of another one, and nothing."""
    made = Project(tmp_path)
    made.package("app")
    made.revision("app", "app_1", upgrade="op.create_table('users', sa.Column('name', sa.Text()))")
    return made


@contextmanager
def started(made: Project, framework: str = "flask", url: URL | str = "", **config: object) -> Iterator[Facade]:
    with facade(made, framework, ["app"], url or URLS[framework], **config) as each:
        each.call("upgrade")
        made.revision("app", "app_2", "app_1", upgrade="op.add_column('users', sa.Column('full', sa.Text()))")
        made.revision("app", "app_3", "app_2", upgrade="op.drop_column('users', 'name')", message="Drop the name")
        made.revision("app", "app_4", "app_3", message="Nothing")
        yield each


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_upgrade_in_two_phases(framework: str, users: Project) -> None:
    with started(users, framework) as each:
        run = each.call("upgrade", phase="pre")
        assert [step.revision.id for step in run.steps] == ["app_2"]
        assert [step.revision.id for step in run.plan.held_back] == ["app_3", "app_4"]
        assert each.call("plan").steps[0].phase is Phase.POST
        assert not each.call("upgrade", phase=Phase.PRE).steps
        assert "DROP COLUMN" not in each.call("upgrade_sql", phase="pre")
        run = each.call("upgrade", phase="post")
        assert [step.revision.id for step in run.steps] == ["app_3", "app_4"]
        with pytest.raises(SpecifierError, match=r"'later' is not a phase\. Use 'pre' or 'post'"):
            each.call("upgrade", phase="later")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_second_change_of_a_release_is_put_beside_the_first(framework: str, users: Project) -> None:
    with started(users, framework) as each:
        upgrade = "op.add_column('users', sa.Column('tel', sa.Text()))"
        users.revision("app", "app_4", "app_3", message="Nothing", upgrade=upgrade)
        refused = each.run("db-check", "--phases").stderr
        assert (
            "If both belong to one release, let app_4 revise app_2, as app_3 does, and merge the heads with"
            " 'ampho db-merge app'; or let it wait, too" in refused
        )
        users.revision("app", "app_4", "app_2", message="Nothing", upgrade=upgrade)
        assert each.run("db-merge", "app").exit_code == 0
        assert [step.revision.id for step in each.call("upgrade", phase="pre").steps] == ["app_2", "app_4"]
        assert len(each.call("upgrade", phase="post").steps) == 2
        assert not each.call("plan").steps


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_the_commands_tell_what_is_held_back(users: Project, database: Database) -> None:
    with started(users, FRAMEWORKS[database.is_async], database.url) as each:
        assert each.run("db-status", "-a").stdout.count("(post, inferred)") == 1
        assert "3 (1 post)" in each.run("db-status").stdout
        assert "app_3 (post)" in each.run("db-graph").stdout
        planned = each.run("db-up", "--plan").stdout
        assert "post (inferred)" in planned
        planned = each.run("db-up", "--plan", "--phase", "pre").stdout
        assert "1 revision of app" in planned
        done = each.run("db-up", "--phase", "pre").stdout
        assert DONE in done
        assert "Upgrading (heads, phase pre): 1 revision of app" in done
        held = "Held back for 'ampho db-up --phase post':\n  app_3  Drop the name (post, inferred: drops the column"
        assert held in done
        assert "app_4  Nothing (because of what it depends on)" in done
        assert held in planned
        again = each.run("db-up", "--phase", "pre").stdout
        assert again.startswith("Nothing to do: only revisions in phase post are pending.\nHeld back")
        checked = each.run("db-check", "--phases")
        assert checked.stdout == "The phases are in order: 0 revisions in phase pre, 2 held back for phase post.\n"
        behind = each.run("db-check", "--deploy")
        assert behind.exit_code == 10
        assert "app_3, app_4 of app: pending in phase post; once the old release is gone, apply them" in behind.stdout
        ready = each.run("db-check", "--deploy", "--phase", "pre")
        assert (ready.exit_code, ready.stdout) == (0, "The database has what this release of the app needs.\n")
        assert each.run("db-wait", "--timeout", "1").exit_code == 0
        found = json.loads(each.run("db-up", "--phase", "pre", "--json").stdout)["run"]["plan"]
        assert (found["phase"], [step["revision"] for step in found["held_back"]]) == ("pre", ["app_3", "app_4"])
        assert "Applied 2 revisions" in each.run("db-up", "--phase", "post").stdout
        assert each.run("db-check", "--deploy").exit_code == 0


def test_readiness_counts_what_the_release_needs(users: Project) -> None:
    with started(users, AMPHO_READINESS_PATH="/ready") as each:
        client = each.app.test_client()
        assert client.get("/ready").json == {"ready": False, "status": "behind", "counts": {"behind": 1}}
        each.call("upgrade", phase="pre")
        time.sleep(1.01)
        assert client.get("/ready").json == {"ready": True, "status": "up to date", "counts": {}}


@pytest.mark.parametrize(
    ("upgrade", "why"),
    [
        ("op.alter_column('users', 'full', new_column_name='all')", "it renames the column full, which the new"),
        (
            "op.drop_column('users', 'name')\nop.add_column('users', sa.Column('x'))",
            "and also adds the column x, which",
        ),
    ],
)
def test_a_revision_that_no_phase_is_right_for(upgrade: str, why: str, users: Project) -> None:
    with started(users) as each:
        users.revision("app", "app_5", "app_4", upgrade=upgrade)
        for command in (["db-check", "--phases"], ["db-up", "--phase", "pre"]):
            assert "app_5 waits for phase post, because it " in (told := each.run(*command).stderr)
            assert why in told
            assert told.rstrip().endswith("Split it into two revisions.")
        waited = each.run("db-wait", "--timeout", "0.1")
        assert waited.exit_code == 3, "the new release needs this revision"
        assert "app_5" in waited.stderr


def test_refusals_in_the_commands(users: Project) -> None:
    with started(users) as each:
        users.revision("app", "app_5", "app_4", upgrade="op.create_table('new', sa.Column('id', sa.Integer()))")
        for command in (["db-check", "--phases"], ["db-up", "--phase", "pre"], ["db-up", "--phase", "pre", "--sql"]):
            told = each.error_line(*command)
            assert told.startswith("app_5 of app is in phase pre, but depends on app_3, which is pending and in phase")
            assert "(drops the column name)" in told
        assert each.run("db-status").stdout.count("4 (1 post)") == 1
        deploy = each.run("db-check", "--deploy", "--phase", "pre").stdout
        assert "pending; apply them with 'ampho db-up --phase pre'" in deploy
        assert "--phase requires --deploy" in each.error_line("db-check", "--phase", "pre", exit_code=2)
        assert "are mutually exclusive" in each.error_line("db-check", "--deploy", "--phases", exit_code=2)
        assert "--phases cannot be" in each.error_line("db-check", "--phases", "--scratch", exit_code=2)
        each.app.config["AMPHO_PHASES"] = {"app_5": "post"}
        assert "1 revision in phase pre, 3 held back for phase post" in each.run("db-check", "--phases").stdout


def test_the_setting(users: Project) -> None:
    with started(users, AMPHO_PHASES={"app": "pre"}) as each:
        assert not each.call("plan", phase="pre").held_back
        each.app.config["AMPHO_PHASES"] = {"app_2": "post", "app_4": "post"}
        assert [step.revision.id for step in each.call("plan", phase="pre").held_back] == ["app_2", "app_3", "app_4"]
        each.app.config["AMPHO_PHASES"] = {"apq": "pre"}
        with pytest.raises(ConfigurationError, match="contains 'apq', which is neither a package nor a revision"):
            each.call("plan")
        each.app.config["AMPHO_PHASES"] = {"app": "later"}
        with pytest.raises(ConfigurationError, match="AMPHO_PHASES is"):
            each.call("plan")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_a_branch_adds_since_a_release(framework: str, users: Project) -> None:
    def git(*arguments: str) -> None:
        users.run("git", "-c", "user.name=me", "-c", "user.email=me@example.org", *arguments)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "Release")
    git("tag", "v1")
    check = ("db-check", "--phases", "--diff-base", "v1")
    with facade(
        users, framework, ["app"], "sqlite:///nowhere/app.db" if framework == "flask" else URLS["quart"]
    ) as each:
        assert each.run(*check).stdout.endswith("0 revisions in phase pre, 0 held back for phase post.\n")
        users.revision("app", "app_2", "app_1", upgrade="op.drop_column('users', 'name')")
        assert each.run(*check).stdout.endswith("0 revisions in phase pre, 1 held back for phase post.\n")
        users.revision("app", "app_3", "app_2", upgrade="op.add_column('users', sa.Column('full', sa.Text()))")
        assert each.error_line(*check).startswith("app_3 of app is in phase pre, but depends on app_2")
        git("add", ".")
        git("commit", "--quiet", "-m", "Next")
        assert "app_3 of app" in each.error_line(*check)
        assert [*users.folder.rglob("*.db")] == []
        git("tag", "v2")
        users.revision("app", "app_2", "app_1", upgrade="op.drop_column('users', 'name')\nop.execute('SELECT 1')")
        assert each.run(*check[:-1], "v2").exit_code == 0, "a file that is only edited is not new"
        assert "--diff-base requires --phases" in each.error_line("db-check", "--diff-base", "v1", exit_code=2)


def test_the_phase_in_a_file_is_shown(users: Project) -> None:
    with started(users) as each:
        path = users.revision("app", "app_5", "app_4")
        path.write_text(path.read_text("utf-8").replace("depends_on = None\n", 'depends_on = None\nphase = "post"\n'))
        assert "Phase:       post\n" in each.run("db-show", "app_5").stdout
        assert "Phase" not in each.run("db-show", "app_3").stdout
        assert "post" in each.run("db-status", "-a").stdout.splitlines()[-3]


def test_what_several_databases_hold_back_is_told_once(project: Project) -> None:
    fleet = files(project, "flask", 3)
    project.run("ampho", "db-up", "--all")
    fleet.add_revision("op.drop_table('table_1')")
    planned = project.run("ampho", "db-up", "-d", "tenants", "--phase", "pre", "--plan")
    reason = "(post, inferred: drops the table table_1)"
    held = "Held back in tenants/t000, tenants/t001, tenants/t002 for 'ampho db-up --phase post -d tenants':"
    assert f"{held}\n  orders_2  by hand {reason}\n" in planned.stdout
    assert planned.stdout.count(reason) == 1
    assert planned.stderr.count("Split it into two revisions.") == 1
