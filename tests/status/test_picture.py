"""The history as a picture: what is one node, what is told of it, and where it goes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from cases import LINE, case
from hypothesis import given, settings
from hypothesis import strategies as st
from revisions import graph

from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.version_rows import Applied
from ampho.history.graph import Graph
from ampho.migrate.plan import plan_upgrade
from ampho.status.graph_view import Picture, draw
from ampho.status.state import Mark, current_state


def nodes(picture: Picture) -> list[str]:
    """Each node by its first and last revision."""
    return [f"{node.first}..{node.last}" if node.is_run else node.first for node in picture.nodes]


COLLAPSED = {
    "a line": (LINE, "app_1..app_9"),
    "two revisions are not worth a run": ("app: app_1\napp: app_2 < app_1", "app_1 app_2"),
    "what depends on another begins a run": (
        f"core: core_1\n{LINE.replace('app_4 < app_3', 'app_4 < app_3 & core_1')}",
        "core_1 app_1..app_3 app_4..app_9",
    ),
    "what another depends on ends a run": (f"{LINE}\ncore: core_1 & app_3", "app_1..app_3 app_4..app_9 core_1"),
    "a branch ends a run, and a merge begins one": (
        f"{LINE}\napp: side_1 < app_3\napp: app_10 < app_9 side_1",
        "app_1..app_3 app_4..app_9 side_1 app_10",
    ),
    "a dependency within the package is shown": (
        LINE.replace("app_6 < app_5", "app_6 < app_5 & app_2"),
        "app_1 app_2 app_3..app_5 app_6..app_9",
    ),
}


@pytest.mark.parametrize(("text", "expected"), COLLAPSED.values(), ids=COLLAPSED)
def test_runs(text: str, expected: str) -> None:
    assert nodes(draw(graph(text))) == expected.split()
    assert all(not node.is_run for node in draw(graph(text), full=True).nodes)


def test_a_change_of_state_ends_a_run() -> None:
    made = graph(LINE)
    picture = draw(made, Applied.from_rows(made, ["app_5"]))
    assert [(node.mark, len(node.revisions)) for node in picture.nodes] == [(Mark.APPLIED, 5), (Mark.PENDING, 4)]
    assert [(edge.source, edge.target) for edge in picture.edges] == [("app_5", "app_6")]
    assert picture.lanes[0].counts == {Mark.APPLIED: 5, Mark.PENDING: 4}
    assert picture.node("app_7").last == "app_9"
    assert [node.is_head for node in picture.nodes] == [False, True]


def test_without_a_database_nothing_is_told_of_it() -> None:
    picture = draw(graph(f"{LINE}\napp: app_10 < app_9 & gone_1"))
    assert picture.marks == (Mark.ABSENT, Mark.UNKNOWN)
    assert picture.node("gone_1").package == "gone"


def test_marks_of_what_is_in_no_file_and_of_what_is_half_done() -> None:
    made = graph("app: app_1\napp: app_2 < app_1\ncore: core_1 & gone_1\ncore: core_2 < core_1")
    journal = Journal(
        lambda: [
            Entry(1, "plug_1", "plug", "upgrade", Outcome.DONE, ("app_1",)),
            Entry(2, "app_2", "app", "upgrade", Outcome.PARTIAL),
        ]
    )
    picture = draw(made, Applied.from_rows(made, ["plug_1"], journal), journal)
    assert {rid: picture.node(rid).mark for rid in ("app_1", "app_2", "core_1", "gone_1", "plug_1")} == {
        "app_1": Mark.APPLIED,
        "app_2": Mark.UNFINISHED,
        "core_1": Mark.PENDING,
        "gone_1": Mark.ABSENT,
        "plug_1": Mark.MISSING,
    }
    assert [lane.package for lane in picture.lanes] == ["app", "core", "gone", "plug"]


def test_what_is_absent_is_in_the_lane_of_what_is_missing_of_its_package() -> None:
    """An id does not tell the dots of a package's name; what is applied of the package, does."""
    made = graph("app: app_1 & acme_plug_2")
    assert draw(made).node("acme_plug_2").package == "acme_plug"
    journal = Journal(lambda: [Entry(1, "acme_plug_1", "acme.plug", "upgrade", Outcome.DONE)])
    picture = draw(made, Applied.from_rows(made, ["acme_plug_1"], journal), journal)
    assert [(lane.package, dict(lane.counts)) for lane in picture.lanes] == [
        ("app", {Mark.PENDING: 1}),
        ("acme.plug", {Mark.MISSING: 1, Mark.ABSENT: 1}),
    ]


