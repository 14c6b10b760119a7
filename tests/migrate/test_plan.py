"""What each form of a specifier means to ``db-up`` and ``db-down``: every row of the table, and every refusal.

No database and no files: a graph, the version rows, and what is typed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from revisions import graph

from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.version_rows import Applied, VersionRows
from ampho.errors import AmphoError, DependentsError, SpecifierError, UnknownRevisionsError
from ampho.history.graph import Graph
from ampho.migrate.plan import Direction, Plan, plan_downgrade, plan_upgrade

# core <- app <- acme.billing and back again; zoo has two heads, twin two bases, and old no label of its name.
TEXT = """
    core: core_1
    core: core_2 < core_1
    core: core_3 < core_2
    app: app_1 & core_1
    app: app_2 < app_1 & core_2
    app: app_3 < app_2
    acme.billing: acme_billing_1
    acme.billing: acme_billing_2 < acme_billing_1 & app_2
    zoo: zoo_1
    zoo: zoo_2 < zoo_1
    zoo: zoo_3 < zoo_1 & core_3
    twin: twin_a
    twin: twin_b
    mend: mend_1
    mend: mend_2 < mend_1
    mend: mend_3 < mend_1
    mend: mend_4 < mend_2 mend_3
    old: x1 = legacy
    old: x10 < x1
    old: x100 < x10 = late
    old: x2 < x100
    empty_but_listed: none_1 =
"""
ALL = graph(TEXT)
EVERYTHING = tuple(ALL.ids)


def planned(typed: str, rows: str = "", of: Graph = ALL) -> Plan:
    """Plan what ``db-up ...`` or ``db-down ...`` would do to a database with these version rows."""
    command, *arguments = typed.split(" ")
    cascade = arguments[-1:] == ["--cascade"]
    specifier = arguments[: -1 if cascade else None]
    if command == "db-up":
        return plan_upgrade(of, rows.split(), *specifier)
    return plan_downgrade(of, rows.split(), *specifier, cascade=cascade)


def ids(plan: Plan) -> list[str]:
    return [step.revision.id for step in plan.steps]


def refusal(typed: str, rows: str = "", of: Graph = ALL, error: type[AmphoError] = SpecifierError) -> str:
    with pytest.raises(error) as caught:
        planned(typed, rows, of)
    return str(caught.value)


# Two lines in one package, as a history that expands first and contracts later has them.
TWO_LINES = graph("""
    blog: root =
    blog: e1 < root = expand
    blog: e2 < e1
    blog: c1 < root & e1 = contract
    blog: c2 < c1
