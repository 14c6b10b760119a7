"""A picture of the history, written as SVG, as Mermaid and as DOT, and drawn in a terminal."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from cases import LINE, case
from hypothesis import given, settings
from hypothesis import strategies as st
from revisions import graph
from rich.cells import cell_len

from ampho.cli.graph.dot import as_dot
from ampho.cli.graph.lanes import plain, rows
from ampho.cli.graph.mermaid import as_mermaid, is_too_large
from ampho.cli.graph.routes import Layout, Sizes
from ampho.cli.graph.svg import as_svg
from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.version_rows import Applied
from ampho.history.graph import Graph
from ampho.history.revision import Revision
from ampho.status.graph_view import Picture, draw
from ampho.status.state import Mark

HOSTILE = [
    "Say \"hi\" & <b>bold</b> 'x' \\N \\",
    "one\ntwo\x00\x07 ]]> `tick` #quot; %%{init: {}}%% | [ ] { } ;",
    "漢字 🦉 naïve \u202e \ud800 \ufffe",
    "x" * 5000,
    "end",
    "</title><script>alert(1)</script>",
    "-->",
]
SVG = "{http://www.w3.org/2000/svg}"


def hostile() -> Picture:
    """Messages, ids and the names of packages that mean something to whom they are written for."""
    ids = ["a<b>", "a&b", "漢字", "a" * 32, "end", "a[b]", "a#b;"]
    every = [
        Revision(rid, "app", Path(), (ids[number - 1],) if number else (), (), (), text)
        for number, (rid, text) in enumerate(zip(ids, HOSTILE, strict=True))
    ]
    made = Graph(every, ["app"])
    row = "weird '\"row\\ \x1b[31m"
    journal = Journal(lambda: [Entry(1, row, 'gone "<&>\\', "upgrade", Outcome.DONE, ("a&b",))])
    return draw(made, Applied.from_rows(made, ["a[b]", row], journal), journal, full=True)


DIAMOND = graph(
    """
    app: app_1
    app: app_2 < app_1 & core_1
    app: app_3 < app_1
    app: app_4 < app_2 app_3
    core: core_1
    core: core_2 < core_1 & app_4
    """
)


def written(picture: Picture) -> dict[str, str]:
    return {"svg": as_svg(picture), "mermaid": as_mermaid(picture), "dot": as_dot(picture), "text": plain(picture)}


def titles(svg: str) -> str:
    return "\n".join(title.text or "" for title in ET.fromstring(svg).iter(f"{SVG}title"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_svg_tells_every_revision(seed: int, full: bool, part: bool) -> None:
    picture = case(seed, part=part).draw(full=full)
    told = titles(as_svg(picture))
    for node in picture.nodes:
        for rid, message in zip(node.revisions, node.messages, strict=True):
            assert f"{rid}  {message}".rstrip() in told
    for edge in picture.edges:
        assert f"{edge.target} {'depends on' if edge.is_dependency else 'revises'} {edge.source}" in told


def test_svg_stands_alone() -> None:
    run = draw(graph(f"core: core_1\n{LINE} & core_1", packages="app core"))
    for picture in (draw(DIAMOND), run, hostile(), draw(Graph([], []))):
        text = as_svg(picture)
        root = ET.fromstring(text)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            "svg",
            "style",
            "rect",
            "g",
            "title",
            "text",
            "path",
            "circle",
        }
        assert "url(" not in text
        assert "@import" not in text
        assert re.findall(r"\w+://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
        assert not any(name.startswith("on") or "href" in name for element in root.iter() for name in element.attrib)


def every_mark() -> list[Picture]:
    """Pictures with each of the marks."""
    made = graph(
        """
        app: app_1
        app: app_2 < app_1
        core: core_1 & gone_1
        zoo: zoo_1
        div: div_1
        div: div_2 < div_1
        """
    )
    journal = Journal(
        lambda: [
            Entry(1, "app_2", "app", "upgrade", Outcome.PARTIAL),
            Entry(2, "core_1", "core", "downgrade", Outcome.DONE),
            Entry(3, "div_2", "div", "upgrade", Outcome.DONE, checksum="00"),
        ]
    )
    applied = Applied.from_rows(made, ["app_1", "div_2", "what"], journal)
    return [draw(made, applied, journal), draw(made)]


def test_each_mark_has_a_sign_and_a_shape_of_its_own() -> None:
    pictures = every_mark()
    assert {mark for picture in pictures for mark in picture.marks} == set(Mark)

    signs, shapes = {}, {}
    for picture in pictures:
        root, mermaid, dot = ET.fromstring(as_svg(picture)), as_mermaid(picture), as_dot(picture)
        for node in picture.nodes:
            line = next(line for line in plain(picture).splitlines() if node.first in line)
            signs[node.mark] = next(character for character in line if character not in " │┆├─┄╰╯╭╮")
            group = next(each for each in root.iter(f"{SVG}g") if each.get("class") == node.mark)
            shapes[node.mark] = [(part.tag, part.text) for part in group if part.get("class") in ("sign", "name")]
            assert f'"{signs[node.mark]} {node.first}' in mermaid
            assert f"classDef {node.mark} " in mermaid
            assert f'label="{signs[node.mark]} {node.first}' in dot
    assert len(set(signs.values())) == len(Mark)
    assert all(len(shape) == 1 for shape in shapes.values())


def test_mermaid_and_dot_show_stubs_and_runs_as_such() -> None:
    picture = draw(graph(f"{LINE}\ncore: core_1 & app_9"), packages=["core"])
    assert "classDef stub " in as_mermaid(picture)
    assert "class n0 stub" in as_mermaid(picture)
    assert 'penwidth="0.5"' in as_dot(picture)
    run = draw(graph(LINE))
    assert '"• 9 revisions (head)<br/>app_1 .. app_9"' in as_mermaid(run)
    assert 'peripheries="2"' in as_dot(run)
    assert len(ET.fromstring(as_svg(run)).findall(f"{SVG}g/{SVG}rect[@class='box']")) == 2


def test_ids_of_a_run_are_whole_so_that_they_can_be_typed() -> None:
    first, last = "shop_accounts_1767607201", "shop_accounts_1767607209"
    picture = draw(graph(LINE.replace("app_", "shop_accounts_176760720")))
    for text in (as_svg(picture), as_mermaid(picture), as_dot(picture), plain(picture)):
        assert f"{first} .. {last}" in text
    on_terminal = ["".join(part for part, _ in row) for row in rows(picture, 60, is_ascii=False)]
    assert on_terminal[1].rstrip() == f"• 9 revisions, up to {last}  (head)"


def test_svg_with_many_lanes_has_them_as_rows() -> None:
    few, many = (
        ET.fromstring(as_svg(draw(graph("\n".join(f"p{number}: p{number}_1" for number in range(count))))))
        for count in (6, 7)
    )
    assert float(few.attrib["width"]) > float(few.attrib["height"])
    assert float(many.attrib["width"]) < float(many.attrib["height"])


def test_svg_tells_the_marks_apart_without_colours() -> None:
    root = ET.fromstring(as_svg(hostile()))
    shapes = {
        group.get("class"): [element.tag.removeprefix(SVG) for element in group if element.get("class") == "sign"]
        for group in root.iter(f"{SVG}g")
        if group.get("class") in ("applied", "missing")
    }
    assert shapes == {"applied": ["circle"], "missing": ["path"]}
    filled = re.findall(r"\.(\w+) \.sign \{ fill", as_svg(hostile()))
    assert "applied" in filled
    assert "pending" not in filled


def test_texts_of_others_are_texts_everywhere() -> None:
    svg, mermaid, dot, text = written(hostile()).values()
    told = titles(svg)
    assert "Say \"hi\" & <b>bold</b> 'x' \\N \\" in told
    assert "one two\\x00\\x07 ]]> `tick` #quot; %%{init: {}}%% | [ ] { } ;" in told
    assert "weird '\"row\\ \\x1b[31m" in told
    assert 'gone "<&>\\' in told
    assert "<script>" not in svg
    assert all(character.isprintable() or character == "\n" for character in svg + mermaid + dot + text)

    for line in mermaid.splitlines()[1:]:
        assert re.fullmatch(
            r' +(subgraph lane\d+\["[^"<>`{}|\\]+"\]|end|n\d+ -\.?->? n\d+|n\d+ --> n\d+|classDef \w+ [\w:#,. -]+'
            r'|n\d+[\[({/]+"[^"`{}|\\]+"[\])}/]+:::\w+)',
            line,
        ), line
        assert set(re.findall(r"<[^>]*>", line)) <= {"<br/>"}
    for line in dot.splitlines()[1:-1]:
        assert re.fullmatch(r' +(?:[^"]|"(?:[^"\\]|\\["\\n])*")*', line), (
            line
        )  # outside of strings nothing is quoted, and inside nothing ends one
    assert max(map(len, text.splitlines())) < 700


def test_dot_and_mermaid_have_each_node_and_each_edge_once() -> None:
    picture = draw(DIAMOND, Applied.from_rows(DIAMOND, ["app_3"]))
    mermaid, dot = as_mermaid(picture), as_dot(picture)
    assert len(re.findall(r"^ +n\d+[\[({]", mermaid, re.MULTILINE)) == len(picture.nodes)
    assert len(re.findall(r"^ +n\d+ (?:-->|-\.->) n\d+$", mermaid, re.MULTILINE)) == len(picture.edges)
    assert len(re.findall(r"^ +n\d+ \[label", dot, re.MULTILINE)) == len(picture.nodes)
    assert len(re.findall(r"^ +n\d+ -> n\d+ \[", dot, re.MULTILINE)) == len(picture.edges)
    assert '"○ app_4 (head)<br/>make app_4"' in mermaid
    assert 'label="○ app_4 (head)\\nmake app_4"' in dot


@pytest.mark.usefixtures("unmeasured")
def test_mermaid_has_its_limits() -> None:
    large = draw(graph("\n".join(f"p{number}: p{number}_1" for number in range(2000))))
    assert is_too_large(large, as_mermaid(large))
    assert not is_too_large(draw(DIAMOND), as_mermaid(draw(DIAMOND)))


SIZES = [Sizes(along=40, across=150, channel=22, gutter=26), Sizes(along=150, across=40, channel=26, gutter=20)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from(SIZES))
def test_no_box_lies_on_another_and_no_edge_on_a_box(seed: int, full: bool, part: bool, sizes: Sizes) -> None:
    picture = case(seed, part=part).draw(full=full)
    layout = Layout(picture, sizes)
    boxes = {node.first: layout.box(node) for node in picture.nodes}
    for one, (along, across) in boxes.items():
        assert 0 < along < layout.along - sizes.along
        assert 0 < across < layout.across - sizes.across
        for other, (its_along, its_across) in boxes.items():
            apart = abs(along - its_along) >= sizes.along or abs(across - its_across) >= sizes.across
            assert apart or one == other
    for edge, points in layout.edges():
        for (a1, b1), (a2, b2) in pairwise(points):
            assert a1 == a2 or b1 == b2
            low, high = (min(a1, a2), min(b1, b2)), (max(a1, a2), max(b1, b2))
            for along, across in boxes.values():
                crosses = low[0] < along + sizes.along and high[0] > along
                crosses = crosses and low[1] < across + sizes.across and high[1] > across
                assert not crosses, edge


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.integers(12, 120), st.booleans())
def test_terminal_has_a_line_for_each_node_and_none_is_too_long(
    seed: int, full: bool, width: int, is_ascii: bool
) -> None:
    picture = case(seed, part=seed % 3 == 0).draw(full=full)
    drawn = ["".join(part for part, _ in row) for row in rows(picture, width, is_ascii=is_ascii)]
    assert max(map(cell_len, drawn)) <= width
    assert not is_ascii or all(line.isascii() for line in drawn)
    whole = plain(picture)
    for node in picture.nodes:
        label = f"{len(node.revisions)} revisions, {node.first} .." if node.is_run else node.first
        assert len(re.findall(rf"^\W+{re.escape(label)}(?: |$)", whole, re.MULTILINE)) == 1, whole


def test_terminal_draws_a_diamond_and_dependencies() -> None:
    assert plain(draw(DIAMOND, Applied.from_rows(DIAMOND, ["app_3"]))).splitlines() == [
        "╷       app  2 applied, 2 pending",
        "●       app_1   make app_1",
        "├─●     app_3   make app_3",
        "│ │ ╷   core  2 pending",
        "│ │ ○┄╮ core_1  make core_1",
        "○┄│┄│┄╯ app_2   make app_2  (depends on core_1)",
        "○─╯ │   app_4   make app_4  (head)",
        "╰┄┄┄○   core_2  make core_2  (head; depends on app_4)",
        "",
        "● applied   ○ pending   ┆ is needed by a revision in another package",
    ]


def test_terminal_draws_nothing_right_below_what_it_does_not_stand_on() -> None:
    assert plain(draw(graph("app: app_1\napp: app_2\napp: app_3 < app_1\napp: app_4 < app_1"))).splitlines() == [
        "╷     app  4 revisions",
        "•     app_1  make app_1",
        "│ •   app_2  make app_2  (head)",
        "├───• app_3  make app_3  (head)",
        "•     app_4  make app_4  (head)",
    ]


def test_terminal_draws_a_run_as_one_line() -> None:
    assert plain(draw(graph(LINE))).splitlines() == [
        "╷ app  9 revisions",
        "• 9 revisions, app_1 .. app_9  (head)",
        "",
        "--full shows the revisions of each run",
    ]


@pytest.mark.parametrize("packages", [[], ["app"]])
def test_nothing_is_drawn_as_nothing(packages: list[str]) -> None:
    for text in written(draw(Graph([], packages))).values():
        assert "no revisions" in text
    assert plain(draw(Graph([], packages))) == ("app  no revisions\n" if packages else "There are no revisions yet.\n")