def test_what_a_row_without_a_record_may_stand_on_is_uncertain() -> None:
    made = graph(LINE)
    picture = draw(made, Applied.from_rows(made, ["what"]))
    assert picture.node("app_1").mark is Mark.UNCERTAIN
    assert picture.node("what").mark is Mark.MISSING
    assert picture.lanes[-1].package == ""


def test_some_packages_with_what_they_touch() -> None:
    made = graph(
        """
        core: core_1
        core: core_2 < core_1
        core: core_3 < core_2
        app: app_1 & core_2
        app: app_2 < app_1 & core_3
        blog: blog_1 & app_2 core_1
        blog: blog_2 < blog_1
        zoo: zoo_1 & core_1
        """
    )
    picture = draw(made, packages=["app"])
    assert nodes(picture) == ["core_2", "core_3", "app_1", "app_2", "blog_1"]
    assert [node.first for node in picture.nodes if node.is_stub] == ["core_2", "core_3", "blog_1"]
    assert {(edge.source, edge.target) for edge in picture.edges} == {
        ("core_2", "app_1"),
        ("core_3", "app_2"),
        ("app_1", "app_2"),
        ("app_2", "blog_1"),
    }
    assert [(lane.package, lane.is_stub, dict(lane.counts)) for lane in picture.lanes] == [
        ("core", True, {}),
        ("app", False, {Mark.UNKNOWN: 2}),
        ("blog", True, {}),
    ]


def test_packages_that_depend_on_each_other_in_a_row_are_no_staircase() -> None:
    text = "\n".join(["p0: p0_1", *(f"p{number}: p{number}_1 & p{number - 1}_1" for number in range(1, 50))])
    assert {node.rank for node in draw(graph(text)).nodes} == {0}


def test_nothing() -> None:
    assert draw(Graph([], [])) == Picture((), (), ())
    (lane,) = draw(Graph([], ["app"])).lanes
    assert (lane.package, lane.tracks, lane.counts) == ("app", 1, {})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_each_revision_and_each_dependency_is_in_the_picture_and_told_as_it_is(seed: int, full: bool) -> None:
    made = case(seed)
    picture = made.draw(full=full)
    state = current_state(made.graph, made.rows, made.journal)

    shown = [rid for node in picture.nodes for rid in node.revisions]
    missing = {rid for each in state.missing for rid in each.revisions}
    assert sorted(shown) == sorted(set(made.graph.ids) | missing)
    marked = {mark: {rid for rid in shown if picture.node(rid).mark is mark} for mark in Mark}
    assert marked[Mark.APPLIED] == {one.id for each in state for one in each.applied}
    assert marked[Mark.PENDING] == {one.id for each in state for one in each.pending}
    assert marked[Mark.MISSING] == missing
    if not missing:
        plan = plan_upgrade(made.graph, made.rows, "heads", journal=made.journal)
        assert marked[Mark.PENDING] == {step.revision.id for step in plan.steps}

    inside = {pair for node in picture.nodes for pair in pairwise(node.revisions)}
    stands = {(parent, rid) for rid in shown for parent in made.history.revisions[rid].parents}
    assert {(edge.source, edge.target) for edge in picture.edges} | inside == stands
    assert len(picture.edges) + len(inside) == len(stands)
    for edge in picture.edges:
        assert picture.node(edge.source).last == edge.source
        assert picture.node(edge.target).first == edge.target
        across = picture.node(edge.source).package != picture.node(edge.target).package
        assert edge.is_dependency or not across
    assert made.draw(full=full) == picture


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_each_node_has_a_place_of_its_own_after_what_it_stands_on(seed: int, full: bool, part: bool) -> None:
    picture = case(seed, part=part).draw(full=full)

    places = [(node.package, node.rank, node.track) for node in picture.nodes]
    assert len(set(places)) == len(places)
    order = {node.first: number for number, node in enumerate(picture.nodes)}
    for edge in picture.edges:
        source, target = picture.node(edge.source), picture.node(edge.target)
        assert order[source.first] < order[target.first]
        assert source.rank + (source.package == target.package) <= target.rank
    tracks = {lane.package: lane.tracks for lane in picture.lanes}
    assert all(node.track < tracks[node.package] for node in picture.nodes)