""")


@pytest.mark.parametrize(
    ("typed", "rows", "steps"),
    [
        ("db-up expand", "", "root e1 e2"),
        ("db-up expand@head", "", "root e1 e2"),
        ("db-up expand@+1", "e1", "e2"),
        ("db-up contract@head", "", "root e1 c1 c2"),
        ("db-up contract@c2", "e2", "c1 c2"),
        ("db-down expand@-1", "e2 c2", "e2"),
        ("db-down contract@base", "e2 c2", "c2 c1"),
        ("db-down e1", "e2 c2", "e2"),
        ("db-down c1", "e2 c2", "c2"),
        ("db-down expand@base --cascade", "e2 c2", "c2 c1 e2 e1"),
        ("db-down root", "e2 c2", "c2 c1 e2 e1"),
    ],
)
def test_a_label_addresses_its_own_line_of_a_package(typed: str, rows: str, steps: str) -> None:
    assert set(ids(planned(typed, rows, TWO_LINES))) == set(steps.split())


@pytest.mark.parametrize(
    ("typed", "rows", "error", "what"),
    [
        ("db-up contract@c", "e2 c1", SpecifierError, "2 ids start with c: c1, c2"),
        ("db-up expand@c1", "", SpecifierError, "c1 belongs to blog, not to expand. Type c1"),
        ("db-down expand@base", "e2 c2", DependentsError, "reverts: c1 (blog), c2 (blog)"),
        ("db-down expand@-1", "e1 c2", DependentsError, "reverts: c1 (blog), c2 (blog)"),
    ],
)
def test_a_label_takes_nothing_else_of_its_package_along(
    typed: str, rows: str, error: type[AmphoError], what: str
) -> None:
    assert what in refusal(typed, rows, TWO_LINES, error)


UP = [
    ("db-up", "x2 zoo_2 zoo_3 twin_a twin_b mend_4 acme_billing_2", "app_3 none_1"),
    ("db-up heads", "x2 zoo_2 zoo_3 twin_a twin_b mend_4 acme_billing_2", "app_3 none_1"),
    ("db-up app@heads", "", "core_1 core_2 app_1 app_2 app_3"),
    ("db-up app", "", "core_1 core_2 app_1 app_2 app_3"),
    ("db-up app", "core_3", "app_1 app_2 app_3"),
    ("db-up app@head", "app_1", "core_2 app_2 app_3"),
    ("db-up acme.billing", "", "core_1 core_2 app_1 app_2 acme_billing_1 acme_billing_2"),
    ("db-up acme.billing@head", "app_3", "acme_billing_1 acme_billing_2"),
    ("db-up zoo", "core_3", "zoo_1 zoo_2 zoo_3"),
    ("db-up zoo@heads", "core_3 zoo_2", "zoo_3"),
    ("db-up mend@head", "mend_2", "mend_3 mend_4"),
    ("db-up app@+1", "", "core_1 app_1"),
    ("db-up app@+1", "app_1", "core_2 app_2"),
    ("db-up app@+1", "core_3 app_1", "app_2"),
    ("db-up app@+2", "app_1", "core_2 app_2 app_3"),
    ("db-up acme.billing@+1", "", "acme_billing_1"),
    ("db-up acme.billing@+1", "acme_billing_1", "core_1 core_2 app_1 app_2 acme_billing_2"),
    ("db-up zoo@+1", "", "zoo_1"),
    ("db-up zoo@+1", "zoo_2", "core_1 core_2 core_3 zoo_3"),
    ("db-up twin@+1", "twin_a", "twin_b"),
    ("db-up mend@+1", "mend_2 mend_3", "mend_4"),
    ("db-up app_2", "", "core_1 core_2 app_1 app_2"),
    ("db-up app@app_2", "core_2 app_1", "app_2"),
    ("db-up core@core_2", "", "core_1 core_2"),
    ("db-up +2", "", "core_1 core_2"),
    ("db-up +3", "core_2", "core_3 app_1 app_2"),
    ("db-up x1", "", "x1"),
    ("db-up x10", "", "x1 x10"),
    ("db-up x100", "x1", "x10 x100"),
    ("db-up old", "x10", "x100 x2"),
    ("db-up old@head", "", "x1 x10 x100 x2"),
    ("db-up old@+1", "x1", "x10"),
    ("db-up legacy", "", "x1 x10 x100 x2"),
    ("db-up legacy@head", "x10", "x100 x2"),
    ("db-up late@+1", "x10", "x100"),
    ("db-up late@+1", "", "x1 x10 x100"),
    ("db-up late@+2", "x1", "x10 x100 x2"),
    ("db-up old@x100", "x10", "x100"),
    ("db-up legacy@x10", "x1", "x10"),
    ("db-up acme_billing_1", "", "acme_billing_1"),
    ("db-up non", "", "none_1"),
    ("db-up twin_b", "", "twin_b"),
]


@pytest.mark.parametrize(("typed", "rows", "steps"), UP, ids=[f"{typed} from [{rows}]" for typed, rows, _ in UP])
def test_up(typed: str, rows: str, steps: str) -> None:
    plan = planned(typed, rows)
    assert ids(plan) == steps.split()
    assert {step.direction for step in plan.steps} == {Direction.UPGRADE}
    assert plan.direction is Direction.UPGRADE


NOTHING_TO_DO = [
    ("db-up", " ".join(EVERYTHING)),
    ("db-up app", "app_3 core_3"),
    ("db-up app@head", "app_3"),
    ("db-up core_2", "app_2"),
    ("db-up core@core_1", "acme_billing_2"),
    ("db-down base", ""),
    ("db-down app@base", "core_3 zoo_1"),
    ("db-down app_3", "app_3"),
    ("db-down twin_a", "twin_a twin_b"),
]


@pytest.mark.parametrize(("typed", "rows"), NOTHING_TO_DO, ids=[typed for typed, _ in NOTHING_TO_DO])
def test_what_is_so_already_is_a_plan_without_steps(typed: str, rows: str) -> None:
    plan = planned(typed, rows)
    assert plan.steps == ()
    assert plan.packages == ()


DOWN = [
    ("db-down app@-1", "app_3 core_3", "app_3"),
    ("db-down app@-2", "app_3", "app_3 app_2"),
    ("db-down app@-3", "app_3 core_3 zoo_2", "app_3 app_2 app_1"),
    ("db-down acme.billing@-1", "acme_billing_2 app_3", "acme_billing_2"),
    ("db-down zoo@-1", "zoo_2 core_3", "zoo_2"),
    ("db-down app@base", "app_2 core_3 acme_billing_1", "app_2 app_1"),
    ("db-down acme.billing@base", "acme_billing_2", "acme_billing_2 acme_billing_1"),
    ("db-down zoo@base", "zoo_2 zoo_3", "zoo_3 zoo_2 zoo_1"),
    ("db-down app_1", "app_3 core_3", "app_3 app_2"),
    ("db-down app@app_1", "app_3", "app_3 app_2"),
    ("db-down app@app_2", "app_3", "app_3"),
    ("db-down zoo_1", "zoo_2 zoo_3", "zoo_3 zoo_2"),
    ("db-down mend_1", "mend_4", "mend_4 mend_3 mend_2"),
    ("db-down mend_2", "mend_4", "mend_4"),
    ("db-down mend@-1", "mend_4", "mend_4"),
    ("db-down x1", "x100", "x100 x10"),
    ("db-down x10", "x2", "x2 x100"),
    ("db-down old@-1", "x100", "x100"),
    ("db-down legacy@-2", "x100", "x100 x10"),
    ("db-down late@base", "x2", "x2 x100"),
    ("db-down legacy@base", "x2", "x2 x100 x10 x1"),
    ("db-down base", "app_1 twin_a", "twin_a app_1 core_1"),
    ("db-down", "core_3", "core_3"),
    ("db-down -1", "core_3", "core_3"),
    ("db-down -1", "app_2", "app_2"),
    ("db-down -2", "core_3", "core_3 core_2"),
    ("db-down -1", "acme_billing_2", "acme_billing_2"),
]


@pytest.mark.parametrize(("typed", "rows", "steps"), DOWN, ids=[f"{typed} from [{rows}]" for typed, rows, _ in DOWN])
def test_down(typed: str, rows: str, steps: str) -> None:
    plan = planned(typed, rows)
    assert ids(plan) == steps.split()
    assert {step.direction for step in plan.steps} == {Direction.DOWNGRADE}
    assert plan.direction is Direction.DOWNGRADE


CASCADE = [
    ("db-down core@-1", "core_3 zoo_3", "zoo_3", "zoo_3 core_3"),
    ("db-down core_1", "app_2 acme_billing_1", "app_2", "app_2 core_2"),
    ("db-down core@base", "acme_billing_2", "app_1 app_2 acme_billing_2", "acme_billing_2 app_2 app_1 core_2 core_1"),
    ("db-down app@base", "acme_billing_2 app_3", "acme_billing_2", "acme_billing_2 app_3 app_2 app_1"),
    ("db-down app_1", "acme_billing_2", "acme_billing_2", "acme_billing_2 app_2"),
]


@pytest.mark.parametrize(("typed", "rows", "dependents", "steps"), CASCADE, ids=[row[0] for row in CASCADE])
def test_other_packages_go_along_only_with_cascade(typed: str, rows: str, dependents: str, steps: str) -> None:
    with pytest.raises(DependentsError) as caught:
        planned(typed, rows)
    assert caught.value.dependents == tuple(dependents.split())
    assert f"'ampho {typed} --cascade'" in str(caught.value)
    for revision in dependents.split():
        assert f"{revision} ({ALL[revision].package})" in str(caught.value)
    assert ids(planned(f"{typed} --cascade", rows)) == steps.split()


def test_refusal_of_a_downgrade_names_ten_dependents_and_counts_the_rest() -> None:
    lines = [f"b: b_{number:02} & a_1" for number in range(14)]
    many = graph("\n".join(["a: a_1", *lines]))
    text = refusal("db-down a@base", " ".join(many.of_package("b")), many, DependentsError)
    assert "b_09 (b) and 4 more" in text


REFUSED = [
    ("db-up app@head", "db-up zoo@head", "", "zoo has 2 heads: zoo_2, zoo_3", "zoo@heads"),
    (
        "two heads leave a choice",
        "db-up zoo@+1",
        "zoo_1 core_3",
        "zoo has 2 possible next revisions: zoo_2, zoo_3",
        "Type one",
    ),
    ("two bases leave a choice", "db-up twin@+1", "", "twin has 2 possible next revisions: twin_a, twin_b", "Type one"),
    (
        "the second of two steps is a choice",
        "db-up zoo@+2",
        "",
        "zoo has 2 possible next revisions: zoo_2, zoo_3",
        "Type one",
    ),
    ("the id is another package's", "db-up app@core_2", "", "core_2 belongs to core, not to app", "Type core_2"),
    ("the id is another package's", "db-down app@core_2", "core_2", "core_2 belongs to core, not to app", "core_2"),
    ("not applied", "db-down app_2", "app_1", "app_2: that is not applied", "db-current"),
    ("a bare package", "db-down app", "app_2", "how far to downgrade", "app@-1"),
    ("a bare package", "db-down app", "app_2", "how far to downgrade", "app@base"),
    ("a bare label", "db-down late", "x2", "how far to downgrade", "late@-1"),
    ("goes down", "db-up -1", "core_1", "that is a downgrade", "'ampho db-down -1'"),
    ("goes down", "db-up app@-1", "app_1", "that is a downgrade", "'ampho db-down app@-1'"),
    ("goes down", "db-up base", "", "that is a downgrade", "'ampho db-down base'"),
    ("goes down", "db-up app@base", "", "that is a downgrade", "'ampho db-down app@base'"),
    ("that is an upgrade", "db-down +1", "core_1", "that is an upgrade", "'ampho db-up +1'"),
    ("that is an upgrade", "db-down app@+1", "core_1", "that is an upgrade", "'ampho db-up app@+1'"),
    ("that is an upgrade", "db-down heads", "core_1", "that is an upgrade", "'ampho db-up heads'"),
    ("that is an upgrade", "db-down head", "core_1", "that is an upgrade", "'ampho db-up heads'"),
    ("that is an upgrade", "db-down app@head", "core_1", "that is an upgrade", "'ampho db-up app@head'"),
    ("one head for many packages", "db-up head", "", "each package has its own head", "'heads'"),
    ("counting from an id", "db-up app_1+1", "", "Ampho does not count steps from a name", "PACKAGE@+1"),
    ("counting from an id", "db-down app_2-1", "app_2", "Ampho does not count steps from a name", "PACKAGE@-1"),
    ("counting from a package", "db-up app+1", "", "Ampho does not count steps from a name", "PACKAGE@+1"),
    ("a range", "db-up core_1:core_2", "", "is a range", "one revision"),
    ("a range", "db-down core_2:core_1", "core_2", "is a range", "one revision"),
    ("too many", "db-up +99", "", f"only {len(EVERYTHING)} revisions to apply", "There are"),
    ("too many", "db-up app@+4", "", "only 3 revisions to apply in app", "There are"),
    ("too many", "db-up app@+1", "app_3", "nothing to apply in app", "There is"),
    ("too many", "db-up +1", " ".join(EVERYTHING), "nothing to apply", "There is"),
    ("too many", "db-down -4", "core_3", "only 3 revisions to revert", "There are"),
    ("too many", "db-down", "", "nothing to revert", "There is"),
    ("too many", "db-down app@-3", "app_2", "only 2 revisions to revert in app", "There are"),
    ("no number", "db-up +0", "", "is not a valid number of steps", "1 or more"),
    ("no number", "db-down -0", "core_1", "is not a valid number of steps", "1 or more"),
    ("no number", "db-up app@+0", "", "is not a valid number of steps", "1 or more"),
    ("no number", "db-up +99999999999999999999", "", "is not a valid number of steps", "1 or more"),
    ("unknown", "db-up nope", "", "nope is neither a package, a revision id", "db-show"),
    ("unknown", "db-up nope@head", "", "nope is not a package with migrations here", "db-show"),
    ("unknown", "db-up nope@+1", "", "nope is not a package with migrations here", "db-show"),
    ("unknown", "db-down nope@-1", "", "nope is not a package with migrations here", "db-show"),
    ("unknown", "db-down nope@base", "", "nope is not a package with migrations here", "db-show"),
    ("misspelt", "db-up core_22", "", "core_22 is neither", "Did you mean core_2?"),
    ("misspelt", "db-up acme.biling@head", "", "acme.biling is not a package", "Did you mean acme.billing?"),
    ("a name in other case", "db-up HEADS", "", "HEADS is neither", "db-show"),
    ("an ambiguous prefix", "db-up cor", "", "3 ids start with cor: core_1, core_2, core_3", "Type more"),
    ("an ambiguous prefix", "db-up old@x", "", "4 ids start with x: x1, x10, x100, x2", "Type more"),
    (
        "an id's beginning in another package",
        "db-up app@core_",
        "",
        "core_ is neither",
        "Did you mean core_1, core_2 or core_3?",
    ),
    (
        "several last of a package",
        "db-down zoo@-1",
        "zoo_2 zoo_3",
        "zoo has 2 heads to revert from: zoo_2, zoo_3.",
        "zoo@base",
    ),
    ("several last of a package", "db-down mend@-2", "mend_4", "mend has 2 heads to revert from", "mend@base"),
]


@pytest.mark.parametrize(
    ("typed", "rows", "what", "remedy"), [row[1:] for row in REFUSED], ids=[f"{row[1]} ({row[0]})" for row in REFUSED]
)
def test_refused_with_what_is_wrong_and_what_to_type(typed: str, rows: str, what: str, remedy: str) -> None:
    text = refusal(typed, rows)
    assert what in text
    assert remedy in text
    assert "\n" not in text


def test_last_step_is_refused_where_nothing_records_the_order_with_a_command_for_each_package() -> None:
    text = refusal("db-down", "app_1 acme_billing_1 twin_a twin_b")
    assert "no record says which of 4 revisions was applied last" in text
    assert "'ampho db-down app@-1' or 'ampho db-down acme.billing@-1' or 'ampho db-down twin@-1'" in text


def test_candidates_for_the_last_step_are_only_what_no_applied_revision_stands_on() -> None:
    assert ids(planned("db-down -1", "core_2 app_2")) == ["app_2"]
    assert ids(planned("db-down -1", "core_3 zoo_3")) == ["zoo_3"]


@pytest.mark.parametrize("typed", ["db-down -2", "db-down -3"])
def test_several_last_steps_are_taken_back_all_or_not_at_all(typed: str) -> None:
    """app_2 went last for sure, but then core_2 and app_1 are both candidates."""
    assert "no record says which of 2 revisions" in refusal(typed, "app_2")


def test_every_way_down_that_a_refusal_names_is_accepted() -> None:
    rows = "app_1 acme_billing_1 x2"
    text = refusal("db-down", rows)
    ways = [part.removeprefix("ampho ") for part in text.split("'") if part.startswith("ampho db-down ")]
    assert len(ways) == 3
    assert [len(planned(way, rows).steps) for way in ways] == [1, 1, 1]


def test_a_package_comes_before_an_id_an_id_before_a_label_and_a_label_before_the_beginning_of_an_id() -> None:
    named = graph("""
        app: blog
        app: app_2 < blog = sub
        blog: sub
        blog: blog_2 < sub
        core: labelled_1 = lab
        core: core_2 < labelled_1
    """)
    assert ids(planned("db-up blog", "", named)) == ["sub", "blog_2"]
    assert ids(planned("db-up app@blog", "", named)) == ["blog"]
    assert ids(planned("db-up sub", "", named)) == ["sub"]
    assert ids(planned("db-up lab", "", named)) == ["labelled_1", "core_2"]
    assert ids(planned("db-up labe", "", named)) == ["labelled_1"]


def test_a_package_without_revisions_is_up_to_date() -> None:
    nothing = graph("core: core_1", packages="core bare")
    assert planned("db-up bare", "core_1", nothing).steps == ()
    assert planned("db-up bare@head", "core_1", nothing).steps == ()
    assert planned("db-down bare@base", "core_1", nothing).steps == ()
    assert "nothing to apply in bare" in refusal("db-up bare@+1", "", nothing)


def test_nothing_configured_is_up_to_date() -> None:
    assert plan_upgrade(Graph([], []), []).steps == ()
    assert plan_downgrade(Graph([], []), [], "base").steps == ()


def test_dependencies_of_dependencies_run_first_and_once() -> None:
    zigzag = graph("""
        a: a_1
        b: b_1 & a_1
        a: a_2 < a_1 & b_1
        b: b_2 < b_1 & a_2 a_1
    """)
    assert ids(planned("db-up b", "", zigzag)) == ["a_1", "b_1", "a_2", "b_2"]
    assert ids(planned("db-down base", "b_2", zigzag)) == ["b_2", "a_2", "b_1", "a_1"]
    assert ids(planned("db-down a_1 --cascade", "b_2", zigzag)) == ["b_2", "a_2"]


def test_a_way_back_through_another_package_is_a_dependent_too() -> None:
    """b_2 stands on b_1 within the package, and a_2 on b_1 from outside."""
    zigzag = graph("""
        a: a_1
        b: b_1 & a_1
        a: a_2 < a_1 & b_1
        b: b_2 < b_1
    """)
    assert ids(planned("db-down b_1", "a_2 b_2", zigzag)) == ["b_2"]
    assert "a_2 (a)" in refusal("db-down b@base", "a_2 b_2", zigzag, DependentsError)


def test_own_revisions_that_stand_on_another_package_go_along_with_cascade_only() -> None:
    """Down to twin_1: twin_2 is no descendant within the package, but stands on other_1, which stands on it."""
    ring = graph("""
        twin: twin_1
        other: other_1 & twin_1
        twin: twin_2 & other_1
    """)
    assert planned("db-down twin_1", "twin_2", ring).steps == ()
    assert ids(planned("db-down other@base --cascade", "twin_2", ring)) == ["twin_2", "other_1"]


def test_plan_says_what_was_typed_and_from_where() -> None:
    plan = planned("db-up app@+1", "core_3 app_1")
    assert plan.specifier == "app@+1"
    assert plan.rows == ("app_1", "core_3")
    assert planned("db-up acme.billing").packages == ("core", "app", "acme.billing")


@pytest.mark.parametrize("typed", ["db-up", "db-up heads", "db-up app", "db-up app@+1", "db-down base"])
def test_rows_that_no_file_explains_are_named_where_they_are_in_the_way(typed: str) -> None:
    with pytest.raises(UnknownRevisionsError) as caught:
        planned(typed, "core_2 gone_7 gone_8")
    assert caught.value.rows == ("gone_7", "gone_8")
    assert "gone_7" in str(caught.value)
    assert "gone_8" in str(caught.value)


def test_applied_is_the_rows_and_all_they_stand_on() -> None:
    applied = Applied.from_rows(ALL, ["acme_billing_2", "gone", "gone"])
    assert applied.known == {"acme_billing_1", "acme_billing_2", "app_1", "app_2", "core_1", "core_2", "gone"}
    assert applied.unknown == ("gone",)
    assert applied.missing == {"gone"}
    assert applied.graph.exact_rows(applied.known) == ("acme_billing_2", "gone")


def test_version_rows_leave_out_what_another_applied_revision_stands_on() -> None:
    rows = VersionRows(["core_3", "app_1"], ALL.parents)
    assert rows.upgrade("app_2") == (["app_1"], ["app_2"])
    assert rows.current == {"core_3", "app_2"}
    assert rows.upgrade("zoo_1") == ([], ["zoo_1"])
    assert rows.upgrade("zoo_3") == (["zoo_1", "core_3"], ["zoo_3"])
    assert rows.downgrade("zoo_3") == (["zoo_3"], ["zoo_1", "core_3"])
    assert rows.downgrade("core_3") == (["core_3"], [])
    assert rows.current == {"zoo_1", "app_2"}
    assert rows.downgrade("app_2") == (["app_2"], ["app_1", "core_2"])


def test_rows_that_another_tool_left_behind_go_with_the_first_upgrade() -> None:
    rows = VersionRows(["core_1", "core_2"], ALL.parents)
    assert rows.upgrade("core_3") == (["core_1", "core_2"], ["core_3"])
    assert rows.current == {"core_3"}


def test_rows_that_another_tool_left_behind_do_not_disturb_a_downgrade() -> None:
    rows = VersionRows(["core_1", "core_2"], ALL.parents)
    assert rows.downgrade("core_2") == (["core_2"], [])
    assert rows.current == {"core_1"}


def recorded(text: str) -> Journal:
    """Make a journal of lines such as ``+a_1 +b_1 -b_1``; after ``=`` comes what was stamped as applied."""
    entries = [
        Entry(
            number,
            word[1:],
            word[1:2],
            "downgrade" if word[0] == "-" else "upgrade",
            Outcome.STAMPED if word[0] == "=" else Outcome.DONE,
        )
        for number, word in enumerate(text.split(), 1)
    ]
    return Journal(lambda: entries)


DOWN = {
    "the reverse of the journal": ("+a_1 +c_1 +b_1 +a_2", "a_2 b_1 c_1 a_1"),
    "what was applied again counts from then": ("+a_1 +b_1 +a_2 +c_1 -b_1 +b_1", "b_1 c_1 a_2 a_1"),
    "and where something else took it back, too": ("+a_1 +b_1 +a_2 +c_1 +b_1", "b_1 c_1 a_2 a_1"),
    "what was noted anew stays in its place": ("+a_1 +b_1 +a_2 +c_1 =b_1", "c_1 a_2 b_1 a_1"),
    "without a journal that of the files": ("", "c_1 b_1 a_2 a_1"),
    "what ran before there was one goes last": ("+c_1 +b_1", "b_1 c_1 a_2 a_1"),
    "what another tool ran, with what it depends on": ("+b_1 +a_1 +c_1", "c_1 a_2 a_1 b_1"),
}


@pytest.mark.parametrize(("journal", "steps"), DOWN.values(), ids=DOWN)
def test_downwards_is_the_reverse_of_what_was_done(journal: str, steps: str) -> None:
    of = graph("a: a_1\na: a_2 < a_1\nb: b_1\nc: c_1")
    plan = plan_downgrade(of, ["a_2", "b_1", "c_1"], "base", journal=recorded(journal))
    assert ids(plan) == steps.split()


def test_last_steps_one_by_one_are_those_of_all_at_once() -> None:
    of = graph("a: a_1\na: a_2 < a_1\nb: b_1\nc: c_1")
    journal = recorded("+a_1 +c_1 +b_1 +a_2 =c_1")
    assert ids(plan_downgrade(of, ["a_2", "b_1", "c_1"], "-1", journal=journal)) == ["a_2"]
    assert ids(plan_downgrade(of, ["a_1", "b_1", "c_1"], "-2", journal=journal)) == ["b_1", "c_1"]


ORDER = """
import sys
sys.path[:0] = sys.argv[1:]
from test_plan import ALL, ids, planned
print(" ".join(ids(planned("db-up"))), "|", " ".join(ids(planned("db-down base", "acme_billing_2 x2 mend_4 zoo_3"))))
"""


def test_order_of_a_plan_does_not_vary_with_the_hash_seed() -> None:
    orders = {
        subprocess.run(
            [sys.executable, "-c", ORDER, str(Path(__file__).parent), str(Path(__file__).parents[1])],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    assert len(orders) == 1
    assert orders.pop().startswith("core_1 core_2 core_3 app_1 ")
