"""What ``db-show`` and ``db-current`` are made from."""

from __future__ import annotations

from pathlib import Path

import pytest
from revisions import graph

from ampho.errors import SpecifierError
from ampho.status.state import current_state, show

GRAPH = graph(
    """
    app: app_1 & core_1
    app: app_2 < app_1 & core
    app: app_3 < app_1 = side
    core: core_1
    core: core_2 < core_1
    join: join_1
    join: join_2 < join_1 app_2
    """,
    packages="app core join bare",
)


def shown(specifier: str | None = None) -> list[str]:
    return [record.id for record in show(GRAPH, specifier)]


def test_show_lists_all_revisions_package_by_package_as_they_are_listed() -> None:
    assert shown() == ["app_1", "app_2", "app_3", "core_1", "core_2", "join_1", "join_2"]


SHOWN = {
    "app": "app_1 app_2 app_3",
    "core": "core_1 core_2",
    "side": "app_3",
    "bare": "",
    "heads": "app_2 app_3 core_2 join_2",
    "app@heads": "app_2 app_3",
    "core@head": "core_2",
    "side@head": "app_3",
    "bare@head": "",
    "app_2": "app_2",
    "app@app_2": "app_2",
    "join_2": "join_2",
    "core@core_1": "core_1",
}


@pytest.mark.parametrize(("typed", "ids"), SHOWN.items(), ids=SHOWN)
def test_show(typed: str, ids: str) -> None:
    assert shown(typed) == ids.split()


REFUSED = {
    "head": "does not name a revision on its own",
    "base": "does not name a revision on its own",
    "app@base": "does not name a revision on its own",
    "app@+1": "does not name a revision on its own",
    "-1": "does not name a revision on its own",
    "+1": "does not name a revision on its own",
    "app@head": "app has 2 heads: app_2, app_3. Type one of them, or app@heads",
    "app_": "3 ids start with app_",
    "nope": "nope is neither",
    "nope@head": "nope is not a package",
    "app@core_1": "core_1 belongs to core",
    "": "is not a specifier",
    "app_1:app_2": "is a range",
}


@pytest.mark.parametrize(("typed", "what"), REFUSED.items(), ids=REFUSED)
def test_show_refuses_what_stands_for_no_revision(typed: str, what: str) -> None:
    with pytest.raises(SpecifierError, match=what) as caught:
        show(GRAPH, typed)
    assert caught.value.specifier == typed


def test_record_says_where_a_revision_stands() -> None:
    (record,) = show(GRAPH, "app_1")
    assert (record.id, record.package, record.message) == ("app_1", "app", "make app_1")
    assert record.path == Path("/srv/app/app_1.py")
    assert record.down_revisions == ()
    assert record.depends_on == ("core_1",)
    assert record.required_by == ("app_2", "app_3")
    assert record.labels == ("app",)
    assert not record.is_head


def test_record_resolves_a_label_in_depends_on_to_the_id_that_it_means() -> None:
    (record,) = show(GRAPH, "app_2")
    assert record.down_revisions == ("app_1",)
    assert record.depends_on == ("core_1",)
    assert record.required_by == ("join_2",)


def test_record_counts_a_parent_in_another_package_as_a_dependency() -> None:
    (record,) = show(GRAPH, "join_2")
    assert record.down_revisions == ("join_1", "app_2")
    assert record.depends_on == ("app_2",)


def test_a_head_is_a_head_of_its_package_even_where_another_package_stands_on_it() -> None:
    assert [record.id for record in show(GRAPH) if record.is_head] == ["app_2", "app_3", "core_2", "join_2"]


def test_current_has_one_record_for_each_package_listed() -> None:
    state = current_state(GRAPH, ["app_2"])
    assert [package.package for package in state] == ["app", "core", "join", "bare"]
    assert len(state) == 4
    assert state.unknown == ()
    assert state.packages == tuple(state)


def test_current_counts_what_rows_leave_out_because_something_applied_stands_on_it() -> None:
    state = current_state(GRAPH, ["app_2"])
    assert [record.id for record in state["app"].applied] == ["app_1", "app_2"]
    assert [record.id for record in state["app"].pending] == ["app_3"]
    assert state["app"].current == ("app_2",)
    assert [record.id for record in state["core"].applied] == ["core_1"]
    assert state["core"].current == ("core_1",)
    assert not state["core"].is_up_to_date


def test_current_of_several_heads_names_them_all() -> None:
    state = current_state(GRAPH, ["app_2", "app_3", "core_2"])
    assert state["app"].current == ("app_2", "app_3")
    assert state["app"].is_up_to_date
    assert state["core"].is_up_to_date
    assert not state["join"].is_up_to_date


def test_current_of_an_empty_database_and_of_a_package_without_revisions() -> None:
    state = current_state(GRAPH, [])
    assert all(package.applied == () and package.current == () for package in state)
    assert state["bare"].is_up_to_date
    assert not state["core"].is_up_to_date


def test_current_tells_rows_that_no_file_explains_beside_the_others() -> None:
    state = current_state(GRAPH, ["core_1", "gone_1", "gone_2"])
    assert state.unknown == ("gone_1", "gone_2")
    assert state["core"].current == ("core_1",)


def test_current_of_a_package_that_is_not_listed_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nope"):
        current_state(GRAPH, [])["nope"]
