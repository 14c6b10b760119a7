"""Taking a specifier apart, and finding what its names stand for."""

from __future__ import annotations

import pytest
from revisions import graph

from ampho.errors import SpecifierError
from ampho.history.graph import Branch
from ampho.history.specifier import Specifier, find_branch, find_target, parse

GRAPH = graph("""
    core: core_1
    core: core_10 < core_1
    core: core_100 < core_10 = side-2
    core: core_2 < core_1
    acme.billing: acme_billing_1 & core_1
    acme: acme_1
    acme: core < acme_1
""")

PARSED = [
    ("heads", None, "heads", 0),
    ("head", None, "head", 0),
    ("base", None, "base", 0),
    ("app", None, "app", 0),
    ("acme.billing", None, "acme.billing", 0),
    ("app@head", "app", "head", 0),
    ("acme.billing@heads", "acme.billing", "heads", 0),
    ("app@base", "app", "base", 0),
    ("app@app_1595770095", "app", "app_1595770095", 0),
    ("app_1595770095", None, "app_1595770095", 0),
    ("1595770095", None, "1595770095", 0),
    ("+1", None, "", 1),
    ("+2", None, "", 2),
    ("-1", None, "", -1),
    ("-12", None, "", -12),
    ("app@+1", "app", "", 1),
    ("app@-3", "app", "", -3),
    ("+007", None, "", 7),
    ("app+1", None, "app+1", 0),
    ("side-2", None, "side-2", 0),
    ("side-2@-1", "side-2", "", -1),
    (" app ", None, "app", 0),
]


@pytest.mark.parametrize(("typed", "branch", "target", "offset"), PARSED, ids=[row[0] for row in PARSED])
def test_specifier_is_taken_apart(typed: str, branch: str | None, target: str, offset: int) -> None:
    assert parse(typed) == Specifier(typed, branch, target, offset)


MALFORMED = {
    "empty": ("", "is not a specifier"),
    "blank": ("   ", "is not a specifier"),
    "newline": ("app\nhead", "is not a specifier"),
    "newline at the end": ("app\n", "is not a specifier"),
    "tab": ("app\thead", "is not a specifier"),
    "NUL": ("app\0", "is not a specifier"),
    "escape sequence": ("\x1b[31mapp", "is not a specifier"),
    "text direction": ("app\u202egnp", "is not a specifier"),
    "surrogate": ("app\udcff", "is not a specifier"),
    "301 characters": ("a" * 301, "is not a specifier"),
    "@ alone": ("@", "is malformed"),
    "nothing after @": ("a@", "is malformed"),
    "nothing before @": ("@b", "is malformed"),
    "a step and nothing before @": ("@+1", "is malformed"),
    "@ twice": ("a@b@c", "is malformed"),
    "@@": ("a@@b", "is malformed"),
    "range": ("a:b", "is a range"),
    "range to the end": ("a:", "is a range"),
    "range from the start": (":b", "is a range"),
    "+0": ("+0", "is not a valid number of steps"),
    "-0": ("-0", "is not a valid number of steps"),
    "-000": ("-000", "is not a valid number of steps"),
    "app@+0": ("app@+0", "is not a valid number of steps"),
    "huge": ("+99999999", "is not a valid number of steps"),
    "huger than an int of the database": ("-" + "9" * 299, "is not a valid number of steps"),
}


@pytest.mark.parametrize(("typed", "what"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_specifier_is_refused_in_one_printable_line(typed: str, what: str) -> None:
    with pytest.raises(SpecifierError, match=what) as caught:
        parse(typed)
    assert caught.value.specifier == typed
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_name_before_at_is_a_package_or_a_label() -> None:
    assert find_branch(GRAPH, "core", "core@head") == Branch(
        "core", "core", ("core_1", "core_10", "core_100", "core_2")
    )
    assert find_branch(GRAPH, "side-2", "side-2@head") == Branch("side-2", "core", ("core_100",))
    with pytest.raises(SpecifierError, match="core_1 is not a package with migrations here") as caught:
        find_branch(GRAPH, "core_1", "core_1@head")
    assert caught.value.specifier == "core_1@head"


FOUND = [
    ("core_1", "core_1"),
    ("core_10", "core_10"),
    ("core_100", "core_100"),
    ("core_2", "core_2"),
    ("acme_b", "acme_billing_1"),
    ("core@core_1", "core_1"),
    ("core@core_2", "core_2"),
    ("acme@core", "core"),
    ("acme@c", "core"),
    ("acme.billing@acme", "acme_billing_1"),
    ("side-2@core_100", "core_100"),
]


@pytest.mark.parametrize(("typed", "revision"), FOUND, ids=[row[0] for row in FOUND])
def test_id_or_its_unique_beginning_is_found(typed: str, revision: str) -> None:
    assert find_target(GRAPH, parse(typed)) == revision


@pytest.mark.parametrize("typed", ["core", "acme", "acme.billing", "side-2"])
def test_package_or_label_alone_is_a_branch_even_where_an_id_is_called_so(typed: str) -> None:
    found = find_target(GRAPH, parse(typed))
    assert isinstance(found, Branch)
    assert found.name == typed


NOT_FOUND = {
    "core_": "4 ids start with core_: core_1, core_10, core_100, core_2",
    "core@core_": "4 ids start with core_",
    "acme_": "2 ids start with acme_: acme_1, acme_billing_1",
    "core_3": "core_3 is neither a package, a revision id, nor the beginning of one",
    "core@acme_1": "acme_1 belongs to acme, not to core. Type acme_1",
    "acme@core_1": "core_1 belongs to core, not to acme. Type core_1",
    "core@acme": "acme is neither",
    "Core_1": "Did you mean core_1",
    "core_1+1": "Ampho does not count steps from a name",
    "core@core_1+1": "Ampho does not count steps from a name",
    "side-2+1": "Ampho does not count steps from a name",
    "acme.billing-1": "Ampho does not count steps from a name",
    "%": "% is neither",
    "core_%": "core_% is neither",
    "core*": "core\\* is neither",
    "x": "x is neither",
}


@pytest.mark.parametrize(("typed", "what"), NOT_FOUND.items(), ids=NOT_FOUND)
def test_what_stands_for_nothing_or_for_several_is_refused(typed: str, what: str) -> None:
    with pytest.raises(SpecifierError, match=what) as caught:
        find_target(GRAPH, parse(typed))
    assert caught.value.specifier == typed


def test_refusal_shows_five_ids_that_begin_alike() -> None:
    many = graph("\n".join(f"core: core_{number}" for number in range(7)))
    with pytest.raises(SpecifierError, match=r"7 ids start with core_: core_0, core_1, core_2, core_3, core_4 and 2"):
        find_target(many, parse("core_"))
