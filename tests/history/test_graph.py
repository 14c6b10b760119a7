"""The graph of all packages: who owns what, what stands on what, in which order, and what is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from revisions import graph, revisions

from ampho.errors import CycleError, DuplicateRevisionError, HistoryError, MissingRevisionError
from ampho.history.graph import Graph
from ampho.history.revision import Revision

SHOP = graph("""
    app: app_1 & core_1
    app: app_2 < app_1 & core_3
    core: core_1
    core: core_2 < core_1
    core: core_3 < core_1
    acme.billing: acme_billing_1 & app core
    acme.billing: acme_billing_2 < acme_billing_1 = invoices
""")


def test_each_revision_belongs_to_the_package_of_its_folder() -> None:
    assert SHOP.packages == ("app", "core", "acme.billing")
    assert SHOP.of_package("core") == ("core_1", "core_2", "core_3")
    assert SHOP.of_package("acme.billing") == ("acme_billing_1", "acme_billing_2")
    assert SHOP["app_1"].package == "app"
    assert "app_1" in SHOP
    assert "app" not in SHOP
    assert len(SHOP) == 7


def test_order_puts_each_revision_after_what_it_stands_on_then_packages_as_listed_then_ids() -> None:
    assert SHOP.ids == ("core_1", "app_1", "core_2", "core_3", "app_2", "acme_billing_1", "acme_billing_2")


def test_order_does_not_depend_on_the_order_in_which_files_are_read() -> None:
    made = [SHOP[one] for one in SHOP.ids]
    assert Graph(reversed(made), SHOP.packages).ids == SHOP.ids


def test_order_follows_the_packages_as_they_are_listed() -> None:
    text = "b: b_1\na: a_1"
    assert graph(text, packages="a b").ids == ("a_1", "b_1")
    assert graph(text, packages="b a").ids == ("b_1", "a_1")


def test_order_takes_the_oldest_of_those_that_may_run() -> None:
    days = graph("""
        a: a_1600000001
        a: a_1600000004 < a_1600000001
        b: b_1600000002 & a_1600000001
        b: b_1600000003 < b_1600000002
    """)
    assert days.ids == ("a_1600000001", "b_1600000002", "b_1600000003", "a_1600000004")


def test_order_of_revisions_of_one_second_is_that_of_the_packages_then_of_the_ids() -> None:
    text = "b: b_1600000001\nb: b_2\na: a_1600000001\na: zz_1600000001"
    assert graph(text, packages="b a").ids == ("b_1600000001", "b_2", "a_1600000001", "zz_1600000001")
    assert graph(text, packages="a b").ids == ("a_1600000001", "zz_1600000001", "b_1600000001", "b_2")


def test_a_revision_is_no_older_than_what_it_depends_on() -> None:
    """The clock of who wrote ``a_1600000001`` was slow: what follows it is not put off behind ``b``."""
    slow = graph("""
        a: a_1600000005
        a: a_1600000001 < a_1600000005
        b: b_1600000003
        b: b_1600000005
        c: c_1600000002 & a_1600000001
        c: c_1600000006 < c_1600000002
    """)
    assert slow.ids == (
        "b_1600000003",
        "a_1600000005",
        "a_1600000001",
        "b_1600000005",
        "c_1600000002",
        "c_1600000006",
    )


def dated(text: str, **dates: str) -> Graph:
    """Make a graph in which some revisions have a ``Create Date``."""
    made = [
        replace(one, doc=f"{one.doc}\n\nCreate Date: {dates[one.id]}\n") if one.id in dates else one
        for one in revisions(text)
    ]
    return Graph(made, list(dict.fromkeys(one.package for one in made)))


def test_order_takes_the_date_in_the_file_where_the_id_has_no_time() -> None:
    days = dated(
        "a: x1\na: x2 < x1\nb: b_1600000000\nb: y2 < b_1600000000",  # 2020-09-13 12:26:40
        x1="2020-09-12 23:00:00.123456",
        x2="2021-01-01 00:00:00",
        y2="2021-01-01 00:30:00+01:00",
    )
    assert days.ids == ("x1", "b_1600000000", "y2", "x2")


def test_a_revision_without_a_date_is_as_old_as_the_oldest_that_depends_on_it() -> None:
    days = dated(
        "a: a1\na: a2 < a1\na: a3 < a2\na: a4 < a3\nb: b1\nb: b2 < b1\nc: c1\nb: b3 < b2 & c1",
        a2="2020-01-01",
        a4="2020-01-04",
        b2="2020-01-02",
        b3="2020-01-03",
    )
    assert days.ids == ("a1", "a2", "b1", "b2", "c1", "b3", "a3", "a4")


def test_the_last_revision_without_a_date_comes_right_after_what_it_depends_on() -> None:
    days = dated("a: a1\na: a2 < a1\nb: b1\nb: b2 < b1", a1="2020-01-01", b1="2020-01-02", b2="2020-01-03")
    assert days.ids == ("a1", "a2", "b1", "b2")


def test_a_package_without_dates_comes_where_it_is_listed() -> None:
    days = dated(
        "first: f1\na: a1\na: a2 < a1\nbare: c1\nbare: c2 < c1\nbare: c3 < c2 & b1\nb: b1",
        a1="2020-01-01",
        a2="2020-01-03",
        b1="2020-01-02",
    )
    assert days.ids == ("f1", "a1", "b1", "a2", "c1", "c2", "c3")


def test_dependency_by_id_by_label_and_by_package_means_the_revision_that_alembic_takes() -> None:
    assert SHOP.parents("app_1") == ("core_1",)
    assert SHOP.parents("acme_billing_1") == ("app_1", "core_1"), "a bare label is the first revision of its branch"
    assert SHOP.dependencies("app_2") == ("core_3",)
    assert SHOP.children("core_1") == ("app_1", "core_2", "core_3", "acme_billing_1")


def test_dependency_by_the_name_of_a_package_without_labels_is_its_first_revision() -> None:
    bare = graph("""
        old: x1 =
        old: x2 < x1
        app: app_1 & old
    """)
    assert bare.parents("app_1") == ("x1",)


def test_dependency_by_the_name_of_an_unlabelled_package_with_two_bases_is_missing() -> None:
    with pytest.raises(MissingRevisionError, match="depends on old, which no revision file defines"):
        graph("""
            old: x1 =
            old: y1
            app: app_1 & old
        """)


def test_id_comes_before_label_in_a_dependency() -> None:
    named = graph("""
        core: core_1
        core: lab < core_1
        other: other_1 = lab2 other
        app: app_1 & lab
    """)
    assert named.parents("app_1") == ("lab",)


def test_down_revision_in_another_package_counts_as_a_dependency() -> None:
    crossed = graph("""
        core: core_1
        app: app_1 < core_1
        app: app_2 < app_1
    """)
    assert crossed.parents("app_1") == ("core_1",)
    assert crossed.dependencies("app_1") == ("core_1",)
    assert crossed.dependencies("app_2") == ()
    assert crossed.heads("core") == ("core_1",), "core's history goes on in no other revision of core"
    assert crossed.heads("app") == ("app_2",)
    assert crossed.descendants(["core_1"], within="core") == set()


def test_heads_are_what_no_revision_of_the_package_has_as_parent() -> None:
    assert SHOP.heads("core") == ("core_2", "core_3")
    assert SHOP.heads("app") == ("app_2",)
    assert graph("a: a_1", packages="a empty").heads("empty") == ()


def test_merge_joins_heads() -> None:
    merged = graph("""
        a: a_1
        a: a_2 < a_1
        a: a_3 < a_1
        a: a_4 < a_2 a_3
    """)
    assert merged.heads("a") == ("a_4",)
    assert merged.tips(["a_1", "a_2", "a_3"]) == ("a_2", "a_3")
    assert merged.parents("a_4") == ("a_2", "a_3")


def test_ancestors_and_descendants_cross_packages() -> None:
    assert SHOP.ancestors(["app_2"]) == {"app_1", "app_2", "core_1", "core_3"}
    assert SHOP.descendants(["core_1"]) == set(SHOP.ids) - {"core_1"}
    assert SHOP.descendants(["core_2", "core_3"]) == {"app_2"}
    assert SHOP.ancestors([]) == set()


def test_descendants_within_a_package_do_not_leave_it_even_to_come_back() -> None:
    zigzag = graph("""
        a: a_1
        b: b_1 & a_1
        a: a_2 & b_1
        a: a_3 < a_1
    """)
    assert zigzag.descendants(["a_1"], within="a") == {"a_3"}
    assert zigzag.descendants(["a_1"]) == {"b_1", "a_2", "a_3"}


def test_branch_answers_to_its_package_and_to_each_label() -> None:
    package, label = SHOP.branch("acme.billing"), SHOP.branch("invoices")
    assert package is not None
    assert label is not None
    assert package.ids == ("acme_billing_1", "acme_billing_2")
    assert (label.package, label.ids) == ("acme.billing", ("acme_billing_2",))
    assert SHOP.branch("app_1") is None
    assert SHOP.labels["invoices"] == "acme_billing_2"


def test_label_means_what_descends_by_down_revision_and_not_what_only_depends_on_it() -> None:
    two_lines = graph("""
        a: root =
        a: expand_1 < root = expand
        b: b_1 < expand_1
        a: expand_2 < expand_1
        a: contract_1 < root & expand_1 = contract
        a: expand_3 < expand_2 & contract_1
        a: late < b_1
    """)
    expand, contract = two_lines.branch("expand"), two_lines.branch("contract")
    assert expand is not None
    assert contract is not None
    assert expand.ids == ("expand_1", "expand_2", "expand_3")
    assert two_lines.tips(expand.ids) == ("expand_3",)
    assert contract.ids == ("contract_1",)
    assert two_lines.successors("root") == {"expand_1", "expand_2", "contract_1", "expand_3"}
    assert two_lines.after("contract_1") == set()
    assert two_lines.after("expand_1") == {"expand_2", "expand_3"}


def test_heads_on_labels_of_their_own_are_not_parallel() -> None:
    lines = graph("""
        a: a_1
        a: expand_1 < a_1 = expand
        a: contract_1 < a_1 & expand_1 = contract
        b: b_1
        b: b_2 < b_1 = side
        b: b_3 < b_1
        c: c_1
        c: c_2 < c_1 = line
        c: c_3 < c_2
        c: c_4 < c_2
        d: d_1
    """)
    assert lines.heads("a") == ("expand_1", "contract_1")
    assert lines.parallel_heads("a") == ()
    assert lines.parallel_heads("b") == ("b_2", "b_3")
    assert lines.parallel_heads("c") == ("c_3", "c_4")
    assert lines.parallel_heads("d") == ()


def test_new_parents_keep_what_is_a_dependency() -> None:
    moved = graph("""
        a: root =
        a: expand_1 < root = expand
        a: between < root
        a: contract_1 < between & expand_1 = contract
    """).with_parents({"contract_1": ["root", "expand_1"]})
    assert moved["contract_1"].down_revisions == ("root",)
    assert moved.parents("contract_1") == ("root", "expand_1")
    assert moved.successors("expand_1") == set()


def test_repeated_parents_and_dependencies_count_once() -> None:
    twice = graph("""
        a: a_1
        b: b_1 & a_1 a
        b: b_2 < b_1 & b_1 a_1
    """)
    assert twice.parents("b_1") == ("a_1",)
    assert twice.parents("b_2") == ("b_1", "a_1")
    assert twice.children("a_1") == ("b_1", "b_2")


def wrong(text: str, error: type[HistoryError], packages: str = "") -> HistoryError:
    with pytest.raises(error) as caught:
        graph(text, packages)
    assert "\n" not in str(caught.value)
    return caught.value


def test_two_packages_that_claim_one_id_are_named_with_both_files() -> None:
    error = wrong("app: same\nblog: same", DuplicateRevisionError)
    assert (error.revision, error.package) == ("same", "blog")
    assert error.path == Path("/srv/blog/same.py")
    assert "/srv/app/same.py of app and /srv/blog/same.py of blog" in str(error)


def test_one_id_in_two_files_of_a_package_is_named_with_both() -> None:
    first, second = revisions("app: same\napp: same")
    copy = Revision(second.id, second.package, "/srv/app/copy.py")
    with pytest.raises(DuplicateRevisionError, match=r"/srv/app/same.py of app and /srv/app/copy.py of app"):
        Graph([first, copy], ["app"])


def test_label_on_two_revisions_is_named_with_both_files() -> None:
    error = wrong("app: app_1 = side\nblog: blog_1 = side", DuplicateRevisionError)
    assert (error.revision, error.package) == ("blog_1", "blog")
    assert "side, but app_1 of app (/srv/app/app_1.py) has it, too" in str(error)


def test_label_that_is_another_packages_name_is_refused() -> None:
    error = wrong("app: app_1 = blog app\nblog: blog_1 =", DuplicateRevisionError)
    assert error.revision == "app_1"
    assert "the name of the package blog" in str(error)


def test_label_repeated_by_a_later_revision_of_the_package_is_refused() -> None:
    assert wrong("app: app_1\napp: app_2 < app_1 = app", DuplicateRevisionError).revision == "app_2"


@pytest.mark.parametrize("link", ["<", "&"])
def test_parent_or_dependency_that_no_file_has_is_named_with_the_file(link: str) -> None:
    error = wrong(f"app: app_1\napp: app_2 {link} app_9", MissingRevisionError)
    assert (error.package, error.revision, error.path) == ("app", "app_2", Path("/srv/app/app_2.py"))
    assert "depends on app_9, which no revision file defines" in str(error)


@pytest.mark.parametrize("name", ["gone_9", "1f", "gone"])
def test_a_dependency_on_a_package_that_is_gone_is_refused_when_it_would_run(name: str) -> None:
    found = graph(f"app: app_1\napp: app_2 < app_1 & {name}\nblog: blog_1")
    assert found.parents("app_2") == ("app_1", name)
    assert not found.has_file(name)
    assert found.of_package("app") == ("app_1", "app_2")
    found.check_files(["app_2", "blog_1"])
    with pytest.raises(
        MissingRevisionError, match=rf"app_2 of app .* depends on {name}, which no revision file defines"
    ):
        found.check_files([name])


def test_label_as_a_parent_is_missing_because_parents_are_ids() -> None:
    assert "depends on app" in str(wrong("app: app_1\nblog: blog_1 < app", MissingRevisionError))


CYCLES = {
    "itself": ("app: app_1 < app_1", ("app_1",)),
    "itself by dependency": ("app: app_1 & app_1", ("app_1",)),
    "itself by its own label": ("app: app_1 & app", ("app_1",)),
    "two": ("app: app_1 < app_2\napp: app_2 < app_1", ("app_1", "app_2")),
    "across packages": ("app: app_1 & blog_1\nblog: blog_1 & app_1", ("app_1", "blog_1")),
    "three packages, and some that only stand on the circle": (
        "app: app_1 & c_1\nb: b_1 & app_1\nc: c_1 & b_1\nz: z_1 & c_1\na: a_0 & z_1",
        ("app_1", "c_1", "b_1"),
    ),
}


@pytest.mark.parametrize(("text", "circle"), CYCLES.values(), ids=CYCLES)
def test_circle_is_named_with_its_files_and_nothing_else(text: str, circle: tuple[str, ...]) -> None:
    error = wrong(text, CycleError)
    assert isinstance(error, CycleError)
    assert set(error.revisions) == set(circle)
    assert len(error.revisions) == len(circle)
    files = [f"{revision}.py" for revision in circle]
    assert all(file in str(error) for file in files)
    assert str(error).count(".py") == len(files)


ORDER = """
import sys
sys.path[:0] = sys.argv[1:]
from test_graph import SHOP
from revisions import graph
wide = graph("\\n".join(f"p{n % 7}: p{n % 7}_{n}" + (f" & p{n % 5}_{n % 5}" if n > 6 else "") for n in range(200)))
print(*SHOP.ids, *wide.ids, *SHOP.children("core_1"), SHOP.branch("core"))
"""


def test_order_does_not_vary_with_the_hash_seed() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", ORDER, str(Path(__file__).parent), str(Path(__file__).parents[1])],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "42")
    }
    assert len(outputs) == 1
    assert outputs.pop().startswith("core_1 app_1 core_2")


@pytest.mark.parametrize("prefix", ["r_160000", "r_"], ids=["dated", "undated"])
def test_10000_revisions_that_depend_on_each_other_are_ordered_in_linear_time(prefix: str) -> None:
    def seconds(packages: int) -> float:
        made = [
            Revision(
                id=f"p{package}{prefix}{count:02}{package:02}",
                package=f"p{package}",
                file="",
                down_revisions=(f"p{package}{prefix}{count - 1:02}{package:02}",) if count else (),
                depends_on=(f"p{package - 1}{prefix}{count:02}{package - 1:02}",) if package and count % 3 == 0 else (),
            )
            for package in range(packages)
            for count in range(50)
        ]
        began = time.process_time()
        ids = Graph(reversed(made), [f"p{package}" for package in range(packages)]).ids
        assert len(ids) == packages * 50
        return time.process_time() - began

    few, many = (min(seconds(packages) for _ in range(3)) for packages in (25, 100))
    assert many < 4 * 2.5 * few


def test_5000_revisions_in_a_line_are_ordered_within_a_second() -> None:
    count = 5000
    made = [Revision("r_0000", "app", "0.py")]
    made += [Revision(f"r_{n:04}", "app", f"{n}.py", (f"r_{n - 1:04}",)) for n in range(1, count)]
    began = time.process_time()
    line = Graph(reversed(made), ["app"])
    assert line.ids == tuple(revision.id for revision in made)
    assert line.heads("app") == ("r_4999",)
    assert len(line.ancestors(["r_4999"])) == count
    assert len(line.descendants(["r_0000"], within="app")) == count - 1
    assert time.process_time() - began < 1
